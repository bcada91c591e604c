// Rows of few channels (NHWC) with a stride or a channel multiplier, and of single planes with a
// stride, read in place: what a vector of outputs meets lies within two vectors of the input, from
// which a permutation takes it. Several taps of a row take theirs from the same two.
//
// A vector holds whole pixels of the output, so that all of them have the same taps and the same
// permutations. Lanes that are left over hold nothing of use, and the next vector overwrites what
// they store.
//
// Order of the loops: image, plane, a few output rows, strips of columns, so that memory is read
// and written in sequence.
#pragma once

#include <type_traits>

#include "pack.h"
#include "shuffle.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Where two vectors are permuted at a time, and loads have masks. With AVX2, where that takes three
// instructions, only in float32.
template <class S>
inline constexpr bool kHasPermuted =
    kHasLaneMasks<typename S::Element> && (kVectorBytes == 64 || sizeof(typename S::Element) == 4);

// The tiles: output rows, vectors along the width inside the image, and at its ends, where narrow
// images lie as a whole. Four rows of four are 16 sums, with eight vectors of the input, a
// permutation and what it makes of them in 32 registers.
inline constexpr int kPermutedRows = kManyRegisters ? 4 : 2;
inline constexpr int kPermutedVectors = kManyRegisters ? 4 : 2, kPermutedEndVectors = 2;
// Tiles at the ends of a row whose masks are kept: one or two at the first, and as many at the last
// as cover a tile of the inside and what it reads beyond its outputs.
inline constexpr int64_t kKeptEnds = 6;

// How vectors lie on rows; steps in elements.
struct PermutedLayout {
  int64_t channels, period;      // of a pixel of the input, and of the output
  int64_t pixels;                // of the output in a vector
  int64_t pixel_step, tap_step;  // of the input, between outputs, and between taps
  int64_t together;              // taps of a row that meet elements of the same two vectors
  int64_t in_step, out_step;     // from a vector to the next

  PermutedLayout(const Geometry& g, int64_t lanes)
      : channels(g.channels_last ? g.in_channels : 1),
        period(g.channels_last ? g.OutputChannels() : 1),
        pixel_step(g.stride_width * channels),
        tap_step(g.dilation_width * channels) {
    pixels = Min(lanes / period, (2 * lanes - channels) / pixel_step + 1);
    const int64_t reach = (pixels - 1) * pixel_step + channels;
    together = Min(g.filter_width, (2 * lanes - reach) / tap_step + 1);
    in_step = pixels * pixel_step;
    out_step = pixels * period;
  }
};

// What one item needs to know of its arrays; steps in elements.
template <class S>
struct PermutedArrays {
  using Lanes = typename IndexOf<typename S::Accumulator>::Type;
  PermutedLayout layout;
  const Lanes* sources;                 // what each of the taps together takes of two vectors
  const typename S::Accumulator* taps;  // [window_rows, filter_width, lanes]
  const typename S::Accumulator* bias;  // a vector
  int64_t window_rows, filter_width, row_stride;
  int64_t in_size;  // elements of an input row
  int64_t out_row_step;
  bool stream;

  int64_t Loads() const { return CeilDiv(filter_width, layout.together); }  // of a vector, in pairs
  // Elements of a row, from what the first tap meets on, that a tile of so many vectors loads.
  int64_t Reach(int64_t vectors) const {
    return (Loads() - 1) * layout.together * layout.tap_step + (vectors - 1) * layout.in_step +
           2 * kLanes<typename S::Accumulator>;
  }
};

// The lanes inside the image of all that a tile at the end of a row loads, in its order.
template <class E>
struct PermutedMasks {
  LaneMask<E>* masks;
  int64_t first = -1;  // output column
};

// A tile of up to kPermutedRows output rows x kVectors vectors. With kMasked the lanes outside the
// image are zero.
template <class S, int kVectors, bool kMasked>
struct PermutedTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>, kRows = kPermutedRows;
  using Sums = V[kRows][kVectors];

  const PermutedArrays<S>& arrays;
  TileRows<E> rows;  // at what the first tap of the tile's first output meets
  const LaneMask<E>* masks;
  int64_t rows_used, room;  // elements of an output row that are left

  DEPTHWISE_INLINE void Run(E* out) const {
    Sums sums = {};
    ForEachInputRow<kRows>(
        rows, arrays.window_rows, arrays.row_stride, rows_used,
        [&](auto first, auto last, int64_t r, const E* row) DEPTHWISE_INLINE_LAMBDA {
          AddRow<decltype(first)::value, decltype(last)::value>(r, row, sums);
        });
    const V bias = LoadUnaligned<V>(arrays.bias);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i, out = Step(out, arrays.out_row_step)) {
      if (i >= rows_used) break;
      E* to = out;
      int64_t count = room;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v, to = Step(to, arrays.layout.out_step)) {
        if (count >= kCount) {
          StoreVector<S>(to, sums[i][v] + bias, arrays.stream);
        } else if (count > 0) {
          S::StorePartial(to, sums[i][v] + bias, count);
        }
        count -= arrays.layout.out_step;
      }
    }
  }

  static DEPTHWISE_INLINE V Load(const E* from, const LaneMask<E>*& mask) {
    if constexpr (kMasked) return S::LoadMasked(from, *mask++);
    return S::Load(from);
  }

  // Adds what the taps of output rows kFirst to kLast meet of input row r.
  template <int kFirst, int kLast>
  DEPTHWISE_INLINE void AddRow(int64_t r, const E* row, Sums& sums) const {
    const PermutedLayout& layout = arrays.layout;
    const Steps rows_back = Steps::Of<A>(-arrays.row_stride * arrays.filter_width * kCount);
    const A* tap = arrays.taps + r * arrays.filter_width * kCount;
    const LaneMask<E>* mask = masks;
    for (int64_t left = arrays.filter_width; left > 0; left -= layout.together) {
      V a[kVectors], b[kVectors];
      const E* from = row;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v, from = Step(from, layout.in_step)) {
        a[v] = Load(from, mask);
        b[v] = Load(from + kCount, mask);
      }
      row += layout.together * layout.tap_step;
      for (int64_t dj = 0; dj < Min(left, layout.together); ++dj, tap += kCount) {
        const auto source = arrays.sources[dj];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          V x = PermuteTwo(a[v], b[v], source);
          Pin(x);
#pragma GCC unroll 4
          for (int i = kFirst; i <= kLast; ++i) {
            sums[i][v] += x * LoadUnaligned<V>(rows_back.From(tap, i));
          }
        }
      }
    }
  }
};

// The index with which PermuteTwo() takes lane i of the lanes of a, followed by those of b. Those
// of b have its sign set, too, of which AVX-512 takes no notice.
template <class A>
DEPTHWISE_INLINE auto IndexOfTwo(int64_t i) {
  using Index = std::remove_reference_t<decltype(typename IndexOf<A>::Type{}[0])>;
  constexpr auto kOfSecond = static_cast<Index>(int64_t{1} << (8 * sizeof(Index) - 1));
  return static_cast<Index>(static_cast<Index>(i) | (i >= kLanes<A> ? kOfSecond : 0));
}

// Fills the permutations: of lane after lane, which element of the two vectors it takes.
template <class A>
inline void MakeSources(const PermutedLayout& layout, typename IndexOf<A>::Type* sources) {
  const int64_t copies = layout.period / layout.channels;
  for (int64_t dj = 0; dj < layout.together; ++dj) {
    typename IndexOf<A>::Type source{};
    int64_t lane = 0;
    for (int64_t pixel = 0; pixel < layout.pixels; ++pixel) {
      for (int64_t k = 0; k < layout.channels; ++k) {
        const auto index = IndexOfTwo<A>(pixel * layout.pixel_step + k + dj * layout.tap_step);
        for (int64_t q = 0; q < copies; ++q) source[lane++] = index;
      }
    }
    sources[dj] = source;
  }
}

template <class S>
inline void MakePermutedMasks(const PermutedArrays<S>& arrays, int64_t first_element,
                              LaneMask<typename S::Element>* mask) {
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  const PermutedLayout& layout = arrays.layout;
  for (int64_t dj = 0; dj < arrays.filter_width; dj += layout.together) {
    for (int64_t v = 0; v < kPermutedEndVectors; ++v) {
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t at =
            first_element + dj * layout.tap_step + v * layout.in_step + half * kCount;
        *mask++ = LanesInside<S>(at, arrays.in_size);
      }
    }
  }
}

template <class S>
inline void PermutedItem(const ForwardProblem& problem, const ForwardPlan& plan, const Item& item,
                         void* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  using Lanes = typename PermutedArrays<S>::Lanes;
  constexpr int64_t kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Axis& rows = item.rows;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.output_strides;
  const PermutedLayout layout(g, kCount);
  // The taps of all planes are packed as those of a vector, from which each takes its own.
  const int64_t planes = g.channels_last ? 1 : g.OutputChannels();
  const int64_t taps_size = (rows.window * g.filter_width + 1) * kCount;  // and the bias

  auto* const sources = static_cast<Lanes*>(scratch);
  MakeSources<A>(layout, sources);
  A* const packed = reinterpret_cast<A*>(sources + layout.together);
  A* const taps = g.channels_last ? packed : packed + taps_size;
  const int64_t channels = g.OutputChannels();
  const int64_t period = g.channels_last ? layout.period : kCount;
  PackFilter<S>(problem, rows, TapsOf(ColumnSizes(g), 0), 0, channels, period, 1, packed);
  PackBias<S>(problem, 0, channels, period, 1, packed + taps_size - kCount);
  const PermutedArrays<S> arrays{
      .layout = layout,
      .sources = sources,
      .taps = taps,
      .bias = taps + taps_size - kCount,
      .window_rows = rows.window,
      .filter_width = g.filter_width,
      .row_stride = rows.stride,
      .in_size = g.in_width * layout.channels,
      .out_row_step = rows.out_step * out.row,
      .stream = plan.stream,
  };
  PermutedMasks<E> kept[kKeptEnds];
  auto* mask_memory = reinterpret_cast<LaneMask<E>*>(taps + taps_size);
  for (auto& masks : kept) {
    masks.masks = mask_memory;
    mask_memory += arrays.Loads() * kPermutedEndVectors * 2;
  }
  const int64_t reach = arrays.Reach(kPermutedVectors);
  const int64_t rows_together = RowsTogether(rows.stride, rows.window, kPermutedRows);
  for (int64_t channel = 0; channel < planes; ++channel) {
    if (!g.channels_last) {
      for (int64_t k = 0; k < taps_size; k += kCount) {
        StoreUnaligned(taps + k, packed[k + channel] - V{});
      }
    }
    const E* image = static_cast<const E*>(problem.input) + item.b * in.batch +
                     channel / g.channel_multiplier * in.channel;
    E* output = static_cast<E*>(problem.output) + item.b * out.batch + channel * out.channel;
    for (int64_t t = item.first; t < item.last; t += rows_together) {
      const int64_t rows_used = Min(rows_together, item.last - t);
      const TileRows<E> tile_rows = RowsInPlace(rows, t, rows_used, image, in.row);
      E* const to = output + (rows.out_first + t * rows.out_step) * out.row;
      for (int64_t first = 0, ends = 0; first < g.out_width;) {
        const auto run = [&](auto vectors, const LaneMask<E>* masks,
                             auto masked) DEPTHWISE_INLINE_LAMBDA {
          constexpr int kVectors = decltype(vectors)::value;
          TileRows<E> strip_rows = tile_rows;
          strip_rows.row += first * layout.pixel_step - g.pad_left * layout.channels;
          const PermutedTile<S, kVectors, decltype(masked)::value != 0> tile{
              arrays, strip_rows, masks, rows_used, (g.out_width - first) * layout.period};
          tile.Run(to + first * layout.period);
          first += kVectors * layout.pixels;
        };
        const int64_t element = (first * g.stride_width - g.pad_left) * layout.channels;
        if (element >= 0 && element + reach <= arrays.in_size) {
          run(Size<kPermutedVectors>{}, nullptr, Size<0>{});
          continue;
        }
        PermutedMasks<E>& masks = kept[Min(ends++, kKeptEnds - 1)];
        if (masks.first != first) MakePermutedMasks(arrays, element, masks.masks);
        masks.first = first;
        run(Size<kPermutedEndVectors>{}, masks.masks, Size<1>{});
      }
    }
  }
}

template <class S>
inline void RunPermuted(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                        int64_t end, void* scratch) {
  for (Parts parts(problem.geometry, plan, begin, end); parts.AreLeft(); parts.Advance()) {
    PermutedItem<S>(problem, plan, parts.Part(), scratch);
  }
}

// Whether permutations cost less than packing. Each tap needs one: with many taps packing wins
// where a vector has few lanes, or leaves some empty and rows are packed without a stride. Against
// the flat kernel (Xeon, model 167) 112x112x3 5x5 with multiplier 3, nine lanes of 16, would take
// 8% longer, 3x112x112 11x11 of float64 with stride 3 11%, 480x640x3 5x5 with stride 2 and AVX2
// 17%.
template <class S>
DEPTHWISE_SMALL inline bool SuitsPermuted(const Geometry& g, const PermutedLayout& layout) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const double taps = static_cast<double>(g.filter_height) * g.filter_width;
  const bool has_stride = g.stride_width > 1;
  if (kVectorBytes == 32) return has_stride && taps <= 16;
  if (sizeof(typename S::Element) == 8 && taps > 49 && g.stride_width != 2) return false;
  return has_stride || HasFewTaps(g) || 4 * layout.out_step >= 3 * kCount;
}

// Whether vectors have no lanes that are left over.
template <class S>
DEPTHWISE_SMALL inline bool FillsVectors(const Geometry& g) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  return PermutedLayout(g, kCount).out_step == kCount;
}

// Plans this kernel; false if it does not suit, or if its taps need more than `limit` bytes.
template <class S>
DEPTHWISE_SMALL inline bool PlanPermuted(const ForwardProblem& problem, double limit,
                                         ForwardPlan* plan) {
  if constexpr (!kHasPermuted<S>) return false;
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const int64_t channels = g.channels_last ? g.in_channels : 1;
  if (g.transposed || g.OutputChannels() >= kCount || in.column != channels ||
      (channels > 1 && in.channel != 1)) {
    return false;
  }
  const PermutedLayout layout(g, kCount);
  if (!SuitsPermuted<S>(g, layout)) return false;
  const double taps = static_cast<double>(g.filter_height) * g.filter_width + 1;
  const double vectors = (g.channels_last ? taps : 2 * taps) + layout.together;
  const double masks = 2.0 * kPermutedEndVectors * kKeptEnds * g.filter_width *
                       double{sizeof(LaneMask<typename S::Element>)};
  if (vectors * kVectorBytes + masks > limit) return false;
  plan->algorithm = Algorithm::kPermuted;
  plan->blocks = 1;
  plan->scratch_bytes = static_cast<int64_t>(vectors * kVectorBytes + masks);
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
