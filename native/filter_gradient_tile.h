// The register tile of the filter gradient: the products of two rows of out_backprop x a few
// columns with the input rows under them, for one vector of channels. It is the channel tile turned
// inside out: the sums belong to the taps, and pass through memory once for each input row. Called
// by filter_gradient.h.
#pragma once

#include "channel_rows.h"

namespace depthwise::DEPTHWISE_ISA {

// Taps of a row whose sums are in registers at a time. Of two rows 7 are 14 registers, with the
// input and out_backprop beside them.
inline constexpr int kTapsTogether = kManyRegisters ? 7 : 3;

// What one call needs to know of its arrays; steps in elements.
template <class S>
struct FilterGradientArrays {
  // Sums to be added to, [vectors, filter_height, filter_width, lanes].
  typename S::Accumulator* sums;
  int64_t filter_height, filter_width;
  int64_t row_stride;  // between output rows, in units
  const ColumnAxes* columns;
  int64_t first_column;    // the input column where input rows begin
  int64_t in_column_step;  // between neighbouring columns
  int64_t out_row_step, out_column_step;
  ChannelVectors<S> vectors;
  int64_t first_vector, last_vector;
  bool prefetch;  // fetch what the next two output rows need ahead, of all channels
};

// kWidth is the taps of a row, or 0 for any. Of the input only the units [unit_begin, unit_end) are
// read.
template <class S, int kWidth>
struct FilterGradientTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;

  const FilterGradientArrays<S>& arrays;
  TileRows<E> rows;
  int64_t unit_step, unit_stride;  // elements between units, units between output columns
  int64_t unit_begin, unit_end;
  int64_t out_column_step;
  int64_t rows_used, columns_used;

  DEPTHWISE_INLINE void Run(int64_t channel, A* sums, const E* out) const {
    out += channel;
    const auto step = [&](auto count, int64_t first, int64_t r,
                          const E* row) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kRows = decltype(count)::value;
      const int64_t tap_row = r - (first + kRows - 1) * arrays.row_stride;
      A* row_sums = sums + tap_row * arrays.filter_width * kCount;
      const E* const from = out + first * arrays.out_row_step;
      row += channel;
      int64_t dj = 0;
      const auto add = [&](auto width) DEPTHWISE_INLINE_LAMBDA {
        constexpr int kTaps = decltype(width)::value;
        AddTaps<kRows, kTaps>(row + dj * unit_step, from, row_sums + dj * kCount, dj);
        dj += kTaps;
      };
      if constexpr (kWidth != 0) return add(Size<kWidth>{});
      while (dj + kTapsTogether <= arrays.filter_width) add(Size<kTapsTogether>{});
      const int64_t rest = arrays.filter_width - dj;
      if constexpr (kTapsTogether > 4) {
        if (rest & 4) add(Size<4>{});
      }
      if (rest & 2) add(Size<2>{});
      if (rest & 1) add(Size<1>{});
    };
    ForEachInputRowByCount<kChannelRows>(rows, arrays.filter_height, arrays.row_stride, rows_used,
                                         step);
  }

  // Adds the products of the kRows output rows from `out` on with the input units from `row` on,
  // the first of which is number `unit`, to kTaps taps of their filter rows; `sums` is that of the
  // last.
  template <int kRows, int kTaps>
  DEPTHWISE_INLINE void AddTaps(const E* row, const E* out, A* sums, int64_t unit) const {
    const int64_t sums_step = arrays.row_stride * arrays.filter_width * kCount;
    V total[kRows][kTaps];
#pragma GCC unroll 2
    for (int i = kRows - 1; i >= 0; --i) {
#pragma GCC unroll 8
      for (int dj = 0; dj < kTaps; ++dj) {
        total[i][dj] = LoadUnaligned<V>(sums + (kRows - 1 - i) * sums_step + dj * kCount);
      }
    }
    int64_t j = 0;
    if (unit_stride == 1) {
      // The first columns may meet nothing: every second group of taps of a 31x31 filter begins so.
      j = Min(columns_used, Max(0, unit_begin - unit - (kTaps - 1)));
      unit += j;
      row += j * unit_step;
      out += j * out_column_step;
      for (; j + kChannelColumns <= columns_used; j += kChannelColumns, unit += kChannelColumns) {
        const int64_t begin = unit_begin - unit, end = unit_end - unit;
        if (end < kChannelColumns) break;
        AddColumns(total, row, out, begin, end);
        row += kChannelColumns * unit_step;
        out += kChannelColumns * out_column_step;
      }
    }
    for (; j < columns_used; ++j, unit += unit_stride) {
      V y[kRows];
      LoadColumn(y, out);
      out += out_column_step;
      const E* from = row;
      row += unit_stride * unit_step;
#pragma GCC unroll 8
      for (int dj = 0; dj < kTaps; ++dj, from = Step(from, unit_step)) {
        if (unit + dj < unit_begin || unit + dj >= unit_end) continue;
        V x = S::Load(from);
        Pin(x);
#pragma GCC unroll 2
        for (int i = 0; i < kRows; ++i) total[i][dj] += x * y[i];
      }
    }
#pragma GCC unroll 2
    for (int i = kRows - 1; i >= 0; --i) {
#pragma GCC unroll 8
      for (int dj = 0; dj < kTaps; ++dj) {
        StoreUnaligned(sums + (kRows - 1 - i) * sums_step + dj * kCount, total[i][dj]);
      }
    }
  }

  // The products of a few columns without a stride: every input vector is loaded once and feeds
  // each tap that meets it. NumPy's arrays are not aligned to vectors, and a load across two cache
  // lines costs as much as two: with one load for each column and tap 5x5 took 1.3 times as long.
  // Of the input units [begin, end) are read, among them all that every tap meets; the others, at
  // either end, are left out one by one: columns at the edges one at a time took 28x28x240 5x5, of
  // 21 columns together and 7 alone, 10% longer.
  template <int kRows, int kTaps>
  DEPTHWISE_INLINE void AddColumns(V (&total)[kRows][kTaps], const E* row, const E* out,
                                   int64_t begin, int64_t end) const {
    V y[kChannelColumns][kRows];
#pragma GCC unroll 8
    for (int j = 0; j < kChannelColumns; ++j, out = Step(out, out_column_step)) {
      LoadColumn(y[j], out);
    }
#pragma GCC unroll 16
    for (int k = 0; k < kChannelColumns - 1 + kTaps; ++k, row = Step(row, unit_step)) {
      if (k < kTaps - 1 && k < begin) continue;
      if (k >= kChannelColumns && k >= end) continue;
      V x = S::Load(row);
      Pin(x);
#pragma GCC unroll 8
      for (int j = 0; j < kChannelColumns; ++j) {
        const int dj = k - j;
        if (dj < 0 || dj >= kTaps) continue;
#pragma GCC unroll 2
        for (int i = 0; i < kRows; ++i) total[i][dj] += x * y[j][i];
      }
    }
  }

  template <int kRows>
  DEPTHWISE_INLINE void LoadColumn(V (&y)[kRows], const E* out) const {
#pragma GCC unroll 2
    for (int i = 0; i < kRows; ++i, out = Step(out, arrays.out_row_step)) {
      y[i] = S::Load(out);
      Pin(y[i]);
    }
  }

  // The same for 3x3 taps with kStride along both axes, of whole rows and columns of the tile: all
  // nine sums are in registers, and two products for each of them in a column keep the multipliers
  // busy. Input outside the image is skipped. (A tile of its own for those inside would take 0 to
  // 3% less, bfloat16 8% in the caches, for 11 kB of the package.)
  template <int kStride>
  DEPTHWISE_INLINE void Run3x3(int64_t channel, A* sums, const E* out) const {
    constexpr int kRows = (kChannelRows - 1) * kStride + 3;
    out += channel;
    V total[3][3];
#pragma GCC unroll 3
    for (int di = 0; di < 3; ++di) {
#pragma GCC unroll 3
      for (int dj = 0; dj < 3; ++dj) {
        total[di][dj] = LoadUnaligned<V>(sums + (di * 3 + dj) * kCount);
      }
    }
    const E* from[kRows];
    TileRows<E> walk = rows;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      from[r] = walk.row + channel;
      if (r >= rows.row_begin && r < rows.row_end) walk.Advance();
    }
    V y[kChannelColumns][kChannelRows];
#pragma GCC unroll 32
    for (int k = 0; k < (kChannelColumns - 1) * kStride + 3; ++k) {
      if (k % kStride == 0 && k / kStride < kChannelColumns) {
        LoadColumn(y[k / kStride], out);
        out = Step(out, out_column_step);
      }
      if (k < unit_begin || k >= unit_end) continue;
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        if (r < rows.row_begin || r >= rows.row_end) continue;
        V x = S::Load(from[r] + k * unit_step);
        Pin(x);
#pragma GCC unroll 3
        for (int dj = 0; dj < 3; ++dj) {
          const int j = (k - dj) / kStride;
          if (k < dj || (k - dj) % kStride != 0 || j >= kChannelColumns) continue;
#pragma GCC unroll 2
          for (int i = 0; i < kChannelRows; ++i) {
            const int di = r - i * kStride;
            if (di >= 0 && di < 3) total[di][dj] += x * y[j][i];
          }
        }
      }
    }
#pragma GCC unroll 3
    for (int di = 0; di < 3; ++di) {
#pragma GCC unroll 3
      for (int dj = 0; dj < 3; ++dj) {
        StoreUnaligned(sums + (di * 3 + dj) * kCount, total[di][dj]);
      }
    }
  }
};

// Fetches a vector's share of what the two rows after those of a tile will read.
template <class S>
__attribute__((noinline)) void PrefetchNextTile(const FilterGradientArrays<S>& arrays,
                                                const TileRows<typename S::Element>& rows,
                                                int64_t size, const typename S::Element* out,
                                                int64_t out_size, int64_t v) {
  constexpr int64_t kSize = sizeof(typename S::Element);
  const int64_t share = v - arrays.first_vector, shares = arrays.last_vector - arrays.first_vector;
  PrefetchShare(rows.row + (rows.row_end - rows.row_begin) * rows.row_step, rows.row_step * kSize,
                kChannelRows * arrays.row_stride, size * kSize, share, shares);
  PrefetchShare(out + kChannelRows * arrays.out_row_step, arrays.out_row_step * kSize, kChannelRows,
                out_size * kSize, share, shares);
}

// Output columns of a tile: more of them share each passage of the sums through memory.
inline constexpr int kGradientColumns = 4 * kChannelColumns;

// Adds the products of one column residue in columns [first, last) of up to two rows, all channels
// innermost. `rows` begin at input column arrays.first_column, `out` at output column `first`,
// which is a multiple of the number of residues.
template <class S, int kWidth>
inline void FilterGradientColumns(const FilterGradientArrays<S>& arrays, const Axis& axis,
                                  const TileRows<typename S::Element>& rows, int64_t rows_used,
                                  int64_t first, int64_t last, const typename S::Element* out) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const int64_t unit_step = axis.in_step * arrays.in_column_step;
  const bool is_3x3 = kWidth == 3 && kManyRegisters && arrays.filter_height == 3 &&
                      axis.stride == arrays.row_stride && axis.stride <= 2 &&
                      rows_used == kChannelRows;
  const int64_t tile_columns = is_3x3 ? kChannelColumns : kGradientColumns;
  const int64_t end = ColumnsEnd(axis, last);
  for (int64_t t = FloorDiv(first, axis.out_step); t < end; t += tile_columns) {
    const ColumnTile columns = ColumnTileAt(axis, t, Min(tile_columns, end - t));
    TileRows<typename S::Element> tile_rows = rows;
    tile_rows.row += (axis.ColumnCoordinate(columns.t * axis.stride) - arrays.first_column) *
                     arrays.in_column_step;
    const auto* tile_out =
        out + (axis.out_first + columns.t * axis.out_step - first) * arrays.out_column_step;
    const FilterGradientTile<S, kWidth> tile{
        .arrays = arrays,
        .rows = tile_rows,
        .unit_step = unit_step,
        .unit_stride = axis.stride,
        .unit_begin = columns.image_begin,
        .unit_end = columns.image_end,
        .out_column_step = axis.out_step * arrays.out_column_step,
        .rows_used = rows_used,
        .columns_used = columns.count,
    };
    const auto for_each_vector = [&](auto&& run) DEPTHWISE_INLINE_LAMBDA {
      auto* sums = arrays.sums;
      for (int64_t v = arrays.first_vector; v < arrays.last_vector; ++v) {
        if (arrays.prefetch) {
          PrefetchNextTile(arrays, tile_rows, columns.count * axis.stride * unit_step, tile_out,
                           columns.count * tile.out_column_step, v);
        }
        run(arrays.vectors.First(v), sums);
        sums += arrays.filter_height * arrays.filter_width * kCount;
      }
    };
    if constexpr (kWidth == 3 && kManyRegisters) {
      if (is_3x3 && columns.count == kChannelColumns) {
        const auto run = [&](auto stride) DEPTHWISE_INLINE_LAMBDA {
          for_each_vector([&](auto... vector) DEPTHWISE_INLINE_LAMBDA {
            tile.template Run3x3<decltype(stride)::value>(vector..., tile_out);
          });
        };
        axis.stride == 1 ? run(Size<1>{}) : run(Size<2>{});
        continue;
      }
    }
    for_each_vector([&](auto... vector) DEPTHWISE_INLINE_LAMBDA { tile.Run(vector..., tile_out); });
  }
}

template <class S>
using FilterGradientColumnsFunction = decltype(&FilterGradientColumns<S, 0>);

// Whether elements are read in place. Of 16 bits they are for rows of three taps alone, and packed
// for others, to save 67 kB of code: 5x5 takes 2 to 11% longer, 7x7 as long, with AVX2 and bfloat16
// a third less, 2x2 1.7 times as long (Xeon, model 167). 3x3 would take more than twice as long.
template <class S>
inline constexpr bool kReadsAnyWidthInPlace =
    sizeof(typename S::Element) == sizeof(typename S::Accumulator);
template <class S>
DEPTHWISE_INLINE bool IsWidthReadInPlace(int64_t width) {
  return !kIsPackedOnly<S> && (kReadsAnyWidthInPlace<S> || width == 3);
}

template <class S>
inline FilterGradientColumnsFunction<S> FindFilterGradientColumns(int64_t width) {
  if constexpr (!kReadsAnyWidthInPlace<S>) return FilterGradientColumns<S, 3>;
  if constexpr (kHasSpecialTiles) {
    if (width == 3) return FilterGradientColumns<S, 3>;
  }
  if constexpr (kTapsTogether >= 5) {
    if (width == 5) return FilterGradientColumns<S, 5>;
  }
  return FilterGradientColumns<S, 0>;
}

// The same for all residues.
template <class S>
inline void FilterGradientRows(const FilterGradientArrays<S>& arrays,
                               const TileRows<typename S::Element>& rows, int64_t rows_used,
                               int64_t first, int64_t last, const typename S::Element* out) {
  const auto add_columns = FindFilterGradientColumns<S>(arrays.filter_width);
  Axis place;
  for (int64_t residue = 0; residue < arrays.columns->Residues(); ++residue) {
    add_columns(arrays, arrays.columns->Find(residue, &place), rows, rows_used, first, last, out);
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
