// Images cut into pieces of columns, each a problem of its own. Called by dispatch.cc for those of
// so few rows and channels that there are more such pieces than items, and more threads than items:
// 1xN sound, for instance. 1x4096x64 1x31 takes one thread 132 us and two 70; with its channels cut
// in two, whose lines alternate in memory, two threads took 122.
#pragma once

#include <cstddef>
#include <cstdint>

#include "geometry.h"
#include "kernels.h"

namespace depthwise {

// How many columns of the output a piece has: some pieces for each thread, which begin where lines
// of the cache do if the image does. All of them, so that there is one piece, if another one could
// be on padding alone, or if the columns of a gradient have phases, which PieceOf() does not know.
static inline int64_t PieceColumns(const Geometry& g, int64_t threads) {
  constexpr int64_t kPiecesPerThread = 4, kGranule = 32;
  const int64_t columns = CeilDiv(g.out_width, kPiecesPerThread * threads * kGranule) * kGranule;
  const bool has_phases = g.transposed && g.stride_width > 1;
  if (has_phases || columns >= g.out_width) return g.out_width;
  const ColumnRange of_first = InputColumnsOf(g, 0, columns);
  const ColumnRange of_last = InputColumnsOf(g, (g.out_width - 1) / columns * columns, g.out_width);
  return of_first.end <= 0 || of_last.begin >= g.in_width ? g.out_width : columns;
}

// The problem of the output columns [first, last) of such a piece, with the input columns that they
// need.
static inline ForwardProblem PieceOf(ForwardProblem problem, int64_t first, int64_t last,
                                     size_t element_size) {
  Geometry& g = problem.geometry;
  const ColumnRange needed = InputColumnsOf(g, first, last);
  const int64_t begin = Max(0, needed.begin);
  const auto bytes = static_cast<int64_t>(element_size);
  problem.input =
      static_cast<const std::byte*>(problem.input) + begin * problem.input_strides.column * bytes;
  problem.output =
      static_cast<std::byte*>(problem.output) + first * problem.output_strides.column * bytes;
  g.pad_left = g.transposed ? g.pad_left + first - begin : begin - needed.begin;
  g.in_width = Min(g.in_width, needed.end) - begin;
  g.out_width = last - first;
  return problem;
}

}  // namespace depthwise
