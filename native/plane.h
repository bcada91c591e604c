// The plane kernel: rows of single planes (NCHW), or of few channels (NHWC), without strides, but
// for single planes that plane_walk.h computes. Rows are read in place as flat sequences:
// neighbouring columns are `channels` elements apart. Only the taps are copied. Vectors lie along
// the rows; of several channels those of an output vector repeat every `phases` vectors, and with
// them its taps.
//
// Order of the loops: image, plane, a few output rows, or for tall filters some dozens, strips of
// columns, so that memory is read and written in sequence.
#pragma once

#include "end_masks.h"
#include "fetch_ahead.h"
#include "plane_tile.h"
#include "plane_walk.h"
#include "staged_rows.h"
#include "tall_walk_tile.h"

namespace depthwise::DEPTHWISE_ISA {

// How far ahead of a tile planes are fetched.
inline constexpr int64_t kFetchedAheadBytes = 4096;

template <class S>
using PlaneMasks = EndMasks<S, kPlaneVectors>;

// Computes the strips of up to kRows output rows, of tall filters of any number, from element
// `begin` on, `rows` of the input being at column 0 and `out` too.
template <class S, int kRows, int kVectors, PlaneFilter kFilter, bool kSeveral>
inline void PlaneRows(const PlaneArrays<S>& arrays, const TileRows<typename S::Element>& rows,
                      int64_t rows_used, PlaneMasks<S>& masks, int64_t begin,
                      typename S::Element* out) {
  using E = typename S::Element;
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  constexpr bool kIsTall = kFilter == PlaneFilter::kTall;
  const int64_t vector_step = kSeveral ? arrays.phases * kCount : kCount;
  const int64_t reach = (arrays.filter_width - 1) * arrays.tap_step;
  const int64_t strip = kVectors * vector_step;
  // From the first tap of a phase to that of the next, in vectors: walks have all of one together.
  const int64_t phase_step = kIsTall ? kRows * arrays.filter_width : 1;
  // Each strip has its share, as many lines as it computes.
  const E* fetched = arrays.fetched;
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
        constexpr bool kMasked = decltype(masked)::value != 0;
        const PlaneStrip<S, kVectors, kSeveral, kMasked> place{arrays,
                                                               tile_rows,
                                                               arrays.taps + phase * phase_step,
                                                               arrays.bias + phase,
                                                               tile_masks,
                                                               rows_used,
                                                               arrays.out_size - x};
        if constexpr (kIsTall) {
          TallWalk<S, kRows, kVectors, kSeveral, kMasked>{place, fetched}.Run(out + x);
          if (fetched != nullptr) fetched += rows_used * kVectors * kCount;
        } else {
          PlaneTile<S, kRows, kVectors, kFilter, kSeveral, kMasked>{place}.Run(out + x);
        }
      };
      // With many registers only rows of one vector have such a tile: one strip, seldom inside.
      if constexpr (kVectors > 1 || !kManyRegisters) {
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
  // Of walks, which have packed taps of their own, and fewer rows if all can then have as many.
  PlaneArrays<S> (*pack)(const PlaneArrays<S>&, typename S::Accumulator*);

  DEPTHWISE_SMALL int64_t RowsOf(int64_t count) const {
    return pack == nullptr ? rows : CeilDiv(count, CeilDiv(count, rows));
  }
};

template <class S, bool kSeveral>
inline PlaneRowsFunction<S> FindTallWalk(int64_t filter_height) {
  constexpr bool kTapVectors = kHasTallVectors<S, kSeveral>;
  constexpr auto kTall = PlaneFilter::kTall;
  switch (filter_height) {
    case 5: return PlaneRows<S, 5, kTallVectors, kTall, kTapVectors>;
    case 7: return PlaneRows<S, 7, kTallVectors, kTall, kTapVectors>;
    case 9: return PlaneRows<S, 9, kTallVectors, kTall, kTapVectors>;
    default: break;
  }
  if constexpr (kTallestFilter<S> >= 11) return PlaneRows<S, 11, kTallVectors, kTall, kTapVectors>;
  return nullptr;
}

template <class S, bool kSeveral>
inline PlaneRowsChoice<S> ChoosePlaneRows(const Geometry& g, const ForwardPlan& plan) {
  constexpr int kHalf = kPlaneSums / 2;
  using enum PlaneFilter;
  const auto any = PlaneRows<S, kPlaneRows, kPlaneVectors, kAny, kSeveral>;
  if (g.filter_width == 3 && g.filter_height == 3) {
    if constexpr (!kManyRegisters) {
      const auto compute = PlaneRows<S, kHalf, 1, k3x3, kSeveral>;
      return {kHalf, compute, compute, nullptr};
    } else {
      if (kSeveral || g.out_width > kLanes<typename S::Accumulator>) {
        const auto compute = PlaneRows<S, kHalf, 2, k3x3, kSeveral>;
        return {kHalf, compute, compute, nullptr};
      }
      const auto compute = PlaneRows<S, kPlaneSums, 1, k3x3, false>;
      return {kPlaneSums, compute, compute, nullptr};
    }
  }
  if constexpr (kHas5x5Planes<S>) {
    if (g.filter_width == 5 && g.filter_height == 5) {
      return {kPlaneRowsOf5x5, PlaneRows<S, kPlaneRowsOf5x5, 2, k5x5, kSeveral>, any, nullptr};
    }
  }
  if constexpr (kHasTallWalks) {
    if (HasTallWalk<S>(g)) {
      return {MostWalkedRows<S>(g, plan), FindTallWalk<S, kSeveral>(g.filter_height), any,
              PackTallFilter<S, kSeveral>};
    }
  }
  return {kPlaneRows, any, any, nullptr};
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
  StagedRows staged(plan.staged_bytes > 0 ? scratch : nullptr);
  A* const taps = reinterpret_cast<A*>(static_cast<char*>(scratch) + plan.staged_bytes);
  A* const bias = taps + taps_size;
  A* const tall_taps = bias + vectors * kCount;
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
      .fetched = nullptr,
  };
  const PlaneRowsChoice<S> tile =
      several ? ChoosePlaneRows<S, true>(g, plan) : ChoosePlaneRows<S, false>(g, plan);
  const bool walks = tile.pack != nullptr;
  const int64_t together = tile.RowsOf(item.last - item.first);
  A* const taps_end = walks ? tall_taps + taps_size + vectors * kCount : tall_taps;
  PlaneMasks<S> masks(taps_end, vectors, g.filter_width, arrays.tap_step, arrays.before,
                      arrays.in_size);
  PlaneRowsFunction<S> masked_by = nullptr;
  for (int64_t channel = first; channel < first + planes; ++channel, ++arrays.taps, ++arrays.bias) {
    const int64_t in_channel = g.transposed ? channel : channel / g.channel_multiplier;
    const E* image =
        static_cast<const E*>(problem.input) + item.b * in.batch + in_channel * in.channel;
    E* output = static_cast<E*>(problem.output) + item.b * out.batch + channel * out.channel;
    PlaneArrays<S> tall = walks ? tile.pack(arrays, tall_taps) : arrays;
    for (int64_t t = item.first; t < item.last; t += together) {
      const int64_t rows_used = Min(together, item.last - t);
      const TileRows<E> tile_rows = RowsInPlace(rows, t, rows_used, image, in.row);
      if (plan.prefetch && walks) {
        // The rows below or, as the item ends, the first ones of its next plane. Those below are
        // another thread's: two threads would take 320 instead of 290 us for 3x480x640 5x5.
        const bool is_last = t + together >= item.last && channel + 1 < first + planes;
        const int64_t next = g.transposed ? channel + 1 : (channel + 1) / g.channel_multiplier;
        tall.fetched = is_last ? RowsInPlace(rows, item.first, rows_used, image, in.row).row +
                                     (next - in_channel) * in.channel
                               : tile_rows.row + (tile_rows.row_end - tile_rows.row_begin) * in.row;
      }
      if (plan.prefetch && !walks) {
        PrefetchShare(tile_rows.row + kFetchedAheadBytes / int64_t{sizeof(E)}, 0, 1,
                      rows_used * in.row * int64_t{sizeof(E)}, 0, 1);
      }
      const bool is_rest = rows_used <= kPlaneRows;
      const auto compute = is_rest ? tile.compute_rest : tile.compute;
      if (compute != masked_by) masks.Clear();
      masked_by = compute;
      E* const to = output + (rows.out_first + t * rows.out_step) * out.row;
      compute(is_rest ? arrays : tall, tile_rows, rows_used, masks, 0, staged.PlaceOf(to));
      staged.Store(rows_used * arrays.out_size * int64_t{sizeof(E)});
    }
  }
}

// Whether the plane kernel takes the walk of tall_walk_tile.h, unless plane_walk.h has one.
template <class S>
DEPTHWISE_SMALL inline bool TakesTallWalk(const Geometry& g) {
  return HasTallWalk<S>(g) && (g.channels_last || FindWalk<S>(g) == nullptr);
}

template <class S>
inline void RunPlane(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                     int64_t end, void* scratch) {
  auto compute = PlaneItem<S>;
  if (plan.period == 1 && plan.staged_bytes == 0) {
    if (const auto walk = FindWalk<S>(problem.geometry)) compute = walk;
  }
  for (Parts parts(problem.geometry, plan, begin, end); parts.AreLeft(); parts.Advance()) {
    compute(problem, plan, parts.Part(), scratch);
  }
}

// Planes are fetched ahead if they are so many that no cache keeps them, with rows so short that
// the hardware, which sees a sequence for each row of a tile, does not follow. 16x128x56x56 3x3
// takes 4400 instead of 6000 us from memory, and as long from the last-level cache, where fewer
// planes and longer rows would take 10 to 20% more (Xeon, model 167).
inline constexpr double kPlanePrefetchBytes = 32 << 20;
inline constexpr int64_t kFetchedPlaneRowBytes = 1024;

// Whether planes are so many, with rows of so many elements.
template <class S>
inline bool AreManyShortRows(int64_t row, double bytes) {
  return bytes > kPlanePrefetchBytes &&
         row <= kFetchedPlaneRowBytes / int64_t{sizeof(typename S::Element)};
}

// The largest buffer for the rows of a tile that are staged.
inline constexpr int64_t kMostStagedBytes = 128 * 1024;

// Bytes of that buffer for a large output of a plan, or 0 if it cannot be staged: only planes are,
// whose rows follow each other. (With a stride of 2 it took as long, wide rows of 16-bit types up
// to a fifth longer. What is staged is computed by tiles: 3x3 takes up to 20% longer by walks that
// are not, but 5x5 up to 20% less, and tall filters gain nothing: 32x3x224x224 5x5 takes 2900 in
// place of 3900 us.) With AVX2 many short rows, if they are wider than a vector: 32x128x56x56 3x3
// takes 7330 instead of 10,440 us, but 8x128x56x56 up to 14%, 3x1080x1920 up to 40% more (Xeon,
// model 167).
template <class S>
DEPTHWISE_SMALL inline int64_t StagedBytes(const ForwardProblem& problem, const ForwardPlan& plan,
                                           double bytes) {
  const Geometry& g = problem.geometry;
  const int64_t row = problem.output_strides.row;
  const bool pays = kCanStream<S> || (kVectorBytes == 32 && AreManyShortRows<S>(row, bytes) &&
                                      row > kLanes<typename S::Accumulator>);
  if (!pays || plan.algorithm != Algorithm::kPlane || RowResidues(g) > 1 ||
      row != g.out_width * plan.period) {
    return 0;
  }
  if (HasTallWalk<S>(g)) return 0;
  // The most of any tile: of 3x3, narrow and wide, of 5x5, and of any filter.
  static_assert(kPlaneRows <= kPlaneSums / 2 && kPlaneRowsOf5x5 <= kPlaneSums / 2);
  const int64_t rows = row <= kLanes<typename S::Accumulator> ? kPlaneSums : kPlaneSums / 2;
  const int64_t buffer = StagedRows::BufferBytes(rows * row * int64_t{sizeof(typename S::Element)});
  return buffer <= kMostStagedBytes ? buffer : 0;
}

// Whether small or narrow filters are worth reading planes in place that blocks could take: if the
// strips of a row are full but for a fifth. (16-bit types convert what they load for each tap, and
// with AVX2 short rows have masks for most loads.) In us, model 167: 96x56x56 2x2 115 to 87,
// 64x64x64 4x4 190 to 110, 96x56x56 7x3 227 to 123, but 128x20x20 7x4 would take a quarter more.
template <class S>
DEPTHWISE_SMALL inline bool SuitsFewColumns(const Geometry& g) {
  constexpr int64_t kMostColumns = sizeof(typename S::Element) == 2 || !kManyRegisters ? 3 : 4;
  constexpr int64_t kMostTaps = 16, kLeastStrips = kManyRegisters ? 1 : 3;
  const bool walks = HasTallWalk<S>(g);
  const int64_t strip = (walks ? kTallVectors : kPlaneVectors) * kLanes<typename S::Accumulator>;
  const int64_t computed = Max(kLeastStrips, CeilDiv(g.out_width, strip)) * strip;
  return g.filter_width <= kMostColumns &&
         (walks || !kManyRegisters || g.filter_height <= kMostTaps / g.filter_width) &&
         g.out_width >= computed - computed / 5;
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
  // Where planes fill vectors the block kernel is faster, but for small filters and walks, of tall
  // filters those down wide rows or of few columns.
  const bool suits_3x3 = g.filter_height == 3 && g.filter_width == 3 && g.out_width > kCount / 2;
  const bool suits_tall = SuitsTallWalk<S>(g);
  if (g.OutputChannels() >= kCount && !suits_3x3 &&
      (period > 1 || (!suits_tall && !SuitsFewColumns<S>(g) && FindWalk<S>(g) == nullptr))) {
    return false;
  }
  const int64_t phases = period / GreatestCommonDivisor(period, kCount);
  const double taps = static_cast<double>(g.filter_height) * g.filter_width;
  const double vectors = (HasTallWalk<S>(g) ? 2 : 1) * (taps + 1) * phases;
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
