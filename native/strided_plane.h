// The kernel for planes (NCHW) with a stride of 2 along the width, and for their input gradients,
// in place; 3x3 and 5x5 with that stride along both axes are mostly plane_walk.h, other filters of
// few planes with AVX-512 permuted.h. A vector holds neighbouring outputs, which meet every second
// column of the input: so two vectors are loaded and the even lanes taken, or the odd. In a
// gradient the even columns of the output meet other taps than the odd: a vector of each is
// computed, and both are stored as two of neighbouring columns.
//
// Order of the loops: image, plane, a few output rows, strips of columns.
#pragma once

#include "pack.h"
#include "plane_walk.h"
#include "shuffle.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// The tiles: for input gradients, of narrow planes one vector wide; for any filter. With four
// output rows instead of two they take 5% less time, and 100 kB.
enum class StridedKind { kGradient, kNarrowGradient, kAny };
inline constexpr int kStridedRows = 2;
template <StridedKind kKind>
struct StridedTraits {
  static constexpr bool kIsNarrow = kKind == StridedKind::kNarrowGradient;
  static constexpr bool kIsGradient = kKind == StridedKind::kGradient || kIsNarrow;
  static constexpr int kVectors = kIsNarrow || !kManyRegisters ? 1 : 2;  // along the width
};
inline constexpr int kMostStridedVectors = 2;

// Whether few planes have a tile for any filter. With AVX-512 they are permuted.h's, which is there
// anyway, and faster but for narrow planes.
inline constexpr bool kHasAnyStridedFilter = kVectorBytes == 32;

// What one item needs to know of its arrays; steps in elements. A position is an output column or,
// of a gradient, a pair of them.
template <class S>
struct StridedArrays {
  // The taps of all columns or, of a gradient, of the even and of the odd ones: [window_rows,
  // count], taps_step apart, one accumulator each. See PackFilter().
  struct Phase {
    const typename S::Accumulator* taps;
    int64_t count;
    int64_t first_column;  // of the input, under the first tap of the first output
  };
  Phase phases[2];
  const typename S::Accumulator* bias;
  int64_t taps_step;
  int64_t window_rows, row_stride;
  int64_t in_width;
  int64_t out_row_step;
  bool stream;
};

// The lanes inside the image of all vectors that a tile at `position` loads of a row, in its order.
template <class E>
struct StripMasks {
  LaneMask<E>* masks;
  int64_t position;
};

template <class S, StridedKind kKind>
inline void MakeMasks(const StridedArrays<S>& arrays, int64_t position,
                      StripMasks<typename S::Element>* strip) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  constexpr bool kGradient = StridedTraits<kKind>::kIsGradient;
  constexpr int kLoads = (kGradient ? 1 : 2) * StridedTraits<kKind>::kVectors;
  strip->position = position;
  auto* mask = strip->masks;
  for (const auto& phase : arrays.phases) {
    const int64_t first = (kGradient ? position : 2 * position) + phase.first_column;
    for (int64_t dj = 0; dj < phase.count; dj += kGradient ? 1 : 2) {
      for (int k = 0; k < kLoads; ++k) {
        const int64_t at = first + dj + k * kCount;
        *mask++ = LanesInside<S>(at, arrays.in_width);
      }
    }
  }
}

// A tile of up to kRows output rows x kVectors vectors of positions. With kMasked the lanes outside
// the image are zero.
template <class S, StridedKind kKind, bool kMasked>
struct StridedTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;
  static constexpr bool kGradient = StridedTraits<kKind>::kIsGradient;
  static constexpr int kRows = kStridedRows;
  static constexpr int kVectors = StridedTraits<kKind>::kVectors;
  // Vectors of an output row, which in a gradient are pairs of one for even and one for odd
  // columns.
  static constexpr int kSums = kGradient ? 2 * kVectors : kVectors;
  using Sums = V[kRows][kSums];

  const StridedArrays<S>& arrays;
  TileRows<E> rows;  // at the column of the tile's first position, without padding
  const LaneMask<E>* masks;
  int64_t rows_used, columns;  // that are stored

  DEPTHWISE_INLINE void Run(E* out) const {
    Sums sums = {};
    ForEachInputRow<kRows>(
        rows, arrays.window_rows, arrays.row_stride, rows_used,
        [&](auto first, auto last, int64_t r, const E* row) DEPTHWISE_INLINE_LAMBDA {
          constexpr int kFirst = decltype(first)::value, kLast = decltype(last)::value;
          const LaneMask<E>* mask = masks;
          if constexpr (kGradient) {
            AddPhase<kFirst, kLast, 0>(r, row, mask, sums);
            AddPhase<kFirst, kLast, 1>(r, row, mask, sums);
          } else {
            AddPairs<kFirst, kLast>(r, row, mask, sums);
          }
        });
    const V bias = *arrays.bias - V{};
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i, out = Step(out, arrays.out_row_step)) {
      if (i >= rows_used) break;
#pragma GCC unroll 4
      for (int k = 0; k < kSums; ++k) {
        V sum = sums[i][k];
        if constexpr (kGradient) {
          const V even = sums[i][k / 2 * 2], odd = sums[i][k / 2 * 2 + 1];
          sum = k % 2 == 0 ? Interleave<false>(even, odd) : Interleave<true>(even, odd);
        }
        if (columns - k * kCount >= kCount) {
          StoreVector<S>(out + k * kCount, sum + bias, arrays.stream);
        } else if (columns > k * kCount) {
          S::StorePartial(out + k * kCount, sum + bias, columns - k * kCount);
        }
      }
    }
  }

  static DEPTHWISE_INLINE V Load(const E* from, const LaneMask<E>*& mask) {
    if constexpr (kMasked) return S::LoadMasked(from, *mask++);
    return S::Load(from);
  }

  // Adds what the taps of a gradient's even or odd columns meet of input row r.
  template <int kFirst, int kLast, int kPhase>
  DEPTHWISE_INLINE void AddPhase(int64_t r, const E* row, const LaneMask<E>*& mask,
                                 Sums& sums) const {
    const auto& phase = arrays.phases[kPhase];
    const Steps rows_back = Steps::Of<A>(-phase.count * arrays.taps_step);
    const A* tap = phase.taps + r * phase.count * arrays.taps_step;
    const E* from = row + phase.first_column;
    for (int64_t dj = 0; dj < phase.count; ++dj, tap += arrays.taps_step, ++from) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        Add<kFirst, kLast>(Load(from + v * kCount, mask), rows_back, tap, 2 * v + kPhase, sums);
      }
    }
  }

  // Adds what all taps meet of input row r, two neighbours at a time.
  template <int kFirst, int kLast>
  DEPTHWISE_INLINE void AddPairs(int64_t r, const E* row, const LaneMask<E>*& mask,
                                 Sums& sums) const {
    const auto& phase = arrays.phases[0];
    const Steps rows_back = Steps::Of<A>(-arrays.row_stride * phase.count * arrays.taps_step);
    const A* tap = phase.taps + r * phase.count * arrays.taps_step;
    const E* from = row + phase.first_column;
    for (int64_t left = phase.count; left > 0; left -= 2, tap += 2 * arrays.taps_step, from += 2) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const V a = Load(from + 2 * v * kCount, mask), b = Load(from + (2 * v + 1) * kCount, mask);
        Add<kFirst, kLast>(EvenLanes(a, b), rows_back, tap, v, sums);
        if (left == 1) continue;
        Add<kFirst, kLast>(OddLanes(a, b), rows_back, tap + arrays.taps_step, v, sums);
      }
    }
  }

  template <int kFirst, int kLast>
  static DEPTHWISE_INLINE void Add(V x, const Steps& rows_back, const A* tap, int k, Sums& sums) {
    Pin(x);
#pragma GCC unroll 4
    for (int i = kFirst; i <= kLast; ++i) sums[i][k] += x * (*rows_back.From(tap, i) - V{});
  }
};

template <class S, StridedKind kKind>
inline void StridedItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                        void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  using Traits = StridedTraits<kKind>;
  constexpr bool kGradient = Traits::kIsGradient;
  constexpr int64_t kStrip = Traits::kVectors * kCount;
  constexpr int64_t kOutColumns = kGradient ? 2 : 1, kInColumns = kGradient ? 1 : 2;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const int64_t first_channel = item.block * kCount;
  const int64_t channels = Min(kCount, g.OutputChannels() - first_channel);

  A* const taps = static_cast<A*>(scratch);
  A* const bias = PackFilterClasses<S>(problem, rows, first_channel, channels, taps);
  PackBias<S>(problem, first_channel, channels, kCount, 1, bias);
  auto* mask_memory = reinterpret_cast<LaneMask<E>*>(bias + kCount);
  StridedArrays<S> arrays{
      .phases = {},
      .bias = bias,
      .taps_step = kCount,
      .window_rows = rows.window,
      .row_stride = rows.stride,
      .in_width = g.in_width,
      .out_row_step = rows.out_step * out.row,
      .stream = plan.stream,
  };
  // Strips whose first position is at these input columns need no masks.
  int64_t inside_begin = 0, inside_last = g.in_width;
  for (int p = 0; p < kOutColumns; ++p) {
    const Axis columns = ColumnAxis(g, p);
    const int64_t count = columns.taps.count, first = columns.in_first;
    arrays.phases[p] = {taps + rows.window * columns.taps.before * kCount, count, first};
    if (count == 0) continue;
    const int64_t last_load = kGradient ? count - 1 : (count - 1) / 2 * 2;
    inside_begin = Max(inside_begin, -first);
    inside_last = Min(inside_last, g.in_width - first - last_load - kStrip * kInColumns);
  }
  const int64_t positions = CeilDiv(g.out_width, kOutColumns);
  const int64_t rows_together = RowsTogether(rows.stride, rows.window, kStridedRows);
  // Those of the first strip, and of another one: the last mostly.
  StripMasks<E> masks[2];
  for (StripMasks<E>& of_strip : masks) {
    of_strip = {mask_memory, -1};
    mask_memory += (g.filter_width + 1) * Traits::kVectors;
  }
  for (int64_t channel = first_channel; channel < first_channel + channels; ++channel) {
    const int64_t in_channel = kGradient ? channel : channel / g.channel_multiplier;
    const E* image =
        static_cast<const E*>(problem.input) + item.b * in.batch + in_channel * in.channel;
    E* output = static_cast<E*>(problem.output) + item.b * out.batch + channel * out.channel;
    for (int64_t t = item.first; t < item.last; t += rows_together) {
      const int64_t rows_used = Min(rows_together, item.last - t);
      const TileRows<E> tile_rows = RowsInPlace(rows, t, rows_used, image, in.row);
      E* const to = output + (rows.out_first + t * rows.out_step) * out.row;
      for (int64_t first = 0; first < positions; first += kStrip) {
        // The last strip overlaps the one before rather than being partial.
        first = Max(0, Min(first, positions - kStrip));
        const int64_t in_column = first * kInColumns, out_column = first * kOutColumns;
        TileRows<E> strip_rows = tile_rows;
        strip_rows.row += in_column;
        const int64_t columns = g.out_width - out_column;
        // The only strip of a narrow plane is seldom inside.
        if constexpr (!Traits::kIsNarrow) {
          if (in_column >= inside_begin && in_column <= inside_last) {
            const StridedTile<S, kKind, false> tile{arrays, strip_rows, nullptr, rows_used,
                                                    columns};
            tile.Run(to + out_column);
            continue;
          }
        }
        StripMasks<E>& of_strip = masks[first > 0];
        if (of_strip.position != first) MakeMasks<S, kKind>(arrays, first, &of_strip);
        const StridedTile<S, kKind, true> tile{arrays, strip_rows, of_strip.masks, rows_used,
                                               columns};
        tile.Run(to + out_column);
      }
    }
    for (auto& phase : arrays.phases) ++phase.taps;
    ++arrays.bias;
  }
}

template <class S>
inline void RunStridedPlane(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                            int64_t end, void* scratch) {
  const Geometry& g = problem.geometry;
  using enum StridedKind;
  auto compute = StridedItem<S, kGradient>;
  if constexpr (kHasAnyStridedFilter) {
    if (!g.transposed) compute = StridedItem<S, kAny>;
  }
  if constexpr (StridedTraits<kGradient>::kVectors > 1) {
    const bool is_narrow = g.out_width <= 2 * kLanes<typename S::Accumulator>;
    if (g.transposed && is_narrow) compute = StridedItem<S, kNarrowGradient>;
  }
  if (const auto walk = FindWalk<S>(g)) compute = walk;
  for (Parts parts(g, plan, begin, end); parts.AreLeft(); parts.Advance()) {
    compute(problem, plan, parts.Part(), scratch);
  }
}

// Plans this kernel; false if it does not suit, or if its taps need more than `limit` bytes.
template <class S>
DEPTHWISE_SMALL inline bool PlanStridedPlane(const ForwardProblem& problem, double limit,
                                             ForwardPlan* plan) {
  using E = typename S::Element;
  if constexpr (!kHasLaneMasks<E>) return false;
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const Geometry& g = problem.geometry;
  if (g.channels_last || g.stride_width != 2 || g.dilation_width != 1 ||
      (g.transposed && g.channel_multiplier != 1) || problem.input_strides.column != 1) {
    return false;
  }
  // Where channels fill vectors the block kernel is faster but for these: it takes twice as long
  // for 57x57 3x3 and its gradient, and 1.6 times for 5x5; but 10% less for 14x14 5x5, 4% for 56x56
  // 9x9.
  const double taps = static_cast<double>(g.filter_height) * g.filter_width;
  const bool is_wide = g.out_width > kCount / 2;
  const bool is_walked = FindWalk<S>(g) != nullptr;
  const bool suits = g.transposed
                         ? (taps <= 9 && is_wide) || (taps <= 25 && g.out_width > 2 * kCount)
                         : is_walked && is_wide;
  const bool has_tile = g.transposed || is_walked || kHasAnyStridedFilter;
  if (!has_tile || (!suits && g.OutputChannels() >= kCount)) return false;
  const double vectors = MaxPackedTaps(g) + 1;
  const double masks =
      2 * (g.filter_width + 1.0) * kMostStridedVectors * double{sizeof(LaneMask<E>)};
  if (vectors * kVectorBytes + masks > limit) return false;
  plan->algorithm = Algorithm::kStridedPlane;
  plan->blocks = CeilDiv(g.OutputChannels(), kCount);
  plan->scratch_bytes = static_cast<int64_t>(vectors * kVectorBytes + masks);
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
