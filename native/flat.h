// The flat kernel: packed rows of few channels (NHWC) or of one plane (NCHW), each one flat
// sequence in which neighbouring columns are `period` elements apart. Output vector v takes input
// vector v shifted by whole columns, times taps whose channels repeat every `phases` vectors. Rows
// of a strided problem are split into stride phases when they are packed, so that the inner loops
// know no stride along the width.
//
// pack:    input rows -> ring of zero-padded rows of accumulators
// compute: ring -> four output rows, stored from the registers
#pragma once

#include "pack.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Four rows share each unaligned load of the input.
inline constexpr int kFlatRows = 4;
inline constexpr int kFlatVectors = kManyRegisters ? 3 : 2;

// A tile of four output rows x kVectors vectors, `vector_step` elements apart.
template <class S, int kVectors>
struct FlatTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;

  TileRows<A> rows;
  TileFilter<A> filter;
  int64_t row_stride;
  int64_t vector_step;
  // Tap dj reads (dj / group) * group_step + (dj % group) * member_step elements further on: with
  // a stride, `group` taps lie in different phases and the next ones a column further.
  int64_t group, group_step, member_step;
  int64_t out_row_step;
  int64_t rows_used;
  bool stream;

  // Vector j has room - j * vector_step elements to store, at most a full vector.
  DEPTHWISE_INLINE void Run(E* out, int64_t room) const {
    V sums[kFlatRows][kVectors] = {};
    const auto step = [&](auto first, auto last, int64_t r, const A* row) {
      constexpr int kFirst = decltype(first)::value, kLast = decltype(last)::value;
      AddRow<kFirst, kLast>(sums, row, filter.taps + (r - kLast * row_stride) * filter.row_step);
    };
    ForEachInputRow<kFlatRows>(rows, filter.height, row_stride, rows_used, step);
#pragma GCC unroll 4
    for (int i = 0; i < kFlatRows; ++i) {
      if (i >= rows_used) break;
      E* to = out + i * out_row_step;
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j, to = Step(to, vector_step)) {
        const int64_t count = room - j * vector_step;
        // A tap on zero padding turns an underflow to -0 into +0; adding +0 does so everywhere.
        if (count >= kLanes<A>) {
          StoreVector<S>(to, sums[i][j] + 0, stream);
        } else if (count > 0) {
          S::StorePartial(to, sums[i][j] + 0, count);
        }
      }
    }
  }

  template <int kFirst, int kLast>
  DEPTHWISE_INLINE void AddRow(V (&sums)[kFlatRows][kVectors], const A* row, const A* taps) const {
    const int64_t tap_row_step = row_stride * filter.row_step;
    for (int64_t dj = 0; dj < filter.width; dj += group, row += group_step) {
      const A* member_row = row;
      const int64_t members = Min(group, filter.width - dj);
      for (int64_t member = 0; member < members; ++member) {
        V tap[kFlatRows];
        const A* tap_row = taps;
#pragma GCC unroll 4
        for (int i = kLast; i >= kFirst; --i, tap_row = Step(tap_row, tap_row_step)) {
          tap[i] = LoadUnaligned<V>(tap_row);
        }
        const A* from = member_row;
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j, from = Step(from, vector_step)) {
          V x = LoadUnaligned<V>(from);
          Pin(x);
#pragma GCC unroll 4
          for (int i = kFirst; i <= kLast; ++i) sums[i][j] += x * tap[i];
        }
        taps += filter.tap_step;
        member_row += member_step;
      }
    }
  }
};

// Which elements of an input row a packed row takes. Packed column t of stride phase p is input
// column first_column + t * stride + p; it holds `period` elements, and element c of it is input
// channel (first_channel + c) / multiplier. Columns outside [0, in_width) are zero.
struct FlatLayout {
  int64_t first_column, in_width;
  int64_t stride, phases, columns;  // phases, and columns a phase, that are packed
  int64_t period;
  int64_t first_channel, multiplier;
  int64_t column_stride, channel_stride;  // of the input, in elements
  int64_t phase_stride;                   // of the packed row, in elements
};

// to[0:count] = from[0:count]; writes up to a full vector beyond.
template <class S>
DEPTHWISE_INLINE void CopyContiguous(typename S::Accumulator* to, const typename S::Element* from,
                                     int64_t count) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  int64_t i = 0;
  for (; i + kCount <= count; i += kCount) StoreUnaligned(to + i, S::Load(from + i));
  if (i < count) StoreUnaligned(to + i, S::LoadPartial(from + i, count - i));
}

// to[0:count] = from[0:2*count:2]
template <class S>
DEPTHWISE_INLINE void CopyEverySecond(typename S::Accumulator* to, const typename S::Element* from,
                                      int64_t count) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  int64_t i = 0;
  for (; i + kCount < count; i += kCount) {
    StoreUnaligned(to + i, EvenLanes(S::Load(from + 2 * i), S::Load(from + 2 * i + kCount)));
  }
  for (; i < count; ++i) to[i] = S::LoadOne(from + 2 * i);
}

// Packs `count` columns, `step` elements apart, that are all inside the image.
template <class S>
DEPTHWISE_INLINE void PackFlatColumns(typename S::Accumulator* to, const typename S::Element* from,
                                      int64_t count, int64_t step, const FlatLayout& layout) {
  const int64_t m = layout.multiplier;
  from += layout.first_channel / m * layout.channel_stride;
  const bool plain = layout.period == 1 || (m == 1 && layout.channel_stride == 1);
  if (plain && step == layout.period) {
    CopyContiguous<S>(to, from, count * layout.period);
  } else if (layout.period == 1 && step == 2) {
    CopyEverySecond<S>(to, from, count);
  } else {
    for (int64_t t = 0; t < count; ++t, from += step, to += layout.period) {
      const typename S::Element* channel = from;
      int64_t q = layout.first_channel % m;
      for (int64_t c = 0; c < layout.period; ++c) {
        to[c] = S::LoadOne(channel);
        if (++q == m) {
          q = 0;
          channel += layout.channel_stride;
        }
      }
    }
  }
}

// Packs the input row that starts at `row` (its column 0, channel 0).
template <class S>
inline void PackFlatRow(typename S::Accumulator* to, const typename S::Element* row,
                        const FlatLayout& layout) {
  for (int64_t phase = 0; phase < layout.phases; ++phase, to += layout.phase_stride) {
    const int64_t first = layout.first_column + phase;
    const int64_t begin = Min(layout.columns, Max(0, CeilDiv(-first, layout.stride)));
    const int64_t end =
        Max(begin, Min(layout.columns, CeilDiv(layout.in_width - first, layout.stride)));
    FillZero(to, to + begin * layout.period);
    PackFlatColumns<S>(to + begin * layout.period,
                       row + (first + begin * layout.stride) * layout.column_stride, end - begin,
                       layout.stride * layout.column_stride, layout);
    FillZero(to + end * layout.period, to + layout.columns * layout.period);
  }
}

template <class S>
inline void FlatItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                     void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;

  Ring<A> ring{static_cast<A*>(scratch), plan.ring_rows, plan.ring_row_stride};
  A* const filter = ring.memory + ring.count * ring.row_stride;
  const int64_t first_channel = item.block * plan.period;
  PackFilter<S>(problem, first_channel, plan.period, plan.period, plan.phases, filter);
  const E* image = static_cast<const E*>(problem.input) + item.b * in.batch;
  E* output = static_cast<E*>(problem.output) + item.b * out.batch + first_channel * out.channel;

  const bool strided = g.stride_width > 1;
  const int64_t vector_step = plan.phases * kCount;
  for (int64_t first = 0; first < g.out_width; first += plan.strip_columns) {
    const int64_t columns = Min(plan.strip_columns, g.out_width - first);
    const int64_t room = columns * plan.period;
    const FlatLayout layout{first * g.stride_width - g.pad_left,
                            g.in_width,
                            g.stride_width,
                            Min(g.stride_width, g.filter_width),
                            columns + (strided ? (g.filter_width - 1) / g.stride_width
                                               : (g.filter_width - 1) * g.dilation_width),
                            plan.period,
                            first_channel,
                            g.channel_multiplier,
                            in.column,
                            in.channel,
                            plan.ring_phase_stride};
    ring.packed_until = 0;
    for (int64_t t = item.first; t < item.last; t += kFlatRows) {
      const int64_t rows_used = Min(kFlatRows, item.last - t);
      const RowRange range = InputRowsOf(rows, g.filter_height, t, rows_used);
      ring.Fill(range, [&](int64_t unit, int64_t end) {
        for (; unit < end; ++unit) {
          PackFlatRow<S>(ring.Row(unit), image + rows.InputCoordinate(unit) * in.row, layout);
        }
      });
      const TileRows<A> ring_rows = ring.Rows(range);
      E* to = output + (rows.out_first + t * rows.out_step) * out.row + first * out.column;
      // Vectors of one tile share their taps, so they lie a whole pattern of channels apart.
      const auto run = [&](auto vectors, int64_t offset) {
        TileRows<A> tile_rows = ring_rows;
        tile_rows.row += offset;
        const FlatTile<S, decltype(vectors)::value> tile{
            tile_rows,
            {filter + offset % vector_step, g.filter_height, g.filter_width,
             g.filter_width * vector_step, vector_step},
            rows.stride,
            vector_step,
            strided ? g.stride_width : g.filter_width,
            plan.period,
            strided ? plan.ring_phase_stride : g.dilation_width * plan.period,
            rows.out_step * out.row,
            rows_used,
            plan.stream};
        tile.Run(to + offset, room - offset);
      };
      int64_t offset = 0;
      for (; offset + (kFlatVectors - 1) * vector_step < room;
           offset += kFlatVectors * vector_step) {
        for (int64_t phase = 0; phase < vector_step; phase += kCount) {
          run(Size<kFlatVectors>{}, offset + phase);
        }
      }
      for (; offset < room; offset += kCount) run(Size<1>{}, offset);
    }
  }
}

template <class S>
inline void RunFlat(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                    int64_t end, void* scratch) {
  for (int64_t item = begin; item < end; ++item) {
    FlatItem<S>(problem, plan, ItemOf(problem.geometry, plan, item), scratch);
  }
}

// Plans the flat kernel; false if no strip of columns fits into `limit` bytes, or if the problem
// combines a stride with a dilation along the width.
template <class S>
inline bool PlanFlat(const ForwardProblem& problem, double limit, ForwardPlan* plan) {
  using A = typename S::Accumulator;
  constexpr int kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  if (g.stride_width > 1 && g.dilation_width > 1) return false;
  // An output row is one flat sequence if it holds all channels, or one.
  plan->period = g.channels_last ? g.OutChannels() : 1;
  plan->phases = plan->period / GreatestCommonDivisor(plan->period, kCount);
  plan->blocks = CeilDiv(g.OutChannels(), plan->period);
  plan->ring_rows = (kFlatRows - 1) * RowAxis(g, 0).stride + g.filter_height;

  const int64_t phases = Min(g.stride_width, g.filter_width);
  const int64_t reach = g.stride_width > 1 ? (g.filter_width - 1) / g.stride_width
                                           : (g.filter_width - 1) * g.dilation_width;
  // Strips hold whole patterns, so that each starts with the same lanes. One vector of room is for
  // the last partial one of a copy.
  const int64_t pattern_columns = plan->phases * kCount / plan->period;
  const auto phase_vectors = [&](int64_t patterns) {
    return static_cast<double>(patterns) * plan->phases +
           static_cast<double>(CeilDiv(reach, kCount) * plan->period + 1);
  };
  const double filter_vectors =
      static_cast<double>(g.filter_height) * g.filter_width * plan->phases;
  const auto bytes_of = [&](int64_t patterns) {
    const double ring = plan->ring_rows * (phases * phase_vectors(patterns) + 1);
    return (ring + filter_vectors) * kVectorBytes;
  };
  const int64_t patterns =
      StripLength(CeilDiv(g.out_width, pattern_columns), kFlatVectors, limit, bytes_of);
  if (patterns == 0) return false;
  plan->strip_columns = patterns * pattern_columns;
  plan->ring_phase_stride = static_cast<int64_t>(phase_vectors(patterns)) * kCount;
  // An odd number of vectors keeps successive rows out of the same sets of the cache.
  plan->ring_row_stride = (phases * plan->ring_phase_stride / kCount | 1) * kCount;
  plan->scratch_bytes = static_cast<int64_t>(bytes_of(patterns));
  plan->algorithm = Algorithm::kFlat;
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
