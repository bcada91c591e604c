// What the row kernel decides before it computes: how it sees a plane, how rows are cut into
// strips, and whether it suits a problem. Called by row.h and kernels.cc.
#pragma once

#include "element_types.h"
#include "kernels.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Vectors of a tile: all of one row or, of rows that fit into half of them, of two.
inline constexpr int kRowSums = 8;

// For the size of the package vectors of 16 bytes do without this kernel, those of AVX2 have it for
// types that need no conversion, and 16-bit types have no tile of two rows.
template <class S>
inline constexpr bool kHasRows =
    kVectorBytes == 64 ||
    (kVectorBytes == 32 && sizeof(typename S::Element) == sizeof(typename S::Accumulator));
template <class S>
inline constexpr bool kHasRowPairs = sizeof(typename S::Element) >= 4;

// The most of a row that is copied; and of rows that are copied as a whole, how much at a time.
inline constexpr double kMostCopiedBytes = 64 * 1024;
inline constexpr int64_t kShortRowsBytes = 16 * 1024;

// The most taps of 16-bit types, which tiles convert for every two of them: float16 512x1x1000 1x31
// would take 476 us, the block kernel takes 360.
inline constexpr int64_t kMostTaps16 = 11;

// How a plane is seen; sizes and steps in elements.
struct RowShape {
  bool is_column;          // as one row, under a filter of one column
  int64_t taps, tap_step;  // their number, and between what they meet
  int64_t rows, in_size, out_size;
  int64_t before;  // of padding

  int64_t Reach() const { return (taps - 1) * tap_step; }

  // That of the output rows [first, last) of the plane.
  RowShape Part(const Geometry& g, int64_t first, int64_t last) const {
    RowShape part = *this;
    if (is_column) {
      part.out_size = (last - first) * g.out_width;
      part.before -= first * g.out_width;
    } else {
      part.rows = last - first;
    }
    return part;
  }
};

inline RowShape RowShapeOf(const Geometry& g) {
  const auto before = [&](int64_t reach, int64_t pad) { return g.transposed ? reach - pad : pad; };
  if (g.filter_width == 1 && g.pad_left == 0 && g.in_width == g.out_width) {
    return {true,
            g.filter_height,
            g.dilation_height * g.in_width,
            1,
            g.in_height * g.in_width,
            g.out_height * g.out_width,
            before((g.filter_height - 1) * g.dilation_height, g.pad_top) * g.in_width};
  }
  return {false,
          g.filter_width,
          g.dilation_width,
          g.out_height,
          g.in_width,
          g.out_width,
          before((g.filter_width - 1) * g.dilation_width, g.pad_left)};
}

// How rows are cut into strips of `columns` outputs, of which the last one may overlap the one
// before. The first `head` strips, and those from `tail` on, meet elements outside the row, and of
// rows that are copied as a whole all are among the first: they read a copy of what they meet.
struct RowStrips {
  int64_t columns, count;
  int64_t out_size, before, reach;
  int64_t head = 0, tail = 0;

  RowStrips(const RowShape& shape, int64_t strip_columns, bool copies_all)
      : columns(strip_columns),
        count(CeilDiv(shape.out_size, strip_columns)),
        out_size(shape.out_size),
        before(shape.before),
        reach(shape.Reach()) {
    const int64_t last = First(count - 1);
    // Strips that begin there or before meet nothing after the row.
    const int64_t last_inside = shape.in_size + before - columns - reach;
    if (before > 0) head = last < before ? count : CeilDiv(before, columns);
    if (last_inside >= 0) tail = last <= last_inside ? count : last_inside / columns + 1;
    if (copies_all || tail <= head) head = tail = count;
  }

  // The first output of a strip, and the end of what its outputs meet: elements from the first one
  // of the padding on.
  DEPTHWISE_INLINE int64_t First(int64_t strip) const {
    return Max(0, Min(strip * columns, out_size - columns));
  }
  DEPTHWISE_INLINE int64_t End(int64_t strip) const { return First(strip) + columns + reach; }

  // The elements of the copies.
  DEPTHWISE_INLINE int64_t HeadSize() const { return head > 0 ? End(head - 1) : 0; }
  DEPTHWISE_INLINE int64_t TailSize() const {
    return tail < count ? End(count - 1) - First(tail) : 0;
  }
};

// The vectors of a tile for rows of such a shape, or 0 if less than two thirds of them would be
// used.
template <class S>
inline int64_t RowVectors(const RowShape& shape) {
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  const auto suits = [&](int64_t vectors) {
    const int64_t columns = vectors * kCount, tile_rows = kRowSums / vectors;
    const double computed = static_cast<double>(CeilDiv(shape.out_size, columns) * columns) *
                            (CeilDiv(shape.rows, tile_rows) * tile_rows);
    return 2 * computed <= 3.0 * shape.out_size * shape.rows;
  };
  if (suits(kRowSums)) return kRowSums;
  constexpr int64_t kHalf = kRowSums / 2;
  const bool is_short = !shape.is_column && shape.out_size <= kHalf * kCount;
  return kHasRowPairs<S> && is_short && suits(kHalf) ? kHalf : 0;
}

// Plans the row kernel; false if it does not suit.
template <class S>
DEPTHWISE_SMALL inline bool PlanRow(const ForwardProblem& problem, ForwardPlan* plan) {
  if constexpr (!kHasRows<S>) return false;
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  constexpr int64_t kSize = sizeof(typename S::Element);
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  if (g.channels_last || in.column != 1 || g.stride_height != 1 || g.stride_width != 1 ||
      (g.transposed && g.channel_multiplier > 1) || RowResidues(g) > 1) {
    return false;
  }
  const RowShape shape = RowShapeOf(g);
  // Fewer planes than lanes have a tile of four rows, whose loads serve them all: 224x224 15x1
  // takes 16 instead of 22 us.
  const bool suits =
      shape.is_column
          ? g.OutputChannels() >= kCount && in.row == g.in_width && out.row == g.out_width
          : g.filter_height == 1 && g.pad_top == 0 && g.out_height <= g.in_height;
  if (!suits || (kSize == 2 && shape.taps > kMostTaps16)) return false;
  const int64_t vectors = RowVectors<S>(shape), columns = vectors * kCount;
  if (vectors == 0) return false;
  // What lies under the filter at both ends, the padding, and what is left of strips: a bound for
  // any part of a column, too, and by its reach for the taps, which need 0.5 MB at most.
  const double after = static_cast<double>(shape.out_size) + shape.Reach() - shape.before -
                       static_cast<double>(shape.in_size);
  const double ends = static_cast<double>(Max(0, shape.before)) + (after > 0 ? after : 0);
  const double copied = ends + 2.0 * shape.Reach() + 5.0 * columns;
  if (copied * kSize > kMostCopiedBytes) return false;
  int64_t elements = 2 * static_cast<int64_t>(copied);
  plan->ring_rows = 0;
  plan->ring_row_stride = static_cast<int64_t>(copied);
  if (!shape.is_column && shape.rows > 1 && shape.out_size <= columns) {
    const int64_t tile_rows = kRowSums / vectors;
    plan->ring_row_stride = columns + shape.Reach() + kCount;
    const int64_t bytes = plan->ring_row_stride * kSize;
    plan->ring_rows = Max(1, kShortRowsBytes / bytes / tile_rows) * tile_rows;
    elements = plan->ring_rows * plan->ring_row_stride;
  }
  plan->scratch_bytes = (shape.taps + 1) * kVectorBytes + elements * kSize;
  plan->algorithm = Algorithm::kRow;
  plan->phases = vectors;
  plan->blocks = CeilDiv(g.OutputChannels(), kCount);
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
