// Rows of output pixels one by one, or of some 3x3 filters by pairs, one below the other, all
// channels innermost, for the direct kernel. Few loads are shared between outputs or none, and
// every tap is loaded for each. But memory is read in as many sequences as a window has rows, as by
// a few copies, where a tile reads some vectors of dozens of pixels in turn: that is faster where
// windows share nothing, and from afar where they share little, or where a tile cannot fetch ahead.
#pragma once

#include "channel_arrays.h"

namespace depthwise::DEPTHWISE_ISA {

// Pixels of fewer bytes are too short to be read in sequence: 30x30x32 3x3 with a stride of 3
// takes 2.0 by tiles and 2.3 us so.
inline constexpr int64_t kPixelBytes = 256;
// Where tiles fetch ahead, single pixels are as fast if they are longer, and pairs if these fill
// lines: 8x56x56x128 3x3 with a stride of 2 takes 620 by pairs and 750 by tiles from the last-level
// cache, 1060 and 1090 from memory; 8x57x57x100 510 and 540, but 890 and 760.
inline constexpr int64_t kLongPixelBytes = 1024;
// Pairs pay for as much as the second-level cache just keeps: 56x56x128 49 instead of 52 us, and
// 136 instead of 170 from memory, but 56x56x120 46 instead of 41 (and 111 instead of 135).
inline constexpr double kFarPairBytes = 1.9 * 1024 * 1024;

// What the pairs of a dilation read while a column is used again: 64x64x304 with dilation 2, 24 kB,
// takes 450 instead of 475 us, and 740 instead of 820 from memory; 45x45x512, 40 kB, 447 instead of
// 386.
inline constexpr double kDilatedWindowBytes = 24 * 1024;

// CPUs without AVX do without pairs, for the size of the package; with AVX2 those of dilations took
// 14% less to 19% more.
template <class S>
inline constexpr bool kHasPixelPairs = kHasSpecialTiles && sizeof(typename S::Element) >= 4;
template <class S>
inline constexpr bool kHasDilatedPixelPairs = kHasPixelPairs<S> && kVectorBytes == 64;

// Whether the direct kernel computes pixels rather than tiles: windows of nine taps or more that do
// not overlap (2x2 with a stride of 2 takes 9% longer so), and 3x3 with a stride of 2 or a dilation
// where a thread's data are far; 16-bit types, which convert each load, have the first alone.
// Windows that do not overlap gain wherever the data are: with a stride of 3 from memory
// 4x57x57x256 934 and 721, 32x112x112x64 9100 and 7930; 57x57x128 of bfloat16 32 and 22. (Xeon,
// model 167; docs/kernels.md has more.) `bytes` are those of input and output together.
template <class S>
inline bool SuitsPixels(const Geometry& g, double bytes, int64_t threads) {
  constexpr int64_t kSize = sizeof(typename S::Element);
  const int64_t pixel = g.in_channels * kSize;
  if (g.transposed || g.channel_multiplier > 1 || pixel < kPixelBytes) return false;
  const bool is_3x3 = g.filter_height == 3 && g.filter_width == 3 && kSize >= 4;
  if (g.dilation_width > 1) {
    const double window = 4.0 * (2.0 * static_cast<double>(g.dilation_width) + 1) * pixel;
    return kHasDilatedPixelPairs<S> && is_3x3 && window <= kDilatedWindowBytes &&
           bytes > kFarBytes * static_cast<double>(threads);
  }
  if (g.dilation_height > 1) return false;
  if (g.stride_height >= g.filter_height && g.stride_width >= g.filter_width) {
    return static_cast<double>(g.filter_height) * g.filter_width >= kFewTaps;
  }
  const bool has_strides = g.stride_height == 2 && g.stride_width == 2;
  const double far = kHasPixelPairs<S> ? kFarPairBytes : kFarBytes;
  const bool fills_lines = kHasPixelPairs<S> && kCanStream<S> && pixel % 64 == 0;
  return is_3x3 && has_strides && bytes >= far * static_cast<double>(threads) &&
         (bytes <= kPrefetchBytes || fills_lines || pixel >= kLongPixelBytes);
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

// The pixel of a 3x3 window, and the one below it, kStride input rows further on.
template <class S, int kStride>
__attribute__((noinline)) void ComputePixelPair(const ChannelArrays<S>& arrays,
                                                PixelWindow<S> window, typename S::Element* out) {
  using V = typename S::Vector;
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  const ChannelVectors<S> vectors = arrays.vectors;
  const int64_t last = arrays.last_vector, taps_step = arrays.taps_step;
  const bool stream = arrays.stream;
  auto* const below = out + arrays.out_row_step;
  const auto* taps = arrays.taps;
  const auto* bias = arrays.bias;
  for (int64_t v = arrays.first_vector; v < last; ++v, taps += taps_step, bias += kCount) {
    const int64_t channel = vectors.First(v);
    const auto* row = window.input + channel;
    V sum[2] = {};
    V tap[3][3];
#pragma GCC unroll 5
    for (int r = 0; r < 3 + kStride; ++r, row = Step(row, window.row_step)) {
#pragma GCC unroll 3
      for (int dj = 0; dj < 3; ++dj) {
        V x = S::Load(row + dj * window.column_step);
        Pin(x);
        if (r < 3) {
          tap[r][dj] = LoadUnaligned<V>(taps + (r * 3 + dj) * kCount);
          Pin(tap[r][dj]);
          sum[0] += x * tap[r][dj];
        }
        if (r >= kStride) sum[1] += x * tap[r - kStride][dj];
      }
    }
    const V added = LoadUnaligned<V>(bias);
    StoreVector<S>(out + channel, sum[0] + added, stream);
    StoreVector<S>(below + channel, sum[1] + added, stream);
  }
}

// How many of the output rows [t, last) PixelRows() computes together: a pair where no window
// reaches beyond the image above or below.
template <class S>
DEPTHWISE_INLINE int64_t PixelRowsTogether(const Geometry& g, const Axis& rows, int64_t t,
                                           int64_t last) {
  const bool has_pairs = (rows.stride == 2 ? kHasPixelPairs<S> : kHasDilatedPixelPairs<S>) &&
                         rows.window == 3 && g.filter_width == 3 && rows.stride == g.stride_width &&
                         rows.stride <= 2;
  const RowRange range = InputRowsOf(rows, t, 2);
  return has_pairs && last - t >= 2 && range.begin == 0 && range.end == 3 + rows.stride ? 2 : 1;
}

// Computes one output row or two, which begin at `out`. `rows` are the input rows of their windows,
// from column 0 on.
template <class S>
inline void PixelRows(const ChannelArrays<S>& arrays, const TileRows<typename S::Element>& rows,
                      int64_t rows_used, typename S::Element* out) {
  const int64_t window_rows = Min(arrays.window_rows, rows.row_end) - rows.row_begin;
  const int64_t residues = arrays.columns->Residues();
  Axis place;
  // The columns of a dilation in the order of memory; the first residue has as many as any.
  for (int64_t t = 0; t < arrays.columns->First().out_count; ++t) {
    for (int64_t residue = 0; residue < residues; ++residue) {
      const Axis& axis = arrays.columns->Find(residue, &place);
      if (t >= axis.out_count) break;
      const int64_t unit = t * axis.stride;
      const int64_t begin = Min(axis.window, Max(0, axis.unit_begin - unit));
      const int64_t end = Max(begin, Min(axis.window, axis.unit_end - unit));
      PixelWindow<S> window{
          .input = rows.row + axis.ColumnCoordinate(unit + begin) * arrays.in_column_step,
          .row_step = rows.row_step,
          .column_step = axis.in_step * arrays.in_column_step,
          .first_tap = rows.row_begin * axis.window + begin,
          .taps_of_row = axis.window,
          .rows = window_rows,
          .columns = end - begin,
      };
      const bool is_3x3 = axis.window == 3 && window.rows == 3 && window.columns == 3;
      auto* to = out + (axis.out_first + t * axis.out_step) * arrays.out_column_step;
      if constexpr (kHasPixelPairs<S>) {
        if (is_3x3 && rows_used == 2) {
          if (kHasDilatedPixelPairs<S> && axis.stride == 1) {
            ComputePixelPair<S, 1>(arrays, window, to);
          } else {
            ComputePixelPair<S, 2>(arrays, window, to);
          }
          continue;
        }
      }
      for (int64_t i = 0; i < rows_used; ++i, to += arrays.out_row_step) {
        if (is_3x3) {
          ComputePixel<S, 3>(arrays, window, to);
        } else {
          ComputePixel<S, 0>(arrays, window, to);
        }
        window.input += arrays.row_stride * rows.row_step;
      }
    }
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
