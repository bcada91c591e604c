// Packing: filters become vectors of accumulators, for direct.h, block.h and flat.h; a ring keeps
// the packed input rows that a few output rows need, for the last two.
#pragma once

#include "kernels.h"
#include "simd.h"
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

// Packs the taps of the output channels [first, first + channels): for every (di, dj) one vector
// for each of `phases` successive vectors of a packed row, in which the channels repeat every
// `period` lanes. In a period of a whole vector, lanes beyond the channels are zero.
template <class S>
inline void PackFilter(const ForwardProblem& problem, int64_t first, int64_t channels,
                       int64_t period, int64_t phases, typename S::Accumulator* to) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const Geometry& g = problem.geometry;
  const auto* filter = static_cast<const typename S::Element*>(problem.filter) + first;
  for (int64_t tap = 0; tap < g.filter_height * g.filter_width; ++tap) {
    if (period == kCount) {
      StoreUnaligned(to, S::LoadPartial(filter, channels));
      to += kCount;
    } else {
      int64_t c = 0;
      for (int64_t i = 0; i < phases * kCount; ++i) {
        *to++ = S::LoadOne(filter + c);
        if (++c == period) c = 0;
      }
    }
    filter += g.OutChannels();
  }
}

template <class A>
DEPTHWISE_INLINE void FillZero(A* begin, A* end) {
  while (begin < end) *begin++ = 0;
}

}  // namespace depthwise::DEPTHWISE_ISA
