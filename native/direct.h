// The direct kernel: NHWC without packing, for filters whose width has an unrolled tile, for small
// ones, and for those too large to pack. Nothing but the array itself is read or written.
//
// Order of the loops: image, pair of output rows, column tile, channels innermost, so that memory
// is read and written in sequence.
#pragma once

#include "channel_tile.h"
#include "kernels.h"

namespace depthwise::DEPTHWISE_ISA {

template <class S>
inline bool CanBeDirect(const ForwardProblem& problem) {
  const Geometry& g = problem.geometry;
  return g.channels_last && g.channel_multiplier == 1 && problem.input_strides.channel == 1 &&
         g.in_channels >= kLanes<typename S::Accumulator>;
}

template <class S>
inline void DirectItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item) {
  using E = typename S::Element;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const Axis& rows = item.rows;
  const ChannelArrays<S> arrays{{static_cast<const E*>(problem.filter), g.filter_height,
                                 g.filter_width, g.filter_width * g.in_channels, g.in_channels},
                                rows.stride,
                                in.column,
                                rows.out_step * out.row,
                                out.column,
                                g.in_channels,
                                plan.stream,
                                false};
  const E* image = static_cast<const E*>(problem.input) + item.b * in.batch;
  E* output = static_cast<E*>(problem.output) + item.b * out.batch;
  const ChannelRowsFunction<S> compute = FindChannelRows<S>(g);
  for (int64_t t = item.first; t < item.last; t += kChannelRows) {
    const int64_t rows_used = Min(kChannelRows, item.last - t);
    const RowRange range = InputRowsOf(rows, g.filter_height, t, rows_used);
    const E* row = image + rows.InputCoordinate(range.first_unit + range.begin) * in.row -
                   g.pad_left * in.column;
    compute(g, arrays, {row, rows.in_step * in.row, range.begin, range.end, 0, 0}, rows_used, 0,
            g.out_width, output + (rows.out_first + t * rows.out_step) * out.row);
  }
}

template <class S>
inline void RunDirect(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                      int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    DirectItem<S>(problem, plan, ItemOf(problem.geometry, plan, item));
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
