// The kernel for planes (NCHW) with rows of at most half a vector of outputs and 3x3: two rows
// share a vector. What a tap meets of two input rows is one permutation of them, in which strides
// and padding cost nothing. All else is registers: a plane of 7x7 takes 67 permutations and
// multiply-adds, two a cycle. (5x5 takes as long here as in the block kernel: it needs more rows
// than there are registers.) For AVX-512, which has permutations of two vectors.
#pragma once

#include "next_block.h"
#include "pack.h"
#include "shuffle.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

#if defined(__AVX512F__)
template <class S>
inline constexpr bool kHasNarrowPlanes = sizeof(typename S::Accumulator) == 4;
#else
template <class S>
inline constexpr bool kHasNarrowPlanes = false;
#endif

// Vectors of a tile, of two output rows each.
inline constexpr int kNarrowVectors = 4;

// Input rows of a tile. Of these, row u and the one kStride further on are under the same row of
// taps of the two output rows of a vector.
template <int kStride>
inline constexpr int kNarrowRows = (2 * kNarrowVectors - 1) * kStride + 3;

// What one item needs to know of its arrays; steps in elements.
template <class S, int kStride>
struct NarrowArrays {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using Index = typename IndexOf<A>::Type;

  const A* taps;  // [3, 3], a vector apart, one accumulator each
  const A* bias;
  int64_t in_row_step, out_width;
  // For each column of taps: the lanes of two input rows that it meets, and where it is inside.
  Index index[3];
  LaneMask<A> inside[3];
  Index compact;  // the lanes of two output rows, without gaps
  LaneMask<E> in_columns;
  int64_t row_begin, row_end;  // of the tile's input rows those inside the image
};

// What is the same for all items. It takes a third of the time of a block of planes.
template <class S, int kStride>
inline NarrowArrays<S, kStride> MakeNarrowArrays(const ForwardProblem& problem) {
  using A = typename S::Accumulator;
  constexpr int kCount = kLanes<A>;
  constexpr int kHalf = kCount / 2;
  const Geometry& g = problem.geometry;
  NarrowArrays<S, kStride> arrays{};
  arrays.in_row_step = problem.input_strides.row;
  arrays.out_width = g.out_width;
  arrays.in_columns = LanesBetween<typename S::Element>(0, g.in_width);
  const int64_t before = g.transposed ? 2 - g.pad_left : g.pad_left;
  for (int dj = 0; dj < 3; ++dj) {
    unsigned inside = 0;
    for (int lane = 0; lane < kCount; ++lane) {
      const int64_t column = lane % kHalf * kStride + dj - before;
      const bool is_inside = lane % kHalf < g.out_width && column >= 0 && column < g.in_width;
      arrays.index[dj][lane] = is_inside ? static_cast<int>(lane / kHalf * kCount + column) : 0;
      inside |= is_inside ? 1u << lane : 0;
    }
    arrays.inside[dj] = static_cast<LaneMask<A>>(inside);
  }
  const int width = static_cast<int>(g.out_width);
  for (int lane = 0; lane < kCount; ++lane) {
    arrays.compact[lane] = lane < 2 * width ? lane / width * kHalf + lane % width : 0;
  }
  return arrays;
}

// A tile of up to 2 * kNarrowVectors output rows of a plane, of which the first is at `out`. `in`
// is the first of its input rows that is inside the image.
template <class S, int kStride>
DEPTHWISE_INLINE void NarrowTile(const NarrowArrays<S, kStride>& arrays,
                                 const typename S::Element* in, int64_t rows_used,
                                 typename S::Element* out) {
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  constexpr int kCount = kLanes<A>;
  constexpr int kRows = kNarrowRows<kStride>;
  V rows[kRows];
#pragma GCC unroll 19
  for (int u = 0; u < kRows; ++u) {
    rows[u] = V{};
    if (u >= arrays.row_begin && u < arrays.row_end) {
      rows[u] = S::LoadMasked(in, arrays.in_columns);
      in = Step(in, arrays.in_row_step);
    }
  }
  V sums[kNarrowVectors] = {};
  ForEachSize<kRows - kStride>([&](auto size) DEPTHWISE_INLINE_LAMBDA {
    constexpr int u = decltype(size)::value;
    // Vector v meets it with tap row u - 2 * v * kStride.
    constexpr int kLast = u < 2 * kStride * kNarrowVectors ? u / (2 * kStride) : kNarrowVectors - 1;
    constexpr int kFirst = u < 3 ? 0 : (u - 3) / (2 * kStride) + 1;
    if constexpr (kFirst <= kLast) {
#pragma GCC unroll 3
      for (int dj = 0; dj < 3; ++dj) {
        V x = PermuteTwo(rows[u], rows[u + kStride], arrays.index[dj], arrays.inside[dj]);
        Pin(x);
#pragma GCC unroll 4
        for (int v = kFirst; v <= kLast; ++v) {
          sums[v] += x * (arrays.taps[((u - 2 * v * kStride) * 3 + dj) * kCount] - V{});
        }
      }
    }
  });
  const V bias = *arrays.bias - V{};
#pragma GCC unroll 4
  for (int v = 0; v < kNarrowVectors; ++v, out = Step(out, 2 * arrays.out_width)) {
    const int64_t used = Min(2, rows_used - 2 * v);
    if (used <= 0) break;
    S::StorePartial(out, Permute(sums[v] + bias, arrays.compact), used * arrays.out_width);
  }
}

template <class S, int kStride>
inline void NarrowItem(const ForwardProblem& problem, const Item& item,
                       NarrowArrays<S, kStride> arrays, void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int kCount = kLanes<A>;
  constexpr int kTileRows = 2 * kNarrowVectors;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const int64_t first_channel = item.block * kCount;
  const int64_t channels = Min(kCount, g.OutputChannels() - first_channel);
  const int64_t multiplier = g.transposed ? 1 : g.channel_multiplier;

  A* const taps = static_cast<A*>(scratch);
  A* const bias = taps + 9 * kCount;
  PackFilter<S>(problem, rows, TapsOf(ColumnSizes(g), 0), first_channel, channels, kCount, 1, taps);
  PackBias<S>(problem, first_channel, channels, kCount, 1, bias);
  NextBlock<E> next(problem, item.b, first_channel, kCount);
  for (int64_t t = item.first; t < item.last; t += kTileRows) {
    const int64_t rows_used = Min(kTileRows, item.last - t);
    const E* image = static_cast<const E*>(problem.input) + item.b * in.batch +
                     first_channel / multiplier * in.channel;
    const TileRows<E> tile_rows = RowsInPlace(rows, t, kTileRows, image, in.row);
    const E* from = tile_rows.row;
    arrays.row_begin = tile_rows.row_begin;
    arrays.row_end = tile_rows.row_end;
    arrays.taps = taps;
    arrays.bias = bias;
    E* to = static_cast<E*>(problem.output) + item.b * out.batch + first_channel * out.channel +
            t * out.row;
    // Counted, since a division for each channel would take a third of the time of its tile.
    int64_t copy = first_channel % multiplier;
    for (int64_t c = 0; c < channels; ++c, to += out.channel, ++arrays.taps, ++arrays.bias) {
      // Not for each channel, since this divides, too.
      if (c % 4 == 3) {
        next.Fetch(t - item.first + (c + 1) * rows_used / channels, item.last - item.first);
      }
      NarrowTile(arrays, from, rows_used, to);
      if (++copy == multiplier) {
        copy = 0;
        from += in.channel;
      }
    }
  }
}

template <class S, int kStride>
inline void RunNarrowItems(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                           int64_t end, void* scratch) {
  const auto arrays = MakeNarrowArrays<S, kStride>(problem);
  for (Parts parts(problem.geometry, plan, begin, end); parts.AreLeft(); parts.Advance()) {
    NarrowItem(problem, parts.Part(), arrays, scratch);
  }
}

template <class S>
inline void RunNarrowPlane(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                           int64_t end, void* scratch) {
  const Geometry& g = problem.geometry;
  const bool has_stride = !g.transposed && g.stride_width == 2;
  const auto run = has_stride ? RunNarrowItems<S, 2> : RunNarrowItems<S, 1>;
  run(problem, plan, begin, end, scratch);
}

// Plans this kernel; false if it does not suit.
template <class S>
DEPTHWISE_SMALL inline bool PlanNarrowPlane(const ForwardProblem& problem, ForwardPlan* plan) {
  if constexpr (!kHasNarrowPlanes<S>) return false;
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const Geometry& g = problem.geometry;
  const bool has_stride = g.stride_height == g.stride_width &&
                          (g.stride_width == 1 || (g.stride_width == 2 && !g.transposed));
  if (g.channels_last || g.filter_height != 3 || g.filter_width != 3 || !has_stride ||
      g.dilation_height != 1 || g.dilation_width != 1 ||
      (g.transposed && g.channel_multiplier != 1) || problem.input_strides.column != 1 ||
      problem.output_strides.row != g.out_width || g.out_width <= kCount / 4 ||
      g.out_width > kCount / 2 || g.in_width > kCount) {
    return false;
  }
  plan->algorithm = Algorithm::kNarrowPlane;
  plan->blocks = CeilDiv(g.OutputChannels(), kCount);
  plan->scratch_bytes = (9 + 1) * kVectorBytes;
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
