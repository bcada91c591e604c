// What the register tiles share: how output rows and columns are cut into tiles, and how a tile
// walks the input rows of its windows. Included by the kernel headers alone.
//
// Every tile accumulates in registers, the taps of an output in (di, dj) order with one fused
// multiply-add each, so that all tiles agree bit for bit. With 32 registers 2 x 7 and 4 x 3 tiles
// leave room for the taps and the input; two rows of 12 or more spill. With 16, 2 x 4 and 4 x 2,
// and beside all taps of 3x3 7 x 1. A tall tile of 7 x 7 has three rows in registers at a time.
#pragma once

#include <utility>

#include "element_types.h"
#include "kernels.h"

namespace depthwise::DEPTHWISE_ISA {

inline constexpr bool kManyRegisters = kVectorRegisters >= 32;

// Integer constants that can be passed as function arguments.
template <int kSize>
struct Size {
  static constexpr int value = kSize;
};

// Calls body(Size<0>{}) to body(Size<kCount - 1>{}).
template <class Body, int... kIndex>
DEPTHWISE_INLINE void ForEachSize(std::integer_sequence<int, kIndex...>, Body& body) {
  (body(Size<kIndex>{}), ...);
}
template <int kCount, class Body>
DEPTHWISE_INLINE void ForEachSize(Body&& body) {
  ForEachSize(std::make_integer_sequence<int, kCount>{}, body);
}

// The lanes inside a row of `size` elements of a vector that begins at element `at` of it.
template <class S>
DEPTHWISE_INLINE LaneMask<typename S::Element> LanesInside(int64_t at, int64_t size) {
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  return LanesBetween<typename S::Element>(Min(kCount, Max(0, -at)),
                                           Min(kCount, Max(0, size - at)));
}

// Where a tile finds its input rows: `row` is the one at unit position row_begin, relative to the
// window of the tile's first output row; rows [row_begin, row_end) are inside the image. In a ring
// the row after rows_to_wrap more lies wrap_size elements further back; elsewhere both are 0.
template <class E>
struct TileRows {
  const E* row;
  int64_t row_step;
  int64_t row_begin, row_end;
  int64_t rows_to_wrap, wrap_size;

  DEPTHWISE_INLINE void Advance() {
    row += row_step;
    if (--rows_to_wrap == 0) row -= wrap_size;
  }
};

// The units [first, first + count) of rows that are read in place, for a tile that begins there.
template <class E>
DEPTHWISE_INLINE TileRows<E> RowsFrom(const TileRows<E>& rows, int64_t first, int64_t count) {
  const int64_t begin = Max(rows.row_begin, first);
  const int64_t end = Min(rows.row_end, first + count);
  return {rows.row + (begin - rows.row_begin) * rows.row_step,
          rows.row_step,
          begin - first,
          Max(begin, end) - first,
          0,
          0};
}

// Calls visit(first, last, r, row) for each input row r of a tile, where the output rows first to
// last are those that have a tap on it, if any: output row i reads filter row r - i * stride. Only
// the first `rows_used` output rows are wanted; the others cost nothing.
template <class E, class Visit>
DEPTHWISE_INLINE void VisitInputRows(TileRows<E> rows, int64_t filter_height, int64_t stride,
                                     int64_t rows_used, Visit&& visit) {
  int64_t first = 0, last = 0;
  for (int64_t r = rows.row_begin; r < rows.row_end; ++r, rows.Advance()) {
    while (last + 1 < rows_used && r >= (last + 1) * stride) ++last;
    while (r >= first * stride + filter_height) ++first;
    visit(first, last, r, rows.row);
  }
}

// The same for at most kRows output rows, known when compiling: calls step(Size<kFirst>,
// Size<kLast>, r, row).
template <int kRows, class E, class Step>
DEPTHWISE_INLINE void ForEachInputRow(const TileRows<E>& rows, int64_t filter_height,
                                      int64_t stride, int64_t rows_used, Step&& step) {
  static_assert(kRows <= 4);
  const auto visit = [&](int64_t first, int64_t last, int64_t r, const E* row)
                         DEPTHWISE_INLINE_LAMBDA {
                           const auto call = [&](auto from, auto to) DEPTHWISE_INLINE_LAMBDA {
                             if constexpr (decltype(to)::value < kRows) step(from, to, r, row);
                           };
                           switch (first * 4 + last) {
                             case 0: call(Size<0>{}, Size<0>{}); break;
                             case 1: call(Size<0>{}, Size<1>{}); break;
                             case 2: call(Size<0>{}, Size<2>{}); break;
                             case 3: call(Size<0>{}, Size<3>{}); break;
                             case 5: call(Size<1>{}, Size<1>{}); break;
                             case 6: call(Size<1>{}, Size<2>{}); break;
                             case 7: call(Size<1>{}, Size<3>{}); break;
                             case 10: call(Size<2>{}, Size<2>{}); break;
                             case 11: call(Size<2>{}, Size<3>{}); break;
                             case 15: call(Size<3>{}, Size<3>{}); break;
                             default: break;  // no output row has a tap on this one
                           }
                         };
  VisitInputRows(rows, filter_height, stride, rows_used, visit);
}

// The same for tiles that keep nothing of output rows in registers from one input row to the next,
// so that only how many they are has to be known: calls step(Size<kCount>, first, r, row). Filter
// gradients of few channels have 4 in place of 10 such loops, 22 kB less code.
template <int kRows, class E, class Step>
DEPTHWISE_INLINE void ForEachInputRowByCount(const TileRows<E>& rows, int64_t filter_height,
                                             int64_t stride, int64_t rows_used, Step&& step) {
  const auto visit = [&](int64_t first, int64_t last, int64_t r, const E* row)
                         DEPTHWISE_INLINE_LAMBDA {
                           ForEachSize<kRows>([&](auto more) DEPTHWISE_INLINE_LAMBDA {
                             constexpr int kMore = decltype(more)::value;
                             if (last - first == kMore) step(Size<kMore + 1>{}, first, r, row);
                           });
                         };
  VisitInputRows(rows, filter_height, stride, rows_used, visit);
}

// The same for all kRows output rows of a tile without a stride, and a filter of at least as many
// rows. Which output rows have a tap on the next input row is then known when compiling, but for
// those that all have a tap on: 5 to 7% less for 7x7 than by a switch for each row.
template <int kRows, class E, class Step>
DEPTHWISE_INLINE void ForEachInputRowInOrder(TileRows<E> rows, int64_t filter_height, Step&& step) {
  int64_t r = rows.row_begin;
  const auto one = [&](auto first, auto last, int64_t at) DEPTHWISE_INLINE_LAMBDA {
    if (r != at || r >= rows.row_end) return;
    step(first, last, r, rows.row);
    ++r;
    rows.Advance();
  };
  ForEachSize<kRows - 1>([&](auto i)
                             DEPTHWISE_INLINE_LAMBDA { one(Size<0>{}, i, decltype(i)::value); });
  for (; r < Min(filter_height, rows.row_end); ++r, rows.Advance()) {
    step(Size<0>{}, Size<kRows - 1>{}, r, rows.row);
  }
  ForEachSize<kRows - 1>([&](auto i) DEPTHWISE_INLINE_LAMBDA {
    constexpr int kIndex = decltype(i)::value;
    one(Size<kIndex + 1>{}, Size<kRows - 1>{}, filter_height + kIndex);
  });
}

// How many of the tile_rows output rows of a tile are computed at a time: one if their windows
// leave rows out between them, which would be packed and walked for nothing.
DEPTHWISE_INLINE int64_t RowsTogether(int64_t stride, int64_t filter_height, int64_t tile_rows) {
  return stride > filter_height ? 1 : tile_rows;
}

// The input rows that as many output rows read.
DEPTHWISE_INLINE int64_t WindowRows(int64_t stride, int64_t filter_height, int64_t rows) {
  return (rows - 1) * stride + filter_height;
}

// The first channel where both of two NHWC arrays are at the start of a vector's worth of memory,
// in every pixel; 0 if there is none, or if a pixel is too small for that to gain anything.
template <class S>
inline int64_t ChannelsToAlignment(int64_t channels, const void* a, const Strides& a_strides,
                                   const void* b, const Strides& b_strides,
                                   int64_t least_bytes = kPeeledBytes) {
  constexpr int64_t kSize = sizeof(typename S::Element);
  constexpr int64_t kBytes = kLanes<typename S::Accumulator> * kSize;
  const auto a_offset = static_cast<int64_t>(reinterpret_cast<uintptr_t>(a) % kBytes);
  const auto b_offset = static_cast<int64_t>(reinterpret_cast<uintptr_t>(b) % kBytes);
  const int64_t steps = a_strides.column | a_strides.row | a_strides.batch | b_strides.column |
                        b_strides.row | b_strides.batch;
  const bool is_uniform = a_offset == b_offset && steps * kSize % kBytes == 0;
  return is_uniform && channels * kSize >= least_bytes ? (kBytes - a_offset) % kBytes / kSize : 0;
}

// The most taps that an item has of one output channel.
inline double MaxPackedTaps(const Geometry& g) {
  return static_cast<double>(RowSizes(g).MaxTaps()) * RowAxis(g, 0).planes * g.filter_width;
}

// The most units that any item needs for that many output rows at a time, or as many as
// RowsTogether() allows.
inline int64_t MaxWindowRows(const Geometry& g, int64_t tile_rows) {
  const Axis rows = RowAxis(g, 0);
  const int64_t window = RowSizes(g).MaxTaps() * rows.planes;
  return WindowRows(rows.stride, window, RowsTogether(rows.stride, window, tile_rows));
}

// The input rows, in unit positions of `axis`, that output rows [first, first + count) need and
// that are inside the image; relative to the first window, as TileRows has them.
struct RowRange {
  int64_t first_unit, begin, end;
};

DEPTHWISE_INLINE RowRange InputRowsOf(const Axis& axis, int64_t first, int64_t count) {
  const int64_t first_unit = first * axis.stride;
  const int64_t begin = Max(0, axis.unit_begin - first_unit);
  const int64_t end = Min(WindowRows(axis.stride, axis.window, count), axis.unit_end - first_unit);
  return {first_unit, begin, Max(begin, end)};
}

// The same rows of an image that is read in place, and whose rows are row_stride elements apart.
template <class E>
DEPTHWISE_INLINE TileRows<E> RowsInPlace(const Axis& axis, int64_t first, int64_t count,
                                         const E* image, int64_t row_stride) {
  const RowRange range = InputRowsOf(axis, first, count);
  return {image + axis.InputCoordinate(range.first_unit + range.begin) * row_stride,
          axis.in_step * row_stride,
          range.begin,
          range.end,
          0,
          0};
}

// The axes of column residues: the first few are kept, since each row of tiles needs them. To make
// them there took 9% of the time of 33x33x256 3x3 with dilation 12.
class ColumnAxes {
 public:
  explicit ColumnAxes(const Geometry& g) : geometry_(g), residues_(ColumnResidues(g)) {
    for (int64_t i = 0; i < Min(residues_, kKept); ++i) axes_[i] = ColumnAxis(g, i);
  }
  ColumnAxes(const ColumnAxes&) = delete;
  ColumnAxes& operator=(const ColumnAxes&) = delete;

  const Geometry& OfGeometry() const { return geometry_; }
  int64_t Residues() const { return residues_; }
  const Axis& First() const { return axes_[0]; }
  // That of a residue, which is in `place` if it is not kept.
  DEPTHWISE_INLINE const Axis& Find(int64_t residue, Axis* place) const {
    if (residue < kKept) return axes_[residue];
    *place = ColumnAxis(geometry_, residue);
    return *place;
  }

 private:
  static constexpr int64_t kKept = 16;
  const Geometry& geometry_;
  const int64_t residues_;
  Axis axes_[kKept];
};

// A part of one item of a plan: output rows [first, last) of one row residue, of one block of one
// image.
struct Item {
  Axis rows;
  int64_t first, last;
  int64_t block, b;
};

// The parts of the items [begin, end) of a plan, one after the other: one for each residue of an
// item.
//
//   for (Parts parts(g, plan, begin, end); parts.AreLeft(); parts.Advance()) Compute(parts.Part());
//
// Items are numbered by chunks of rows first, then by residues, blocks and images: those of one
// thread, which follow each other, then read and write the same planes. They are counted rather
// than divided, and share their axes: both took 5% of the time of 7x7 planes, and of others less.
class Parts {
 public:
  __attribute__((noinline)) Parts(const Geometry& g, const ForwardPlan& plan, int64_t begin,
                                  int64_t end)
      : geometry_(g),
        plan_(plan),
        residues_(RowResidues(g)),
        chunks_(CeilDiv(CeilDiv(g.out_height, residues_), plan.rows_per_item)),
        groups_(CeilDiv(residues_, plan.residues_per_item)),
        items_(end - begin),
        chunk_(begin % chunks_),
        group_(begin / chunks_ % groups_),
        residue_(group_ * plan.residues_per_item) {
    part_.block = begin / (chunks_ * groups_) % plan.blocks;
    part_.b = begin / (chunks_ * groups_ * plan.blocks);
    Fill();
  }

  bool AreLeft() const { return items_ > 0; }
  const Item& Part() const { return part_; }

  __attribute__((noinline)) void Advance() {
    if (++residue_ == Min(residues_, (group_ + 1) * plan_.residues_per_item)) {
      --items_;
      if (++chunk_ == chunks_) {
        chunk_ = 0;
        if (++group_ == groups_) {
          group_ = 0;
          if (++part_.block == plan_.blocks) {
            part_.block = 0;
            ++part_.b;
          }
        }
      }
      residue_ = group_ * plan_.residues_per_item;
    }
    Fill();
  }

 private:
  void Fill() {
    if (residue_ != residue_of_rows_) part_.rows = RowAxis(geometry_, residue_);
    residue_of_rows_ = residue_;
    part_.first = chunk_ * plan_.rows_per_item;
    part_.last = Min(part_.rows.out_count, part_.first + plan_.rows_per_item);
  }

  const Geometry& geometry_;
  const ForwardPlan& plan_;
  const int64_t residues_, chunks_, groups_;
  int64_t items_;  // that are left
  int64_t chunk_, group_, residue_;
  int64_t residue_of_rows_ = -1;
  Item part_{};
};

}  // namespace depthwise::DEPTHWISE_ISA
