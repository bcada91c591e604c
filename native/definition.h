// The definition as kernels: one output, or one tap of the filter gradient, at a time. For whatever
// the fast kernels do not take, and for the outputs at the borders when the filter holds NaN or
// infinity (the packed kernels would multiply it with their zero padding).
#pragma once

#include "element_types.h"
#include "kernels.h"
#include "pack.h"

namespace depthwise::DEPTHWISE_ISA {

// Sets one element to a value, rounded once.
template <class S>
DEPTHWISE_INLINE void StoreOne(typename S::Element* to, typename S::Accumulator value) {
  S::StorePartial(to, typename S::Vector{} + value, 1);
}

// The output at position t of both axes: one tap after the other, as in the tiles.
template <class S>
inline typename S::Accumulator DefinitionSum(const ForwardProblem& problem, const Axis& rows,
                                             int64_t row_t, const Axis& columns, int64_t column_t,
                                             const typename S::Element* image,
                                             const typename S::Element* filter) {
  using A = typename S::Accumulator;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const FilterStrides& taps = problem.filter_strides;
  const int64_t row_unit = row_t * rows.stride, column_unit = column_t * columns.stride;
  const int64_t row_end = Min(rows.window, rows.unit_end - row_unit);
  const int64_t column_begin = Max(0, columns.unit_begin - column_unit);
  const int64_t column_end = Min(columns.window, columns.unit_end - column_unit);
  A sum = 0;
  for (int64_t u = Max(0, rows.unit_begin - row_unit); u < row_end; ++u) {
    const int64_t plane = u % rows.planes;
    const int64_t di = rows.taps.first + u / rows.planes * rows.taps.step;
    const auto* row = image + rows.InputCoordinate(row_unit + u) * in.row + plane * in.channel;
    const auto* tap_row = filter + di * g.filter_width * taps.tap + plane * taps.channel;
    for (int64_t v = column_begin; v < column_end; ++v) {
      const int64_t dj = columns.taps.first + v * columns.taps.step;
      const A x = S::LoadOne(row + columns.ColumnCoordinate(column_unit + v) * in.column);
      sum += x * S::LoadOne(tap_row + dj * taps.tap);
    }
  }
  return sum;
}

// Computes output columns [first, last) of output row i of image b.
template <class S>
inline void DefinitionColumns(const ForwardProblem& problem, int64_t b, int64_t i, int64_t first,
                              int64_t last) {
  using E = typename S::Element;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const int64_t multiplier = g.channel_multiplier;
  const E* image = static_cast<const E*>(problem.input) + b * in.batch;
  const E* filter = static_cast<const E*>(problem.filter);
  const FilterStrides& taps = problem.filter_strides;
  E* to = static_cast<E*>(problem.output) + b * out.batch + i * out.row;
  const Axis rows = RowAxis(g, i % RowResidues(g));
  for (int64_t residue = 0; residue < ColumnResidues(g) && first < last; ++residue) {
    const Axis columns = ColumnAxis(g, residue);
    for (int64_t t = CeilDiv(first - residue, columns.out_step);
         t < CeilDiv(last - residue, columns.out_step); ++t) {
      E* pixel = to + (residue + t * columns.out_step) * out.column;
      for (int64_t e = 0; e < g.OutputChannels(); ++e) {
        const int64_t in_channel = g.transposed ? e * multiplier : e / multiplier;
        const int64_t tap_channel = (g.transposed ? e * multiplier : e) * taps.channel;
        StoreOne<S>(pixel + e * out.channel,
                    DefinitionSum<S>(problem, rows, i / rows.out_step, columns, t,
                                     image + in_channel * in.channel, filter + tap_channel) +
                        BiasOf<S>(problem, e));
      }
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

// The outputs of the same items whose window covers padding that the kernel of the plan takes for
// zeros: on the left or right; above and below where rows share a vector, and where planes are one
// row.
template <class S>
DEPTHWISE_SMALL inline void RunDefinitionAtBorders(const ForwardProblem& problem,
                                                   const ForwardPlan& plan, int64_t begin,
                                                   int64_t end) {
  const Geometry& g = problem.geometry;
  const int64_t reach = (g.filter_width - 1) * g.dilation_width;
  // The first output whose window begins inside the image, and the first whose window ends beyond.
  const int64_t inside = g.transposed ? reach - g.pad_left : CeilDiv(g.pad_left, g.stride_width);
  const int64_t beyond = g.transposed ? g.in_width * g.stride_width - g.pad_left
                                      : CeilDiv(g.in_width + g.pad_left - reach, g.stride_width);
  const int64_t left = Max(0, Min(g.out_width, inside));
  const int64_t right = Max(left, Min(g.out_width, beyond));
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / g.out_height, i = item % g.out_height;
    if (plan.algorithm == Algorithm::kNarrowPlane || plan.algorithm == Algorithm::kRow) {
      const Axis rows = RowAxis(g, 0);
      if (i * rows.stride < rows.unit_begin || i * rows.stride + rows.window > rows.unit_end) {
        DefinitionColumns<S>(problem, b, i, 0, g.out_width);
        continue;
      }
    }
    DefinitionColumns<S>(problem, b, i, 0, left);
    DefinitionColumns<S>(problem, b, i, right, g.out_width);
  }
}

// In whatever order they are: see FilterStrides, there are no gaps.
template <class S>
__attribute__((noinline)) inline bool AreFiniteTaps(const Geometry& g, const void* taps) {
  const auto* filter = static_cast<const typename S::Element*>(taps);
  const int64_t count = g.filter_height * g.filter_width * g.in_channels * g.channel_multiplier;
  // A number less itself is 0, infinity and NaN less themselves are NaN. Four sums at a time: one
  // alone waits for each addition, 1.9 us for 5x5 of 1152 channels.
  constexpr int kCount = kLanes<typename S::Accumulator>;
  constexpr int kSums = 4;
  typename S::Vector sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kCount <= count; i += kSums * kCount) {
#pragma GCC unroll 4
    for (int k = 0; k < kSums; ++k) {
      const auto x = S::Load(filter + i + k * kCount);
      sums[k] += x - x;
    }
  }
  for (; i < count; i += kCount) {
    const auto x = S::LoadPartial(filter + i, Min(kCount, count - i));
    sums[0] += x - x;
  }
  const auto zeros = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  bool finite = true;
  for (int lane = 0; lane < kCount; ++lane) finite &= zeros[lane] == 0;
  return finite;
}

// The filter gradient, item by item: a tap (di, dj) of all channels, or of those where it is not
// finite. Rows are summed on their own first, then images, so that errors do not grow with the
// number of pixels.
template <class S>
inline void RunFilterGradientDefinition(const FilterGradientProblem& problem, bool only_not_finite,
                                        int64_t begin, int64_t end) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.out_backprop_strides;
  const int64_t out_channels = g.OutputChannels();
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row_offset = item / g.filter_width * g.dilation_height - g.pad_top;
    const int64_t column_offset = item % g.filter_width * g.dilation_width - g.pad_left;
    // The outputs for which this tap is inside the image.
    const int64_t row_begin = Max(0, CeilDiv(-row_offset, g.stride_height));
    const int64_t row_end = Min(g.out_height, CeilDiv(g.in_height - row_offset, g.stride_height));
    const int64_t column_begin = Max(0, CeilDiv(-column_offset, g.stride_width));
    const int64_t column_end =
        Min(g.out_width, CeilDiv(g.in_width - column_offset, g.stride_width));
    if (row_begin >= row_end || column_begin >= column_end) continue;  // The tap is 0 already.
    for (int64_t e = 0; e < out_channels; ++e) {
      const E* input = static_cast<const E*>(problem.input) + e / g.channel_multiplier * in.channel;
      const E* out_backprop = static_cast<const E*>(problem.out_backprop) + e * out.channel;
      A sum = 0;
      for (int64_t b = 0; b < g.batch; ++b) {
        A image_sum = 0;
        for (int64_t i = row_begin; i < row_end; ++i) {
          const E* x = input + b * in.batch + (i * g.stride_height + row_offset) * in.row;
          const E* y = out_backprop + b * out.batch + i * out.row;
          A row_sum = 0;
          for (int64_t j = column_begin; j < column_end; ++j) {
            row_sum += S::LoadOne(x + (j * g.stride_width + column_offset) * in.column) *
                       S::LoadOne(y + j * out.column);
          }
          image_sum += row_sum;
        }
        sum += image_sum;
      }
      if (only_not_finite && sum - sum == 0) continue;
      StoreOne<S>(static_cast<E*>(problem.filter_backprop) + item * out_channels + e, sum);
    }
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
