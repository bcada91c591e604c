// Calls with PyTorch's tensors that nobody looks at and nobody differentiates, by as little Python
// code as those of NumPy (call_memo.h). Called by bindings.cc.
#pragma once

#include <nanobind/nanobind.h>

#include "call_key.h"

namespace depthwise {

// Both return the result, or None where Python code has to find out the way, or what is wrong.
// `solve` is called for what is not like an earlier call, with the arguments and whether the image
// of NCHW is to be computed as NHWC, in which it lies in memory; it returns the Geometry.

// A public function.
nanobind::object CallWithTensors(const CallArguments& arguments, nanobind::handle solve);

// Of a layer that has what torch.nn.Conv2d has, with a group for each of `in_channels`: the output,
// or the gradient of one of its tensors.
struct LayerArguments {
  Operation operation;
  nanobind::handle input, weight;
  nanobind::handle other;  // the bias, which may be None, or out_backprop
  nanobind::handle in_channels, stride, padding, dilation;
};

// True if gradients are wanted of an output, which is not computed then.
nanobind::object CallLayer(const LayerArguments& arguments, nanobind::handle solve);

}  // namespace depthwise
