// The native entry points: which instruction set runs, and how a problem is spread over threads.
// bindings.cc, call_memo.cc, tensor_calls.cc, xla_handlers.cc and selftest.cc call these; nothing
// else calls a kernel.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace depthwise {

// Computes given.output: a forward convolution or, of a transposed geometry, the gradient of
// sum(output * out_backprop) with respect to the input. The problem must be valid: sizes agree,
// every stride and dilation is at least 1, all coordinates fit in int64 (as make_geometry() in
// _geometry.py guarantees). Allocates at most 2 MB of scratch a thread, which the thread keeps.
// Safe to call from any number of threads. The result has the same bits for any number of threads.
void Forward(DType dtype, const ForwardProblem& given);

// Computes given.filter_backprop, the gradient of sum(output * out_backprop) with respect to the
// filter; all else as for Forward(). The scratch of a thread is at most 4 MB and one accumulator
// for each tap; the calling thread has what the sums of all threads need.
void FilterGradient(DType dtype, const FilterGradientProblem& given);

// Whether the output, or the gradient of the input, had better be as far from a cache line as the
// NHWC image that it is computed from, so that the kernels read and write whole lines of both
// (VectorsOf() in direct_plan.h), or else aligned:
// - one of pixels of less than 768 bytes, whose first vector would be computed apart; but not where
//   a vector takes their ends (28x28x144 3x3 with a stride of 2 takes 7.5 instead of 9.2 us,
//   56x56x96 7x7 216 instead of 236);
// - a large one of few taps, which may be stored past the caches. With more taps that gains less:
//   unaligned 32x14x14x672 5x5 takes 2300 instead of 3100 us from the last-level cache, 3300
//   instead of 3900 from memory, 8x28x28x480 5x5 1650 instead of 2240, and 2170 instead of 2700.
// - one whose pixels several threads share, so that none writes to lines in which the next pixel
//   begins for another one: aligned 28x28x240 5x5 takes two threads 55 instead of 60 us, 14x14x512
//   5x5 31 instead of 36, 7x7x768 7x7 17 instead of 20, but 14x14x672 5x5 40 instead of 37.
// (Xeon, model 167.)
bool AlignsWithInput(const Geometry& g, DType dtype, bool is_gradient);

// The three public functions on memory that fits the geometry; bias may be null, and images that
// are results are C-contiguous.
struct ImageData {
  const void* data;
  Strides strides;
};
struct FilterData {
  const void* data;
  FilterStrides strides;
};
struct FilterResult {
  void* data;
  FilterStrides strides;
};
void ComputeOutput(DType dtype, const Geometry& g, const ImageData& input, const FilterData& filter,
                   const void* bias, void* output);
void ComputeInputBackprop(DType dtype, const Geometry& g, const FilterData& filter,
                          const ImageData& out_backprop, void* input_backprop);
void ComputeFilterBackprop(DType dtype, const Geometry& g, const ImageData& input,
                           const ImageData& out_backprop, const FilterResult& filter_backprop);

// Peak float32 multiply-add rate of one core in GFLOP/s, measured for about that long.
double MeasurePeakGflops(double seconds);

}  // namespace depthwise
