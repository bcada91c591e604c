// Packing for the flat kernel and its filter gradient: an input row becomes a flat sequence of
// accumulators with zeros around it, of which a stride makes as many as it has phases. Called by
// flat.h and flat_filter_gradient.h.
#pragma once

#include "pack.h"
#include "shuffle.h"

namespace depthwise::DEPTHWISE_ISA {

// Which elements of an input row a packed row takes. Packed column t of stride phase p is input
// column first_column + t * stride + p: its `channels` channels, each `copies` times, together
// `period` elements. Columns outside [0, in_width) are zero. Of a transposed problem with a stride,
// input columns lie `spread` apart in coordinates that fit the output, with zeros between them, and
// first_column is such a coordinate.
struct FlatLayout {
  int64_t first_column, in_width, spread;
  int64_t stride, phases, columns;  // phases, and columns a phase, that are packed
  int64_t channels, copies, period;
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

// Packs `count` pixels of a row without gaps, `step` elements apart: vectors of the channels next
// to each other, each `copies` times, whose surplus the next pixel overwrites. Element by element
// 480x640x4 7x7 with a stride of 2 took 1240 instead of 750 us (Xeon, model 167), three fifths of
// which were for packing, and of float16 2600 instead of 790.
template <class S>
DEPTHWISE_INLINE void CopyPixels(typename S::Accumulator* to, const typename S::Element* from,
                                 int64_t count, int64_t step, int64_t channels, int64_t copies) {
  using V = typename S::Vector;
  constexpr int kCount = kLanes<typename S::Accumulator>;
  typename IndexOf<typename S::Accumulator>::Type source{};
  if (copies > 1) {
    for (int lane = 0; lane < kCount; ++lane) source[lane] = lane / static_cast<int>(copies);
  }
  const auto store = [&](V pixel) DEPTHWISE_INLINE_LAMBDA {
    StoreUnaligned(to, copies == 1 ? pixel : Permute(pixel, source));
    to += channels * copies;
    from += step;
  };
  int64_t left = (count - 1) * step + channels;  // elements to the end of the last pixel
  for (; left >= kCount; left -= step) store(S::Load(from));
  for (; left > 0; left -= step) store(S::LoadPartial(from, channels));
}

// Packs `count` columns, `step` elements apart, that are all inside the image; writes up to a full
// vector beyond.
template <class S>
DEPTHWISE_INLINE void PackFlatColumns(typename S::Accumulator* to, const typename S::Element* from,
                                      int64_t count, int64_t step, const FlatLayout& layout) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const int64_t channels = layout.channels, copies = layout.copies;
  const bool has_gaps =
      (channels > 1 && layout.channel_stride != 1) || layout.column_stride != channels;
  if (copies == 1 && step == channels && !has_gaps) {
    CopyContiguous<S>(to, from, count * channels);
  } else if (layout.period == 1 && step == 2) {
    CopyEverySecond<S>(to, from, count);
  } else if (layout.period > 1 && layout.period <= kCount && !has_gaps) {
    CopyPixels<S>(to, from, count, step, channels, copies);
  } else if (layout.period == 1) {
    for (int64_t t = 0; t < count; ++t) to[t] = S::LoadOne(from + t * step);
  } else {
    // In registers, as what is stored might be part of the layout for all that the compiler knows.
    const int64_t channel_stride = layout.channel_stride;
    for (int64_t t = 0; t < count; ++t, from += step) {
      for (int64_t k = 0; k < channels; ++k) {
        const auto value = S::LoadOne(from + k * channel_stride);
        for (int64_t q = 0; q < copies; ++q) *to++ = value;
      }
    }
  }
}

template <class S>
inline void PackSpreadRow(typename S::Accumulator* to, const typename S::Element* row,
                          const FlatLayout& layout) {
  FillZero(to, to + layout.columns * layout.period);
  const int64_t begin = Max(0, CeilDiv(layout.first_column, layout.spread));
  const int64_t end =
      Min(layout.in_width, CeilDiv(layout.first_column + layout.columns, layout.spread));
  for (int64_t column = begin; column < end; ++column) {
    auto* pixel = to + (column * layout.spread - layout.first_column) * layout.period;
    for (int64_t k = 0; k < layout.channels; ++k) {
      pixel[k] = S::LoadOne(row + column * layout.column_stride + k * layout.channel_stride);
    }
  }
}

// Packs the input row that starts at `row` (its column 0, channel 0).
template <class S>
inline void PackFlatRow(typename S::Accumulator* to, const typename S::Element* row,
                        const FlatLayout& layout) {
  if (layout.spread > 1) return PackSpreadRow<S>(to, row, layout);
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

// The taps of a row in the order in which a packed row meets them.
inline Taps FlatTaps(const Geometry& g) {
  if (g.transposed) return {g.filter_width, g.filter_width - 1, -1, 0};
  return {g.filter_width, 0, 1, 0};
}

}  // namespace depthwise::DEPTHWISE_ISA
