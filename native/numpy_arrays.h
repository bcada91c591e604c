// NumPy's arrays by its C interface: what a call reads of them, and how results are made. By Python
// code the making takes 2 us, and 28 us when it has fallen out of the caches. Called by
// bindings.cc.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

#include "dispatch.h"

namespace depthwise {

// To be called before the others, once. Throws nanobind::python_error.
void ImportNumpy();

// A numpy.ndarray, not of a subclass, of rank 4, whose elements are aligned and in native byte
// order. Strides are in bytes.
struct NumpyImage {
  void* data;
  const intptr_t* shape;
  const intptr_t* strides;
  int type;  // NumPy's number
  int64_t element_size;
  bool is_contiguous;  // in C order

  ImageData Image(bool channels_last) const {
    const int row = channels_last ? 1 : 2;
    return {data, {Stride(0), Stride(row), Stride(row + 1), Stride(channels_last ? 3 : 1)}};
  }
  int64_t Stride(int axis) const { return strides[axis] / element_size; }  // in elements
};

// False for all other objects.
bool ReadImage(PyObject* object, NumpyImage* image);

// A new array and where its elements are.
struct NumpyResult {
  nanobind::object array;
  void* data;
};

// A new C-contiguous array of rank 4, of a dtype (a numpy.dtype); large ones lie in memory that is
// reused, and are 64-byte aligned or, if pixels are lines, as far from it as `image`, which is null
// or an NHWC image (see AlignsWithInput()). Throws nanobind::python_error: ValueError for a shape
// that is too large for any array, MemoryError.
NumpyResult NewResult(const int64_t (&shape)[4], PyObject* dtype, PyObject* image);

// The dtype of a NumPy array; borrowed.
PyObject* DtypeOf(PyObject* array);

}  // namespace depthwise
