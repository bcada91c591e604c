// Packing: filters become vectors of accumulators, for all kernels but definition.h; a ring keeps
// the packed input rows that a few output rows need, for block.h and flat.h.
#pragma once

#include "element_types.h"
#include "kernels.h"
#include "shuffle.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// What a ring may take of the caches before rows are cut into strips.
inline constexpr double kRingBytes = 192 * 1024;

// Packed rows by unit position of the row axis; position u lives in row u % count.
template <class A>
struct Ring {
  A* memory;
  int64_t count, row_stride;
  int64_t packed_until = 0;

  DEPTHWISE_INLINE A* Row(int64_t unit) const { return memory + unit % count * row_stride; }
  // The row that follows one, without a division.
  DEPTHWISE_INLINE A* RowAfter(A* row) const {
    return row + row_stride < memory + count * row_stride ? row + row_stride : memory;
  }

  // Calls pack(first, end) for the rows of `range` that are not there yet.
  template <class Pack>
  DEPTHWISE_INLINE void Fill(const RowRange& range, Pack&& pack) {
    const int64_t first = Max(packed_until, range.first_unit + range.begin);
    const int64_t end = range.first_unit + range.end;
    if (first >= end) return;
    pack(first, end);
    packed_until = end;
  }

  DEPTHWISE_INLINE TileRows<A> Rows(const RowRange& range) const {
    const int64_t slot = (range.first_unit + range.begin) % count;
    return {memory + slot * row_stride, row_stride, range.begin, range.end, count - slot,
            count * row_stride};
  }
};

// The length of strips, at most `all`: short enough for what a strip holds to stay in cache, but
// not shorter than a few granules, of which it is a multiple if it can; 0 if even a strip of one
// needs more than `limit` bytes. In double, since the products of hostile sizes overflow an
// integer.
template <class BytesOf>
inline int64_t StripLength(int64_t all, int64_t granule, double limit, BytesOf&& strip_bytes) {
  int64_t length = all;
  while (length > 4 * granule && strip_bytes(length) > kRingBytes) length = CeilDiv(length, 2);
  while (length > 1 && strip_bytes(length) > limit) length = CeilDiv(length, 2);
  if (length < all && length > granule) length -= length % granule;
  return strip_bytes(length) <= limit ? length : 0;
}

template <class A>
DEPTHWISE_INLINE void FillZero(A* begin, A* end) {
  while (begin < end) *begin++ = 0;
}

// Packs `taps` taps of a vector of channels or less, those of each channel together: in squares
// that are transposed. `reversed` puts the last one first. (Tap by tap, 5x5 of 1152 channels took
// 29 us of the 70 us that a 7x7 image takes.)
template <class S>
inline void PackTapsTogether(const typename S::Element* filter, int64_t channel_stride,
                             int64_t channels, int64_t taps, bool reversed,
                             typename S::Accumulator* to) {
  using V = typename S::Vector;
  constexpr int kCount = kLanes<typename S::Accumulator>;
  for (int64_t first = 0; first < taps; first += kCount) {
    const int64_t n = Min(kCount, taps - first);
    V square[kCount] = {};
    for (int lane = 0; lane < channels; ++lane) {
      square[lane] = S::LoadPartial(filter + lane * channel_stride + first, n);
    }
    Transpose(square);
    for (int64_t t = 0; t < n; ++t) {
      StoreUnaligned(to + (reversed ? taps - 1 - first - t : first + t) * kCount, square[t]);
    }
  }
}

// Calls visit(tap, step, count) for runs of taps of `filter` that lie `step` elements apart: all of
// rows.window rows and of `columns`, in the order in which a window meets them.
template <class E, class Visit>
DEPTHWISE_INLINE void ForEachRunOfTaps(const ForwardProblem& problem, const Axis& rows,
                                       const Taps& columns, const E* filter, Visit&& visit) {
  const Geometry& g = problem.geometry;
  const FilterStrides& strides = problem.filter_strides;
  const bool all_taps = rows.planes == 1 && rows.window == g.filter_height &&
                        columns.count == g.filter_width && rows.taps.step == columns.step;
  const int64_t runs = all_taps ? 1 : rows.window;
  const int64_t count = all_taps ? rows.window * columns.count : columns.count;
  for (int64_t u = 0; u < runs; ++u) {
    const int64_t plane = rows.planes == 1 ? 0 : u % rows.planes;
    const int64_t di = rows.taps.first + FloorDiv(u, rows.planes) * rows.taps.step;
    visit(filter + (di * g.filter_width + columns.first) * strides.tap + plane * strides.channel,
          columns.step * strides.tap, count);
  }
}

// From an output channel to the next in the filter of a problem.
DEPTHWISE_INLINE int64_t FilterStep(const ForwardProblem& problem) {
  const Geometry& g = problem.geometry;
  return (g.transposed ? g.channel_multiplier : 1) * problem.filter_strides.channel;
}

// Packs taps of the output channels [first, first + channels), [rows.window, columns.count], in the
// order in which a window meets them: for each one vector for each of `phases` successive vectors
// of a packed row, in which the channels repeat every `period` lanes. In a period of a whole
// vector, lanes beyond the channels are zero.
template <class S>
inline void PackFilter(const ForwardProblem& problem, const Axis& rows, const Taps& columns,
                       int64_t first, int64_t channels, int64_t period, int64_t phases,
                       typename S::Accumulator* to) {
  using E = typename S::Element;
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const Geometry& g = problem.geometry;
  const int64_t step = FilterStep(problem);
  const auto* filter = static_cast<const E*>(problem.filter) + first * step;
  const int64_t taps = rows.window * columns.count;
  const bool all_taps = taps == g.filter_height * g.filter_width && rows.planes == 1;
  if (problem.filter_strides.tap == 1 && period == kCount && all_taps) {
    return PackTapsTogether<S>(filter, step, channels, taps, columns.step < 0, to);
  }
  const auto pack = [&](const E* tap, int64_t tap_step, int64_t count) DEPTHWISE_INLINE_LAMBDA {
    for (int64_t v = 0; v < count; ++v, tap += tap_step) {
      if (period == kCount && step == 1) {
        StoreUnaligned(to, S::LoadPartial(tap, channels));
        to += kCount;
      } else {
        int64_t c = 0;
        for (int64_t i = 0; i < phases * kCount; ++i) {
          *to++ = c < channels ? S::LoadOne(tap + c * step) : 0;
          if (++c == period) c = 0;
        }
      }
    }
  };
  ForEachRunOfTaps(problem, rows, columns, filter, pack);
}

// Calls pack(columns, to) for all classes of columns, whose vectors of taps follow each other;
// returns the end of the last.
template <class A, class Pack>
DEPTHWISE_INLINE A* ForEachClassOfColumns(const Geometry& g, const Axis& rows, A* to, Pack&& pack) {
  const AxisSizes sizes = ColumnSizes(g);
  for (int64_t index = 0; index < Min(sizes.TapStep(), sizes.filter_size); ++index) {
    const Taps columns = TapsOf(sizes, index);
    pack(columns, to);
    to += rows.window * columns.count * kLanes<A>;
  }
  return to;
}

// PackFilter() for all classes of columns of a vector of channels; returns the end of what it
// packed.
template <class S>
inline typename S::Accumulator* PackFilterClasses(const ForwardProblem& problem, const Axis& rows,
                                                  int64_t first, int64_t channels,
                                                  typename S::Accumulator* to) {
  using A = typename S::Accumulator;
  const auto pack = [&](const Taps& columns, A* at) DEPTHWISE_INLINE_LAMBDA {
    PackFilter<S>(problem, rows, columns, first, channels, kLanes<A>, 1, at);
  };
  return ForEachClassOfColumns(problem.geometry, rows, to, pack);
}

// What is added to the sums of an output channel before they are stored. Without a bias that is +0,
// and a bias of -0 becomes +0: a tap on zero padding turns a sum that underflowed to -0 into +0,
// and adding +0 does so everywhere.
template <class S>
DEPTHWISE_INLINE typename S::Accumulator BiasOf(const ForwardProblem& problem, int64_t channel) {
  if (problem.bias == nullptr) return 0;
  return S::LoadOne(static_cast<const typename S::Element*>(problem.bias) + channel) + 0;
}

// The same of the output channels [first, first + channels), which repeat every `period` lanes, as
// `phases` vectors.
template <class S>
inline void PackBias(const ForwardProblem& problem, int64_t first, int64_t channels, int64_t period,
                     int64_t phases, typename S::Accumulator* to) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  if (problem.bias == nullptr) return FillZero(to, to + phases * kCount);
  int64_t c = 0;
  for (int64_t i = 0; i < phases * kCount; ++i) {
    to[i] = c < channels ? BiasOf<S>(problem, first + c) : 0;
    if (++c == period) c = 0;
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
