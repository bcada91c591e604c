// The filter gradient for few channels: input and out_backprop both packed to flat rows, as in the
// flat kernel. Each lane sums the products of its own positions of a row, and lanes with the same
// channel are added up at the end of a chunk.
//
// Packed rows are zero beyond the image, and NaN or infinity times zero is NaN: the plan asks for a
// check of the result.
#pragma once

#include "filter_gradient.h"
#include "flat.h"
#include "flat_pack.h"

namespace depthwise::DEPTHWISE_ISA {

// Taps of a row whose sums are in registers at a time, of up to four rows: 20 or 8 registers, with
// out_backprop and the input beside them.
inline constexpr int kFlatTapsTogether = kManyRegisters ? 5 : 2;

// What one call needs to know of its arrays; steps in elements.
template <class A>
struct FlatGradientArrays {
  A* sums;       // [filter_height, filter_width, phases, lanes], to be added to
  const A* out;  // packed rows of out_backprop, out_row_step apart
  int64_t filter_height, filter_width;
  int64_t row_stride;                      // between output rows, in units
  int64_t pattern_step;                    // between vectors whose lanes hold the same channels
  int64_t group, group_step, member_step;  // of the taps of a row: see FlatArrays
  int64_t out_row_step;
  int64_t length;  // of a row of out_backprop, whole patterns

  DEPTHWISE_INLINE int64_t TapOffset(int64_t dj) const {
    return dj / group * group_step + dj % group * member_step;
  }
};

// Adds the products of input row `row` with the kRows output rows from `out` on to kTaps taps from
// dj on; `row_sums` are those of the last of these rows.
template <int kRows, int kTaps, class A>
DEPTHWISE_INLINE void AddFlatTaps(const FlatGradientArrays<A>& arrays, const A* row, const A* out,
                                  A* row_sums, int64_t dj) {
  using V = Vec<A>;
  const int64_t sums_step = arrays.row_stride * arrays.filter_width * arrays.pattern_step;
  const A* from[kTaps];
#pragma GCC unroll 8
  for (int n = 0; n < kTaps; ++n) from[n] = row + arrays.TapOffset(dj + n);
  row_sums += dj * arrays.pattern_step;
  for (int64_t phase = 0; phase < arrays.pattern_step; phase += kLanes<A>) {
    V total[kRows][kTaps];
#pragma GCC unroll 4
    for (int i = kRows - 1; i >= 0; --i) {
#pragma GCC unroll 8
      for (int n = 0; n < kTaps; ++n) {
        total[i][n] = LoadUnaligned<V>(row_sums + (kRows - 1 - i) * sums_step +
                                       n * arrays.pattern_step + phase);
      }
    }
    for (int64_t k = phase; k < arrays.length; k += arrays.pattern_step) {
      V y[kRows];
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) {
        y[i] = LoadUnaligned<V>(out + i * arrays.out_row_step + k);
        Pin(y[i]);
      }
#pragma GCC unroll 8
      for (int n = 0; n < kTaps; ++n) {
        V x = LoadUnaligned<V>(from[n] + k);
        Pin(x);
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) total[i][n] += x * y[i];
      }
    }
#pragma GCC unroll 4
    for (int i = kRows - 1; i >= 0; --i) {
#pragma GCC unroll 8
      for (int n = 0; n < kTaps; ++n) {
        StoreUnaligned(row_sums + (kRows - 1 - i) * sums_step + n * arrays.pattern_step + phase,
                       total[i][n]);
      }
    }
  }
}

// Adds the products of up to four output rows; `rows` are their input rows.
template <class A>
inline void FlatGradientRows(const FlatGradientArrays<A>& arrays, const TileRows<A>& rows,
                             int64_t rows_used) {
  const auto step = [&](auto count, int64_t first, int64_t r,
                        const A* row) DEPTHWISE_INLINE_LAMBDA {
    constexpr int kRows = decltype(count)::value;
    const int64_t tap_row = r - (first + kRows - 1) * arrays.row_stride;
    A* row_sums = arrays.sums + tap_row * arrays.filter_width * arrays.pattern_step;
    const A* const out = arrays.out + first * arrays.out_row_step;
    int64_t dj = 0;
    const auto add = [&](auto width) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kTaps = decltype(width)::value;
      AddFlatTaps<kRows, kTaps>(arrays, row, out, row_sums, dj);
      dj += kTaps;
    };
    while (dj + kFlatTapsTogether <= arrays.filter_width) add(Size<kFlatTapsTogether>{});
    if constexpr (kFlatTapsTogether > 3) {
      if (dj + 3 <= arrays.filter_width) add(Size<3>{});
    }
    while (dj < arrays.filter_width) add(Size<1>{});
  };
  ForEachInputRowByCount<kFlatRows>(rows, arrays.filter_height, arrays.row_stride, rows_used, step);
}

// Puts zeros in place of what is not finite.
template <class A>
inline void DropNotFinite(A* row, int64_t count) {
  for (int64_t i = 0; i < count; ++i) row[i] = row[i] - row[i] == 0 ? row[i] : 0;
}

// Computes the sums of an item.
template <class S>
inline void RunFlatFilterGradient(const FilterGradientProblem& problem,
                                  const FilterGradientPlan& plan, int64_t item,
                                  typename S::Accumulator* item_sums,
                                  typename S::Accumulator* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.out_backprop_strides;
  const int64_t pattern_step = plan.phases * kCount;
  const int64_t size = plan.sums_bytes / int64_t{sizeof(A)};
  BlockedSums<A> sums{item_sums, scratch, size, plan.block_pixels};
  sums.Clear();
  Ring<A> ring{scratch + size, plan.ring_rows, plan.ring_row_stride};
  A* const buffer = ring.memory + ring.count * ring.row_stride;

  const int64_t first_channel = item % plan.groups * plan.period;
  const bool strided = g.stride_width > 1;
  const int64_t reach =
      strided ? (g.filter_width - 1) / g.stride_width : (g.filter_width - 1) * g.dilation_width;
  ForEachStrip(g, plan, item, [&](const Band& band, int64_t first, int64_t last) {
    const Axis& rows = band.rows;
    const E* image = static_cast<const E*>(problem.input) + band.b * in.batch +
                     first_channel / g.channel_multiplier * in.channel;
    const E* out_backprop = static_cast<const E*>(problem.out_backprop) + band.b * out.batch +
                            first_channel * out.channel;
    const int64_t length = CeilDiv((last - first) * plan.period, pattern_step) * pattern_step;
    const int64_t columns = length / plan.period;
    const FlatLayout input_layout{
        .first_column = first * g.stride_width - g.pad_left,
        .in_width = g.in_width,
        .spread = 1,
        .stride = g.stride_width,
        .phases = strided ? Min(g.stride_width, g.filter_width) : 1,
        .columns = columns + reach,
        .channels = g.channels_last ? g.in_channels : 1,
        .copies = g.channels_last ? g.channel_multiplier : 1,
        .period = plan.period,
        .column_stride = in.column,
        .channel_stride = in.channel,
        .phase_stride = plan.ring_phase_stride,
    };
    const FlatLayout out_layout{
        .first_column = first,
        .in_width = last,
        .spread = 1,
        .stride = 1,
        .phases = 1,
        .columns = columns,
        .channels = plan.period,
        .copies = 1,
        .period = plan.period,
        .column_stride = out.column,
        .channel_stride = out.channel,
        .phase_stride = 0,
    };
    // One vector more for the last partial one of a copy.
    const int64_t out_row_step = length + kCount;
    const FlatGradientArrays<A> arrays{
        .sums = sums.block,
        .out = buffer,
        .filter_height = g.filter_height,
        .filter_width = g.filter_width,
        .row_stride = rows.stride,
        .pattern_step = pattern_step,
        .group = strided ? g.stride_width : g.filter_width,
        .group_step = plan.period,
        .member_step = strided ? plan.ring_phase_stride : g.dilation_width * plan.period,
        .out_row_step = out_row_step,
        .length = length,
    };
    ring.packed_until = 0;
    const int64_t rows_together = RowsTogether(rows.stride, rows.window, kFlatRows);
    for (int64_t t = band.first; t < band.last; t += rows_together) {
      const int64_t rows_used = Min(rows_together, band.last - t);
      const RowRange range = InputRowsOf(rows, t, rows_used);
      ring.Fill(range, [&](int64_t unit, int64_t end) {
        for (; unit < end; ++unit) {
          PackFlatRow<S>(ring.Row(unit), image + rows.InputCoordinate(unit) * in.row, input_layout);
          if (plan.drop_not_finite) DropNotFinite(ring.Row(unit), plan.ring_row_stride);
        }
      });
      for (int64_t i = 0; i < rows_used; ++i) {
        const int64_t row = rows.out_first + (t + i) * rows.out_step;
        PackFlatRow<S>(buffer + i * out_row_step, out_backprop + row * out.row, out_layout);
        if (plan.drop_not_finite) DropNotFinite(buffer + i * out_row_step, length);
      }
      FlatGradientRows(arrays, ring.Rows(range), rows_used);
      sums.AddPixels(rows_used * (last - first));
    }
  });
  sums.Flush();
}

// Adds the sums of the taps [tap_begin, tap_end).
template <class S>
inline void AddFlatFilterGradient(const FilterGradientProblem& problem,
                                  const FilterGradientPlan& plan, int64_t item,
                                  const typename S::Accumulator* sums, int64_t tap_begin,
                                  int64_t tap_end, typename S::Accumulator* totals) {
  using A = typename S::Accumulator;
  const Geometry& g = problem.geometry;
  const int64_t pattern_step = plan.phases * kLanes<A>;
  sums += tap_begin * pattern_step;
  A* to = totals + tap_begin * g.OutputChannels() + item % plan.groups * plan.period;
  for (int64_t tap = tap_begin; tap < tap_end; ++tap) {
    for (int64_t c = 0; c < plan.period; ++c) {
      A sum = 0;
      for (int64_t i = c; i < pattern_step; i += plan.period) sum += sums[i];
      to[c] += sum;
    }
    sums += pattern_step;
    to += g.OutputChannels();
  }
}

// Plans this kernel; false if no strip of columns fits into `limit` bytes, or if the problem
// combines a stride with a dilation along the width.
template <class S>
DEPTHWISE_SMALL inline bool PlanFlatFilterGradient(const FilterGradientProblem& problem,
                                                   double limit, FilterGradientPlan* plan) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const Geometry& g = problem.geometry;
  if (g.stride_width > 1 && g.dilation_width > 1) return false;
  plan->period = g.channels_last ? g.OutputChannels() : 1;
  plan->phases = plan->period / GreatestCommonDivisor(plan->period, kCount);
  plan->groups = CeilDiv(g.OutputChannels(), plan->period);
  plan->ring_rows = MaxWindowRows(g, kFlatRows);
  const FlatStrips strips(g, plan->period, plan->phases, kCount);
  const double sums_bytes = 2 * MaxPackedTaps(g) * plan->phases * kVectorBytes;
  const auto strip_bytes = [&](int64_t patterns) {
    const double out_rows = kFlatRows * (static_cast<double>(patterns) * plan->phases + 1);
    return (plan->ring_rows * strips.RowVectors(patterns) + out_rows) * kVectorBytes;
  };
  const int64_t patterns = StripLength(CeilDiv(g.out_width, strips.pattern_columns), kFlatVectors,
                                       limit - sums_bytes, strip_bytes);
  if (patterns == 0) return false;
  plan->strip_columns = patterns * strips.pattern_columns;
  plan->ring_phase_stride = static_cast<int64_t>(strips.PhaseVectors(patterns)) * kCount;
  // An odd number of vectors keeps successive rows out of the same sets of the cache.
  plan->ring_row_stride = (strips.stride_phases * plan->ring_phase_stride / kCount | 1) * kCount;
  plan->sums_bytes = g.filter_height * g.filter_width * plan->phases * kVectorBytes;
  plan->scratch_bytes = static_cast<int64_t>(strip_bytes(patterns)) + plan->sums_bytes;
  PlanChunks(g, 1, plan);
  plan->items = plan->groups * CeilDiv(plan->bands, plan->bands_per_chunk);
  plan->algorithm = Algorithm::kFlat;
  plan->check_finite = true;
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
