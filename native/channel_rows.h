// Rows of channel tiles: how output columns are cut into tiles, and which tile computes each.
// Called by direct.h and block.h.
#pragma once

#include "channel_tile.h"

namespace depthwise::DEPTHWISE_ISA {

// The end of the positions of `axis` that are in columns before `last`.
DEPTHWISE_INLINE int64_t ColumnsEnd(const Axis& axis, int64_t last) {
  return Min(axis.out_count, CeilDiv(last - axis.out_first, axis.out_step));
}

// Whether small images have a tile of their own for 3x3: for the size of the package (3 kB) only in
// float32, and with AVX-512. float16 5x5x512 takes 26% longer with AVX2, 9x9x256 16%, others up to
// 7%.
template <class S>
inline constexpr bool kHasPartial3x3 = kManyRegisters || sizeof(typename S::Element) == 4;

// Computes one kind of the vectors of a tile of up to kRows rows by tiles of two rows and any
// number of columns. There is one for filters of any size, and one for 3x3 without a stride, for
// small images: that saves 30% for 5x5 pixels, and for 33x33 with dilation 12. For the ends of
// pixels, which no other tile takes, there are more: 40x40x144 3x3 with a stride of 2 takes 15.5
// instead of 17.4 us, 56x56x144 5x5 76 instead of 86 (Xeon, model 167).
template <class S, int kHeight, int kWidth, int kStride, VectorOf kVectorOf, int kRows>
DEPTHWISE_INLINE void ComputePartialTiles(const ChannelArrays<S>& arrays, const Axis& axis,
                                          const ColumnTile& columns,
                                          const TileRows<typename S::Element>& rows,
                                          int64_t rows_used, int64_t offset,
                                          const typename S::Accumulator* taps,
                                          typename S::Element* out) {
  constexpr bool kIsEnds = kVectorOf == VectorOf::kEnds;
  constexpr bool kIsCommon = (kWidth == 3 && kHeight == 3) || (kWidth == 5 && kStride <= 2) ||
                             (kWidth == 7 && kStride == 1);
  constexpr bool kIsAny = kIsEnds ? !kIsCommon
                                  : kHeight == 0 || kStride != 1 ||
                                        kVectorOf == VectorOf::kCopies || !kHasPartial3x3<S>;
  constexpr int kTapRows = kIsAny ? 0 : kHeight, kTaps = kIsAny ? 0 : kWidth;
  constexpr int kTileStride = kIsAny ? kStride == 1 : kStride;
  if constexpr (kRows == 1) {
    for (int64_t j = 0; j < columns.count; j += kChannelColumns) {
      const ColumnTile part =
          ColumnTileAt(axis, columns.t + j, Min(kChannelColumns, columns.count - j));
      ComputePartialTile<S, kTapRows, kTaps, kTileStride, kVectorOf>(
          arrays, axis, part, rows, rows_used, offset + j * axis.in_step * arrays.in_column_step,
          taps, out + j * axis.out_step * arrays.out_column_step);
    }
  } else if constexpr (kRows == kChannelRows) {
    ComputePartialTile<S, kTapRows, kTaps, kTileStride, kVectorOf>(arrays, axis, columns, rows,
                                                                   rows_used, offset, taps, out);
  } else {
    for (int64_t i = 0; i < rows_used; i += kChannelRows) {
      ComputePartialTile<S, kTapRows, kTaps, kTileStride, kVectorOf>(
          arrays, axis, columns, RowsFrom(rows, i, kChannelRows - 1 + kHeight),
          Min(kChannelRows, rows_used - i), offset, taps, out);
      out += kChannelRows * arrays.out_row_step;
    }
  }
}

// Computes the ends of pixels of a tall tile, out of the way of its other vectors.
template <class S, int kHeight, int kWidth, int kStride, int kRows>
__attribute__((noinline)) void ComputeTallEnds(
    const ChannelArrays<S>& arrays, const Axis& axis, const ColumnTile& columns,
    const TileRows<typename S::Element>& rows,
    const UnrolledRows<S, kHeight, kStride, kRows>& unrolled, int64_t rows_used, int64_t offset,
    const typename S::Accumulator* taps, typename S::Element* out) {
  ComputeTile<S, kHeight, kWidth, kStride, false, VectorOf::kEnds, 1>(
      arrays, axis, columns, rows, unrolled, rows_used, offset, taps, out);
}

// Whether a tile whose first pixel is that one may read halves of vectors without masks: all of
// them lie in the array.
template <class S>
DEPTHWISE_INLINE bool MayReadHalves(const ChannelArrays<S>& arrays,
                                    const typename S::Element* pixel) {
  const int64_t before = -arrays.spread->first;
  return before <= 0 || (arrays.first_input != nullptr && pixel - arrays.first_input >= before);
}

// Computes columns [first, last) of up to kRows output rows, all channels innermost: the outputs of
// the column residues [residue_begin, residue_end), which have the same number of taps. They take
// turns, tile by tile, since their columns lie next to each other. `rows` begin at input column
// arrays.first_column, `out` at column `first`, which is a multiple of the number of residues. With
// kVectors = 2 the vectors of channels are pairs.
template <class S, int kHeight, int kWidth, int kStride, VectorOf kVectorOf, int kVectors = 1,
          int kRows = kChannelRows>
inline void ChannelColumns(const ChannelArrays<S>& arrays,
                           const TileRows<typename S::Element>& rows, int64_t rows_used,
                           int64_t residue_begin, int64_t residue_end, int64_t first, int64_t last,
                           typename S::Element* out) {
  constexpr int kVectorLanes = kLanes<typename S::Accumulator>;
  constexpr int kColumns = kTileColumns<kVectors, kRows>;
  const UnrolledRows<S, kHeight, kStride, kRows> unrolled(rows);
  Axis place;
  // The first residue has as many columns as any.
  const Axis& most = arrays.columns->Find(residue_begin, &place);
  const int64_t begin = FloorDiv(first, most.out_step), most_end = ColumnsEnd(most, last);
  for (int64_t tile = begin; tile < most_end; tile += kColumns) {
    for (int64_t residue = residue_begin; residue < residue_end; ++residue) {
      // Not a copy: that took 5x5 of 7x7 planes 8% longer.
      const Axis& axis = arrays.columns->Find(residue, &place);
      const int64_t end = ColumnsEnd(axis, last);
      if (tile >= end) break;
      const auto* taps = arrays.taps + axis.taps.before * arrays.window_rows * kVectorLanes;
      // The last tile overlaps the one before, if less than half, rather than being partial.
      int64_t t = tile;
      const int64_t missing = Max(0, t + kColumns - end);
      if (missing <= Min(t - begin, kColumns / 2)) t -= missing;
      const ColumnTile columns = ColumnTileAt(axis, t, Min(kColumns, end - t));
      const int64_t offset =
          (axis.ColumnCoordinate(t * axis.stride) - arrays.first_column) * arrays.in_column_step;
      auto* to = out + (residue + t * axis.out_step - first) * arrays.out_column_step;
      bool is_whole = false;
      if constexpr (kWidth != 0 || kRows == 1) {
        // Tiles of one row have to be inside the image.
        constexpr int kEdge = kRows == 1 ? 1 : kWidth;
        is_whole = columns.count == kColumns &&
                   (arrays.has_padding ||
                    (columns.image_begin < kEdge && columns.image_end > columns.units - kEdge));
        if constexpr (kVectorOf == VectorOf::kCopies) {
          is_whole = is_whole && MayReadHalves(arrays, rows.row + offset +
                                                           columns.image_begin * axis.in_step *
                                                               arrays.in_column_step);
        }
        if (is_whole) {
          ComputeTile<S, kHeight, kWidth, kStride, false, kVectorOf, kVectors>(
              arrays, axis, columns, rows, unrolled, rows_used, offset, taps, to);
        }
      }
      if (!is_whole) {
        ComputePartialTiles<S, kHeight, kWidth, kStride, kVectorOf, kRows>(
            arrays, axis, columns, rows, rows_used, offset, taps, to);
      }
      if constexpr (kHasEnds<S> && kVectorOf == VectorOf::kNeighbours) {
        if (arrays.neighbours_end == arrays.last_vector) continue;
        if constexpr (kRows > kChannelRows) {
          if (is_whole) {
            ComputeTallEnds<S, kHeight, kWidth, kStride, kRows>(
                arrays, axis, columns, rows, unrolled, rows_used, offset, taps, to);
            continue;
          }
        }
        ComputePartialTiles<S, kHeight, kWidth, kStride, VectorOf::kEnds, kRows>(
            arrays, axis, columns, rows, rows_used, offset, taps, to);
      }
    }
  }
}

template <class S>
using ChannelColumnsFunction = decltype(&ChannelColumns<S, 0, 0, 0, VectorOf::kNeighbours>);

// The best for so many taps of a row.
template <class S, VectorOf kVectorOf>
inline ChannelColumnsFunction<S> FindChannelColumns(const ChannelArrays<S>& arrays, int64_t taps) {
  const int64_t stride = arrays.columns->First().stride;
  const bool same_strides = arrays.row_stride == stride;
  if constexpr (kVectorOf == VectorOf::kNeighbours && kHasPairs<S>) {
    if (arrays.pairs) {
      return stride == 1 ? ChannelColumns<S, 0, 3, 1, kVectorOf, 2>
                         : ChannelColumns<S, 0, 3, 2, kVectorOf, 2>;
    }
  }
  if constexpr (kHasTallTiles<S, kVectorOf>) {
    if (arrays.tall) return ChannelColumns<S, 3, 3, 1, kVectorOf, 1, kTallRows>;
  }
  if constexpr (kHasRowTiles<S> && kVectorOf == VectorOf::kNeighbours) {
    if (arrays.by_rows) return ChannelColumns<S, 0, 0, 1, kVectorOf, 1, 1>;
  }
  if (same_strides && taps == 3 && arrays.window_rows == 3) {
    if (stride == 1) return ChannelColumns<S, 3, 3, 1, kVectorOf>;
    if (stride == 2) return ChannelColumns<S, 3, 3, 2, kVectorOf>;
  }
  if constexpr (kVectorOf == VectorOf::kNeighbours && kHasSpecialTiles) {
    if (same_strides && stride == 1) {
      switch (taps) {
        case 1: return ChannelColumns<S, 0, 1, 1, kVectorOf>;
        case 2: return ChannelColumns<S, 0, 2, 1, kVectorOf>;
        case 5: return ChannelColumns<S, 0, 5, 1, kVectorOf>;
        case 7: return ChannelColumns<S, 0, 7, 1, kVectorOf>;
        default: break;
      }
    }
    if (same_strides && stride == 2 && taps == 5) return ChannelColumns<S, 0, 5, 2, kVectorOf>;
    // Only float32 has these, for the size of the package.
    if constexpr (sizeof(typename S::Element) == 4) {
      if (same_strides && stride == 1 && taps == 4) return ChannelColumns<S, 0, 4, 1, kVectorOf>;
      if (same_strides && stride == 1 && taps == 6) return ChannelColumns<S, 0, 6, 1, kVectorOf>;
      if (same_strides && stride == 2 && taps == 7) return ChannelColumns<S, 0, 7, 2, kVectorOf>;
      if (same_strides && stride == 3 && taps == 3) return ChannelColumns<S, 0, 3, 3, kVectorOf>;
      if (same_strides && stride == 3 && taps == 5) return ChannelColumns<S, 0, 5, 3, kVectorOf>;
    }
  }
  return stride == 1 ? ChannelColumns<S, 0, 0, 1, kVectorOf>
                     : ChannelColumns<S, 0, 0, 0, kVectorOf>;
}

// The same for all residues.
template <class S, VectorOf kVectorOf>
inline void ChannelRows(const Geometry& g, const ChannelArrays<S>& arrays,
                        const TileRows<typename S::Element>& rows, int64_t rows_used, int64_t first,
                        int64_t last, typename S::Element* out) {
  if (!g.transposed) {
    FindChannelColumns<S, kVectorOf>(arrays, g.filter_width)(
        arrays, rows, rows_used, 0, arrays.columns->Residues(), first, last, out);
    return;
  }
  Axis place;
  for (int64_t residue = 0; residue < arrays.columns->Residues(); ++residue) {
    FindChannelColumns<S, kVectorOf>(arrays, arrays.columns->Find(residue, &place).window)(
        arrays, rows, rows_used, residue, residue + 1, first, last, out);
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
