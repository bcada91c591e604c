// The definition as a kernel: one output at a time, for whatever the fast kernels do not take, and
// for the outputs at the borders when the filter holds NaN or infinity (the packed kernel would
// multiply it with its zero padding).
#pragma once

#include "kernels.h"
#include "simd.h"

namespace depthwise::DEPTHWISE_ISA {

// The taps of one axis that are inside the image for the output at position `out`.
struct TapRange {
  int64_t begin, end, first_coordinate;
};

DEPTHWISE_INLINE TapRange TapsInside(int64_t out, int64_t stride, int64_t dilation, int64_t pad,
                                     int64_t taps, int64_t in_size) {
  const int64_t origin = out * stride - pad;
  const int64_t begin = Max(0, CeilDiv(-origin, dilation));
  const int64_t end = Min(taps, CeilDiv(in_size - origin, dilation));
  return {begin, end, origin};
}

// Computes output columns [first, last) of output row i of image b.
template <class S>
inline void DefinitionColumns(const ForwardProblem& problem, int64_t b, int64_t i, int64_t first,
                              int64_t last) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const int64_t out_channels = g.OutChannels();
  const TapRange rows =
      TapsInside(i, g.stride_height, g.dilation_height, g.pad_top, g.filter_height, g.in_height);
  const E* image = static_cast<const E*>(problem.input) + b * in.batch;
  const E* filter = static_cast<const E*>(problem.filter);
  E* to = static_cast<E*>(problem.output) + b * out.batch + i * out.row;
  for (int64_t j = first; j < last; ++j) {
    const TapRange columns =
        TapsInside(j, g.stride_width, g.dilation_width, g.pad_left, g.filter_width, g.in_width);
    for (int64_t e = 0; e < out_channels; ++e) {
      const E* plane = image + e / g.channel_multiplier * in.channel;
      A sum = 0;
      for (int64_t di = rows.begin; di < rows.end; ++di) {
        const E* row = plane + (rows.first_coordinate + di * g.dilation_height) * in.row;
        for (int64_t dj = columns.begin; dj < columns.end; ++dj) {
          const A x =
              S::LoadOne(row + (columns.first_coordinate + dj * g.dilation_width) * in.column);
          sum += x * S::LoadOne(filter + (di * g.filter_width + dj) * out_channels + e);
        }
      }
      // +0 instead of -0 for an underflow, as in the other kernels.
      S::StorePartial(to + j * out.column + e * out.channel, typename S::Vector{} + sum, 1);
    }
  }
}

// Items: output rows of all images.
template <class S>
inline void RunDefinition(const ForwardProblem& problem, int64_t begin, int64_t end) {
  const Geometry& g = problem.geometry;
  for (int64_t item = begin; item < end; ++item) {
    DefinitionColumns<S>(problem, item / g.out_height, item % g.out_height, 0, g.out_width);
  }
}

// The outputs of the same items whose window covers padding on the left or right.
template <class S>
inline void RunDefinitionAtBorders(const ForwardProblem& problem, int64_t begin, int64_t end) {
  const Geometry& g = problem.geometry;
  const int64_t reach = (g.filter_width - 1) * g.dilation_width;
  const int64_t left = Min(g.out_width, CeilDiv(g.pad_left, g.stride_width));
  // The first output whose last tap is beyond the image.
  const int64_t right =
      Max(left, Min(g.out_width, CeilDiv(g.in_width + g.pad_left - reach, g.stride_width)));
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / g.out_height, i = item % g.out_height;
    DefinitionColumns<S>(problem, b, i, 0, left);
    DefinitionColumns<S>(problem, b, i, right, g.out_width);
  }
}

template <class S>
inline bool IsFiniteFilter(const ForwardProblem& problem) {
  const Geometry& g = problem.geometry;
  const auto* filter = static_cast<const typename S::Element*>(problem.filter);
  const int64_t count = g.filter_height * g.filter_width * g.OutChannels();
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) finite &= S::IsFinite(filter[i]);
  return finite;
}

}  // namespace depthwise::DEPTHWISE_ISA
