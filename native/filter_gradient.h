// The filter gradient for a vector of channels or more. NHWC is read in place; NCHW where
// plane_filter_gradient.h does not take it, multipliers, unusual layouts and most 16-bit types are
// packed as for the block kernel, input and out_backprop both. Either way the same tile meets the
// same numbers in the same order, so that the memory layout changes no bit.
//
// The sum over batch, height and width is blocked, since the error of a plain one grows with its
// length: the tiles add to the sums of a few hundred pixels, these to those of a chunk, these in
// turn to the totals. A chunk is a number of bands, each some rows of an image.
#pragma once

#include "block.h"
#include "filter_gradient_tile.h"
#include "flat.h"
#include "next_block.h"

namespace depthwise::DEPTHWISE_ISA {

// Pixels of a block, or the root of all if that is more.
inline constexpr int64_t kBlockPixels = 512;
// Enough that all threads find some.
inline constexpr int64_t kMaxChunks = 32;
// The sums of a group of channels stay in the second-level cache. Whole pixels are read and fetched
// best: with 16 KiB 8x14x14x512 3x3 takes 383 instead of 338 us, 32x7x7x1024 770 instead of 700
// (Xeon, family 6, model 207, other data in the caches).
inline constexpr int64_t kGroupBytes = 64 * 1024;
// Where that leaves too few items for all threads groups are smaller, but not less than some
// vectors that follow each other. With four items a thread, of half the channels each, two threads
// took for 8x14x14x512 3x3 208 instead of 172 us (Xeon, model 167).
inline constexpr int64_t kGradientItemsPerThread = 2, kLeastGroupVectors = 3;

// Cuts the sum into chunks by the sizes alone. As many `lanes` share the pixels of a block.
DEPTHWISE_SMALL inline void PlanChunks(const Geometry& g, int64_t lanes, FilterGradientPlan* plan) {
  const int64_t residues = RowResidues(g);
  const int64_t rows = CeilDiv(g.out_height, residues);
  const double pixels = static_cast<double>(g.batch) * g.out_height * g.out_width;
  const int64_t block = lanes * Max(kBlockPixels, static_cast<int64_t>(__builtin_sqrt(pixels)));
  const int64_t chunk = Max(block, static_cast<int64_t>(pixels / kMaxChunks));
  // A band reads filter_height - 1 rows that its neighbours read too.
  const int64_t bands = Max(1, Min(rows * g.out_width / chunk, rows / (2 * g.filter_height)));
  // Whole tiles of channels and of flat rows; planes have tiles of their own.
  plan->band_rows = CeilDiv(CeilDiv(rows, bands), kFlatRows) * kFlatRows;
  plan->bands_per_residue = CeilDiv(rows, plan->band_rows);
  plan->bands = g.batch * residues * plan->bands_per_residue;
  const int64_t band_pixels = Min(rows, plan->band_rows) * g.out_width;
  // All chunks alike, as far as they can be: of 10, 10, 10 and 2 images two threads would get 20
  // and 12.
  const int64_t chunks = CeilDiv(plan->bands, Max(1, chunk / band_pixels));
  plan->bands_per_chunk = CeilDiv(plan->bands, chunks);
  plan->block_pixels = block;
}

// One band: output rows [first, last) of one row residue of one image.
struct Band {
  Axis rows;
  int64_t first, last;
  int64_t b;
};

inline Band BandOf(const Geometry& g, const FilterGradientPlan& plan, int64_t band) {
  const int64_t first = band % plan.bands_per_residue * plan.band_rows;
  const int64_t residue = band / plan.bands_per_residue % RowResidues(g);
  const int64_t b = band / (plan.bands_per_residue * RowResidues(g));
  const Axis rows = RowAxis(g, residue);
  return {rows, first, Min(rows.out_count, first + plan.band_rows), b};
}

// The sums of an item in two steps: `block` is added to `chunk` when it holds enough pixels.
template <class A>
struct BlockedSums {
  A* chunk;
  A* block;
  int64_t size;  // of each
  int64_t block_pixels;
  int64_t pixels = 0;

  DEPTHWISE_INLINE void Clear() {
    FillZero(chunk, chunk + size);
    FillZero(block, block + size);
  }
  // Says that so many pixels were added to `block`.
  DEPTHWISE_INLINE void AddPixels(int64_t more) {
    pixels += more;
    if (pixels >= block_pixels) Flush();
  }
  DEPTHWISE_INLINE void Flush() {
    for (int64_t i = 0; i < size; i += kLanes<A>) {
      StoreUnaligned(chunk + i,
                     LoadUnaligned<Vec<A>>(chunk + i) + LoadUnaligned<Vec<A>>(block + i));
    }
    FillZero(block, block + size);
    pixels = 0;
  }
};

// Calls visit(band, first, last) for the bands of an item's chunk, and in them for each strip of
// output columns.
template <class Visit>
DEPTHWISE_INLINE void ForEachStrip(const Geometry& g, const FilterGradientPlan& plan, int64_t item,
                                   Visit&& visit) {
  const int64_t begin = item / plan.groups * plan.bands_per_chunk;
  const int64_t end = Min(plan.bands, begin + plan.bands_per_chunk);
  for (int64_t i = begin; i < end; ++i) {
    const Band band = BandOf(g, plan, i);
    for (int64_t first = 0; first < g.out_width; first += plan.strip_columns) {
      visit(band, first, Min(g.out_width, first + plan.strip_columns));
    }
  }
}

template <class S>
inline bool IsReadInPlace(const FilterGradientProblem& problem) {
  const Geometry& g = problem.geometry;
  return IsWidthReadInPlace<S>(g.filter_width) && g.channels_last && g.channel_multiplier == 1 &&
         problem.input_strides.channel == 1 && problem.out_backprop_strides.channel == 1;
}

template <class S>
inline void DirectFilterGradient(const FilterGradientProblem& problem,
                                 const FilterGradientPlan& plan, int64_t item,
                                 BlockedSums<typename S::Accumulator>& sums) {
  using E = typename S::Element;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.out_backprop_strides;
  const ChannelVectors<S> vectors{g.in_channels, plan.peel};
  const int64_t group = item % plan.groups;
  const ColumnAxes columns(g);
  ForEachStrip(g, plan, item, [&](const Band& band, int64_t first, int64_t last) {
    const Axis& rows = band.rows;
    const E* image = static_cast<const E*>(problem.input) + band.b * in.batch;
    const E* out_backprop = static_cast<const E*>(problem.out_backprop) + band.b * out.batch +
                            rows.out_first * out.row + first * out.column;
    const FilterGradientArrays<S> arrays{
        .sums = sums.block,
        .filter_height = g.filter_height,
        .filter_width = g.filter_width,
        .row_stride = rows.stride,
        .columns = &columns,
        .first_column = 0,
        .in_column_step = in.column,
        .out_row_step = rows.out_step * out.row,
        .out_column_step = out.column,
        .vectors = vectors,
        .first_vector = group * plan.group_vectors,
        .last_vector = Min(vectors.Count(), (group + 1) * plan.group_vectors),
        .prefetch = plan.prefetch,
    };
    const int64_t rows_together = RowsTogether(rows.stride, rows.window, kChannelRows);
    for (int64_t t = band.first; t < band.last; t += rows_together) {
      const int64_t rows_used = Min(rows_together, band.last - t);
      FilterGradientRows<S>(arrays, RowsInPlace(rows, t, rows_used, image, in.row), rows_used,
                            first, last, out_backprop + t * arrays.out_row_step);
      sums.AddPixels(rows_used * (last - first));
    }
  });
}

template <class S>
inline void PackedFilterGradient(const FilterGradientProblem& problem,
                                 const FilterGradientPlan& plan, int64_t item,
                                 BlockedSums<typename S::Accumulator>& sums,
                                 typename S::Accumulator* scratch) {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.out_backprop_strides;
  Ring<A> ring{scratch, plan.ring_rows, plan.ring_row_stride};
  A* const buffer = ring.memory + ring.count * ring.row_stride;

  const int64_t first_channel = item % plan.groups * kCount;
  const BlockChannels block{first_channel, Min(kCount, g.OutputChannels() - first_channel),
                            g.channel_multiplier};
  const BlockChannels out_block{first_channel, block.channels, 1};
  const auto in_steps = PlaneStepsOf<A>(block, in.channel);
  const auto out_steps = PlaneStepsOf<A>(out_block, out.channel);
  const ColumnAxes columns(g);
  ForEachStrip(g, plan, item, [&](const Band& band, int64_t first, int64_t last) {
    const Axis& rows = band.rows;
    const ColumnRange in_columns = InputColumnsOf(g, first, last);
    const int64_t rows_together = RowsTogether(rows.stride, rows.window, kChannelRows);
    const BlockPacker<S> input{
        .block = block,
        .image = static_cast<const E*>(problem.input) + band.b * in.batch +
                 block.FirstInput() * in.channel,
        .strides = in,
        .plane_steps = in_steps,
        .plane_step = 0,
        .in_width = g.in_width,
        .first_column = in_columns.begin,
        .columns = in_columns.end - in_columns.begin,
    };
    const BlockPacker<S> out_backprop{
        .block = out_block,
        .image = static_cast<const E*>(problem.out_backprop) + band.b * out.batch +
                 first_channel * out.channel,
        .strides = out,
        .plane_steps = out_steps,
        .plane_step = 0,
        .in_width = g.out_width,
        .first_column = first,
        .columns = last - first,
    };
    // The rows of out_backprop as packed rows: position t of the axis is output row
    // out_first + t * out_step.
    Axis out_rows{};
    out_rows.in_first = rows.out_first;
    out_rows.in_step = rows.out_step;
    out_rows.planes = 1;
    const FilterGradientArrays<Plain<S>> arrays{
        .sums = sums.block,
        .filter_height = g.filter_height,
        .filter_width = g.filter_width,
        .row_stride = rows.stride,
        .columns = &columns,
        .first_column = in_columns.begin,
        .in_column_step = kCount,
        .out_row_step = (last - first) * kCount,
        .out_column_step = kCount,
        .vectors = {kCount, 0},
        .first_vector = 0,
        .last_vector = 1,
        .prefetch = false,
    };
    NextImage<E> next(problem, plan, item, band.b, kCount);
    ring.packed_until = 0;
    for (int64_t t = band.first; t < band.last; t += rows_together) {
      const int64_t rows_used = Min(rows_together, band.last - t);
      next.Fetch(t + rows_used - band.first, band.last - band.first);
      const RowRange range = InputRowsOf(rows, t, rows_used);
      ring.Fill(range, [&](int64_t unit, int64_t end) { input.Pack(ring, unit, end, rows); });
      // One row at a time begins again at the same place: its ring has one row.
      const Ring<A> out_ring{buffer, rows_together, arrays.out_row_step};
      out_backprop.Pack(out_ring, t, t + rows_used, out_rows);
      FilterGradientRows<Plain<S>>(arrays, ring.Rows(range), rows_used, first, last, buffer);
      sums.AddPixels(rows_used * (last - first));
    }
  });
}

// Computes the sums of an item.
template <class S>
inline void RunChannelFilterGradient(const FilterGradientProblem& problem,
                                     const FilterGradientPlan& plan, int64_t item,
                                     typename S::Accumulator* item_sums,
                                     typename S::Accumulator* scratch) {
  using A = typename S::Accumulator;
  const int64_t size = plan.sums_bytes / int64_t{sizeof(A)};
  BlockedSums<A> sums{item_sums, scratch, size, plan.block_pixels};
  sums.Clear();
  if (plan.algorithm == Algorithm::kDirect) {
    if constexpr (!kIsPackedOnly<S>) DirectFilterGradient<S>(problem, plan, item, sums);
  } else {
    PackedFilterGradient<S>(problem, plan, item, sums, scratch + size);
  }
  sums.Flush();
}

// Adds the sums of the taps [tap_begin, tap_end).
template <class S>
inline void AddChannelFilterGradient(const FilterGradientProblem& problem,
                                     const FilterGradientPlan& plan, int64_t item,
                                     const typename S::Accumulator* sums, int64_t tap_begin,
                                     int64_t tap_end, typename S::Accumulator* totals) {
  using A = typename S::Accumulator;
  constexpr int64_t kCount = kLanes<A>;
  const int64_t taps = problem.geometry.filter_height * problem.geometry.filter_width;
  const int64_t channels = problem.geometry.OutputChannels();
  const bool in_place = plan.algorithm == Algorithm::kDirect;
  const ChannelVectors<S> vectors{channels, plan.peel};
  const int64_t first = item % plan.groups * plan.group_vectors;
  const int64_t last = Min(vectors.Count(), first + plan.group_vectors);
  for (int64_t v = first; v < last; ++v, sums += taps * kCount) {
    // In place vectors can overlap the one before, and packed ones end short.
    const int64_t start = in_place ? vectors.First(v) : v * kCount;
    const int64_t begin = in_place && v > 0 ? vectors.First(v - 1) + kCount : start;
    const int64_t end = Min(channels, start + kCount);
    for (int64_t tap = tap_begin; tap < tap_end; ++tap) {
      const A* from = sums + tap * kCount;
      A* to = totals + tap * channels;
      if (begin == start && end - begin == kCount) {
        StoreUnaligned(to + begin, LoadUnaligned<Vec<A>>(to + begin) + LoadUnaligned<Vec<A>>(from));
      } else {
        for (int64_t c = begin; c < end; ++c) to[c] += from[c - start];
      }
    }
  }
}

// Plans the kernels of this file; false if there are too few channels, or if not even two times
// `limit` bytes, of which strips take at most half, hold the sums of one vector.
template <class S>
DEPTHWISE_SMALL inline bool PlanChannelFilterGradient(const FilterGradientProblem& problem,
                                                      double limit, int64_t threads,
                                                      FilterGradientPlan* plan) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  const Geometry& g = problem.geometry;
  if (g.OutputChannels() < kCount) return false;
  plan->ring_rows = MaxWindowRows(g, kChannelRows);
  // Strips start at a multiple of the residues, so that each finds its first column in all.
  const int64_t residues = ColumnResidues(g);
  const auto strip_bytes = [&](int64_t strip) {
    const double rows = static_cast<double>(kChannelRows) * strip * residues;
    const double ring =
        static_cast<double>(plan->ring_rows) * (MaxInputColumns(g, strip * residues) + 1);
    return (ring + rows) * kVectorBytes;
  };
  const double taps = static_cast<double>(g.filter_height) * g.filter_width;
  const double rest = 2 * (limit - taps * kVectorBytes);
  const int64_t strip = StripLength(CeilDiv(g.out_width, residues), kChannelColumns,
                                    rest < limit ? rest : limit, strip_bytes);
  if (strip == 0) return false;
  plan->strip_columns = strip * residues;
  PlanChunks(g, 1, plan);

  const bool in_place = IsReadInPlace<S>(problem);
  plan->algorithm = in_place ? Algorithm::kDirect : Algorithm::kBlock;
  plan->peel = in_place
                   ? ChannelsToAlignment<S>(g.in_channels, problem.input, problem.input_strides,
                                            problem.out_backprop, problem.out_backprop_strides)
                   : 0;
  const int64_t vectors = ChannelVectors<S>{g.OutputChannels(), plan->peel}.Count();
  const int64_t vector_bytes = static_cast<int64_t>(taps) * kVectorBytes;
  const int64_t chunks = CeilDiv(plan->bands, plan->bands_per_chunk);
  const int64_t wanted = threads == 1 ? 1 : CeilDiv(kGradientItemsPerThread * threads, chunks);
  const int64_t largest = in_place ? Max(1, Min(kGroupBytes / vector_bytes,
                                                Max(kLeastGroupVectors, CeilDiv(vectors, wanted))))
                                   : 1;
  plan->group_vectors = CeilDiv(vectors, CeilDiv(vectors, largest));
  if (!in_place) {
    // An odd number of vectors keeps successive rows out of the same sets of the cache.
    plan->ring_row_stride = (MaxInputColumns(g, plan->strip_columns) | 1) * kCount;
    plan->scratch_bytes = static_cast<int64_t>(strip_bytes(strip));
  }
  plan->groups = CeilDiv(vectors, plan->group_vectors);
  plan->items = plan->groups * chunks;
  plan->sums_bytes = plan->group_vectors * vector_bytes;
  plan->scratch_bytes += plan->sums_bytes;
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
