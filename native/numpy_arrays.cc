#include "numpy_arrays.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

#include <memory>
#include <utility>

#include "output_memory.h"

namespace depthwise {
namespace {

int64_t LineOffset(PyObject* object) {
  NumpyImage image;
  if (object == nullptr || !ReadImage(object, &image)) return 0;
  const intptr_t pixel = image.strides[2];
  if (pixel % 64 != 0 || image.strides[3] != image.element_size) return 0;
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(image.data) % 64);
}

constexpr const char* kCapsuleName = "depthwise.OutputMemory";

nanobind::object NewOwner(size_t bytes, void** data) {
  std::unique_ptr<OutputMemory> memory;
  try {
    memory = std::make_unique<OutputMemory>(bytes);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    throw nanobind::python_error();
  }
  *data = memory->data();
  PyObject* capsule = PyCapsule_New(memory.get(), kCapsuleName, [](PyObject* self) {
    delete static_cast<OutputMemory*>(PyCapsule_GetPointer(self, kCapsuleName));
  });
  if (capsule == nullptr) throw nanobind::python_error();
  memory.release();
  return nanobind::steal(capsule);
}

}  // namespace

void ImportNumpy() {
  if (PyArray_ImportNumPyAPI() < 0) throw nanobind::python_error();
}

bool ReadImage(PyObject* object, NumpyImage* image) {
  if (!PyArray_CheckExact(object)) return false;
  auto* array = reinterpret_cast<PyArrayObject*>(object);
  if (PyArray_NDIM(array) != 4 || !PyArray_ISBEHAVED_RO(array)) return false;
  *image = {PyArray_DATA(array),
            PyArray_DIMS(array),
            PyArray_STRIDES(array),
            PyArray_TYPE(array),
            static_cast<int64_t>(PyArray_ITEMSIZE(array)),
            PyArray_IS_C_CONTIGUOUS(array) != 0};
  return true;
}

NumpyResult NewResult(const int64_t (&shape)[4], PyObject* dtype, PyObject* image) {
  auto* descr = reinterpret_cast<PyArray_Descr*>(dtype);
  npy_intp dims[4];
  auto bytes = static_cast<int64_t>(PyDataType_ELSIZE(descr));
  bool is_too_large = false;
  for (int axis = 0; axis < 4; ++axis) {
    dims[axis] = static_cast<npy_intp>(shape[axis]);
    is_too_large |= __builtin_mul_overflow(bytes, shape[axis], &bytes);
  }
  const bool has_block = !is_too_large && bytes >= int64_t{kReusedBytes};
  void* data = nullptr;
  nanobind::object owner;
  if (has_block) {
    const int64_t offset = LineOffset(image);
    owner = NewOwner(static_cast<size_t>(bytes + offset), &data);
    data = static_cast<char*>(data) + offset;
  }
  Py_INCREF(dtype);  // which is stolen
  PyObject* result = PyArray_NewFromDescr(&PyArray_Type, descr, 4, dims, nullptr, data,
                                          has_block ? NPY_ARRAY_CARRAY : 0, nullptr);
  if (result == nullptr) throw nanobind::python_error();
  nanobind::object array = nanobind::steal(result);
  if (has_block &&
      PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(result), owner.release().ptr()) != 0) {
    throw nanobind::python_error();
  }
  return {std::move(array), PyArray_DATA(reinterpret_cast<PyArrayObject*>(result))};
}

PyObject* DtypeOf(PyObject* array) {
  return reinterpret_cast<PyObject*>(PyArray_DESCR(reinterpret_cast<PyArrayObject*>(array)));
}

}  // namespace depthwise
