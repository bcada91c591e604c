// The block kernel: one vector of output channels at a time, packed. It serves NHWC with large
// filters or a channel multiplier, NCHW (a block of planes is transposed on the way in, and back on
// the way out), and layouts that no other kernel reads in place.
//
// pack:    input rows -> ring of zero-padded rows [columns, lanes] of accumulators
// compute: ring -> two output rows [columns, lanes] in a buffer, by the channel tile
// store:   buffer -> output, converted and, for NCHW, transposed
#pragma once

#include "channel_rows.h"
#include "next_block.h"
#include "pack.h"
#include "shuffle.h"

namespace depthwise::DEPTHWISE_ISA {

// Where the lanes of a block come from. Lane l holds output channel first_channel + l, for
// l < channels, and so input channel (first_channel + l) / multiplier. (In a transposed problem an
// output channel has `planes` input channels of its own, and the multiplier here is 1.)
struct BlockChannels {
  int64_t first_channel, channels, multiplier;

  DEPTHWISE_INLINE int64_t FirstInput() const { return first_channel / multiplier; }
  // Input channel of a lane, relative to FirstInput(); lanes beyond the last repeat it.
  DEPTHWISE_INLINE int64_t InputOf(int64_t lane) const {
    return (first_channel + Min(lane, channels - 1)) / multiplier - FirstInput();
  }
};

// From the plane of one lane to that of the next, in elements. (Pointers to all of them would not
// fit into the registers, and divisions by the multiplier for each row took a sixth of the
// packing.)
template <class A>
struct PlaneSteps {
  int64_t to_next[kLanes<A>];
};

template <class A>
DEPTHWISE_INLINE PlaneSteps<A> PlaneStepsOf(const BlockChannels& block, int64_t channel_stride) {
  PlaneSteps<A> steps;
  int64_t copy = block.multiplier == 1 ? 0 : block.first_channel % block.multiplier;
  for (int lane = 0; lane < kLanes<A>; ++lane) {
    if (++copy == block.multiplier) copy = 0;
    steps.to_next[lane] = copy == 0 && lane + 1 < block.channels ? channel_stride : 0;
  }
  return steps;
}

template <class S>
struct BlockPacker {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;

  BlockChannels block;
  const E* image;  // element of row 0, column 0 and the first input channel of the block
  Strides strides;
  PlaneSteps<A> plane_steps;
  int64_t plane_step;  // elements between the channels of a transposed problem's `planes`
  int64_t in_width;
  int64_t first_column, columns;  // input columns that a packed row holds

  // Packs the unit rows [unit, end) of `rows` to the ring. (Not inlined, nor is StoreRows(): two
  // kernels call them, and a wheel may have 1 MB.)
  __attribute__((noinline)) void Pack(const Ring<A>& ring, int64_t unit, int64_t end,
                                      const Axis& rows) const {
    const int64_t begin = Min(columns, Max(0, -first_column));
    const int64_t inside = Max(0, Min(columns, in_width - first_column) - begin);
    A* to = ring.Row(unit);
    for (int64_t u = unit; u < end; ++u, to = ring.RowAfter(to)) {
      for (int64_t i = 0; i < begin; ++i) StoreUnaligned(to + i * kCount, V{});
      for (int64_t i = begin + inside; i < columns; ++i) StoreUnaligned(to + i * kCount, V{});
    }
    if (inside == 0) return;
    const E* from = image + (first_column + begin) * strides.column;
    const bool planes = strides.column == 1 && strides.channel != 1;
    // Whole rows that follow each other are transposed as one sequence: with 14 columns, 28 of two
    // rows fill two squares of 16 almost, where single rows leave an eighth empty; with 7, half.
    const bool joined = planes && inside == in_width && rows.in_step == 1 && rows.planes == 1 &&
                        strides.row == in_width;
    if (joined) {
      PackPlanes(from + rows.InputCoordinate(unit) * strides.row, ring, unit, end, begin, inside);
      return;
    }
    for (int64_t u = unit; u < end; ++u) {
      const E* row = from + rows.InputCoordinate(u) * strides.row;
      if (rows.planes == 2 && plane_step == 1) {
        PackEverySecond(row, u % 2, ring.Row(u) + begin * kCount, inside);
        continue;
      }
      if (rows.planes > 1) row += u % rows.planes * plane_step;
      if (planes) {
        PackPlanes(row, ring, u, u + 1, begin, inside);
      } else if (strides.channel == 1) {
        PackChannels(row, ring.Row(u) + begin * kCount, inside);
      } else {
        PackAny(row, ring.Row(u) + begin * kCount, inside);
      }
    }
  }

  // Channels next to each other: NHWC.
  DEPTHWISE_INLINE void PackChannels(const E* from, A* to, int64_t count) const {
    if (block.multiplier == 1 && block.channels == kCount) {
      for (int64_t i = 0; i < count; ++i, from += strides.column, to += kCount) {
        StoreUnaligned(to, S::Load(from));
      }
      return;
    }
    typename IndexOf<A>::Type index;
    for (int lane = 0; lane < kCount; ++lane) index[lane] = block.InputOf(lane);
    const int64_t inputs = block.InputOf(kCount - 1) + 1;
    for (int64_t i = 0; i < count; ++i, from += strides.column, to += kCount) {
      StoreUnaligned(to, Permute(S::LoadPartial(from, inputs), index));
    }
  }

  // Every second channel, from number `first` on: NHWC of a transposed problem with multiplier 2.
  DEPTHWISE_INLINE void PackEverySecond(const E* from, int64_t first, A* to, int64_t count) const {
    const int64_t low = Min(kCount, 2 * block.channels), high = 2 * block.channels - low;
    for (int64_t i = 0; i < count; ++i, from += strides.column, to += kCount) {
      V a, b;
      if (high == kCount) {
        a = S::Load(from);
        b = S::Load(from + kCount);
      } else {
        a = S::LoadPartial(from, low);
        b = S::LoadPartial(from + low, high);
      }
      StoreUnaligned(to, first == 0 ? EvenLanes(a, b) : OddLanes(a, b));
    }
  }

  // Columns next to each other: NCHW. `from` is a sequence of (end - unit) * width elements in
  // each plane.
  DEPTHWISE_INLINE void PackPlanes(const E* from, const Ring<A>& ring, int64_t unit, int64_t end,
                                   int64_t begin, int64_t width) const {
    const int64_t count = (end - unit) * width;
    A* row = ring.Row(unit);
    A* to = row + begin * kCount;
    int64_t left = width;
    for (int64_t i = 0; i < count; i += kCount) {
      const int64_t n = Min(kCount, count - i);
      V square[kCount];
      const E* plane = from + i;
      if (n == kCount) {
#pragma GCC unroll 16
        for (int lane = 0; lane < kCount; plane = Step(plane, plane_steps.to_next[lane++])) {
          square[lane] = S::Load(plane);
        }
      } else {
#pragma GCC unroll 16
        for (int lane = 0; lane < kCount; plane = Step(plane, plane_steps.to_next[lane++])) {
          square[lane] = S::LoadPartial(plane, n);
        }
      }
      Transpose(square);
#pragma GCC unroll 16
      for (int k = 0; k < kCount; ++k) {
        if (k >= n) break;
        if (left == 0) {
          left = width;
          row = ring.RowAfter(row);
          to = row + begin * kCount;
        }
        StoreUnaligned(to, square[k]);
        to += kCount;
        --left;
      }
    }
  }

  // Any strides.
  DEPTHWISE_INLINE void PackAny(const E* from, A* to, int64_t count) const {
    for (int64_t i = 0; i < count; ++i, from += strides.column, to += kCount) {
      for (int lane = 0; lane < kCount; ++lane) {
        to[lane] = S::LoadOne(from + block.InputOf(lane) * strides.channel);
      }
    }
  }
};

// Of the input columns of image b that are given.
template <class S>
DEPTHWISE_INLINE BlockPacker<S> MakeBlockPacker(const ForwardProblem& problem, const Axis& rows,
                                                int64_t b, const BlockChannels& block,
                                                const ColumnRange& columns) {
  const Strides& in = problem.input_strides;
  Strides strides = in;
  strides.channel *= rows.planes;
  return {
      .block = block,
      .image = static_cast<const typename S::Element*>(problem.input) + b * in.batch +
               block.FirstInput() * strides.channel,
      .strides = strides,
      .plane_steps = PlaneStepsOf<typename S::Accumulator>(block, strides.channel),
      .plane_step = in.channel,
      .in_width = problem.geometry.in_width,
      .first_column = columns.begin,
      .columns = columns.end - columns.begin,
  };
}

// Stores `count` columns of computed rows, [count, lanes], to the output that starts at `to`.
template <class S>
DEPTHWISE_INLINE void StoreChannels(const typename S::Accumulator* from, int64_t count,
                                    int64_t channels, int64_t column_stride, bool stream,
                                    typename S::Element* to) {
  using V = typename S::Vector;
  constexpr int kCount = kLanes<typename S::Accumulator>;
  for (int64_t j = 0; j < count; ++j, from += kCount, to += column_stride) {
    if (channels == kCount) {
      StoreVector<S>(to, LoadUnaligned<V>(from), stream);
    } else {
      S::StorePartial(to, LoadUnaligned<V>(from), channels);
    }
  }
}

template <class S>
DEPTHWISE_INLINE void StorePlanes(const typename S::Accumulator* from, int64_t count,
                                  int64_t channels, int64_t channel_stride, bool stream,
                                  typename S::Element* to) {
  using V = typename S::Vector;
  constexpr int kCount = kLanes<typename S::Accumulator>;
  for (int64_t j = 0; j < count; j += kCount, from += kCount * kCount) {
    const int64_t n = Min(kCount, count - j);
    V square[kCount];
#pragma GCC unroll 16
    for (int k = 0; k < kCount; ++k) square[k] = LoadUnaligned<V>(from + k * kCount);
    Transpose(square);
    typename S::Element* plane = to + j;
#pragma GCC unroll 16
    for (int lane = 0; lane < kCount; ++lane, plane += channel_stride) {
      if (lane >= channels) break;
      if (n == kCount) {
        StoreVector<S>(plane, square[lane], stream);
      } else {
        S::StorePartial(plane, square[lane], n);
      }
    }
  }
}

// Stores computed rows, [rows_used, columns, lanes], to output rows `row_step` apart.
template <class S>
__attribute__((noinline)) void StoreRows(const ForwardProblem& problem, const ForwardPlan& plan,
                                         const typename S::Accumulator* from, int64_t rows_used,
                                         int64_t columns, int64_t channels, int64_t row_step,
                                         typename S::Element* to) {
  const Strides& out = problem.output_strides;
  const bool planes = !problem.geometry.channels_last;
  // Rows of a plane that follow each other are stored as one sequence.
  if (planes && row_step == columns) {
    columns *= rows_used;
    rows_used = 1;
  }
  for (int64_t i = 0; i < rows_used; ++i, to += row_step) {
    if (planes) {
      StorePlanes<S>(from, columns, channels, out.channel, plan.stream, to);
    } else {
      StoreChannels<S>(from, columns, channels, out.column, plan.stream, to);
    }
    from += columns * kLanes<typename S::Accumulator>;
  }
}

template <class S>
inline void BlockItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                      const ColumnAxes& axes, void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& out = problem.output_strides;

  Ring<A> ring{static_cast<A*>(scratch), plan.ring_rows, plan.ring_row_stride};
  A* const filter = ring.memory + ring.count * ring.row_stride;

  const int64_t first_channel = item.block * kCount;
  const BlockChannels block{first_channel, Min(kCount, g.OutputChannels() - first_channel),
                            g.transposed ? 1 : g.channel_multiplier};
  A* const bias = PackFilterClasses<S>(problem, rows, first_channel, block.channels, filter);
  PackBias<S>(problem, first_channel, block.channels, kCount, 1, bias);
  A* const buffer = bias + kCount;
  E* output = static_cast<E*>(problem.output) + item.b * out.batch + first_channel * out.channel;

  NextBlock<E> next(problem, item.b, first_channel, kCount);
  const int64_t rows_together = RowsTogether(rows.stride, rows.window, kChannelRows);
  for (int64_t first = 0; first < g.out_width; first += plan.strip_columns) {
    const int64_t columns = Min(plan.strip_columns, g.out_width - first);
    const ColumnRange in_columns = InputColumnsOf(g, first, first + columns);
    const auto packer = MakeBlockPacker<S>(problem, rows, item.b, block, in_columns);
    const ChannelArrays<Plain<S>> arrays{
        .taps = filter,
        .taps_step = 0,
        .bias = bias,
        .window_rows = rows.window,
        .row_stride = rows.stride,
        .columns = &axes,
        .first_column = in_columns.begin,
        .in_column_step = kCount,
        .out_row_step = columns * kCount,
        .out_column_step = kCount,
        .vectors = {kCount, 0},
        .first_vector = 0,
        .last_vector = 1,
        .neighbours_end = 1,
        .pairs = false,
        .tall = false,
        .by_rows = plan.by_rows,
        .fetch_first = 0,
        .fetch_shares = 0,
        .fetches_output = false,
        .fetches_next_tile = false,
        .next_images = nullptr,
        .stream = false,
        .has_padding = true,
        .spread = nullptr,
        .first_input = nullptr,
        .ends = nullptr,
    };
    ring.packed_until = 0;
    for (int64_t t = item.first; t < item.last; t += rows_together) {
      const int64_t rows_used = Min(rows_together, item.last - t);
      next.Fetch(t + rows_used - item.first, item.last - item.first);
      const RowRange range = InputRowsOf(rows, t, rows_used);
      ring.Fill(range, [&](int64_t unit, int64_t end) { packer.Pack(ring, unit, end, rows); });
      ChannelRows<Plain<S>, VectorOf::kNeighbours>(g, arrays, ring.Rows(range), rows_used, first,
                                                   first + columns, buffer);
      StoreRows<S>(problem, plan, buffer, rows_used, columns, block.channels,
                   rows.out_step * out.row,
                   output + (rows.out_first + t * rows.out_step) * out.row + first * out.column);
    }
  }
}

template <class S>
inline void RunBlock(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                     int64_t end, void* scratch) {
  const ColumnAxes columns(problem.geometry);
  for (Parts parts(problem.geometry, plan, begin, end); parts.AreLeft(); parts.Advance()) {
    BlockItem<S>(problem, plan, parts.Part(), columns, scratch);
  }
}

// Plans the block kernel; false if it does not suit: too few channels, or no strip of columns fits
// into `limit` bytes.
template <class S>
DEPTHWISE_SMALL inline bool PlanBlock(const ForwardProblem& problem, double limit,
                                      ForwardPlan* plan) {
  using A = typename S::Accumulator;
  constexpr int kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  if (g.OutputChannels() < kCount) return false;
  plan->blocks = CeilDiv(g.OutputChannels(), kCount);
  plan->ring_rows = MaxWindowRows(g, kChannelRows);
  // Strips start at a multiple of the residues, so that each finds its first column in all.
  const int64_t residues = ColumnResidues(g);
  const auto ring_columns = [&](int64_t strip) { return MaxInputColumns(g, strip * residues); };
  const double filter_bytes = (MaxPackedTaps(g) + 1) * kVectorBytes;  // and the bias
  const auto strip_bytes = [&](int64_t strip) {
    // The last square of a transposition may read beyond the buffer's end: hence kCount more.
    const double buffer = static_cast<double>(kChannelRows) * strip * residues + kCount;
    const double ring = static_cast<double>(plan->ring_rows) * (ring_columns(strip) + 1);
    return (ring + buffer) * kVectorBytes;
  };
  // Planes are cut at whole vectors, so that full ones stay aligned.
  const int64_t granule = g.channels_last ? kChannelColumns : kCount;
  const int64_t strip =
      StripLength(CeilDiv(g.out_width, residues), granule, limit - filter_bytes, strip_bytes);
  if (strip == 0) return false;
  plan->strip_columns = strip * residues;
  // An odd number of vectors keeps successive rows out of the same sets of the cache.
  plan->ring_row_stride = (ring_columns(strip) | 1) * kCount;
  plan->scratch_bytes = static_cast<int64_t>(strip_bytes(strip) + filter_bytes);
  plan->by_rows = SuitsRowTiles<Plain<S>>(g);
  plan->algorithm = Algorithm::kBlock;
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
