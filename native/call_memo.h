// Calls that are like an earlier one: the same shapes, type and options. What Python code found out
// then, the geometry, is remembered here, so that such a call runs no Python code but that of the
// public function. That is less for the CPU to fetch, which after a convolution has little of it in
// its caches: a small call takes 1 us instead of 2, or 11 instead of 24 if they were overwritten.
// Called by bindings.cc.
#pragma once

#include <nanobind/nanobind.h>

#include "kernels.h"

namespace depthwise {

// The arguments of depthwise_conv2d as the user gave them.
struct ForwardArguments {
  nanobind::handle input, filter, strides, padding, data_format, dilations;
};

// The output, or None if the call is not like an earlier one, cannot be computed in place, or
// fails: then Python code finds out the way, or what is wrong.
nanobind::object ForwardLikeBefore(const ForwardArguments& arguments);

// Remembers a valid call, unless its arguments are unusual: anything but NumPy's own arrays, lists
// or tuples of integers, "SAME" or "VALID".
void RememberForward(const ForwardArguments& arguments, const Geometry& geometry, DType dtype);

}  // namespace depthwise
