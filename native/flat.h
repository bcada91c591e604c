// The flat kernel: packed rows of few channels (NHWC) or of one plane (NCHW), each one flat
// sequence in which neighbouring columns are `period` elements apart. Output vector v takes input
// vector v shifted by whole columns, times taps whose channels repeat every `phases` vectors. Rows
// of a strided problem are split into stride phases when they are packed, so that the inner loops
// know no stride along the width.
//
// pack:    input rows -> ring of zero-padded rows of accumulators (flat_pack.h)
// compute: ring -> four output rows, stored from the registers, of 16-bit types to a buffer
// store:   buffer -> output rows
#pragma once

#include "flat_pack.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Four rows share each unaligned load of the input.
inline constexpr int kFlatRows = 4;
inline constexpr int kFlatVectors = kManyRegisters ? 3 : 2;

// What one strip needs to know of its arrays; steps in elements.
template <class S>
struct FlatArrays {
  // Vectors of accumulators, [window_rows, filter_width, phases, lanes]: see PackFilter().
  const typename S::Accumulator* taps;
  const typename S::Accumulator* bias;  // a vector for each phase: see PackBias()
  int64_t window_rows;                  // units under the filter along the height
  int64_t filter_width;
  int64_t row_stride;    // between output rows, in units
  int64_t pattern_step;  // between vectors whose lanes hold the same channels
  // Tap dj reads (dj / group) * group_step + (dj % group) * member_step elements further on: with
  // a stride, `group` taps lie in different phases and the next ones a column further.
  int64_t group, group_step, member_step;
  int64_t out_row_step;
  bool stream;  // store past the caches
};

// A tile of four output rows x kVectors vectors, a pattern apart, so that they share their taps.
template <class S, int kVectors>
struct FlatTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;

  const FlatArrays<S>& arrays;
  TileRows<A> rows;
  const A* taps;
  const A* bias;
  int64_t rows_used;

  // Vector j has room - j * pattern_step elements to store, at most a full vector.
  DEPTHWISE_INLINE void Run(E* out, int64_t room) const {
    V sums[kFlatRows][kVectors] = {};
    const auto step = [&](auto first, auto last, int64_t r, const A* row) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kFirst = decltype(first)::value, kLast = decltype(last)::value;
      AddRow<kFirst, kLast>(
          sums, row,
          taps + (r - kLast * arrays.row_stride) * arrays.filter_width * arrays.pattern_step);
    };
    ForEachInputRow<kFlatRows>(rows, arrays.window_rows, arrays.row_stride, rows_used, step);
    const V added = LoadUnaligned<V>(bias);
#pragma GCC unroll 4
    for (int i = 0; i < kFlatRows; ++i) {
      if (i >= rows_used) break;
      E* to = out;
      int64_t count = room;
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j, to = Step(to, arrays.pattern_step)) {
        if (count >= kLanes<A>) {
          StoreVector<S>(to, sums[i][j] + added, arrays.stream);
        } else if (count > 0) {
          S::StorePartial(to, sums[i][j] + added, count);
        }
        count -= arrays.pattern_step;
      }
      out += arrays.out_row_step;
    }
  }

  template <int kFirst, int kLast>
  DEPTHWISE_INLINE void AddRow(V (&sums)[kFlatRows][kVectors], const A* row,
                               const A* tap_row) const {
    const int64_t width = arrays.filter_width;
    for (int64_t dj = 0; dj < width; dj += arrays.group, row += arrays.group_step) {
      const A* member = row;
      for (int64_t left = Min(arrays.group, width - dj); left > 0; --left) {
        AddTap<kFirst, kLast>(sums, member, tap_row);
        tap_row += arrays.pattern_step;
        member += arrays.member_step;
      }
    }
  }

  template <int kFirst, int kLast>
  DEPTHWISE_INLINE void AddTap(V (&sums)[kFlatRows][kVectors], const A* row,
                               const A* tap_row) const {
    V tap[kFlatRows];
#pragma GCC unroll 4
    for (int i = kLast; i >= kFirst; --i) {
      tap[i] = LoadUnaligned<V>(tap_row);
      tap_row = Step(tap_row, arrays.row_stride * arrays.filter_width * arrays.pattern_step);
    }
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j, row = Step(row, arrays.pattern_step)) {
      V x = LoadUnaligned<V>(row);
      Pin(x);
#pragma GCC unroll 4
      for (int i = kFirst; i <= kLast; ++i) sums[i][j] += x * tap[i];
    }
  }
};

// Computes `room` elements of up to four output rows. `rows` points at the first tap of the first
// of them, `out` at the first of them.
template <class S>
__attribute__((noinline)) inline void FlatRows(const FlatArrays<S>& arrays,
                                               const TileRows<typename S::Accumulator>& rows,
                                               int64_t rows_used, int64_t room,
                                               typename S::Element* out) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  int64_t offset = 0;
  const auto run = [&](auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    // All phases of a tile's columns in turn: the input is in the first-level cache then.
    for (int64_t phase = 0; phase < arrays.pattern_step; phase += kCount) {
      TileRows<typename S::Accumulator> tile_rows = rows;
      tile_rows.row += offset + phase;
      const FlatTile<S, kVectors> tile{arrays, tile_rows, arrays.taps + phase, arrays.bias + phase,
                                       rows_used};
      tile.Run(out + offset + phase, room - offset - phase);
    }
    offset += kVectors * arrays.pattern_step;
  };
  while (offset + (kFlatVectors - 1) * arrays.pattern_step < room) run(Size<kFlatVectors>{});
  while (offset < room) run(Size<1>{});
}

// Whether rows are computed to a buffer of accumulators, and converted from there: 16-bit types
// then share the tiles of float32, where their own took 15 kB of the package.
template <class S>
inline constexpr bool kStoresFlatRows =
    sizeof(typename S::Element) < sizeof(typename S::Accumulator);

// Stores `room` elements of each of some rows from such a buffer, buffer_step apart.
template <class S>
inline void StoreFlatRows(const typename S::Accumulator* buffer, int64_t buffer_step, int64_t rows,
                          int64_t room, typename S::Element* out, int64_t out_row_step) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  for (; rows > 0; --rows, buffer += buffer_step, out += out_row_step) {
    int64_t i = 0;
    for (; i + kCount <= room; i += kCount) {
      S::Store(out + i, LoadUnaligned<typename S::Vector>(buffer + i));
    }
    if (i < room) {
      S::StorePartial(out + i, LoadUnaligned<typename S::Vector>(buffer + i), room - i);
    }
  }
}

template <class S>
inline void FlatItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                     void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using Computed = Plain<S>;
  constexpr int kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;

  Ring<A> ring{static_cast<A*>(scratch), plan.ring_rows, plan.ring_row_stride};
  A* const filter = ring.memory + ring.count * ring.row_stride;
  const int64_t first_channel = item.block * plan.period;
  PackFilter<S>(problem, rows, FlatTaps(g), first_channel, plan.period, plan.period, plan.phases,
                filter);
  const int64_t pattern_step = plan.phases * kCount;
  A* const bias = filter + rows.window * g.filter_width * pattern_step;
  PackBias<S>(problem, first_channel, plan.period, plan.period, plan.phases, bias);
  const int64_t first_input =
      g.transposed ? first_channel * rows.planes : first_channel / g.channel_multiplier;
  const E* image =
      static_cast<const E*>(problem.input) + item.b * in.batch + first_input * in.channel;
  E* output = static_cast<E*>(problem.output) + item.b * out.batch + first_channel * out.channel;

  const bool strided = g.stride_width > 1 && !g.transposed;
  const int64_t reach = (g.filter_width - 1) * g.dilation_width;
  A* const buffer = bias + pattern_step;
  const int64_t buffer_step = plan.strip_columns * plan.period;  // whole patterns, of vectors
  const int64_t out_row_step = rows.out_step * out.row;
  const FlatArrays<Computed> arrays{
      .taps = filter,
      .bias = bias,
      .window_rows = rows.window,
      .filter_width = g.filter_width,
      .row_stride = rows.stride,
      .pattern_step = pattern_step,
      .group = strided ? g.stride_width : g.filter_width,
      .group_step = plan.period,
      .member_step = strided ? plan.ring_phase_stride : g.dilation_width * plan.period,
      .out_row_step = kStoresFlatRows<S> ? buffer_step : out_row_step,
      .stream = plan.stream,
  };
  const int64_t rows_together = RowsTogether(rows.stride, rows.window, kFlatRows);
  for (int64_t first = 0; first < g.out_width; first += plan.strip_columns) {
    const int64_t columns = Min(plan.strip_columns, g.out_width - first);
    const FlatLayout layout{
        .first_column =
            g.transposed ? first + g.pad_left - reach : first * g.stride_width - g.pad_left,
        .in_width = g.in_width,
        .spread = g.transposed ? g.stride_width : 1,
        .stride = strided ? g.stride_width : 1,
        .phases = strided ? Min(g.stride_width, g.filter_width) : 1,
        .columns = columns + (strided ? (g.filter_width - 1) / g.stride_width : reach),
        .channels = g.channels_last ? g.in_channels : 1,
        .copies = g.channels_last && !g.transposed ? g.channel_multiplier : 1,
        .period = plan.period,
        .column_stride = in.column,
        .channel_stride = in.channel * rows.planes,
        .phase_stride = plan.ring_phase_stride,
    };
    ring.packed_until = 0;
    for (int64_t t = item.first; t < item.last; t += rows_together) {
      const int64_t rows_used = Min(rows_together, item.last - t);
      const RowRange range = InputRowsOf(rows, t, rows_used);
      ring.Fill(range, [&](int64_t unit, int64_t end) {
        for (; unit < end; ++unit) {
          const E* row = image + rows.InputCoordinate(unit) * in.row;
          PackFlatRow<S>(ring.Row(unit), row + unit % rows.planes * in.channel, layout);
        }
      });
      const int64_t room = columns * plan.period;
      E* const to = output + (rows.out_first + t * rows.out_step) * out.row + first * out.column;
      if constexpr (kStoresFlatRows<S>) {
        FlatRows<Computed>(arrays, ring.Rows(range), rows_used, room, buffer);
        StoreFlatRows<S>(buffer, buffer_step, rows_used, room, to, out_row_step);
      } else {
        FlatRows<Computed>(arrays, ring.Rows(range), rows_used, room, to);
      }
    }
  }
}

template <class S>
inline void RunFlat(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                    int64_t end, void* scratch) {
  for (Parts parts(problem.geometry, plan, begin, end); parts.AreLeft(); parts.Advance()) {
    FlatItem<S>(problem, plan, parts.Part(), scratch);
  }
}

// How long packed rows are. Strips hold whole patterns, so that each starts with the same lanes.
struct FlatStrips {
  int64_t pattern_columns;  // of the output
  int64_t stride_phases;    // into which a packed row is split
  int64_t period, phases, reach, lanes;

  FlatStrips(const Geometry& g, int64_t period, int64_t phases, int64_t lanes)
      : period(period), phases(phases), lanes(lanes) {
    const bool strided = g.stride_width > 1 && !g.transposed;
    pattern_columns = phases * lanes / period;
    stride_phases = strided ? Min(g.stride_width, g.filter_width) : 1;
    reach =
        strided ? (g.filter_width - 1) / g.stride_width : (g.filter_width - 1) * g.dilation_width;
  }
  // Vectors of a stride phase; one of them is room for the last partial one of a copy.
  double PhaseVectors(int64_t patterns) const {
    return static_cast<double>(patterns) * phases +
           static_cast<double>(CeilDiv(reach, lanes) * period + 1);
  }
  double RowVectors(int64_t patterns) const { return stride_phases * PhaseVectors(patterns) + 1; }
};

// Plans the flat kernel; false if no strip of columns fits into `limit` bytes, or if the problem
// combines a stride with a dilation along the width.
template <class S>
DEPTHWISE_SMALL inline bool PlanFlat(const ForwardProblem& problem, double limit,
                                     ForwardPlan* plan) {
  using A = typename S::Accumulator;
  constexpr int kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  if (g.stride_width > 1 && g.dilation_width > 1 && !g.transposed) return false;
  // An output row is one flat sequence if it holds all channels, or one.
  plan->period = g.channels_last ? g.OutputChannels() : 1;
  plan->phases = plan->period / GreatestCommonDivisor(plan->period, kCount);
  plan->blocks = CeilDiv(g.OutputChannels(), plan->period);
  plan->ring_rows = MaxWindowRows(g, kFlatRows);

  const FlatStrips strips(g, plan->period, plan->phases, kCount);
  const double filter_bytes = (MaxPackedTaps(g) + 1) * plan->phases * kVectorBytes;  // and the bias
  const auto strip_bytes = [&](int64_t patterns) {
    const double buffer = kStoresFlatRows<S> ? double{kFlatRows} * patterns * plan->phases : 0;
    return (plan->ring_rows * strips.RowVectors(patterns) + buffer) * kVectorBytes;
  };
  const int64_t patterns = StripLength(CeilDiv(g.out_width, strips.pattern_columns), kFlatVectors,
                                       limit - filter_bytes, strip_bytes);
  if (patterns == 0) return false;
  plan->strip_columns = patterns * strips.pattern_columns;
  plan->ring_phase_stride = static_cast<int64_t>(strips.PhaseVectors(patterns)) * kCount;
  // An odd number of vectors keeps successive rows out of the same sets of the cache.
  plan->ring_row_stride = (strips.stride_phases * plan->ring_phase_stride / kCount | 1) * kCount;
  plan->scratch_bytes = static_cast<int64_t>(strip_bytes(patterns) + filter_bytes);
  plan->algorithm = Algorithm::kFlat;
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
