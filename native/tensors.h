// PyTorch's tensors by DLPack's C interface: what a call reads of them, and how results are made.
// By Python code, which asks PyTorch for each number, a small layer takes 14 us, or 97 if the
// caches have been overwritten since the last one; so it takes 6, or 70. Called by tensor_calls.cc.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <initializer_list>

#include "kernels.h"

namespace depthwise {

// What Python code knows of PyTorch.
struct TensorLibrary {
  nanobind::object exchange;  // the capsule of DLPack's C interface
  nanobind::object types[2];  // of tensors whose meaning nobody has changed
  // Tuples of functions that tell whether somebody makes something else of what is called, and
  // whether somebody looks at it.
  nanobind::object transformers, watchers;
  nanobind::object records;     // the function that tells whether gradients are recorded
  nanobind::object forward_ad;  // the module whose _current_level is not negative in forward mode
};

// To be called once, before the others. False, and no change, if the interface is not one that is
// known here.
bool ConnectTensors(const TensorLibrary& library);

// How to compute from tensors: as PyTorch's dispatcher does, with a record for gradients, or
// without PyTorch.
enum class Way { kDispatcher, kRecorded, kNative };

// That of these, which may be None. The dispatcher's for all but plain tensors and if nothing is
// connected, for transforms, tracers and autocast, and without gradients for modes, profilers and
// views that negate.
Way FindWay(std::initializer_list<nanobind::handle> tensors);

// Elements in the memory of the CPU, as the strides tell, which are in elements. Valid until Python
// code runs, which might change the tensor.
struct TensorView {
  void* data;
  const int64_t* shape;
  const int64_t* strides;
  DType dtype;

  // Whether elements lie in C order when axes are taken in that one.
  bool IsContiguous(std::initializer_list<int> axes) const;
};

// False for all but tensors of that rank, of a dtype that the kernels know, whose elements are
// there and aligned. Only for those that FindWay() found another way for than the dispatcher's.
bool ReadTensor(nanobind::handle object, int rank, TensorView* view);

// A new tensor and where its elements are.
struct TensorResult {
  nanobind::object tensor;
  void* data;
};

// A new tensor of that shape, 64-byte aligned; large ones lie in memory that is reused. It is
// C-contiguous, or if `is_channels_last` a [batch, channels, height, width] whose channels lie
// together. No tensor if that fails, or would be empty: PyTorch has strides of its own for those.
TensorResult NewTensor(const int64_t (&shape)[4], DType dtype, bool is_channels_last);

}  // namespace depthwise
