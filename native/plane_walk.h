// Planes (NCHW) of 3x3 and 5x5 taps, without strides or with one of 2 along both axes: strips of
// outputs from the top down. Each input row is loaded once; what further taps meet are neighbours
// of these columns, with a stride those of the even ones and of the odd. The sums of the output
// rows that an input row has taps for are in registers, and move on by one with each output row.
// Called by plane.h and strided_plane.h.
#pragma once

#include "fetch_ahead.h"
#include "pack.h"
#include "shuffle.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Output rows of a strip where a row has several: fewer where data are far, for whose sequence the
// rows of all strips should be few. With a stride 16x112x112 3x3 takes 18.6 us with 16 and 24.1
// with 8, but 3x2160x3840 7200 and 6000 (Xeon, model 167).
inline constexpr int64_t kWalkedRows = 16, kFarWalkedRows = 8;
// How far ahead the input is fetched: so many rows, or bytes if that is more.
inline constexpr int64_t kWalkedRowsAhead = 8, kWalkedBytesAhead = 2048;

// Whether a row may have several strips. Without a stride that pays for 3x3 of 16-bit types alone,
// which tiles convert for each tap, in rows of up to so many vectors and near the CPU: float16
// 32x112x112 takes 67 instead of 77 us, but 8x32x112x112 715 instead of 636, 3x480x640 235 instead
// of 187 (Xeon, model 167).
template <class S, int kSize, int kStride, int kVectors>
inline constexpr bool kHasStrips =
    kStride == 2 || (sizeof(typename S::Element) == 2 && kSize == 3 && kVectors == 2);
inline constexpr int64_t kMostWalkedVectors = 8;

// What one item needs to know of its arrays; steps in elements.
template <class S>
struct WalkArrays {
  const typename S::Accumulator* taps;  // [size, size], a vector apart, of which a plane has a lane
  const typename S::Accumulator* bias;
  int64_t out_row_step;
  int64_t fetch_ahead;  // how far ahead the input is fetched, or 0
  bool stream;          // store past the caches
};

// The lanes inside the image of all loads of a row of a strip that begins at output column
// `position`.
template <class E, int kLoads>
struct WalkMasks {
  int64_t position = -1;
  LaneMask<E> masks[kLoads];
};

// A strip of kVectors vectors of outputs with kSize x kSize taps and a stride of kStride.
template <class S, int kSize, int kStride, int kVectors>
struct PlaneWalk {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;
  // A row is loaded as whole vectors, and the first elements of one more.
  static constexpr int kWhole = kStride * kVectors, kMore = kSize - kStride;
  static constexpr int64_t kElements = kWhole * kCount + kMore;
  using Masks = WalkMasks<E, kWhole + 1>;
  // Output rows that an input row has taps for; with a stride an odd row has one less.
  static constexpr int kActive = (kSize - 1) / kStride + 1;
  using Sums = V[kActive][kVectors];
  // Those of 3x3 stay in registers, unless the sums leave no room.
  static constexpr bool kKeepsTaps = kSize == 3 && kVectors <= 2;
  using Taps = V[kSize][kSize];

  const WalkArrays<S>& arrays;
  TileRows<E> rows;  // at what the first tap of the first output meets
  const Masks& masks;
  int64_t rows_used, columns;  // that are stored

  // For a row of in_width elements, of which the first load is at column `first`.
  static void MakeMasks(int64_t position, int64_t first, int64_t in_width, Masks* of_strip) {
    of_strip->position = position;
    for (int k = 0; k <= kWhole; ++k, first += kCount) {
      const int64_t end = Min(k < kWhole ? kCount : kMore, Max(0, in_width - first));
      of_strip->masks[k] = LanesBetween<E>(Min(end, Max(0, -first)), end);
    }
  }

  DEPTHWISE_INLINE V TapOf(int di, int dj) const {
    return arrays.taps[(di * kSize + dj) * kCount] - V{};
  }

  DEPTHWISE_INLINE void Run(E* out) const {
    LaneMask<E> pinned[kWhole + 1];
#pragma GCC unroll 5
    for (int k = 0; k <= kWhole; ++k) {
      pinned[k] = masks.masks[k];
      PinMask(pinned[k]);
    }
    Taps kept;
    if constexpr (kKeepsTaps) {
#pragma GCC unroll 9
      for (int k = 0; k < kSize * kSize; ++k)
        kept[k / kSize][k % kSize] = TapOf(k / kSize, k % kSize);
    }
    const V bias = *arrays.bias - V{};
    Sums sums = {};
    const E* row = rows.row;
    const int64_t steps = rows_used + kActive - 1;
    for (int64_t step = 0; step < steps; ++step) {
      AddRow<0>(step * kStride, pinned, kept, row, sums);
      if (step >= kActive - 1) {
        Store(sums[kActive - 1], bias, out);
        out += arrays.out_row_step;
      }
      if constexpr (kStride == 2) {
        if (step < steps - 1) AddRow<1>(step * kStride + 1, pinned, kept, row, sums);
      }
#pragma GCC unroll 5
      for (int k = kActive - 1; k >= 0; --k) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[k][v] = k > 0 ? sums[k - 1][v] : V{};
      }
    }
  }

  // Adds what the taps of row kFirst, kFirst + kStride and so on of the filter meet of input row r,
  // if it is inside the image.
  template <int kFirst>
  DEPTHWISE_INLINE void AddRow(int64_t r, const LaneMask<E> (&pinned)[kWhole + 1], const Taps& kept,
                               const E*& row, Sums& sums) const {
    if (r < rows.row_begin || r >= rows.row_end) return;
    if (arrays.fetch_ahead > 0) {
      constexpr int64_t kBytes = kWhole * kCount * int64_t{sizeof(E)};
      PrefetchRows<1, kBytes, false>(row + arrays.fetch_ahead, 0, 1);
    }
    V parted[kStride][kVectors + 1];
    LoadRow(row, pinned, parted);
    row += rows.row_step;
    ForEachSize<kSize>([&](auto size) DEPTHWISE_INLINE_LAMBDA {
      constexpr int dj = decltype(size)::value;
      V x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const V* const columns_of = parted[dj % kStride];
        x[v] = LanesFrom<dj / kStride>(columns_of[v], columns_of[v + 1]);
        Pin(x[v]);
      }
#pragma GCC unroll 5
      for (int k = 0; k * kStride + kFirst < kSize; ++k) {
        constexpr bool kKept = kKeepsTaps;
        V tap = kKept ? kept[k * kStride + kFirst][dj] : TapOf(k * kStride + kFirst, dj);
        if constexpr (!kKept) Pin(tap);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[k][v] += x[v] * tap;
      }
    });
  }

  // The columns of a row, with a stride the even and the odd ones.
  static DEPTHWISE_INLINE void LoadRow(const E* row, const LaneMask<E> (&pinned)[kWhole + 1],
                                       V (&parted)[kStride][kVectors + 1]) {
    V loaded[kWhole + 1];
#pragma GCC unroll 5
    for (int k = 0; k <= kWhole; ++k) {
      loaded[k] = S::LoadMasked(row + k * kCount, pinned[k]);
      if constexpr (kStride == 1) parted[0][k] = loaded[k];
    }
    if constexpr (kStride == 2) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        parted[0][v] = EvenLanes(loaded[2 * v], loaded[2 * v + 1]);
        parted[1][v] = OddLanes(loaded[2 * v], loaded[2 * v + 1]);
      }
      const V more = loaded[kWhole];
      parted[0][kVectors] = kMore > 1 ? EvenLanes(more, more) : more;
      parted[1][kVectors] = OddLanes(more, more);
    }
  }

  DEPTHWISE_INLINE void Store(const V (&row)[kVectors], V bias, E* out) const {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int64_t count = columns - v * kCount;
      if (count >= kCount) {
        StoreVector<S>(out + v * kCount, row[v] + bias, arrays.stream);
      } else if (count > 0) {
        S::StorePartial(out + v * kCount, row[v] + bias, count);
      }
    }
  }
};

// All strips of an item.
template <class S, int kSize, int kStride, int kVectors>
inline void WalkItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                     void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  constexpr int64_t kStrip = kVectors * kCount;
  using Walk = PlaneWalk<S, kSize, kStride, kVectors>;
  using RestWalk = PlaneWalk<S, kSize, kStride, 1>;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const int64_t first_channel = item.block * kCount;
  const int64_t channels = Min(kCount, g.OutputChannels() - first_channel);

  A* const taps = static_cast<A*>(scratch);
  A* const bias = PackFilterClasses<S>(problem, rows, first_channel, channels, taps);
  PackBias<S>(problem, first_channel, channels, kCount, 1, bias);
  WalkArrays<S> arrays{taps, bias, out.row, 0, plan.stream};
  // Rows have any strides where nothing is fetched.
  if (plan.prefetch) {
    arrays.fetch_ahead = Max(kWalkedRowsAhead * in.row, kWalkedBytesAhead / int64_t{sizeof(E)});
  }
  // Of the first strip, of another one, the last mostly, of any inside, and of a rest.
  typename Walk::Masks first_masks, later_masks, inside_masks;
  typename RestWalk::Masks rest_masks;
  const int64_t before = g.transposed ? kSize - 1 - g.pad_left : g.pad_left;
  const int64_t together = kStride == 1 || g.out_width <= kStrip ? item.last - item.first
                           : plan.prefetch                        ? kFarWalkedRows
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
          using This = PlaneWalk<S, kSize, kStride, decltype(vectors)::value>;
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
        if (g.out_width - position <= kCount) {
          position = Max(0, g.out_width - kCount);
          walk(Size<1>{}, &rest_masks, rest_masks.position == position);
          continue;
        }
        position = Max(0, Min(position, g.out_width - kStrip));
        const int64_t column = position * kStride - before;
        if (column >= 0 && column + Walk::kElements <= g.in_width) {
          walk(Size<kVectors>{}, &inside_masks, inside_masks.position >= 0);
        } else {
          auto& masks = position == 0 ? first_masks : later_masks;
          walk(Size<kVectors>{}, &masks, masks.position == position);
        }
      }
    }
    ++arrays.taps;
    ++arrays.bias;
  }
}

template <class S>
using WalkFunction = decltype(&WalkItem<S, 3, 2, 2>);

// The walk for a problem of single planes, or null: of any size with a stride, and without one
// where rows are wider than a vector and one strip, and most of it is filled if there are 25 taps,
// or where several strips pay. Other planes are computed by the tiles of plane.h and by blocks.
template <class S>
inline WalkFunction<S> FindWalk(const Geometry& g) {
  if constexpr (kManyRegisters && kHasLaneMasks<typename S::Element>) {
    constexpr int64_t kCount = kLanes<typename S::Accumulator>;
    const bool is_3x3 = g.filter_height == 3 && g.filter_width == 3;
    const bool is_5x5 = g.filter_height == 5 && g.filter_width == 5;
    if ((!is_3x3 && !is_5x5) || g.dilation_height > 1 || g.dilation_width > 1 ||
        g.stride_height != g.stride_width) {
      return nullptr;
    }
    if (g.stride_width == 2 && !g.transposed) {
      return is_3x3 ? WalkItem<S, 3, 2, 2> : WalkItem<S, 5, 2, 2>;
    }
    const int64_t vectors = CeilDiv(g.out_width, kCount);
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
        DataBytes<S>(g) <= kFarBytes) {
      return WalkItem<S, 3, 1, 2>;
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
