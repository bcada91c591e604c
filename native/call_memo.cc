#include "call_memo.h"

#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "dispatch.h"
#include "numpy_arrays.h"
#include "released_gil.h"

namespace nb = nanobind;

namespace depthwise {
namespace {

// All that makes two calls alike. Without padding bytes, which are compared and hashed, too.
struct Key {
  Operation operation;
  int64_t first_shape[4], second_shape[4], sizes[4], strides[4], dilations[2];
  int64_t padding;         // 'S', 'V' or 'E': SAME, VALID or explicit
  int64_t paddings[4][2];  // then these
  int64_t type;            // NumPy's number
  int64_t is_nchw;

  bool operator==(const Key& other) const { return std::memcmp(this, &other, sizeof *this) == 0; }
};
static_assert(std::has_unique_object_representations_v<Key>);

struct KeyHash {
  size_t operator()(const Key& key) const {
    return std::hash<std::string_view>{}({reinterpret_cast<const char*>(&key), sizeof key});
  }
};

struct Solution {
  Geometry geometry;
  DType dtype;
};

// With this many, some 300 KB, all are forgotten.
constexpr size_t kMaxSolutions = 1024;

// Used with the GIL held. Never destroyed: daemon threads call until the process ends.
std::unordered_map<Key, Solution, KeyHash>& Solutions() {
  static auto* solutions = new std::unordered_map<Key, Solution, KeyHash>;
  return *solutions;
}

// False for anything but a list or tuple of so many items. They are borrowed from it.
template <int kCount>
bool ReadItems(nb::handle values, nb::handle (&items)[kCount]) {
  PyObject* const sequence = values.ptr();
  const bool is_list = PyList_CheckExact(sequence);
  if (!is_list && !PyTuple_CheckExact(sequence)) return false;
  if ((is_list ? PyList_Size(sequence) : PyTuple_Size(sequence)) != kCount) return false;
  for (int i = 0; i < kCount; ++i) {
    items[i] = is_list ? PyList_GetItem(sequence, i) : PyTuple_GetItem(sequence, i);
  }
  return true;
}

// False for anything but so many ints, which no bool is, that fit 64 bits.
template <int kCount>
bool ReadIntegers(nb::handle values, int64_t (&integers)[kCount]) {
  nb::handle items[kCount];
  if (!ReadItems(values, items)) return false;
  for (int i = 0; i < kCount; ++i) {
    int overflow;
    if (!PyLong_CheckExact(items[i].ptr())) return false;
    integers[i] = PyLong_AsLongLongAndOverflow(items[i].ptr(), &overflow);
    if (overflow != 0) return false;
  }
  return true;
}

bool IsText(nb::handle value, const char* text) {
  return PyUnicode_CheckExact(value.ptr()) &&
         PyUnicode_CompareWithASCIIString(value.ptr(), text) == 0;
}

bool ReadPadding(nb::handle given, Key* key) {
  key->padding = IsText(given, "SAME") ? 'S' : IsText(given, "VALID") ? 'V' : 'E';
  if (key->padding != 'E') return true;
  nb::handle pairs[4];
  if (!ReadItems(given, pairs)) return false;
  for (int axis = 0; axis < 4; ++axis) {
    if (!ReadIntegers(pairs[axis], key->paddings[axis])) return false;
  }
  return true;
}

// What a call is about.
struct Call {
  Key key;
  NumpyImage first, second;
};

// False if the call is unusual.
bool ReadCall(const CallArguments& given, Call* call) {
  Key& key = call->key;
  key = {};
  if (!ReadImage(given.first.ptr(), &call->first) ||
      !ReadImage(given.second.ptr(), &call->second) || call->first.type != call->second.type) {
    return false;
  }
  const NumpyImage* filter = given.operation == Operation::kForward         ? &call->second
                             : given.operation == Operation::kBackpropInput ? &call->first
                                                                            : nullptr;
  if (filter != nullptr && !filter->is_contiguous) return false;
  key.operation = given.operation;
  for (int axis = 0; axis < 4; ++axis) {
    key.first_shape[axis] = call->first.shape[axis];
    key.second_shape[axis] = call->second.shape[axis];
  }
  key.type = call->first.type;
  key.is_nchw = IsText(given.data_format, "NCHW");
  key.dilations[0] = key.dilations[1] = 1;
  return ReadPadding(given.padding, &key) &&
         (key.is_nchw || given.data_format.is_none() || IsText(given.data_format, "NHWC")) &&
         ReadIntegers(given.strides, key.strides) &&
         (given.dilations.is_none() || ReadIntegers(given.dilations, key.dilations)) &&
         (given.operation == Operation::kForward || ReadIntegers(given.sizes, key.sizes));
}

// A new result for a call, an image of that size or a filter.
NumpyResult NewImage(const CallArguments& arguments, const Solution& solution, int64_t height,
                     int64_t width, int64_t channels) {
  const Geometry& g = solution.geometry;
  PyObject* const dtype = DtypeOf(arguments.first.ptr());
  if (!g.channels_last) return NewResult({g.batch, channels, height, width}, dtype, nullptr);
  const bool is_forward = arguments.operation == Operation::kForward;
  PyObject* const image = (is_forward ? arguments.first : arguments.second).ptr();
  return NewResult({g.batch, height, width, channels}, dtype,
                   AlignsWithInput(g, solution.dtype, !is_forward) ? image : nullptr);
}

NumpyResult NewResultOf(const CallArguments& arguments, const Solution& solution) {
  const Geometry& g = solution.geometry;
  switch (arguments.operation) {
    case Operation::kForward:
      return NewImage(arguments, solution, g.out_height, g.out_width, g.OutputChannels());
    case Operation::kBackpropInput:
      return NewImage(arguments, solution, g.in_height, g.in_width, g.in_channels);
    default:
      return NewResult({g.filter_height, g.filter_width, g.in_channels, g.channel_multiplier},
                       DtypeOf(arguments.first.ptr()), nullptr);
  }
}

void Compute(const Call& call, const Solution& solution, void* result) {
  const auto [g, dtype] = solution;
  const auto filter = [&](const NumpyImage& array) {
    return FilterData{array.data, DenseFilterStrides(g)};
  };
  const auto image = [&](const NumpyImage& array) { return array.Image(g.channels_last); };
  switch (call.key.operation) {
    case Operation::kForward:
      return ComputeOutput(dtype, g, image(call.first), filter(call.second), nullptr, result);
    case Operation::kBackpropInput:
      return ComputeInputBackprop(dtype, g, filter(call.first), image(call.second), result);
    case Operation::kBackpropFilter:
      return ComputeFilterBackprop(dtype, g, image(call.first), image(call.second),
                                   {result, DenseFilterStrides(g)});
  }
}

}  // namespace

nb::object CallLikeBefore(const CallArguments& arguments) {
  Call call;
  if (!ReadCall(arguments, &call)) return nb::none();
  const auto found = Solutions().find(call.key);
  if (found == Solutions().end()) return nb::none();
  const Solution solution = found->second;  // which may be forgotten while the GIL is released
  try {
    NumpyResult result = NewResultOf(arguments, solution);
    {
      const ReleasedGil released;
      Compute(call, solution, result.data);
    }
    return std::move(result.array);
  } catch (nb::python_error&) {
    return nb::none();
  }
}

void RememberCall(const CallArguments& arguments, const Geometry& geometry, DType dtype) {
  Call call;
  if (!ReadCall(arguments, &call)) return;
  if (Solutions().size() >= kMaxSolutions) Solutions().clear();
  Solutions().insert_or_assign(call.key, Solution{geometry, dtype});
}

}  // namespace depthwise
