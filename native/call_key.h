// What makes two calls of Python alike: the same shapes, type and options. What the first one found
// out, the geometry, is remembered under that. Called by call_memo.cc and tensor_calls.cc.
#pragma once

#include <nanobind/nanobind.h>

#include <cstring>

#include "kernels.h"

namespace depthwise {

enum class Operation : int64_t { kForward, kBackpropInput, kBackpropFilter };

// The arguments of a public function as the user gave them: two arrays, in the order of the
// function's parameters, and the sizes of the third, input_sizes or filter_sizes, or None.
struct CallArguments {
  Operation operation;
  nanobind::handle first, second, sizes, strides, padding, data_format, dilations;
};

// Who calls. A layer of PyTorch may have a stride and a dilation together, which is an error in the
// functions.
enum class Caller : int64_t { kNumpy, kTensors, kLayer };

// Without padding bytes, which are compared and hashed, too.
struct CallKey {
  Caller caller;
  Operation operation;
  int64_t first_shape[4], second_shape[4], sizes[4], strides[4], dilations[2];
  int64_t layer_channels;
  int64_t padding;         // 'S', 'V' or 'E': SAME, VALID or explicit
  int64_t paddings[4][2];  // then these
  int64_t type;            // by the caller's numbers
  int64_t is_nchw;
  int64_t is_channels_last_memory;  // NCHW that is computed as NHWC

  bool operator==(const CallKey& other) const {
    return std::memcmp(this, &other, sizeof *this) == 0;
  }
};

// Reads all but shapes and type. False for anything but strings, and lists or tuples of integers.
bool ReadOptions(const CallArguments& arguments, CallKey* key);

// The same of what a layer has: its number of channels, which the input may not have, and pairs of
// integers, or a name as the padding.
bool ReadLayerOptions(nanobind::handle in_channels, nanobind::handle stride,
                      nanobind::handle padding, nanobind::handle dilation, CallKey* key);

// The dtype is for NumPy, whose keys have a number of its own.
struct Solution {
  Geometry geometry;
  DType dtype;
};

// With the GIL held. Null if no such call is remembered; else valid until one is.
const Solution* FindSolution(const CallKey& key);
void RememberSolution(const CallKey& key, const Solution& solution);

}  // namespace depthwise
