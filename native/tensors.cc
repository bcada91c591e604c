#include "tensors.h"

#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "dlpack_exchange.h"
#include "output_memory.h"

namespace nb = nanobind;

namespace depthwise {
namespace {

// Never destroyed: tensors outlive static objects.
struct Connection {
  TensorLibrary library;
  const dlpack::Exchange* exchange;
  nb::object is_negated, requires_gradient, level;  // names
};
Connection* connection = nullptr;

const dlpack::Exchange* FindExchange(nb::handle capsule) {
  auto* header = static_cast<dlpack::ExchangeHeader*>(
      PyCapsule_GetPointer(capsule.ptr(), dlpack::kCapsuleName));
  if (header == nullptr) PyErr_Clear();
  while (header != nullptr && header->version.major != dlpack::kMajorVersion) {
    header = header->previous;
  }
  auto* exchange = reinterpret_cast<const dlpack::Exchange*>(header);
  return exchange && exchange->object_from_managed && exchange->view_of_object ? exchange : nullptr;
}

// Whether something is true; so it is if it fails.
bool IsTrue(PyObject* stolen) {
  const nb::object value = nb::steal(stolen);
  const int is_true = value.is_valid() ? PyObject_IsTrue(value.ptr()) : -1;
  if (is_true < 0) PyErr_Clear();
  return is_true != 0;
}

bool ReadDType(const dlpack::DataType& type, DType* dtype) {
  if (type.lanes != 1) return false;
  if (type.code == dlpack::kBfloat && type.bits == 16) {
    *dtype = DType::kBFloat16;
    return true;
  }
  if (type.code != dlpack::kFloat) return false;
  switch (type.bits) {
    case 16: *dtype = DType::kFloat16; return true;
    case 32: *dtype = DType::kFloat32; return true;
    case 64: *dtype = DType::kFloat64; return true;
    default: return false;
  }
}

dlpack::DataType TypeOf(DType dtype) {
  const bool is_bfloat = dtype == DType::kBFloat16;
  return {is_bfloat ? dlpack::kBfloat : dlpack::kFloat,
          static_cast<uint8_t>(8 * kElementSize[static_cast<int>(dtype)]), 1};
}

bool IsAnyTrue(nb::handle functions) {
  const Py_ssize_t count = PyTuple_Size(functions.ptr());
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (IsTrue(PyObject_CallNoArgs(PyTuple_GetItem(functions.ptr(), i)))) return true;
  }
  return false;
}

bool IsInForwardMode() {
  const nb::object level =
      nb::steal(PyObject_GetAttr(connection->library.forward_ad.ptr(), connection->level.ptr()));
  const long value = level.is_valid() ? PyLong_AsLong(level.ptr()) : 0;
  if (PyErr_Occurred()) {
    PyErr_Clear();
    return true;
  }
  return value >= 0;
}

// A tensor's memory and what DLPack tells of it.
class Owned : public dlpack::ManagedTensor {
 public:
  Owned(const int64_t (&shape)[4], DType dtype, bool is_channels_last, size_t bytes) {
    if (bytes >= kReusedBytes) {
      memory_.emplace(bytes);
    } else {
      small_.reset(new (kLine) std::byte[bytes]);
    }
    const int64_t channels = is_channels_last ? shape[1] : 1;
    const int64_t pixels = shape[2] * shape[3];
    const int64_t values[4] = {shape[1] * pixels, is_channels_last ? 1 : pixels,
                               shape[3] * channels, channels};
    for (int axis = 0; axis < 4; ++axis) {
      shape_[axis] = shape[axis];
      strides_[axis] = values[axis];
    }
    version = {dlpack::kMajorVersion, dlpack::kMinorVersion};
    context = nullptr;
    deleter = [](dlpack::ManagedTensor* self) { delete static_cast<Owned*>(self); };
    flags = 0;
    tensor = {memory_ ? memory_->data() : small_.get(),
              {dlpack::kCpu, 0},
              4,
              TypeOf(dtype),
              shape_,
              strides_,
              0};
  }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete[](memory, kLine); }
  };

  int64_t shape_[4], strides_[4];
  std::optional<OutputMemory> memory_;
  std::unique_ptr<std::byte[], Free> small_;
};

}  // namespace

bool ConnectTensors(const TensorLibrary& library) {
  const dlpack::Exchange* exchange = FindExchange(library.exchange);
  if (exchange == nullptr) return false;
  const auto name = [](const char* text) { return nb::steal(PyUnicode_InternFromString(text)); };
  connection = new Connection{library, exchange, name("is_neg"), name("requires_grad"),
                              name("_current_level")};
  return true;
}

Way FindWay(std::initializer_list<nb::handle> tensors) {
  if (connection == nullptr) return Way::kDispatcher;
  const TensorLibrary& library = connection->library;
  for (const nb::handle tensor : tensors) {
    const nb::handle type = reinterpret_cast<PyObject*>(Py_TYPE(tensor.ptr()));
    if (!tensor.is_none() && !type.is(library.types[0]) && !type.is(library.types[1])) {
      return Way::kDispatcher;
    }
  }
  if (IsAnyTrue(library.transformers) || IsInForwardMode()) return Way::kDispatcher;
  if (IsTrue(PyObject_CallNoArgs(library.records.ptr()))) {
    for (const nb::handle tensor : tensors) {
      if (!tensor.is_none() &&
          IsTrue(PyObject_GetAttr(tensor.ptr(), connection->requires_gradient.ptr()))) {
        return Way::kRecorded;
      }
    }
  }
  if (IsAnyTrue(library.watchers)) return Way::kDispatcher;
  // Views that negate what is in memory, which the dispatcher resolves.
  for (const nb::handle tensor : tensors) {
    if (!tensor.is_none() &&
        IsTrue(PyObject_CallMethodObjArgs(tensor.ptr(), connection->is_negated.ptr(), nullptr))) {
      return Way::kDispatcher;
    }
  }
  return Way::kNative;
}

bool TensorView::IsContiguous(std::initializer_list<int> axes) const {
  int64_t step = 1;
  for (auto axis = std::rbegin(axes); axis != std::rend(axes); ++axis) {
    if (shape[*axis] != 1 && strides[*axis] != step) return false;
    step *= shape[*axis];
  }
  return true;
}

bool ReadTensor(nb::handle object, int rank, TensorView* view) {
  if (object.is_none()) return false;
  dlpack::Tensor tensor{};
  if (connection->exchange->view_of_object(object.ptr(), &tensor) != 0) {
    PyErr_Clear();
    return false;
  }
  if (tensor.device.type != dlpack::kCpu || tensor.rank != rank || tensor.strides == nullptr ||
      !ReadDType(tensor.dtype, &view->dtype)) {
    return false;
  }
  view->data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  view->shape = tensor.shape;
  view->strides = tensor.strides;
  const auto size = static_cast<uint64_t>(kElementSize[static_cast<int>(view->dtype)]);
  // Zeros may be without memory.
  return tensor.data != nullptr && reinterpret_cast<uintptr_t>(view->data) % size == 0;
}

TensorResult NewTensor(const int64_t (&shape)[4], DType dtype, bool is_channels_last) {
  int64_t bytes = kElementSize[static_cast<int>(dtype)];
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return {};
  }
  if (bytes == 0) return {};
  try {
    auto owned =
        std::make_unique<Owned>(shape, dtype, is_channels_last, static_cast<size_t>(bytes));
    void* const data = owned->tensor.data;
    void* object = nullptr;
    if (connection->exchange->object_from_managed(owned.release(), &object) != 0) {
      PyErr_Clear();
      return {};
    }
    return {nb::steal(static_cast<PyObject*>(object)), data};
  } catch (const std::bad_alloc&) {
    return {};
  }
}

}  // namespace depthwise
