// Where a transform keeps its rows, spectra and tables in the scratch memory of a thread. Used by
// transform_strip.h, and by transform.h for its size.
#pragma once

#include "pack.h"
#include "width_transform.h"

namespace depthwise::DEPTHWISE_ISA {

// Input rows of one row residue that are inside the image.
inline int64_t MaxImageRows(const Geometry& g) {
  const Axis axis = RowAxis(g, 0);
  return axis.unit_end - axis.unit_begin + 1;  // Another residue may have one more.
}

// Where things lie in the scratch memory. Spectra are [frequency, row] of complex numbers: two
// vectors, three of the filter. An odd number of rows for each frequency keeps these out of the
// same sets of a cache.
template <class A>
struct TransformMemory {
  static constexpr int kCount = kLanes<A>;
  static constexpr int64_t kRows = kTransformRows;

  A *packed, *taps, *filter_spectrum, *spectrum, *output, *transform;
  Norms<A>* norms;  // of the packed rows
  A* bias;
  // Output rows move down over the input rows that they meet, so that products can take the place
  // of these: no output meets an input row before the end of the products of those before it. The
  // products of a strip begin with the first row of `spectrum`, its input rows with row
  // `first_row`: as far down as the first window has rows in the padding above the image, but no
  // further than there are products. With rows of their own for products 56x56 and 31x31 taps took
  // 1% longer, 112x112 15%, whose strips had fewer rows.
  int64_t packed_rows, packed_row_stride, filter_rows, spectrum_rows, first_row;
  int64_t size = 0;

  TransformMemory(const TransformShape& shape, int64_t strip_columns, const Geometry& g,
                  A* scratch) {
    const int64_t half = 2 * shape.quarter, window = RowAxis(g, 0).window;
    const auto take = [&](int64_t vectors) {
      A* const at = scratch == nullptr ? nullptr : scratch + size;
      size += vectors * kCount;
      return at;
    };
    packed_rows = Min(shape.rows + window - 1, MaxImageRows(g));
    packed_row_stride = (MaxInputColumns(g, strip_columns) | 1) * kCount;
    packed = take(packed_rows * packed_row_stride / kCount);
    taps = take(window * g.filter_width);
    bias = take(1);
    filter_rows = window | 1;
    filter_spectrum = take(3 * half * filter_rows);
    const int64_t product_rows = CeilDiv(shape.rows, kRows) * kRows;
    first_row = Min(product_rows, Max(0, RowAxis(g, 0).unit_begin));
    spectrum_rows = Max(product_rows, first_row + packed_rows + 2 * (kRows - 1)) | 1;
    spectrum = take(2 * half * spectrum_rows);
    // The last square of a transposition may read beyond the rows: hence kCount more.
    const int64_t buffered_rows =
        ColumnResidues(g) > 1 ? CeilDiv(shape.rows, kRows) * kRows : kRows;
    output = take(buffered_rows * strip_columns + kCount);
    norms = reinterpret_cast<Norms<A>*>(take(2 * packed_rows));
    const double tables = WidthTransform<A>::MemorySize(shape.quarter, shape.inputs, shape.outputs);
    transform = take(CeilDiv(static_cast<int64_t>(tables), kCount));
  }
};

}  // namespace depthwise::DEPTHWISE_ISA
