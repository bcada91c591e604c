// The strided planes (NCHW) of 3x3 and 5x5 with a stride of 2 along both axes: strips of outputs
// from the top down. Each input row is loaded once, and its even and odd columns parted; what
// further taps meet are neighbours of these. The sums of the output rows that an input row has taps
// for are in registers, and move on by one after every second row. Called by strided_plane.h.
#pragma once

#include "fetch_ahead.h"
#include "pack.h"
#include "shuffle.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Vectors of a strip, but for a rest of one.
inline constexpr int kWalkedVectors = 2;
// Output rows of a strip where a row has several: fewer where data are far, for whose sequence the
// rows of all strips should be few. 16x112x112 3x3 takes 18.6 us with 16 and 21.5 with 8, but
// 3x2160x3840 7200 and 6000 (Xeon, model 167).
inline constexpr int64_t kWalkedRows = 16, kFarWalkedRows = 8;
// How far ahead the input is fetched: so many rows, or bytes if that is more.
inline constexpr int64_t kWalkedRowsAhead = 8, kWalkedBytesAhead = 2048;

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

// A strip of kVectors vectors of outputs with kSize x kSize taps.
template <class S, int kSize, int kVectors>
struct StridedWalk {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;
  // A row is loaded as whole vectors, and the first elements of one more.
  static constexpr int kWhole = 2 * kVectors, kMore = kSize - 2;
  static constexpr int64_t kElements = kWhole * kCount + kMore;
  using Masks = WalkMasks<E, kWhole + 1>;
  // Output rows that an even input row has taps for; an odd one has one less.
  static constexpr int kActive = (kSize + 1) / 2;
  using Sums = V[kActive][kVectors];

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

  DEPTHWISE_INLINE void Run(E* out) const {
    LaneMask<E> pinned[kWhole + 1];
#pragma GCC unroll 5
    for (int k = 0; k <= kWhole; ++k) {
      pinned[k] = masks.masks[k];
      PinMask(pinned[k]);
    }
    const V bias = *arrays.bias - V{};
    Sums sums = {};
    const E* row = rows.row;
    const int64_t steps = rows_used + kActive - 1;
    for (int64_t step = 0; step < steps; ++step) {
      AddRow<0>(2 * step, pinned, row, sums);
      if (step >= kActive - 1) {
        Store(sums[kActive - 1], bias, out);
        out += arrays.out_row_step;
      }
      if (step < steps - 1) AddRow<1>(2 * step + 1, pinned, row, sums);
#pragma GCC unroll 3
      for (int k = kActive - 1; k >= 0; --k) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[k][v] = k > 0 ? sums[k - 1][v] : V{};
      }
    }
  }

  // Adds what the taps of row kOdd, kOdd + 2 and so on of the filter meet of input row r, if it is
  // inside the image.
  template <int kOdd>
  DEPTHWISE_INLINE void AddRow(int64_t r, const LaneMask<E> (&pinned)[kWhole + 1], const E*& row,
                               Sums& sums) const {
    if (r < rows.row_begin || r >= rows.row_end) return;
    if (arrays.fetch_ahead > 0) {
      constexpr int64_t kBytes = kWhole * kCount * int64_t{sizeof(E)};
      PrefetchRows<1, kBytes, false>(row + arrays.fetch_ahead, 0, 1);
    }
    V parted[2][kVectors + 1];  // even and odd columns
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const V a = S::LoadMasked(row + 2 * v * kCount, pinned[2 * v]);
      const V b = S::LoadMasked(row + (2 * v + 1) * kCount, pinned[2 * v + 1]);
      parted[0][v] = EvenLanes(a, b);
      parted[1][v] = OddLanes(a, b);
    }
    const V more = S::LoadMasked(row + kWhole * kCount, pinned[kWhole]);
    parted[0][kVectors] = kMore > 1 ? EvenLanes(more, more) : more;
    parted[1][kVectors] = OddLanes(more, more);
    row += rows.row_step;
    ForEachSize<kSize>([&](auto size) DEPTHWISE_INLINE_LAMBDA {
      constexpr int dj = decltype(size)::value;
      V x[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        x[v] = LanesFrom<dj / 2>(parted[dj % 2][v], parted[dj % 2][v + 1]);
        Pin(x[v]);
      }
#pragma GCC unroll 3
      for (int k = 0; 2 * k + kOdd < kSize; ++k) {
        V tap = arrays.taps[((2 * k + kOdd) * kSize + dj) * kCount] - V{};
        Pin(tap);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[k][v] += x[v] * tap;
      }
    });
  }

  DEPTHWISE_INLINE void Store(const V (&row)[kVectors], V bias, E* out) const {
#pragma GCC unroll 2
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

template <class S, int kSize>
inline void WalkItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                     void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  constexpr int64_t kStrip = kWalkedVectors * kCount;
  using Walk = StridedWalk<S, kSize, kWalkedVectors>;
  using RestWalk = StridedWalk<S, kSize, 1>;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const int64_t first_channel = item.block * kCount;
  const int64_t channels = Min(kCount, g.OutputChannels() - first_channel);

  A* const taps = static_cast<A*>(scratch);
  A* const bias = PackFilterClasses<S>(problem, rows, first_channel, channels, taps);
  PackBias<S>(problem, first_channel, channels, kCount, 1, bias);
  const int64_t ahead = Max(kWalkedRowsAhead * in.row, kWalkedBytesAhead / int64_t{sizeof(E)});
  WalkArrays<S> arrays{taps, bias, out.row, plan.prefetch ? ahead : 0, plan.stream};
  // Of the first strip, of another one, the last mostly, of any inside, and of a rest.
  typename Walk::Masks first_masks, later_masks, inside_masks;
  typename RestWalk::Masks rest_masks;
  const int64_t together = g.out_width <= kStrip ? item.last - item.first
                           : plan.prefetch       ? kFarWalkedRows
                                                 : kWalkedRows;
  for (int64_t channel = first_channel; channel < first_channel + channels; ++channel) {
    const E* image = static_cast<const E*>(problem.input) + item.b * in.batch +
                     channel / g.channel_multiplier * in.channel;
    E* output = static_cast<E*>(problem.output) + item.b * out.batch + channel * out.channel;
    for (int64_t t = item.first; t < item.last; t += together) {
      const int64_t rows_used = Min(together, item.last - t);
      const TileRows<E> tile_rows = RowsInPlace(rows, t, rows_used, image, in.row);
      E* const to = output + t * out.row;
      for (int64_t position = 0; position < g.out_width; position += kStrip) {
        const auto walk = [&](auto vectors, auto* masks, bool are_made) DEPTHWISE_INLINE_LAMBDA {
          using This = StridedWalk<S, kSize, decltype(vectors)::value>;
          const int64_t column = 2 * position - g.pad_left;
          if (!are_made) This::MakeMasks(position, column, g.in_width, masks);
          TileRows<E> strip_rows = tile_rows;
          strip_rows.row += column;
          This{arrays, strip_rows, *masks, rows_used, g.out_width - position}.Run(to + position);
        };
        // The last strip overlaps the one before rather than being partial.
        if (g.out_width - position <= kCount) {
          position = Max(0, g.out_width - kCount);
          walk(Size<1>{}, &rest_masks, rest_masks.position == position);
          continue;
        }
        position = Max(0, Min(position, g.out_width - kStrip));
        const int64_t column = 2 * position - g.pad_left;
        if (column >= 0 && column + Walk::kElements <= g.in_width) {
          walk(Size<kWalkedVectors>{}, &inside_masks, inside_masks.position >= 0);
        } else {
          auto& masks = position == 0 ? first_masks : later_masks;
          walk(Size<kWalkedVectors>{}, &masks, masks.position == position);
        }
      }
    }
    ++arrays.taps;
    ++arrays.bias;
  }
}

// Whether this kernel computes a problem of the strided planes.
inline bool IsWalked(const Geometry& g) {
  const bool has_size = (g.filter_height == 3 && g.filter_width == 3) ||
                        (g.filter_height == 5 && g.filter_width == 5);
  return kManyRegisters && !g.transposed && has_size && g.stride_height == 2 &&
         g.dilation_height == 1;
}

// Whether its input is fetched ahead: where the second-level cache does not keep the data, and rows
// follow each other.
inline bool SuitsPrefetchedWalk(const ForwardProblem& problem, const PlanOptions& options,
                                double bytes) {
  const Geometry& g = problem.geometry;
  return IsWalked(g) && problem.input_strides.row == g.in_width &&
         bytes > kFarBytes * static_cast<double>(options.threads);
}

}  // namespace depthwise::DEPTHWISE_ISA
