// Whether a transform along the width pays for a problem, and how it is cut up: integers alone, and
// no memory. By the geometry and the type of the accumulators alone, so that the batch, the layout,
// the threads and the instruction set change no bit of a result. Called by transform.h.
#pragma once

#include "kernels.h"

namespace depthwise::DEPTHWISE_ISA {

// Larger ones are summed directly: the spectrum of their taps leaves no room for an image.
inline constexpr int64_t kMaxTransformedTaps = 96;
// Interleaved problems of a dilation, whose columns are packed together.
inline constexpr int64_t kMaxTransformedResidues = 16;
// Of the columns of a strip.
inline constexpr int64_t kMinTransformColumns = 8, kMaxTransformColumns = 160;
// Rows whose sums are in registers together on any instruction set.
inline constexpr int64_t kMaxTransformRows = 4;
// What a multiply-add of the transform takes, in multiply-adds of the direct sum; and what each
// output takes besides, to be packed, verified and stored, and each tap, to be packed, in those of
// the transform. Fitted to where both take as long (Xeon, family 6, model 167): 12x12 for images of
// 28x28 and larger, 14x14 for 20x20; for 14x14 no filter pays. Of a filter gradient 10x10 for 28x28
// and 56x56, 12x12 for 14x14.
struct TransformEffort {
  double multiply_add, output, tap;
};
inline constexpr TransformEffort kTransformEffort = {1.45, 38, 12};
inline constexpr TransformEffort kGradientTransformEffort = {1.8, 20, 0};

// Strips that need more memory leave the second-level cache, so that a multiply-add takes about so
// much longer: 16 channels of 480x640 with 21x21 taps take 20.6 ms by strips of 1.63 MB and 13.8 by
// some of 1.42 MB; but of 160x160 with 51x51 taps, whose work would be 1.3 times as much, 3.1 and
// 3.7 (Xeon, model 167).
inline constexpr double kNearStripBytes = 1.5 * 1024 * 1024, kFarStripEffort = 1.1;

// The multiply-adds of one axis, its padding left out: pairs of an output and a tap.
inline double ValidTaps(const Axis& axis) {
  double pairs = 0;
  for (int64_t v = 0; v < axis.window; ++v) {
    const int64_t first = Max(0, axis.unit_begin - v);
    pairs += static_cast<double>(Max(0, Min(axis.out_count, axis.unit_end - v) - first));
  }
  return pairs;
}

// What a strip of so many output rows and columns needs: 64-byte vectors, which are the largest.
inline double TransformVectors(const TransformShape& shape, const Axis& rows, int64_t window,
                               int64_t residues, double strip_rows) {
  const double half = 2.0 * shape.quarter;
  const double image_units = rows.unit_end - rows.unit_begin;
  const double most_units = strip_rows + rows.window - 1;
  const double units = (most_units < image_units ? most_units : image_units) + 1;
  const double columns = static_cast<double>(shape.columns) * residues;
  const double packed = units * (columns + static_cast<double>(window - 1) * residues + 1);
  const double taps = static_cast<double>(rows.window) * (window + 3 * half) + 1;
  // Products take the place of input rows: see TransformMemory.
  const double most_before = strip_rows + kMaxTransformRows;
  const double rows_before = most_before < rows.unit_begin ? most_before : rows.unit_begin;
  const double spectra_rows = units + rows_before > strip_rows ? units + rows_before : strip_rows;
  const double spectra = 2 * half * (spectra_rows + 3 * kMaxTransformRows);
  const double buffer = columns * ((residues > 1 ? strip_rows : 0) + kMaxTransformRows) + 16;
  const double tables = half * (shape.inputs + shape.outputs + 4) / 4 + 2;
  const double folded = kMaxTransformRows * static_cast<double>(Max(2 * shape.inputs, 2 * half));
  return packed + taps + spectra + buffer + tables + folded + 2 * units;
}

// Sets all of a shape but its rows from `columns`; false if no input lies under any window.
inline bool PlaceTransform(const Geometry& g, int64_t residues, TransformShape* shape) {
  const Axis axis = ColumnAxis(g, 0);
  const int64_t taps = axis.window, columns = shape->columns;
  int64_t first = 0, end = columns - 1 + taps;  // units, from the first of the strip
  if (columns >= axis.out_count) {
    // One strip: what lies outside the image needs no room, nor do taps that never meet it.
    int64_t least = end, greatest = 0;
    for (int64_t residue = 0; residue < residues; ++residue) {
      const Axis other = ColumnAxis(g, residue);
      least = Min(least, other.unit_begin);
      greatest = Max(greatest, other.unit_end);
    }
    first = Max(first, least);
    end = Min(end, greatest);
    if (first >= end) return false;
  }
  shape->tap_begin = Max(0, first - (columns - 1));
  shape->tap_end = Min(taps, end);
  const int64_t centre = (first + end) / 2;
  shape->tap_centre = centre - columns / 2;
  // Wrapped around by its length L, a sum must meet no input that is not its own.
  const int64_t length = Max(end - shape->tap_begin, columns + shape->tap_end - 1 - first);
  shape->quarter = CeilDiv(length, 4);
  const int64_t taps_reach =
      Max(shape->tap_centre - shape->tap_begin, shape->tap_end - 1 - shape->tap_centre);
  shape->inputs = 1 + Max(Max(centre - first, end - 1 - centre), taps_reach);
  shape->outputs = columns / 2 + 1;
  return true;
}

// The multiply-adds of a shape for one vector of channels and one image, whose columns and rows are
// cut into so many strips. `pairs` are the ValidTaps() of the rows.
inline double TransformWork(const TransformShape& shape, const Axis& rows, double pairs,
                            int64_t strips, int64_t row_strips, const TransformEffort& effort) {
  const double image_units = Max(0, rows.unit_end - rows.unit_begin);
  const double units = row_strips == 1
                           ? image_units
                           : static_cast<double>(row_strips) * (shape.rows + rows.window - 1);
  const double quarter = shape.quarter;
  const double of_outputs = 2 * shape.outputs * quarter + effort.output * shape.columns;
  return static_cast<double>(strips) * (units * 2 * shape.inputs * quarter + pairs * 6 * quarter +
                                        static_cast<double>(rows.out_count) * of_outputs) +
         static_cast<double>(rows.window) * 2 * shape.inputs * quarter;
}

// The most of `count` rows with which bytes(rows), which grows with them, is no more than `room`; 0
// if these would be fewer than kMaxTransformRows.
template <class Bytes>
inline int64_t MostRows(const Bytes& bytes, int64_t count, double room) {
  const auto fits = [&](int64_t rows) { return bytes(static_cast<double>(rows)) <= room; };
  if (fits(count)) return count;
  int64_t most = kMaxTransformRows - 1, too_many = count;
  while (too_many - most > 1) {
    const int64_t middle = most + (too_many - most) / 2;
    (fits(middle) ? most : too_many) = middle;
  }
  return most < kMaxTransformRows ? 0 : most;
}

// Chooses the shape that fits into `limit` bytes and takes least; false if there is none, or if the
// direct sum takes less. `lanes` are those of a 64-byte vector.
inline bool ChooseTransform(const Geometry& g, int64_t lanes, double limit,
                            const TransformEffort& effort, TransformShape* chosen) {
  // So few that even without a transform it would take longer: most problems are told apart here.
  const double taps = static_cast<double>(g.filter_height) * static_cast<double>(g.filter_width);
  if (taps <= effort.multiply_add * effort.output) return false;
  const int64_t residues = ColumnResidues(g);
  if (g.stride_height != 1 || g.stride_width != 1 || (g.transposed && g.channel_multiplier > 1) ||
      g.filter_height > kMaxTransformedTaps || g.filter_width > kMaxTransformedTaps ||
      residues > kMaxTransformedResidues) {
    return false;
  }
  const Axis rows = RowAxis(g, 0), columns = ColumnAxis(g, 0);
  const double channels = g.OutputChannels();
  const double vectors = CeilDiv(g.OutputChannels(), lanes);
  const double pairs = ValidTaps(rows);
  // Of one vector of channels.
  double least = pairs * ValidTaps(columns) / effort.multiply_add * channels / (vectors * lanes);
  bool is_chosen = false;
  for (int64_t most = kMinTransformColumns; most <= kMaxTransformColumns; most += 8) {
    const int64_t strips = CeilDiv(columns.out_count, most);
    TransformShape shape{};
    shape.columns = CeilDiv(columns.out_count, strips);
    if (!PlaceTransform(g, residues, &shape)) return false;
    const auto bytes = [&](double strip_rows) {
      return 64 * TransformVectors(shape, rows, columns.window, residues, strip_rows);
    };
    // By as many rows as there is room for near the CPU, or at all.
    const double rooms[] = {limit < kNearStripBytes ? limit : kNearStripBytes, limit};
    for (const double room : rooms) {
      const int64_t most_rows = MostRows(bytes, rows.out_count, room);
      if (most_rows == 0) continue;
      const int64_t row_strips = CeilDiv(rows.out_count, most_rows);
      shape.rows = CeilDiv(rows.out_count, row_strips);
      double work =
          TransformWork(shape, rows, pairs, strips, row_strips, effort) + effort.tap * taps;
      if (bytes(static_cast<double>(shape.rows)) > kNearStripBytes) work *= kFarStripEffort;
      if (work < least) {
        least = work;
        *chosen = shape;
        is_chosen = true;
      }
      if (row_strips == 1) break;
    }
    if (strips == 1) break;
  }
  return is_chosen;
}

}  // namespace depthwise::DEPTHWISE_ISA
