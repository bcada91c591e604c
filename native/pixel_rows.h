// Rows of output pixels one by one or, of some 3x3 filters, by blocks of two rows, all channels
// innermost, for the direct kernel. Few loads are shared between outputs or none, and the taps are
// loaded for each block. But memory is read in as many sequences as a block has input rows, as by a
// few copies, where a tile reads some vectors of dozens of pixels in turn: that is faster where
// windows share nothing, and where data are far.
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

// Without a stride blocks have two columns as well, and fetch ahead, as far as was best. 56x56x128
// takes 135 instead of 147 us by tiles, 178 instead of 188 from memory, 40x40x240 126 and 140;
// 56x56x96, 2.3 MiB, 99 and 97, and 28x28x480, whose pixels are long, 143 and 131. Without fetching
// 56x56x128 takes 153, and 210 from memory.
inline constexpr double kFarBlockBytes = 2.75 * 1024 * 1024;
inline constexpr int64_t kInputAheadBytes = 4096, kOutputAheadBytes = 2048;

// CPUs without AVX do without pairs, for the size of the package; with AVX2 those of dilations took
// 14% less to 19% more.
template <class S>
inline constexpr bool kHasPixelPairs = kHasSpecialTiles && sizeof(typename S::Element) >= 4;
template <class S>
inline constexpr bool kHasDilatedPixelPairs = kHasPixelPairs<S> && kVectorBytes == 64;
template <class S>
inline constexpr bool kHasPixelBlocks = kHasPixelPairs<S> && kFetchesTiles<S>;

// Whether the direct kernel computes pixels rather than tiles: windows of nine taps or more that do
// not overlap (2x2 with a stride of 2 takes 9% longer so), and 3x3, but for dilations along the
// height alone, where a thread's data are far; 16-bit types, which convert each load, have the
// first alone. Windows that do not overlap gain wherever the data are: with a stride of 3 from
// memory 4x57x57x256 934 and 721, 32x112x112x64 9100 and 7930; 57x57x128 of bfloat16 32 and 22.
// (Xeon, model 167; docs/kernels.md has more.) `bytes` are those of input and output together.
template <class S>
DEPTHWISE_SMALL inline bool SuitsPixels(const Geometry& g, double bytes,
                                        const PlanOptions& options) {
  constexpr int64_t kSize = sizeof(typename S::Element);
  const int64_t pixel = g.in_channels * kSize;
  if (g.transposed || g.channel_multiplier > 1 || pixel < kPixelBytes) return false;
  const bool is_3x3 = g.filter_height == 3 && g.filter_width == 3 && kSize >= 4;
  const double bytes_each = bytes / static_cast<double>(options.threads);
  const bool has_stride = g.stride_height > 1 || g.stride_width > 1;
  if (g.dilation_width > 1) {
    const double window = 4.0 * (2.0 * static_cast<double>(g.dilation_width) + 1) * pixel;
    return kHasDilatedPixelPairs<S> && is_3x3 && !has_stride && window <= kDilatedWindowBytes &&
           bytes_each > kFarBytes;
  }
  if (g.dilation_height > 1) return false;
  if (g.stride_height >= g.filter_height && g.stride_width >= g.filter_width) {
    return static_cast<double>(g.filter_height) * g.filter_width >= kFewTaps;
  }
  if (!is_3x3 || g.stride_height != g.stride_width || g.stride_width > 2) return false;
  if (!has_stride) {
    return kHasPixelBlocks<S> && options.may_prefetch_tiles && bytes_each >= kFarBlockBytes &&
           bytes <= kPrefetchBytes && pixel <= kLongPixelBytes;
  }
  const bool fills_lines = kCanStream<S> && pixel % 64 == 0;
  return bytes_each >= (kHasPixelPairs<S> ? kFarPairBytes : kFarBytes) &&
         (bytes <= kPrefetchBytes || (kHasPixelPairs<S> && fills_lines) ||
          pixel >= kLongPixelBytes);
}

// What an output pixel reads: of its window the part that is inside the image.
template <class S>
struct PixelWindow {
  const typename S::Element* input;  // of the first tap
  int64_t row_step, column_step;     // in elements
  int64_t first_tap, taps_of_row;    // of the whole window
  int64_t rows, columns;
};

// Calls compute(load, row, out, taps, bias) for all vectors of channels of `count` pixels, or
// blocks of them: with where the vector lies in the first window's row and in the output. What is
// the same for all pixels is found once.
template <class S, class Compute>
DEPTHWISE_INLINE void ForEachVectorOfRun(const ChannelArrays<S>& arrays,
                                         const PixelWindow<S>& window, int64_t count,
                                         int64_t in_step, int64_t out_step,
                                         typename S::Element* out, const Compute& compute) {
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  const ChannelVectors<S> vectors = arrays.vectors;
  const int64_t first = arrays.first_vector, end = arrays.neighbours_end;
  const int64_t taps_step = arrays.taps_step;
  const auto* input = window.input;
  for (; count > 0; --count, input += in_step, out += out_step) {
    const auto* taps = arrays.taps + window.first_tap * kCount;
    const auto* bias = arrays.bias;
    for (int64_t v = first; v < end; ++v, taps += taps_step, bias += kCount) {
      const int64_t channel = vectors.First(v);
      compute(PlainLoad<S>{}, input + channel, out + channel, taps, bias);
    }
    if constexpr (kHasEnds<S>) {
      if (end == arrays.last_vector) continue;
      const EndsLoad<S> load = *arrays.ends;
      const int64_t channel = vectors.First(end);
      compute(load, input + channel, out + channel, taps, bias);
    }
  }
}

// A run of `count` pixels, `in_step` elements of the input apart. With kSize the windows are of so
// many rows and columns. To call this for each pixel took 57x57x96 3x3 with a stride of 3 12%
// longer.
template <class S, int kSize>
DEPTHWISE_INLINE void ComputePixels(const ChannelArrays<S>& arrays, const PixelWindow<S>& window,
                                    int64_t count, int64_t in_step, typename S::Element* out) {
  using V = typename S::Vector;
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  const int64_t rows = kSize != 0 ? kSize : window.rows;
  const int64_t columns = kSize != 0 ? kSize : window.columns;
  const int64_t row_taps = (kSize != 0 ? kSize : window.taps_of_row) * kCount;
  const bool stream = arrays.stream;
  const auto compute = [&](const auto& load, const auto* row, auto* to, const auto* taps,
                           const auto* bias) DEPTHWISE_INLINE_LAMBDA {
    V sum{};
#pragma GCC unroll 3
    for (int64_t di = 0; di < rows; ++di, row += window.row_step, taps += row_taps) {
#pragma GCC unroll 3
      for (int64_t dj = 0; dj < columns; ++dj) {
        sum += load(row + dj * window.column_step) * LoadUnaligned<V>(taps + dj * kCount);
      }
    }
    load.Store(to, sum + LoadUnaligned<V>(bias), stream);
  };
  ForEachVectorOfRun(arrays, window, count, in_step, arrays.out_column_step, out, compute);
}

// A run of blocks of pixels of 3x3 windows, two rows of kColumns each, whose first window is given:
// kStride input rows and columns lie between those of a block, `in_step` elements between blocks.
// Two columns, which are not stored past the caches, fetch ahead what the next blocks are the first
// to touch. To call this for each block took 56x56x128 with a stride of 2 10% longer.
template <class S, int kStride, int kColumns>
__attribute__((noinline)) void ComputePixelBlocks(const ChannelArrays<S>& arrays,
                                                  PixelWindow<S> window, int64_t blocks,
                                                  int64_t in_step, typename S::Element* out) {
  using V = typename S::Vector;
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  constexpr int kInRows = 3 + kStride, kInColumns = 3 + (kColumns - 1) * kStride;
  const int64_t out_row = arrays.out_row_step, out_column = arrays.out_column_step;
  const bool stream = arrays.stream;
  const auto compute = [&](const auto& load, const auto* row, auto* to, const auto* taps,
                           const auto* bias) DEPTHWISE_INLINE_LAMBDA {
    if constexpr (kColumns > 1) {
      constexpr int64_t kSize = sizeof(typename S::Element);
      constexpr int64_t kInputAhead = kInputAheadBytes / kSize;
      constexpr int64_t kOutputAhead = kOutputAheadBytes / kSize;
#pragma GCC unroll 2
      for (int64_t c = 0; c < kColumns; ++c) {
#pragma GCC unroll 4
        for (int64_t r = kInRows - 2 * kStride; r < kInRows; ++r) {
          Prefetch(row + kInputAhead + r * window.row_step + c * window.column_step);
        }
        PrefetchForWrite(to + kOutputAhead + c * out_column);
        PrefetchForWrite(to + kOutputAhead + c * out_column + out_row);
      }
    }
    V sums[2][kColumns] = {};
    V tap[3][3];
#pragma GCC unroll 5
    for (int r = 0; r < kInRows; ++r, row = Step(row, window.row_step)) {
#pragma GCC unroll 5
      for (int c = 0; c < kInColumns; ++c) {
        V x = load(row + c * window.column_step);
        Pin(x);
        if (r < 3 && c < 3) {
          tap[r][c] = LoadUnaligned<V>(taps + (r * 3 + c) * kCount);
          Pin(tap[r][c]);
        }
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 2
          for (int j = 0; j < kColumns; ++j) {
            const int di = r - i * kStride, dj = c - j * kStride;
            if (di >= 0 && di < 3 && dj >= 0 && dj < 3) sums[i][j] += x * tap[di][dj];
          }
        }
      }
    }
    const V added = LoadUnaligned<V>(bias);
#pragma GCC unroll 2
    for (int j = 0; j < kColumns; ++j, to = Step(to, out_column)) {
      load.Store(to, sums[0][j] + added, stream);
      load.Store(to + out_row, sums[1][j] + added, stream);
    }
  };
  ForEachVectorOfRun(arrays, window, blocks, in_step, kColumns * out_column, out, compute);
}

// How many of the output rows [t, last) PixelRows() computes together: two where no window reaches
// beyond the image above or below.
template <class S>
DEPTHWISE_INLINE int64_t PixelRowsTogether(const Axis& rows, const Axis& columns, int64_t t,
                                           int64_t last) {
  const bool is_3x3 = rows.window == 3 && columns.window == 3 && rows.stride == columns.stride;
  const bool has_blocks =
      (rows.stride == 1 && kHasDilatedPixelPairs<S>) || (rows.stride == 2 && kHasPixelPairs<S>);
  const RowRange range = InputRowsOf(rows, t, 2);
  const bool are_inside = range.begin == 0 && range.end == 3 + rows.stride;
  return is_3x3 && has_blocks && are_inside && last - t >= 2 ? 2 : 1;
}

// Computes pixels of two rows from a 3x3 window on: of `columns` neighbours, or one less. Returns
// how many.
template <class S>
DEPTHWISE_INLINE int64_t ComputePixelPairs(const ChannelArrays<S>& arrays,
                                           const PixelWindow<S>& window, const Axis& axis,
                                           int64_t columns, typename S::Element* out) {
  const int64_t step = axis.stride * arrays.in_column_step;
  if (axis.stride == 2) {
    ComputePixelBlocks<S, 2, 1>(arrays, window, columns, step, out);
    return columns;
  }
  if constexpr (kHasPixelBlocks<S>) {
    if (axis.out_step == 1 && columns >= 2) {
      ComputePixelBlocks<S, 1, 2>(arrays, window, columns / 2, 2 * step, out);
      return columns / 2 * 2;
    }
  }
  if constexpr (kHasDilatedPixelPairs<S>) {
    ComputePixelBlocks<S, 1, 1>(arrays, window, columns, step, out);
  }
  return columns;
}

// Computes one output row or two, which begin at `out`. `rows` are the input rows of their windows,
// from column 0 on.
template <class S>
inline void PixelRows(const ChannelArrays<S>& arrays, const TileRows<typename S::Element>& rows,
                      int64_t rows_used, typename S::Element* out) {
  const int64_t window_rows = Min(arrays.window_rows, rows.row_end) - rows.row_begin;
  // Computes the output at position t of an axis or, of 3x3, a run from there on, of `whole`
  // columns whose windows have all of theirs. Returns how many columns.
  const auto compute = [&](const Axis& axis, int64_t t, int64_t whole)
                           DEPTHWISE_INLINE_LAMBDA -> int64_t {
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
    auto* to = out + (axis.out_first + t * axis.out_step) * arrays.out_column_step;
    const bool is_3x3 = axis.window == 3 && window.rows == 3 && window.columns == 3;
    if constexpr (kHasPixelPairs<S>) {
      if (is_3x3 && rows_used == 2) return ComputePixelPairs<S>(arrays, window, axis, whole, to);
    }
    const int64_t step = axis.stride * arrays.in_column_step;
    if (is_3x3) {
      ComputePixels<S, 3>(arrays, window, whole, step, to);
      return whole;
    }
    for (int64_t i = 0; i < rows_used; ++i, to += arrays.out_row_step) {
      ComputePixels<S, 0>(arrays, window, 1, step, to);
      window.input += arrays.row_stride * rows.row_step;
    }
    return 1;
  };
  const Geometry& g = arrays.columns->OfGeometry();
  const int64_t residues = arrays.columns->Residues();
  Axis place;
  for (int64_t column = 0; column < g.out_width;) {
    const int64_t t = residues == 1 ? column : column / residues;
    const Axis& axis = arrays.columns->Find(column - t * residues, &place);
    const int64_t first = axis.ColumnCoordinate(t * axis.stride);
    const int64_t left = g.in_width - 1 - (first + (axis.window - 1) * axis.in_step);
    const int64_t whole = first < 0 || left < 0 ? 0 : left / axis.stride + 1;
    column += compute(axis, t, Min(whole, g.out_width - column));
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
