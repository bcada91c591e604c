// The plane kernel: rows of single planes (NCHW), or of few channels (NHWC), without strides, read
// in place as flat sequences: neighbouring columns are `channels` elements apart. Only the taps are
// copied. Vectors lie along the rows; of several channels those of an output vector repeat every
// `phases` vectors, and with them its taps.
//
// Order of the loops: image, plane, a few output rows, strips of columns, so that memory is read
// and written in sequence.
#pragma once

#include "end_masks.h"
#include "pack.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Output rows and vectors of a tile for filters of any width.
inline constexpr int kPlaneRows = 4;
inline constexpr int kPlaneVectors = kManyRegisters ? 4 : 2;

// The sums of a tile for 3x3: as many rows of one vector, or half of them of two.
inline constexpr int kPlaneSums = 14;

// Rows of two vectors for 5x5. Neighbouring columns seldom lie in one cache line, so that a load
// takes as long as four multiply-adds: it has to serve that many output rows. With this tile
// 480x640x3 takes 480 instead of 590 us.
inline constexpr int kPlaneRowsOf5x5 = 8;

// Only float32 has it, and larger filters with their rows in order, for the size of the package.
template <class S>
inline constexpr bool kHasSpecialPlanes = kManyRegisters && sizeof(typename S::Element) == 4;

// The filters that a tile is made for.
enum class PlaneFilter { kAny, k3x3, k5x5 };

// What one item needs to know of its arrays; steps in elements.
template <class S>
struct PlaneArrays {
  // [window_rows, filter_width], taps_step apart: of several channels a vector for each phase, else
  // one accumulator. See PackFilter() and PackBias().
  const typename S::Accumulator* taps;
  const typename S::Accumulator* bias;
  int64_t taps_step;
  int64_t window_rows;             // units under the filter along the height
  int64_t filter_width, tap_step;  // taps of a row, and between what they meet
  int64_t phases;                  // vectors after which the channels of a row repeat
  int64_t in_size, out_size;       // elements of a row
  int64_t before;                  // of padding, in elements
  int64_t out_row_step;
  bool stream;  // store past the caches
};

// A tile of kRows output rows x kVectors vectors of the same phase, of single or several channels.
// With kMasked the lanes outside the image are zero.
template <class S, int kRows, int kVectors, PlaneFilter kFilter, bool kSeveral, bool kMasked>
struct PlaneTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  using Sums = V[kRows][kVectors];
  static constexpr int kCount = kLanes<A>;

  const PlaneArrays<S>& arrays;
  TileRows<E> rows;  // at what the first tap of the first output meets
  const A* taps;     // of the phase
  const A* bias;
  const LaneMask<E>* masks;    // [filter_width, kVectors]
  int64_t rows_used, columns;  // that are stored

  // Between the vectors of the tile.
  DEPTHWISE_INLINE int64_t VectorStep() const { return kSeveral ? arrays.phases * kCount : kCount; }

  static DEPTHWISE_INLINE V Channels(const A* from) {
    if constexpr (kSeveral) return LoadUnaligned<V>(from);
    return *from - V{};
  }

  DEPTHWISE_INLINE void Run(E* out) const {
    V sums[kRows][kVectors] = {};
    if constexpr (kFilter == PlaneFilter::k3x3) {
      AddAll(sums);
    } else if constexpr (kFilter == PlaneFilter::k5x5) {
      AddAllOf5x5(sums);
    } else {
      AddByTaps(sums);
    }
    const V added = Channels(bias);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, out = Step(out, arrays.out_row_step)) {
      if (i >= rows_used) break;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const int64_t count = columns - v * VectorStep();
        E* const to = out + v * VectorStep();
        if (count >= kCount) {
          StoreVector<S>(to, sums[i][v] + added, arrays.stream);
        } else if (count > 0) {
          S::StorePartial(to, sums[i][v] + added, count);
        }
      }
    }
  }

  // Vector v of what tap dj meets of an input row, with one of `tile_masks`.
  DEPTHWISE_INLINE V Load(const E* row, int64_t dj, int v, const LaneMask<E>* tile_masks) const {
    const E* const from = row + dj * arrays.tap_step + v * VectorStep();
    if constexpr (kMasked) return S::LoadMasked(from, tile_masks[dj * kVectors + v]);
    return S::Load(from);
  }

  // All rows unrolled, all taps in registers.
  DEPTHWISE_INLINE void AddAll(Sums& sums) const {
    V tap[3][3];
#pragma GCC unroll 3
    for (int di = 0; di < 3; ++di) {
#pragma GCC unroll 3
      for (int dj = 0; dj < 3; ++dj) {
        tap[di][dj] = Channels(taps + (di * 3 + dj) * arrays.taps_step);
      }
    }
    LaneMask<E> pinned[3 * kVectors] = {};
    if constexpr (kMasked) {
#pragma GCC unroll 6
      for (int i = 0; i < 3 * kVectors; ++i) {
        pinned[i] = masks[i];
        PinMask(pinned[i]);
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
          V x = Load(row, dj, v, pinned);
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

  // All rows and taps unrolled; the taps stay in memory.
  DEPTHWISE_INLINE void AddAllOf5x5(Sums& sums) const {
    const Steps rows_back = Steps::Of<A>(-5 * arrays.taps_step);
    const E* row = rows.row;
    ForEachSize<kRows + 4>([&](auto size) DEPTHWISE_INLINE_LAMBDA {
      constexpr int r = decltype(size)::value;
      if (r < rows.row_begin || r >= rows.row_end) return;
      constexpr int kFirst = r < 5 ? 0 : r - 4, kLast = r < kRows ? r : kRows - 1;
      const A* tap = taps + (r - kFirst) * 5 * arrays.taps_step;
      const E* from = row;
      const LaneMask<E>* mask = masks;
#pragma GCC unroll 5
      for (int dj = 0; dj < 5; ++dj) {
        V x[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v, ++mask) {
          if constexpr (kMasked) {
            x[v] = S::LoadMasked(from + v * VectorStep(), *mask);
          } else {
            x[v] = S::Load(from + v * VectorStep());
          }
          Pin(x[v]);
        }
        const A* of_row = tap;
#pragma GCC unroll 8
        for (int i = kFirst; i <= kLast; ++i) {
          V t = Channels(rows_back.Walk(of_row, i - kFirst));
          Pin(t);
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) sums[i][v] += x[v] * t;
        }
        from = Step(from, arrays.tap_step);
        tap = Step(tap, arrays.taps_step);
      }
      row = Step(row, rows.row_step);
    });
  }

  DEPTHWISE_INLINE void AddByTaps(Sums& sums) const {
    const int64_t width = arrays.filter_width;
    const Steps rows_back = Steps::Of<A>(-width * arrays.taps_step);
    const auto step = [&](auto first, auto last, int64_t r, const E* row) DEPTHWISE_INLINE_LAMBDA {
      const A* tap = taps + r * width * arrays.taps_step;
      for (int64_t dj = 0; dj < width; ++dj, tap += arrays.taps_step) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          V x = Load(row, dj, v, masks);
          Pin(x);
#pragma GCC unroll 4
          for (int i = decltype(first)::value; i <= decltype(last)::value; ++i) {
            sums[i][v] += x * Channels(rows_back.From(tap, i));
          }
        }
      }
    };
    if constexpr (kHasSpecialPlanes<S>) {
      if (rows_used == kRows && arrays.window_rows >= kRows) {
        return ForEachInputRowInOrder<kRows>(rows, arrays.window_rows, step);
      }
    }
    ForEachInputRow<kRows>(rows, arrays.window_rows, 1, rows_used, step);
  }
};

template <class S>
using PlaneMasks = EndMasks<S, kPlaneVectors>;

// Computes the strips of up to kRows output rows from element `begin` on, `rows` of the input being
// at column 0 and `out` too.
template <class S, int kRows, int kVectors, PlaneFilter kFilter, bool kSeveral>
inline void PlaneRows(const PlaneArrays<S>& arrays, const TileRows<typename S::Element>& rows,
                      int64_t rows_used, PlaneMasks<S>& masks, int64_t begin,
                      typename S::Element* out) {
  using E = typename S::Element;
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  const int64_t vector_step = kSeveral ? arrays.phases * kCount : kCount;
  const int64_t reach = (arrays.filter_width - 1) * arrays.tap_step;
  const int64_t strip = kVectors * vector_step;
  for (int64_t first = begin; first < arrays.out_size; first += strip) {
    // A rest of one vector has a tile of one: 33x33x256 3x3 160 to 130, 112x112x32 113 to 103 us.
    if constexpr (kFilter == PlaneFilter::k3x3 && kVectors > 1 && !kSeveral) {
      if (first > 0 && arrays.out_size - first <= kCount) {
        PlaneRows<S, kRows, 1, kFilter, false>(arrays, rows, rows_used, masks,
                                               arrays.out_size - kCount, out);
        return;
      }
    }
    // The last strip overlaps the one before rather than being partial, but must keep its phases.
    if (!kSeveral) first = Max(0, Min(first, arrays.out_size - strip));
    const int64_t phases_end = Min(arrays.out_size, first + vector_step);
    for (int64_t x = first, phase = 0; x < phases_end; x += kCount, phase += kCount) {
      TileRows<E> tile_rows = rows;
      tile_rows.row += x - arrays.before;
      const auto run = [&](auto masked, const LaneMask<E>* tile_masks) DEPTHWISE_INLINE_LAMBDA {
        const PlaneTile<S, kRows, kVectors, kFilter, kSeveral, decltype(masked)::value != 0> tile{
            arrays,     tile_rows, arrays.taps + phase, arrays.bias + phase,
            tile_masks, rows_used, arrays.out_size - x};
        tile.Run(out + x);
      };
      // Rows of one vector have one strip, which is seldom inside.
      if constexpr (kVectors > 1) {
        if (x >= arrays.before &&
            x - arrays.before + strip - vector_step + kCount + reach <= arrays.in_size) {
          run(Size<0>{}, nullptr);
          continue;
        }
      }
      const auto where = first == 0       ? PlaneMasks<S>::kFirst
                         : first == begin ? PlaneMasks<S>::kRest
                                          : PlaneMasks<S>::kLater;
      run(Size<1>{}, masks.Find(where, phase / kCount, x, kVectors, vector_step));
    }
  }
}

template <class S>
using PlaneRowsFunction =
    decltype(&PlaneRows<S, kPlaneRows, kPlaneVectors, PlaneFilter::kAny, false>);

// The best tile for a problem, and the one for the last rows if there are at most kPlaneRows.
template <class S>
struct PlaneRowsChoice {
  int64_t rows;
  PlaneRowsFunction<S> compute;
  PlaneRowsFunction<S> compute_rest;
};

template <class S, bool kSeveral>
inline PlaneRowsChoice<S> ChoosePlaneRows(const Geometry& g) {
  constexpr int kHalf = kPlaneSums / 2;
  using enum PlaneFilter;
  const auto any = PlaneRows<S, kPlaneRows, kPlaneVectors, kAny, kSeveral>;
  if constexpr (kManyRegisters) {
    if (g.filter_width == 3 && g.filter_height == 3) {
      if (kSeveral || g.out_width > kLanes<typename S::Accumulator>) {
        const auto compute = PlaneRows<S, kHalf, 2, k3x3, kSeveral>;
        return {kHalf, compute, compute};
      }
      const auto compute = PlaneRows<S, kPlaneSums, 1, k3x3, false>;
      return {kPlaneSums, compute, compute};
    }
  }
  if constexpr (kHasSpecialPlanes<S>) {
    if (g.filter_width == 5 && g.filter_height == 5) {
      return {kPlaneRowsOf5x5, PlaneRows<S, kPlaneRowsOf5x5, 2, k5x5, kSeveral>, any};
    }
  }
  return {kPlaneRows, any, any};
}

template <class S>
inline void PlaneItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                      void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  // Planes have the taps of a vector of channels packed at a time, of which each uses its lane.
  const bool several = plan.period > 1;
  const int64_t first = item.block * kCount;
  const int64_t channels = Min(kCount, g.OutputChannels() - first);
  const int64_t planes = several ? 1 : channels;
  const int64_t vectors = plan.phases;
  const int64_t taps_size = rows.window * g.filter_width * vectors * kCount;
  A* const taps = static_cast<A*>(scratch);
  A* const bias = taps + taps_size;
  const int64_t period = several ? plan.period : kCount;
  PackFilter<S>(problem, rows, TapsOf(ColumnSizes(g), 0), first, channels, period, vectors, taps);
  PackBias<S>(problem, first, channels, period, vectors, bias);
  const int64_t reach = (g.filter_width - 1) * g.dilation_width;
  PlaneArrays<S> arrays{
      .taps = taps,
      .bias = bias,
      .taps_step = vectors * kCount,
      .window_rows = rows.window,
      .filter_width = g.filter_width,
      .tap_step = g.dilation_width * plan.period,
      .phases = vectors,
      .in_size = g.in_width * plan.period,
      .out_size = g.out_width * plan.period,
      .before = (g.transposed ? reach - g.pad_left : g.pad_left) * plan.period,
      .out_row_step = rows.out_step * out.row,
      .stream = plan.stream,
  };
  PlaneMasks<S> masks(bias + vectors * kCount, vectors, g.filter_width, arrays.tap_step,
                      arrays.before, arrays.in_size);
  PlaneRowsFunction<S> masked_by = nullptr;
  const PlaneRowsChoice<S> tile =
      several ? ChoosePlaneRows<S, true>(g) : ChoosePlaneRows<S, false>(g);
  for (int64_t channel = first; channel < first + planes; ++channel, ++arrays.taps, ++arrays.bias) {
    const int64_t in_channel = g.transposed ? channel : channel / g.channel_multiplier;
    const E* image =
        static_cast<const E*>(problem.input) + item.b * in.batch + in_channel * in.channel;
    E* output = static_cast<E*>(problem.output) + item.b * out.batch + channel * out.channel;
    for (int64_t t = item.first; t < item.last; t += tile.rows) {
      const int64_t rows_used = Min(tile.rows, item.last - t);
      const TileRows<E> tile_rows = RowsInPlace(rows, t, rows_used, image, in.row);
      const auto compute = rows_used > kPlaneRows ? tile.compute : tile.compute_rest;
      if (compute != masked_by) masks.Clear();
      masked_by = compute;
      compute(arrays, tile_rows, rows_used, masks, 0,
              output + (rows.out_first + t * rows.out_step) * out.row);
    }
  }
}

template <class S>
inline void RunPlane(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                     int64_t end, void* scratch) {
  for (Parts parts(problem.geometry, plan, begin, end); parts.AreLeft(); parts.Advance()) {
    PlaneItem<S>(problem, plan, parts.Part(), scratch);
  }
}

// Plans the plane kernel; false if it does not suit, or if its taps need more than `limit` bytes.
template <class S>
DEPTHWISE_SMALL inline bool PlanPlane(const ForwardProblem& problem, double limit,
                                      ForwardPlan* plan) {
  if constexpr (!kHasLaneMasks<typename S::Element>) return false;
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  if (g.stride_width != 1 || g.stride_height != 1 ||
      ((g.transposed || g.channels_last) && g.channel_multiplier > 1)) {
    return false;
  }
  const int64_t period = g.channels_last ? g.in_channels : 1;
  if (period >= kCount || in.column != period || (period > 1 && in.channel != 1)) return false;
  // Where planes fill vectors the block kernel is faster, but for the smallest filters.
  const bool suits_3x3 =
      kManyRegisters && g.filter_height == 3 && g.filter_width == 3 && g.out_width > kCount / 2;
  if (g.OutputChannels() >= kCount && !suits_3x3) return false;
  const int64_t phases = period / GreatestCommonDivisor(period, kCount);
  const double vectors = (static_cast<double>(g.filter_height) * g.filter_width + 1) * phases;
  // The filter may have any width.
  if (vectors * kVectorBytes > limit) return false;
  const auto masks = static_cast<double>(PlaneMasks<S>::Bytes(phases, g.filter_width));
  if (vectors * kVectorBytes + masks > limit) return false;
  plan->algorithm = Algorithm::kPlane;
  plan->period = period;
  plan->phases = phases;
  plan->blocks = CeilDiv(g.OutputChannels(), kCount);
  plan->scratch_bytes = static_cast<int64_t>(vectors * kVectorBytes + masks);
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
