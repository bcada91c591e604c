// Rows of output pixels one by one, all channels innermost, for the direct kernel. No load is
// shared between outputs, and every tap is loaded for each. But memory is read in as many sequences
// as a window has rows, as by a few copies, where a tile reads some vectors of dozens of pixels in
// turn: that is faster where windows share nothing, and where they share little from afar.
#pragma once

#include "channel_arrays.h"

namespace depthwise::DEPTHWISE_ISA {

// Pixels of fewer bytes are too short to be read in sequence: 30x30x32 3x3 with a stride of 3
// takes 2.0 by tiles and 2.3 us so.
inline constexpr int64_t kPixelBytes = 256;
// Where the tiles fetch ahead only longer pixels are as fast: from memory 8x56x56x128 3x3 with a
// stride of 2 takes 798 by tiles and 881 so, 8x56x56x256 1655 and 1694, 32x14x14x512 877 and 819;
// with all data in the last-level cache 747 and 625, 1452 and 1170, 807 and 604.
inline constexpr int64_t kLongPixelBytes = 1024;

// Whether the direct kernel computes single pixels rather than tiles: windows of nine taps or more
// that do not overlap (2x2 with a stride of 2 takes 9% longer so), and 3x3 with a stride of 2 where
// a thread's data are far; 16-bit types, which convert each load, have the first alone. Windows
// that do not overlap gain wherever the data are: with a stride of 3 from memory 4x57x57x256 934
// and 721, 32x112x112x64 9100 and 7930; 57x57x128 of bfloat16 32 and 22. (Xeon, model 167;
// docs/kernels.md has more.) `bytes` are those of input and output together.
template <class S>
inline bool SuitsPixels(const Geometry& g, double bytes, int64_t threads) {
  constexpr int64_t kSize = sizeof(typename S::Element);
  const int64_t pixel = g.in_channels * kSize;
  if (g.transposed || g.channel_multiplier > 1 || g.dilation_height > 1 || g.dilation_width > 1 ||
      pixel < kPixelBytes) {
    return false;
  }
  if (g.stride_height >= g.filter_height && g.stride_width >= g.filter_width) {
    return static_cast<double>(g.filter_height) * g.filter_width >= kFewTaps;
  }
  const bool is_3x3 =
      g.filter_height == 3 && g.filter_width == 3 && g.stride_height == 2 && g.stride_width == 2;
  return is_3x3 && kSize >= 4 && bytes >= kFarBytes * static_cast<double>(threads) &&
         (bytes <= kPrefetchBytes || pixel >= kLongPixelBytes);
}

// What an output pixel reads: of its window the part that is inside the image.
template <class S>
struct PixelWindow {
  const typename S::Element* input;  // of the first tap
  int64_t row_step, column_step;     // in elements
  int64_t first_tap, taps_of_row;    // of the whole window
  int64_t rows, columns;
};

// With kSize the window is of so many rows and columns.
template <class S, int kSize>
DEPTHWISE_INLINE void ComputePixel(const ChannelArrays<S>& arrays, const PixelWindow<S>& window,
                                   typename S::Element* out) {
  using V = typename S::Vector;
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  const int64_t rows = kSize != 0 ? kSize : window.rows;
  const int64_t columns = kSize != 0 ? kSize : window.columns;
  const auto* taps = arrays.taps + window.first_tap * kCount;
  const auto* bias = arrays.bias;
  for (int64_t v = arrays.first_vector; v < arrays.last_vector;
       ++v, taps += arrays.taps_step, bias += kCount) {
    const int64_t channel = arrays.vectors.First(v);
    const auto* row = window.input + channel;
    const auto* tap = taps;
    V sum{};
#pragma GCC unroll 3
    for (int64_t di = 0; di < rows; ++di, row += window.row_step) {
#pragma GCC unroll 3
      for (int64_t dj = 0; dj < columns; ++dj) {
        sum += S::Load(row + dj * window.column_step) * LoadUnaligned<V>(tap + dj * kCount);
      }
      tap += (kSize != 0 ? kSize : window.taps_of_row) * kCount;
    }
    StoreVector<S>(out + channel, sum + LoadUnaligned<V>(bias), arrays.stream);
  }
}

// Computes an output row, which begins at `out`. `rows` are the input rows of its windows, from
// column 0 on.
template <class S>
inline void PixelRow(const ChannelArrays<S>& arrays, const TileRows<typename S::Element>& rows,
                     typename S::Element* out) {
  const Axis& axis = arrays.columns->First();
  const bool is_3x3 = axis.window == 3 && rows.row_begin == 0 && rows.row_end == 3;
  const int64_t column_step = axis.in_step * arrays.in_column_step;
  for (int64_t t = 0; t < axis.out_count; ++t, out += arrays.out_column_step) {
    const int64_t unit = t * axis.stride;
    const int64_t begin = Min(axis.window, Max(0, axis.unit_begin - unit));
    const int64_t end = Max(begin, Min(axis.window, axis.unit_end - unit));
    const PixelWindow<S> window{
        .input = rows.row + axis.ColumnCoordinate(unit + begin) * arrays.in_column_step,
        .row_step = rows.row_step,
        .column_step = column_step,
        .first_tap = rows.row_begin * axis.window + begin,
        .taps_of_row = axis.window,
        .rows = rows.row_end - rows.row_begin,
        .columns = end - begin,
    };
    if (is_3x3 && window.columns == 3) {
      ComputePixel<S, 3>(arrays, window, out);
    } else {
      ComputePixel<S, 0>(arrays, window, out);
    }
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
