// NumPy's arrays by its C interface: what a call reads of them, and how results are made. By Python
// code the making takes 2 us, and 28 us when it has fallen out of the caches. Called by
// bindings.cc.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

#include "geometry.h"

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

  Strides ElementStrides(bool channels_last) const {
    const int row = channels_last ? 1 : 2;
    return {strides[0] / element_size, strides[row] / element_size, strides[row + 1] / element_size,
            strides[channels_last ? 3 : 1] / element_size};
  }
};

// False for all other objects.
bool ReadImage(PyObject* object, NumpyImage* image);

// A new C-contiguous array of rank 4, of the dtype (a numpy.dtype); large ones lie in memory that
// is reused, and are 64-byte aligned or as far from it as `image`, which is null or the NHWC image
// that they are computed from. Throws nanobind::python_error: ValueError for a shape that is too
// large for any array, MemoryError.
nanobind::object NewResult(const int64_t (&shape)[4], PyObject* dtype, PyObject* image);

// The same for the output of a problem, of the dtype of `input`, which is a NumPy array.
nanobind::object NewOutput(const Geometry& g, PyObject* input);

}  // namespace depthwise
