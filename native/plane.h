// The plane kernel: images of single planes (NCHW, or one channel) without strides, read in place.
// Vectors lie along the rows. Only the taps are copied.
//
// Order of the loops: image, plane, a few output rows, strips of columns, so that memory is read
// and written in sequence.
#pragma once

#include "pack.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Output rows and vectors of a tile for filters of any width.
inline constexpr int kPlaneRows = 4;
inline constexpr int kPlaneVectors = kManyRegisters ? 4 : 2;

// The sums of a tile for 3x3: as many rows of one vector, or half of them of two.
inline constexpr int kPlaneSums = 14;

// What one item needs to know of its arrays; steps in elements.
template <class S>
struct PlaneArrays {
  // [window_rows, filter_width], a vector of channels apart: see PackFilter().
  const typename S::Accumulator* taps;
  typename S::Accumulator bias;
  int64_t window_rows;             // units under the filter along the height
  int64_t filter_width, tap_step;  // taps of a row, and between them
  int64_t out_row_step;
  bool stream;  // store past the caches
};

// A tile of kRows output rows x kVectors vectors, for 3x3 or any filter. With kMasked the lanes
// outside the image are zero.
template <class S, int kRows, int kVectors, bool kIs3x3, bool kMasked>
struct PlaneTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  using Sums = V[kRows][kVectors];
  static constexpr int kCount = kLanes<A>;

  const PlaneArrays<S>& arrays;
  TileRows<E> rows;            // at the first column of the first window
  const LaneMask<E>* masks;    // [filter_width, kVectors]
  int64_t rows_used, columns;  // that are stored

  DEPTHWISE_INLINE void Run(E* out) const {
    V sums[kRows][kVectors] = {};
    if constexpr (kIs3x3) {
      AddAll(sums);
    } else {
      AddByTaps(sums);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, out = Step(out, arrays.out_row_step)) {
      if (i >= rows_used) break;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const int64_t count = columns - v * kCount;
        if (count >= kCount) {
          StoreVector<S>(out + v * kCount, sums[i][v] + arrays.bias, arrays.stream);
        } else if (count > 0) {
          S::StorePartial(out + v * kCount, sums[i][v] + arrays.bias, count);
        }
      }
    }
  }

  // Vector v of what tap dj meets of an input row.
  DEPTHWISE_INLINE V Load(const E* row, int64_t dj, int v) const {
    const E* const from = row + dj * arrays.tap_step + v * kCount;
    if constexpr (kMasked) return S::LoadMasked(from, masks[dj * kVectors + v]);
    return S::Load(from);
  }

  // All rows unrolled, all taps in registers.
  DEPTHWISE_INLINE void AddAll(Sums& sums) const {
    V tap[3][3];
#pragma GCC unroll 3
    for (int di = 0; di < 3; ++di) {
#pragma GCC unroll 3
      for (int dj = 0; dj < 3; ++dj) {
        tap[di][dj] = arrays.taps[(di * 3 + dj) * kCount] - V{};
      }
    }
    const E* row = rows.row;
    ForEachSize<kRows + 2>([&](auto size) DEPTHWISE_INLINE_LAMBDA {
      constexpr int r = decltype(size)::value;
      if (r < rows.row_begin || r >= rows.row_end) return;
#pragma GCC unroll 3
      for (int dj = 0; dj < 3; ++dj) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          V x = Load(row, dj, v);
          Pin(x);
#pragma GCC unroll 3
          for (int i = r < 3 ? 0 : r - 2; i <= (r < kRows ? r : kRows - 1); ++i) {
            sums[i][v] += x * tap[r - i][dj];
          }
        }
      }
      row = Step(row, rows.row_step);
    });
  }

  DEPTHWISE_INLINE void AddByTaps(Sums& sums) const {
    const int64_t width = arrays.filter_width;
    const Steps rows_back = Steps::Of<A>(-width * kCount);
    const auto step = [&](auto first, auto last, int64_t r, const E* row) DEPTHWISE_INLINE_LAMBDA {
      const A* taps = arrays.taps + r * width * kCount;
      for (int64_t dj = 0; dj < width; ++dj, taps += kCount) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          V x = Load(row, dj, v);
          Pin(x);
#pragma GCC unroll 4
          for (int i = decltype(first)::value; i <= decltype(last)::value; ++i) {
            sums[i][v] += x * *rows_back.From(taps, i);
          }
        }
      }
    };
    ForEachInputRow<kRows>(rows, arrays.window_rows, 1, rows_used, step);
  }
};

// Computes the strips of up to kRows output rows, `rows` of the input being at column 0 and `out`
// too. `masks` are those of the strip at column *masks_of.
template <class S, int kRows, int kVectors, bool kIs3x3>
inline void PlaneRows(const Geometry& g, const PlaneArrays<S>& arrays,
                      const TileRows<typename S::Element>& rows, int64_t rows_used,
                      LaneMask<typename S::Element>* masks, int64_t* masks_of,
                      typename S::Element* out) {
  using E = typename S::Element;
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  constexpr int64_t kColumns = kVectors * kCount;
  const int64_t reach = (arrays.filter_width - 1) * arrays.tap_step;
  const int64_t before = g.transposed ? reach - g.pad_left : g.pad_left;
  for (int64_t x = 0; x < g.out_width; x += kColumns) {
    // The last strip overlaps the one before rather than being partial.
    x = Max(0, Min(x, g.out_width - kColumns));
    TileRows<E> tile_rows = rows;
    tile_rows.row += x - before;
    const int64_t columns = g.out_width - x;
    // Narrow images have one strip, which is seldom inside.
    if constexpr (kVectors > 1) {
      if (x >= before && x - before + kColumns + reach <= g.in_width) {
        const PlaneTile<S, kRows, kVectors, kIs3x3, false> tile{arrays, tile_rows, nullptr,
                                                                rows_used, columns};
        tile.Run(out + x);
        continue;
      }
    }
    if (*masks_of != x) {
      for (int64_t i = 0; i < arrays.filter_width * kVectors; ++i) {
        const int64_t column = x - before + i / kVectors * arrays.tap_step + i % kVectors * kCount;
        masks[i] =
            LanesBetween<E>(Min(kCount, Max(0, -column)), Min(kCount, Max(0, g.in_width - column)));
      }
      *masks_of = x;
    }
    const PlaneTile<S, kRows, kVectors, kIs3x3, true> tile{arrays, tile_rows, masks, rows_used,
                                                           columns};
    tile.Run(out + x);
  }
}

template <class S>
struct PlaneRowsChoice {
  int64_t rows;
  decltype(&PlaneRows<S, kPlaneRows, kPlaneVectors, false>) compute;
};

// The best tile for a problem.
template <class S>
inline PlaneRowsChoice<S> ChoosePlaneRows(const Geometry& g) {
  if constexpr (kManyRegisters) {
    if (g.filter_width == 3 && g.filter_height == 3) {
      if (g.out_width <= kLanes<typename S::Accumulator>) {
        return {kPlaneSums, PlaneRows<S, kPlaneSums, 1, true>};
      }
      return {kPlaneSums / 2, PlaneRows<S, kPlaneSums / 2, 2, true>};
    }
  }
  return {kPlaneRows, PlaneRows<S, kPlaneRows, kPlaneVectors, false>};
}

template <class S>
inline void PlaneItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                      void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;

  constexpr int64_t kCount = kLanes<A>;
  const int64_t first = item.block * kCount;
  const int64_t channels = Min(kCount, g.OutputChannels() - first);
  A* const taps = static_cast<A*>(scratch);
  PackFilter<S>(problem, rows, TapsOf(ColumnSizes(g), 0), first, channels, kCount, 1, taps);
  auto* const masks = reinterpret_cast<LaneMask<E>*>(taps + rows.window * g.filter_width * kCount);
  int64_t masks_of = -1;
  const PlaneRowsChoice<S> tile = ChoosePlaneRows<S>(g);
  for (int64_t channel = first; channel < first + channels; ++channel) {
    const PlaneArrays<S> arrays{
        .taps = taps + channel - first,
        .bias = BiasOf<S>(problem, channel),
        .window_rows = rows.window,
        .filter_width = g.filter_width,
        .tap_step = g.dilation_width,
        .out_row_step = rows.out_step * out.row,
        .stream = plan.stream,
    };
    const int64_t in_channel = g.transposed ? channel : channel / g.channel_multiplier;
    const E* image =
        static_cast<const E*>(problem.input) + item.b * in.batch + in_channel * in.channel;
    E* output = static_cast<E*>(problem.output) + item.b * out.batch + channel * out.channel;
    for (int64_t t = item.first; t < item.last; t += tile.rows) {
      const int64_t rows_used = Min(tile.rows, item.last - t);
      const RowRange range = InputRowsOf(rows, t, rows_used);
      const TileRows<E> tile_rows{
          image + rows.InputCoordinate(range.first_unit + range.begin) * in.row,
          rows.in_step * in.row,
          range.begin,
          range.end,
          0,
          0};
      tile.compute(g, arrays, tile_rows, rows_used, masks, &masks_of,
                   output + (rows.out_first + t * rows.out_step) * out.row);
    }
  }
}

template <class S>
inline void RunPlane(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                     int64_t end, void* scratch) {
  for (int64_t item = begin; item < end; ++item) {
    ForEachPart(problem.geometry, plan, item,
                [&](const Item& part) { PlaneItem<S>(problem, plan, part, scratch); });
  }
}

// Plans the plane kernel; false if it does not suit, or if its taps need more than `limit` bytes.
template <class S>
inline bool PlanPlane(const ForwardProblem& problem, double limit, ForwardPlan* plan) {
  if constexpr (!kHasLaneMasks<typename S::Element>) return false;
  const Geometry& g = problem.geometry;
  const bool is_planes = !g.channels_last || g.OutputChannels() == 1;
  if (!is_planes || problem.input_strides.column != 1 || g.stride_width != 1 ||
      g.stride_height != 1 || (g.transposed && g.channel_multiplier > 1)) {
    return false;
  }
  // Where channels fill vectors the block kernel is faster, but for the smallest filters.
  const bool fills_vectors = g.OutputChannels() >= kLanes<typename S::Accumulator>;
  const bool suits_3x3 = kManyRegisters && g.filter_height == 3 && g.filter_width == 3 &&
                         g.out_width > kLanes<typename S::Accumulator> / 2;
  if (fills_vectors && !suits_3x3) return false;
  const double taps = static_cast<double>(g.filter_height) * g.filter_width;
  const double bytes =
      taps * kVectorBytes + static_cast<double>(g.filter_width) *
                                (kPlaneVectors * int{sizeof(LaneMask<typename S::Element>)});
  if (bytes > limit) return false;
  plan->algorithm = Algorithm::kPlane;
  plan->blocks = CeilDiv(g.OutputChannels(), kLanes<typename S::Accumulator>);
  plan->scratch_bytes = static_cast<int64_t>(bytes);
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
