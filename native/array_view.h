// A view of a Python array, by the buffer protocol. nanobind's own, by DLPack, takes 0.1 us longer,
// and knows no bfloat16. Called by bindings.cc.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "dispatch.h"

namespace depthwise {

// Keeps the array's memory where it is for as long as the view lives. Throws if the array has no
// view, is read-only although `writable` is asked for, or has another shape or element size.
class ArrayView {
 public:
  ArrayView(nanobind::handle array, const char* name, bool writable, size_t element_size,
            std::initializer_list<int64_t> shape)
      : element_size_(static_cast<int64_t>(element_size)) {
    const int flags = writable ? PyBUF_STRIDED : PyBUF_STRIDED_RO;
    if (PyObject_GetBuffer(array.ptr(), &buffer_, flags) != 0) throw nanobind::python_error();
    if (!HasShape(shape)) {
      PyBuffer_Release(&buffer_);
      throw std::invalid_argument(std::string(name) + " does not fit geometry and dtype");
    }
  }
  ~ArrayView() { PyBuffer_Release(&buffer_); }
  ArrayView(const ArrayView&) = delete;
  ArrayView& operator=(const ArrayView&) = delete;

  void* data() const { return buffer_.buf; }

  // Throws BufferError if the kernels cannot read or write the elements where they lie.
  void RequireAligned(const char* name) const {
    auto places = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(buffer_.buf));
    for (int axis = 0; axis < buffer_.ndim; ++axis) {
      // The stride of an axis with one element has no meaning, nor have those of an empty array.
      if (buffer_.shape[axis] > 1) places |= static_cast<uint64_t>(buffer_.strides[axis]);
    }
    if (buffer_.len != 0 && places % static_cast<uint64_t>(element_size_) != 0) {
      throw nanobind::buffer_error((std::string(name) + " is not aligned").c_str());
    }
  }
  void RequireContiguous(const char* name) const {
    RequireAligned(name);
    if (PyBuffer_IsContiguous(&buffer_, 'C') == 0) {
      throw nanobind::buffer_error((std::string(name) + " is not contiguous").c_str());
    }
  }

  ImageData Image(bool channels_last) const {
    const int row = channels_last ? 1 : 2;
    return {data(), {Stride(0), Stride(row), Stride(row + 1), Stride(channels_last ? 3 : 1)}};
  }

 private:
  bool HasShape(std::initializer_list<int64_t> shape) const {
    if (buffer_.itemsize != element_size_ || buffer_.ndim != static_cast<int>(shape.size())) {
      return false;
    }
    const Py_ssize_t* size = buffer_.shape;
    for (const int64_t expected : shape) {
      if (*size++ != expected) return false;
    }
    return true;
  }

  int64_t Stride(int axis) const { return buffer_.strides[axis] / element_size_; }

  Py_buffer buffer_;
  int64_t element_size_;
};

}  // namespace depthwise
