// The row kernel: planes (NCHW) under filters of one row, without strides. Vectors lie along the
// rows, which are read in place but for their ends: those are copied between zeros. A plane without
// gaps under a filter of one column is one row itself, whose taps lie a row of the plane apart.
//
// Order of the loops: image, plane, rows, strips of columns, so that memory is read and written in
// sequence.
#pragma once

#include "fetch_ahead.h"
#include "pack.h"
#include "row_plan.h"
#include "shuffle.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// How far ahead input is fetched, if it is far; the next outputs are, too, unless they are stored
// past the caches. In us, model 167: 3x2160x3840 1x7 12,000 to 9300, 8x256x1x500 1x31 790 to 660,
// 32x256x1x250 1x9 and all in memory 0.57 to 0.47 of the block kernel.
inline constexpr int64_t kFetchedRowBytes = 8192;

// What the planes of an item have in common.
template <class S>
struct RowArrays {
  RowStrips strips;
  int64_t taps, tap_step;
  int64_t in_size;
  int64_t in_row_step, copy_step, out_row_step;
  bool fetches;  // ahead
  bool stream;   // store past the caches
};

// Some rows of a plane, and where the ends of each are copied to. The taps are a vector apart, of
// which the plane has a lane.
template <class S>
struct RowTask {
  const typename S::Element* rows;
  typename S::Element* copies;
  typename S::Element* out;
  const typename S::Accumulator* taps;
  const typename S::Accumulator* bias;
  int64_t count;
};

// kVectors vectors of some rows.
template <class S, int kVectors>
struct RowTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;
  static constexpr int kRows = kRowSums / kVectors;
  using Sums = V[kRows][kVectors];

  const RowArrays<S>& arrays;
  const RowTask<S>& task;
  int64_t row_step;
  int64_t rows, columns;  // that are stored

  // `from` is what the first tap of the first output meets.
  DEPTHWISE_INLINE void Run(const E* from, E* out) const {
    Sums sums = {};
    const A* tap = task.taps;
    int64_t left = arrays.taps;
    if constexpr (kManyRegisters) {
      for (; arrays.tap_step == 1 && left > 1; left -= 2, from += 2, tap += 2 * kCount) {
        AddTwo(from, tap, sums);
      }
    }
    for (; left > 0; --left, from += arrays.tap_step, tap += kCount) {
      const V t = *tap - V{};
      ForEachVector(from, [&](int i, int v, const E* place)
                              DEPTHWISE_INLINE_LAMBDA { sums[i][v] += S::Load(place) * t; });
    }
    const V added = *task.bias - V{};
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i, out += arrays.out_row_step) {
      if (i >= rows) break;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const int64_t count = columns - v * kCount;
        if (count >= kCount) {
          StoreVector<S>(out + v * kCount, sums[i][v] + added, arrays.stream);
        } else if (count > 0) {
          S::StorePartial(out + v * kCount, sums[i][v] + added, count);
        }
      }
    }
  }

  template <class Body>
  DEPTHWISE_INLINE void ForEachVector(const E* from, Body&& body) const {
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i, from += row_step) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) body(i, v, from + v * kCount);
    }
  }

  // Of two neighbouring taps the second meets what is loaded for the first, a lane further on: a
  // load that lies in two lines of the cache takes as long as two multiply-adds.
  DEPTHWISE_INLINE void AddTwo(const E* from, const A* tap, Sums& sums) const {
    V x[kRows][kVectors];
    const V first = *tap - V{}, second = *(tap + kCount) - V{};
    ForEachVector(from, [&](int i, int v, const E* place) DEPTHWISE_INLINE_LAMBDA {
      x[i][v] = S::Load(place);
      Pin(x[i][v]);
      sums[i][v] += x[i][v] * first;
    });
    ForEachVector(from, [&](int i, int v, const E* place) DEPTHWISE_INLINE_LAMBDA {
      const bool is_last = v + 1 == kVectors;
      sums[i][v] += second * (is_last ? S::Load(place + 1)
                                      : LanesFrom<1>(x[i][v], x[i][is_last ? v : v + 1]));
    });
  }
};

// to[0:count] = 0, by whole vectors: writes up to one beyond.
template <class S>
DEPTHWISE_INLINE void ClearVectors(typename S::Element* to, int64_t count) {
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  for (int64_t i = 0; i < count; i += kCount) S::Store(to + i, typename S::Vector{});
}

template <class S>
DEPTHWISE_INLINE void CopyElements(const typename S::Element* from, int64_t count,
                                   typename S::Element* to) {
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  int64_t i = 0;
  for (; i + kCount <= count; i += kCount) S::Store(to + i, S::Load(from + i));
  if (i < count) S::StorePartial(to + i, S::LoadPartial(from + i, count - i), count - i);
}

// Copies elements [begin, begin + count) of a row of `size`, with zeros outside; writes up to a
// vector beyond.
template <class S>
DEPTHWISE_INLINE void CopyBetweenZeros(const typename S::Element* row, int64_t size, int64_t begin,
                                       int64_t count, typename S::Element* to) {
  const int64_t first = Min(count, Max(0, -begin)), last = Max(first, Min(count, size - begin));
  ClearVectors<S>(to, first);
  ClearVectors<S>(to + last, count - last);
  CopyElements<S>(row + begin + first, last - first, to + first);
}

template <class S>
__attribute__((noinline)) void CopyRowEnds(const RowArrays<S>& arrays, const RowTask<S>& task) {
  const RowStrips& strips = arrays.strips;
  const int64_t head = strips.HeadSize(), tail = strips.TailSize();
  CopyBetweenZeros<S>(task.rows, arrays.in_size, -strips.before, head, task.copies);
  CopyBetweenZeros<S>(task.rows, arrays.in_size, strips.First(strips.tail) - strips.before, tail,
                      task.copies + head);
}

// Of rows that are copied as a whole, to where zeros are around them.
template <class S>
__attribute__((noinline)) void CopyShortRows(const RowArrays<S>& arrays, const RowTask<S>& task) {
  const RowStrips& strips = arrays.strips;
  const int64_t first = Max(0, strips.before), skipped = first - strips.before;
  const int64_t count = Min(strips.HeadSize() - first, arrays.in_size - skipped);
  const auto* row = task.rows + skipped;
  auto* to = task.copies + first;
  for (int64_t i = 0; i < task.count; ++i, row += arrays.in_row_step, to += arrays.copy_step) {
    CopyElements<S>(row, count, to);
  }
}

template <class S, int kVectors>
inline void ComputeRows(const RowArrays<S>& arrays, const RowTask<S>& task) {
  using E = typename S::Element;
  using Tile = RowTile<S, kVectors>;
  const RowStrips& strips = arrays.strips;
  const E* row = task.rows - strips.before;
  const E* head = task.copies;
  const E* tail = task.copies + strips.HeadSize() - strips.First(strips.tail);
  E* out = task.out;
  for (int64_t t = 0; t < task.count; t += Tile::kRows) {
    for (int64_t strip = 0; strip < strips.count; ++strip) {
      const int64_t first = strips.First(strip);
      const bool is_inside = strip >= strips.head && strip < strips.tail;
      const E* const from = is_inside ? row : strip < strips.head ? head : tail;
      if (arrays.fetches) {
        constexpr int64_t kSize = sizeof(E), kElements = kRowSums * Tile::kCount;
        PrefetchRows<1, kElements * kSize, false>(row + first + kFetchedRowBytes / kSize, 0, 1);
        if (!arrays.stream) PrefetchRows<1, kElements * kSize, true>(out + first + kElements, 0, 1);
      }
      const Tile tile{arrays, task, is_inside ? arrays.in_row_step : arrays.copy_step,
                      task.count - t, strips.out_size - first};
      tile.Run(from + first, out + first);
    }
    row += Tile::kRows * arrays.in_row_step;
    head += Tile::kRows * arrays.copy_step;
    tail += Tile::kRows * arrays.copy_step;
    out += Tile::kRows * arrays.out_row_step;
  }
}

template <class S>
inline void RowItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                    void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const RowShape shape = RowShapeOf(g).Part(g, item.first, item.last);
  const bool is_short = plan.ring_rows > 0;
  const RowStrips strips(shape, plan.phases * kCount, is_short);
  const int64_t first = item.block * kCount;
  const int64_t channels = Min(kCount, g.OutputChannels() - first);
  A* const taps = static_cast<A*>(scratch);
  A* const bias = taps + shape.taps * kCount;
  PackFilterClasses<S>(problem, item.rows, first, channels, taps);
  PackBias<S>(problem, first, channels, kCount, 1, bias);
  E* const copies = reinterpret_cast<E*>(bias + kCount);
  const RowArrays<S> arrays{.strips = strips,
                            .taps = shape.taps,
                            .tap_step = shape.tap_step,
                            .in_size = shape.in_size,
                            .in_row_step = item.rows.in_step * in.row,
                            .copy_step = strips.HeadSize() + strips.TailSize() + kCount,
                            .out_row_step = item.rows.out_step * out.row,
                            .fetches = plan.prefetch,
                            .stream = plan.stream};
  const int64_t together = Max(1, plan.ring_rows), chunks = CeilDiv(shape.rows, together);
  const auto task_of = [&](int64_t index) DEPTHWISE_INLINE_LAMBDA {
    const int64_t c = index / chunks, channel = first + c, t = index % chunks * together;
    const int64_t in_channel = g.transposed ? channel : channel / g.channel_multiplier;
    // A column begins with the plane, of which strips.before leaves the first rows out.
    const int64_t in_row = shape.is_column ? 0 : item.rows.InputCoordinate(item.first + t);
    const int64_t out_row = item.rows.out_first + (item.first + t) * item.rows.out_step;
    return RowTask<S>{static_cast<const E*>(problem.input) + item.b * in.batch +
                          in_channel * in.channel + in_row * in.row,
                      copies + (is_short ? 0 : index % 2 * plan.ring_row_stride),
                      static_cast<E*>(problem.output) + item.b * out.batch + channel * out.channel +
                          out_row * out.row,
                      taps + c,
                      bias + c,
                      Min(together, shape.rows - t)};
  };
  auto compute = ComputeRows<S, kRowSums>;
  if constexpr (kHasRowPairs<S>) {
    if (plan.phases < kRowSums) compute = ComputeRows<S, kRowSums / 2>;
  }
  const int64_t tasks = channels * chunks;
  if (is_short) {
    ClearVectors<S>(copies, plan.ring_rows * plan.ring_row_stride - kCount);
    for (int64_t index = 0; index < tasks; ++index) {
      const RowTask<S> task = task_of(index);
      CopyShortRows(arrays, task);
      compute(arrays, task);
    }
    return;
  }
  RowTask<S> next = task_of(0);
  CopyRowEnds(arrays, next);
  for (int64_t index = 0; index < tasks; ++index) {
    const RowTask<S> task = next;
    // Copied long before it is read: a load of what two stores have just written waits for both.
    if (index + 1 < tasks) {
      next = task_of(index + 1);
      CopyRowEnds(arrays, next);
    }
    compute(arrays, task);
  }
}

template <class S>
inline void RunRow(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                   int64_t end, void* scratch) {
  for (Parts parts(problem.geometry, plan, begin, end); parts.AreLeft(); parts.Advance()) {
    RowItem<S>(problem, plan, parts.Part(), scratch);
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
