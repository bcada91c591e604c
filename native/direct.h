// The direct kernel: NHWC images read in place, for filters whose width has an unrolled tile, for
// small ones, and for those that hold infinities or NaN. Only the taps are packed.
//
// Order of the loops: image, pair of output rows, column tile, channels innermost, so that memory
// is read and written in sequence.
#pragma once

#include "channel_tile.h"
#include "pack.h"

namespace depthwise::DEPTHWISE_ISA {

// Channels are computed in groups whose taps are packed at a time: all of them but for filters
// that would not stay in the second-level cache.
inline constexpr int64_t kPackedTapBytes = 256 * 1024;

// Of one vector of channels: its taps and its bias.
inline double PackedChannelBytes(const Geometry& g) {
  return (static_cast<double>(g.filter_height) * g.filter_width + 1) * kVectorBytes;
}

template <class S>
inline int64_t DirectGroupVectors(const Geometry& g) {
  const auto bytes_each = static_cast<int64_t>(PackedChannelBytes(g));
  // One more than the channels fill, if the second vector overlaps the first.
  return Min(CeilDiv(g.in_channels, kLanes<typename S::Accumulator>) + 1,
             Max(1, kPackedTapBytes / bytes_each));
}

// Plans the direct kernel; false if the layout does not allow it, or if one vector of channels has
// more taps than `limit` bytes can hold.
template <class S>
inline bool PlanDirect(const ForwardProblem& problem, double limit, ForwardPlan* plan) {
  const Geometry& g = problem.geometry;
  if (!g.channels_last || g.channel_multiplier != 1 || problem.input_strides.channel != 1 ||
      g.in_channels < kLanes<typename S::Accumulator> || PackedChannelBytes(g) > limit) {
    return false;
  }
  plan->algorithm = Algorithm::kDirect;
  plan->blocks = 1;
  plan->scratch_bytes = DirectGroupVectors<S>(g) * static_cast<int64_t>(PackedChannelBytes(g));
  return true;
}

// The channels before the first vector where input and output are aligned, if that is worth a pass
// of its own for them: where neighbouring columns meet in a few sets of the first-level cache, of
// the two lines that hold an unaligned vector the second is gone before the next vector comes.
// (32x7x7x1024 3x3: 970 to 594 us.)
template <class S>
inline int64_t PeeledChannels(const ForwardProblem& problem) {
  constexpr int64_t kSharedBytes = 1024;
  if (problem.input_strides.column * int64_t{sizeof(typename S::Element)} % kSharedBytes != 0) {
    return 0;
  }
  return ChannelsToAlignment<S>(problem.geometry.in_channels, problem.input, problem.input_strides,
                                problem.output, problem.output_strides);
}

template <class S>
inline void DirectItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                       void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const Axis& rows = item.rows;
  const E* image = static_cast<const E*>(problem.input) + item.b * in.batch;
  E* output = static_cast<E*>(problem.output) + item.b * out.batch;
  A* const taps = static_cast<A*>(scratch);
  const int64_t rows_together = RowsTogether(rows.stride, rows.window, kChannelRows);

  const int64_t group = DirectGroupVectors<S>(g);
  const int64_t peel = group * kCount > g.in_channels ? PeeledChannels<S>(problem) : 0;
  const int64_t vectors = CeilDiv(g.in_channels - peel, kCount);
  for (int64_t first = 0; first < vectors; first += group) {
    const int64_t last = Min(vectors, first + group);
    A* to = taps;
    if (peel > 0) to = PackFilterClasses<S>(problem, rows, 0, kCount, to);
    A* const group_taps = to;
    for (int64_t v = first; v < last; ++v) {
      const int64_t channel = Min(peel + v * kCount, g.in_channels - kCount);
      to = PackFilterClasses<S>(problem, rows, channel, kCount, to);
    }
    A* const biases = to;
    if (peel > 0) {
      PackBias<S>(problem, 0, kCount, kCount, 1, to);
      to += kCount;
    }
    A* const group_biases = to;
    for (int64_t v = first; v < last; ++v, to += kCount) {
      const int64_t channel = Min(peel + v * kCount, g.in_channels - kCount);
      PackBias<S>(problem, channel, kCount, kCount, 1, to);
    }
    const ChannelArrays<S> arrays{
        .taps = group_taps,
        .taps_step = rows.window * g.filter_width * kCount,
        .bias = group_biases,
        .window_rows = rows.window,
        .row_stride = rows.stride,
        .column_residues = ColumnResidues(g),
        .column_stride = ColumnAxis(g, 0).stride,
        .first_column = 0,
        .in_column_step = in.column,
        .out_row_step = rows.out_step * out.row,
        .out_column_step = out.column,
        .channels = g.in_channels - peel,
        .first_vector = first,
        .last_vector = last,
        .prefetch = plan.prefetch,
        .stream = plan.stream,  // of an aligned output, so that nothing is peeled
        .has_padding = false,
    };
    ChannelArrays<S> first_vector = arrays;
    first_vector.taps = taps;
    first_vector.bias = biases;
    first_vector.channels = kCount;
    first_vector.first_vector = 0;
    first_vector.last_vector = 1;
    first_vector.prefetch = false;
    for (int64_t t = item.first; t < item.last; t += rows_together) {
      const int64_t rows_used = Min(rows_together, item.last - t);
      const RowRange range = InputRowsOf(rows, t, rows_used);
      TileRows<E> tile_rows{image + rows.InputCoordinate(range.first_unit + range.begin) * in.row,
                            rows.in_step * in.row,
                            range.begin,
                            range.end,
                            0,
                            0};
      E* to = output + (rows.out_first + t * rows.out_step) * out.row;
      if (peel > 0) ChannelRows<S>(g, first_vector, tile_rows, rows_used, 0, g.out_width, to);
      tile_rows.row += peel;
      ChannelRows<S>(g, arrays, tile_rows, rows_used, 0, g.out_width, to + peel);
    }
  }
}

template <class S>
inline void RunDirect(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                      int64_t end, void* scratch) {
  for (int64_t item = begin; item < end; ++item) {
    ForEachPart(problem.geometry, plan, item,
                [&](const Item& part) { DirectItem<S>(problem, plan, part, scratch); });
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
