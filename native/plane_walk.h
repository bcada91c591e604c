// Planes (NCHW) of 3x3 and 5x5 taps, without strides or with one of 2 along both axes, by walks
// down strips of outputs (walk_tile.h, strided_walk_tile.h): which problems suit, and how their
// planes are cut into strips. Called by plane.h and strided_plane.h.
#pragma once

#include "pack.h"
#include "strided_walk_tile.h"
#include "walk_tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Output rows of a strip where a row has several: fewer where data are far, for whose sequence the
// rows of all strips should be few. With a stride 16x112x112 3x3 takes 18.6 us with 16 and 24.1
// with 8, but 3x2160x3840 7200 and 6000 (Xeon, model 167).
inline constexpr int64_t kWalkedRows = 16, kFarWalkedRows = 8;
// How far ahead the input is fetched: so many rows, or bytes if that is more.
inline constexpr int64_t kWalkedRowsAhead = 8, kWalkedBytesAhead = 2048;

// Whether a row may have several strips. Without a stride that pays for 3x3 of 16-bit types alone,
// which tiles convert for each tap, in rows of up to kMostWalkedVectors and near the CPU (of one
// thread, whatever their number): float16 32x112x112 takes 67 instead of 77 us, but 8x32x112x112
// 715 instead of 636, 3x480x640 235 instead of 187 (Xeon, model 167).
template <class S, int kSize, int kStride, int kVectors>
inline constexpr bool kHasStrips =
    kStride == 2 || (sizeof(typename S::Element) == 2 && kSize == 3 && kVectors == 2);
inline constexpr int64_t kMostWalkedVectors = 8;
// Whether rows of one vector are walked by pairs of planes: single ones wait for their sums. Only
// in float32, for the size of the package.
template <class S>
inline constexpr bool kWalksPairs = sizeof(typename S::Element) == 4;

// What all walks of an item have in common; its taps are packed to the scratch memory.
template <class S>
inline WalkArrays<S> PrepareWalks(const ForwardProblem& problem, const ForwardPlan& plan,
                                  const Item& item, int64_t first_channel, int64_t channels,
                                  void* scratch) {
  using A = typename S::Accumulator;
  constexpr int64_t kSize = sizeof(typename S::Element);
  A* const taps = static_cast<A*>(scratch);
  A* const bias = PackFilterClasses<S>(problem, item.rows, first_channel, channels, taps);
  PackBias<S>(problem, first_channel, channels, kLanes<A>, 1, bias);
  WalkArrays<S> arrays{.taps = taps,
                       .bias = bias,
                       .out_row_step = problem.output_strides.row,
                       .fetch_ahead = 0,
                       .stream = plan.stream,
                       .in_plane = 0,
                       .out_plane = 0,
                       .tap_plane = 0};
  // Rows have any strides where nothing is fetched.
  if (plan.prefetch) {
    arrays.fetch_ahead =
        Max(kWalkedRowsAhead * problem.input_strides.row, kWalkedBytesAhead / kSize);
  }
  return arrays;
}

// The tile of a strip; with 16 registers there is one for 3x3 with a stride of 2 alone.
template <class S, int kSize, int kStride, int kVectors>
using WalkTile =
    std::conditional_t<kManyRegisters, PlaneWalk<S, kSize, kStride, kVectors>, StridedWalk<S>>;

// All strips of an item.
template <class S, int kSize, int kStride, int kVectors>
inline void WalkItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                     void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  constexpr int64_t kStrip = kVectors * kCount;
  static_assert(kManyRegisters || (kSize == 3 && kStride == 2 && kVectors == 1));
  using Walk = WalkTile<S, kSize, kStride, kVectors>;
  using RestWalk = WalkTile<S, kSize, kStride, 1>;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const int64_t first_channel = item.block * kCount;
  const int64_t channels = Min(kCount, g.OutputChannels() - first_channel);

  WalkArrays<S> arrays = PrepareWalks<S>(problem, plan, item, first_channel, channels, scratch);
  // Of the first strip, of another one, the last mostly, of any inside, and of a rest.
  typename Walk::Masks first_masks, later_masks, inside_masks;
  typename RestWalk::Masks rest_masks;
  const int64_t before = g.transposed ? kSize - 1 - g.pad_left : g.pad_left;
  const int64_t together = kStride == 1 || g.out_width <= kStrip ? item.last - item.first
                           : plan.prefetch                       ? kFarWalkedRows
                                                                 : kWalkedRows;
  for (int64_t channel = first_channel; channel < first_channel + channels; ++channel) {
    const int64_t in_channel = g.transposed ? channel : channel / g.channel_multiplier;
    const E* image =
        static_cast<const E*>(problem.input) + item.b * in.batch + in_channel * in.channel;
    E* output = static_cast<E*>(problem.output) + item.b * out.batch + channel * out.channel;
    for (int64_t t = item.first; t < item.last; t += together) {
      const int64_t rows_used = Min(together, item.last - t);
      const TileRows<E> tile_rows = RowsInPlace(rows, t, rows_used, image, in.row);
      E* const to = output + t * out.row;
      for (int64_t position = 0; position < g.out_width; position += kStrip) {
        const auto walk = [&](auto vectors, auto* masks, bool are_made) DEPTHWISE_INLINE_LAMBDA {
          using This = WalkTile<S, kSize, kStride, decltype(vectors)::value>;
          const int64_t column = position * kStride - before;
          if (!are_made) This::MakeMasks(position, column, g.in_width, masks);
          TileRows<E> strip_rows = tile_rows;
          strip_rows.row += column;
          This{arrays, strip_rows, *masks, rows_used, g.out_width - position}.Run(to + position);
        };
        if constexpr (!kHasStrips<S, kSize, kStride, kVectors>) {
          walk(Size<kVectors>{}, &first_masks, first_masks.position == 0);
          break;
        }
        // The last strip overlaps the one before rather than being partial.
        if constexpr (kVectors > 1) {
          if (g.out_width - position <= kCount) {
            position = Max(0, g.out_width - kCount);
            walk(Size<1>{}, &rest_masks, rest_masks.position == position);
            continue;
          }
        }
        position = Max(0, Min(position, g.out_width - kStrip));
        const int64_t column = position * kStride - before;
        const bool is_inside = column >= 0 && column + Walk::kElements <= g.in_width;
        auto& masks = is_inside ? inside_masks : position == 0 ? first_masks : later_masks;
        walk(Size<kVectors>{}, &masks,
             is_inside ? masks.position >= 0 : masks.position == position);
      }
    }
    ++arrays.taps;
    ++arrays.bias;
  }
}

// All planes of an item whose rows are one vector of outputs, by pairs; of an odd number the last
// is its own partner.
template <class S, int kSize, int kStride>
inline void PairWalkItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                         void* scratch) {
  using E = typename S::Element;
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  using Walk = PlaneWalk<S, kSize, kStride, 1, 2>;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const int64_t first_channel = item.block * kCount;
  const int64_t end = Min(first_channel + kCount, g.OutputChannels());
  WalkArrays<S> arrays =
      PrepareWalks<S>(problem, plan, item, first_channel, end - first_channel, scratch);
  const int64_t rows_used = item.last - item.first;
  const int64_t before = g.transposed ? kSize - 1 - g.pad_left : g.pad_left;
  typename Walk::Masks masks;
  Walk::MakeMasks(0, -before, g.in_width, &masks);
  const auto in_plane_of = [&](int64_t channel) {
    return (g.transposed ? channel : channel / g.channel_multiplier) * in.channel;
  };
  for (int64_t channel = first_channel; channel < end; channel += 2) {
    const int64_t other = Min(channel + 1, end - 1);
    arrays.in_plane = in_plane_of(other) - in_plane_of(channel);
    arrays.out_plane = (other - channel) * out.channel;
    arrays.tap_plane = other - channel;
    const E* image = static_cast<const E*>(problem.input) + item.b * in.batch;
    E* output = static_cast<E*>(problem.output) + item.b * out.batch;
    TileRows<E> rows =
        RowsInPlace(item.rows, item.first, rows_used, image + in_plane_of(channel), in.row);
    rows.row -= before;
    Walk{arrays, rows, masks, rows_used, g.out_width}.Run(output + channel * out.channel +
                                                          item.first * out.row);
    arrays.taps += 2;
    arrays.bias += 2;
  }
}

template <class S>
using WalkFunction = decltype(&WalkItem<S, 3, 2, 2>);

// The walk for a problem of single planes, or null: of any size with a stride, and without one
// where rows are wider than a vector and one strip, and most of it is filled if there are 25 taps,
// or where several strips pay. Rows of one vector are walked by pairs of planes. With 16 registers
// there is a walk for 3x3 with a stride in float32 alone. Other planes are computed by the tiles of
// plane.h, by its walks and by blocks.
template <class S>
inline WalkFunction<S> FindWalk(const Geometry& g) {
  if constexpr (kHasLaneMasks<typename S::Element>) {
    constexpr int64_t kCount = kLanes<typename S::Accumulator>;
    const bool is_3x3 = g.filter_height == 3 && g.filter_width == 3;
    const bool is_5x5 = g.filter_height == 5 && g.filter_width == 5;
    if ((!is_3x3 && !is_5x5) || g.dilation_height > 1 || g.dilation_width > 1 ||
        g.stride_height != g.stride_width) {
      return nullptr;
    }
    const bool has_stride = g.stride_width == 2 && !g.transposed;
    if constexpr (!kManyRegisters) {
      // Only float32, for the size of the package.
      if constexpr (sizeof(typename S::Element) == 4) {
        if (is_3x3 && has_stride) return WalkItem<S, 3, 2, 1>;
      }
    } else {
      const int64_t vectors = CeilDiv(g.out_width, kCount);
      // Not where half of the lanes would be empty: without a stride blocks are as fast, and with
      // one single planes.
      const bool walks_pairs = kWalksPairs<S> && vectors == 1 && g.out_width > kCount / 2;
      if (has_stride) {
        if constexpr (kWalksPairs<S>) {
          if (walks_pairs) return is_3x3 ? PairWalkItem<S, 3, 2> : PairWalkItem<S, 5, 2>;
        }
        return is_3x3 ? WalkItem<S, 3, 2, 2> : WalkItem<S, 5, 2, 2>;
      }
      if constexpr (kWalksPairs<S>) {
        if (g.stride_width == 1 && walks_pairs) {
          return is_3x3 ? PairWalkItem<S, 3, 1> : PairWalkItem<S, 5, 1>;
        }
      }
      const int64_t wide = vectors <= 2 ? 2 : 4;
      // Three vectors of four are enough, but for 16-bit types: bfloat16 64x48x48 5x5 would take 74
      // instead of 66 us.
      const int64_t more = sizeof(typename S::Element) == 2 ? 1 : 0;
      const int64_t least = is_3x3 ? kCount + 1 : wide * kCount / 4 * 3 + more;
      if (g.stride_width != 1 || g.out_width < least) return nullptr;
      if (vectors <= 4) {
        if (is_3x3) return wide == 2 ? WalkItem<S, 3, 1, 2> : WalkItem<S, 3, 1, 4>;
        return wide == 2 ? WalkItem<S, 5, 1, 2> : WalkItem<S, 5, 1, 4>;
      }
      if (kHasStrips<S, 3, 1, 2> && is_3x3 && vectors <= kMostWalkedVectors &&
          DataBytes(g, sizeof(typename S::Element)) <= kFarBytes) {
        return WalkItem<S, 3, 1, 2>;
      }
    }
  }
  return nullptr;
}

// Whether the input of a walk with a stride is fetched ahead: where the second-level cache does not
// keep the data, and rows follow each other.
template <class S>
DEPTHWISE_SMALL inline bool SuitsPrefetchedWalk(const ForwardProblem& problem,
                                                const PlanOptions& options, double bytes) {
  const Geometry& g = problem.geometry;
  return FindWalk<S>(g) != nullptr && problem.input_strides.row == g.in_width &&
         bytes > kFarBytes * static_cast<double>(options.threads);
}

}  // namespace depthwise::DEPTHWISE_ISA
