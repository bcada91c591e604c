// The filter gradient for planes, NCHW without a stride along the width: lanes are neighbouring
// columns of a plane, and each sums the products of its own. The sums of some taps stay in
// registers while a walk goes down a vector of columns: a row of out_backprop meets one filter row
// after the other, as the input rows come by. At the end of a chunk the lanes of each tap are added
// up.
//
// Planes are read in place, by whole vectors; multiply-adds leave out the lanes whose input or
// out_backprop is beyond the columns. Where a vector would reach beyond the array, and where
// columns do not follow each other in memory, some rows are copied first; the walks are the same.
#pragma once

#include "filter_gradient.h"
#include "plane_gradient_tile.h"

namespace depthwise::DEPTHWISE_ISA {

// With AVX-512 alone multiply-adds leave out lanes; and for the size of the package only float32
// has these kernels.
template <class S>
inline constexpr bool kHasPlaneGradients = kVectorBytes == 64 && sizeof(typename S::Element) == 4;

// Output rows of a tile: as many as this holds with the input under them, but not fewer than make
// up for the sums that pass through memory with each tile.
inline constexpr int64_t kPlaneTileBytes = 64 * 1024, kLeastPlaneTileRows = 16;
// Channels whose planes take turns, so that memory is read in its order: those whose sums the
// first-level cache holds, and no more than it takes for long reads.
inline constexpr int64_t kPlaneSumsBytes = 16 * 1024, kPlaneGroupBytes = 64 * 1024;

// The memory from the first to the last element of an array.
template <class E>
struct Extent {
  const E *first, *last;

  Extent(const void* array, const Strides& strides, int64_t batch, int64_t height, int64_t width,
         int64_t channels)
      : first(static_cast<const E*>(array)), last(first) {
    const auto add = [&](int64_t size, int64_t stride) {
      (stride < 0 ? first : last) += (size - 1) * stride;
    };
    add(batch, strides.batch);
    add(height, strides.row);
    add(width, strides.column);
    add(channels, strides.channel);
  }
};

// Where a tile finds rows of a plane, from column 0 on.
template <class A>
struct RowsToRead {
  const A* row;
  int64_t row_step, column_step;
  int64_t count, width;

  // Lets columns [begin, end) be read by whole vectors: where they reach beyond the array or do not
  // follow each other, or rows lie in descending order, those that are there are copied to
  // `memory`. Returns the end of the copy.
  __attribute__((noinline)) A* MakeReadable(int64_t begin, int64_t end, const Extent<A>& all,
                                            A* memory) {
    const bool is_readable = column_step == 1 && row_step >= 0 && row + begin >= all.first &&
                             row + (count - 1) * row_step + end <= all.last + 1;
    if (is_readable) return memory;
    const int64_t columns = end - begin;
    const A* from = row;
    row = memory - begin;
    for (int64_t i = 0; i < count; ++i, from += row_step, memory += columns) {
      for (int64_t j = Max(0, begin); j < Min(width, end); ++j) {
        memory[j - begin] = from[j * column_step];
      }
    }
    row_step = columns;
    return memory;
  }
};

// Copies rows of planes whose channels lie next to each other, as in NHWC: columns [begin, end) of
// them, those that there are, to rows of as many for each of `channels`. (Plane by plane, which
// reads every line once for each channel on it, 8x56x56x128 3x3 took eight times as long.)
template <class A>
__attribute__((noinline)) void GatherPlanes(const RowsToRead<A>& rows, int64_t begin, int64_t end,
                                            int64_t channels, A* memory) {
  constexpr int kCount = kLanes<A>;
  const int64_t columns = end - begin, plane = rows.count * columns;
  const int64_t first = Max(0, begin), last = Min(rows.width, end);
  for (int64_t i = 0; i < rows.count; ++i) {
    const A* const row = rows.row + i * rows.row_step;
    for (int64_t j = first; j < last; j += kCount) {
      const int64_t n = Min(kCount, last - j);
      for (int64_t c = 0; c < channels; c += kCount) {
        const int64_t m = Min(kCount, channels - c);
        const A* from = row + j * rows.column_step + c;
        A* to = memory + c * plane + i * columns + j - begin;
        Vec<A> square[kCount];
#pragma GCC unroll 16
        for (int k = 0; k < kCount; ++k, from += rows.column_step) {
          square[k] = k < n ? LoadFirst(from, m) : Vec<A>{};
        }
        Transpose(square);
#pragma GCC unroll 16
        for (int k = 0; k < kCount; ++k, to += plane) {
          if (k < m) StoreFirst(to, square[k], n);
        }
      }
    }
  }
}

// Whether channels lie next to each other, and columns do not.
DEPTHWISE_INLINE bool IsGathered(const Strides& strides) {
  return strides.channel == 1 && strides.column != 1;
}

// Computes the sums of an item.
template <class A>
inline void RunPlaneFilterGradient(const FilterGradientProblem& problem,
                                   const FilterGradientPlan& plan, int64_t item, A* item_sums,
                                   A* scratch) {
  constexpr int64_t kCount = kLanes<A>;
  const Geometry& g = problem.geometry;
  const Strides& in = problem.input_strides;
  const Strides& out = problem.out_backprop_strides;
  const int64_t taps = g.filter_height * g.filter_width;
  const int64_t first_channel = item % plan.groups * plan.group_channels;
  const int64_t channels = Min(plan.group_channels, g.OutputChannels() - first_channel);
  const int64_t reach = (g.filter_width - 1) * g.dilation_width;
  const int64_t size = channels * taps * kCount;
  // Sums of no more than a block need none of the chunk beside them.
  A* const block = scratch + size;
  BlockedSums<A> sums{plan.has_one_block ? block : scratch, block, size, plan.block_pixels};
  FillZero(sums.chunk, block + size);
  A* const copied = scratch + 2 * size;
  const bool gathers_in = g.channel_multiplier == 1 && IsGathered(in),
             gathers_out = IsGathered(out);
  const Extent<A> all_in(problem.input, in, g.batch, g.in_height, g.in_width, g.in_channels);
  const Extent<A> all_out(problem.out_backprop, out, g.batch, g.out_height, g.out_width,
                          g.OutputChannels());
  const bool fetches_planes = plan.bands == g.batch && plan.tile_rows >= g.out_height &&
                              AreDensePlanes(in, g.in_channels, g.in_height, g.in_width) &&
                              AreDensePlanes(out, g.in_channels, g.out_height, g.out_width) &&
                              AreFetchedAhead<A>(g, 1);
  const int64_t walks = CeilDiv(g.out_width, kCount) * CeilDiv(g.filter_width, kMostTapsAcross) *
                        CeilDiv(g.filter_height, kMostTapsDown);

  ForEachStrip(g, plan, item, [&](const Band& band, int64_t first, int64_t last) {
    const Axis& rows = band.rows;
    // The columns that vectors reach: of out_backprop up to out_end, of the input [begin, end).
    const int64_t out_end = first + CeilDiv(last - first, kCount) * kCount;
    const int64_t begin = first - g.pad_left, end = out_end + reach - g.pad_left;
    for (int64_t t = band.first; t < band.last; t += plan.tile_rows) {
      const int64_t rows_used = Min(plan.tile_rows, band.last - t);
      const A* const images = static_cast<const A*>(problem.input) + band.b * in.batch;
      const A* const out_images = static_cast<const A*>(problem.out_backprop) + band.b * out.batch;
      const TileRows<A> in_rows = RowsInPlace(rows, t, rows_used, images, in.row);
      const RowsToRead<A> all_input{in_rows.row, in_rows.row_step, in.column,
                                    in_rows.row_end - in_rows.row_begin, g.in_width};
      const RowsToRead<A> all_out_backprop{
          out_images + (rows.out_first + t * rows.out_step) * out.row, rows.out_step * out.row,
          out.column, rows_used, g.out_width};
      A* gathered = copied;
      A* const in_planes = gathered;
      if (gathers_in) {
        RowsToRead<A> from = all_input;
        from.row += first_channel;
        GatherPlanes(from, begin, end, channels, gathered);
        gathered += channels * from.count * (end - begin);
      }
      A* const out_planes = gathered;
      if (gathers_out) {
        RowsToRead<A> from = all_out_backprop;
        from.row += first_channel;
        GatherPlanes(from, first, out_end, channels, gathered);
        gathered += channels * from.count * (out_end - first);
      }
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t channel = first_channel + c;
        const int64_t in_channel = channel / g.channel_multiplier * in.channel;
        RowsToRead<A> input = all_input, out_backprop = all_out_backprop;
        A* rest = gathered;
        if (gathers_in) {
          input.row = in_planes + c * input.count * (end - begin) - begin;
          input.row_step = end - begin;
        } else {
          input.row += in_channel;
          rest = input.MakeReadable(begin, end, all_in, rest);
        }
        if (gathers_out) {
          out_backprop.row = out_planes + c * out_backprop.count * (out_end - first) - first;
          out_backprop.row_step = out_end - first;
        } else {
          out_backprop.row += channel * out.channel;
          out_backprop.MakeReadable(first, out_end, all_out, rest);
        }
        const A* const image = images + in_channel;
        const A* const out_image = out_images + channel * out.channel;
        const PlaneGradientTile<A> tile{
            .in = input.row,
            .out = out_backprop.row,
            .in_row_step = input.row_step,
            .out_row_step = out_backprop.row_step,
            .row_begin = in_rows.row_begin,
            .row_end = in_rows.row_end,
            .rows_used = rows_used,
            .first = first,
            .last = last,
            .filter_height = rows.window,
            .filter_width = g.filter_width,
            .row_stride = rows.stride,
            .in_width = g.in_width,
            .dilation = g.dilation_width,
            .pad_left = g.pad_left,
            .sums = sums.block + c * taps * kCount,
        };
        // Next come the planes of the next channel, or of the first one of the next image.
        const bool is_last = c + 1 == channels;
        const bool fetches = fetches_planes && !(is_last && band.b + 1 == g.batch);
        const int64_t ahead = is_last ? 1 - channels : 1;
        const int64_t images_ahead = is_last ? 1 : 0;
        NextPlane<A> next(image + ahead * in.channel + images_ahead * in.batch,
                          fetches ? in.channel : 0,
                          out_image + ahead * out.channel + images_ahead * out.batch,
                          fetches ? out.channel : 0, walks);
        tile.Run(next);
      }
      if (!plan.has_one_block) sums.AddPixels(rows_used * (last - first));
    }
  });
  if (!plan.has_one_block) sums.Flush();
  // The lanes of each tap, in squares that are transposed. The last one has other numbers behind
  // the sums, and is stored whole.
  for (int64_t i = 0; i < channels * taps; i += kCount) {
    Vec<A> square[kCount];
#pragma GCC unroll 16
    for (int k = 0; k < kCount; ++k) {
      square[k] = LoadUnaligned<Vec<A>>(sums.chunk + (i + k) * kCount);
    }
    Transpose(square);
    Vec<A> total = square[0];
#pragma GCC unroll 16
    for (int k = 1; k < kCount; ++k) total += square[k];
    StoreUnaligned(item_sums + i, total);
  }
}

// Adds the sums of the taps [tap_begin, tap_end).
template <class A>
inline void AddPlaneFilterGradient(const FilterGradientProblem& problem,
                                   const FilterGradientPlan& plan, int64_t item, const A* sums,
                                   int64_t tap_begin, int64_t tap_end, A* totals) {
  const Geometry& g = problem.geometry;
  const int64_t taps = g.filter_height * g.filter_width;
  const int64_t first = item % plan.groups * plan.group_channels;
  const int64_t channels = Min(plan.group_channels, g.OutputChannels() - first);
  for (int64_t tap = tap_begin; tap < tap_end; ++tap) {
    for (int64_t c = 0; c < channels; ++c) {
      totals[tap * g.OutputChannels() + first + c] += sums[c * taps + tap];
    }
  }
}

// Whether walks take less time than the block kernel. Not where much of the last vector of a row is
// empty, the less so the more multiply-adds there are to what that kernel takes to transpose; nor
// where they are short, or of four taps down, which would be three and one. For 28x28x192 7x7
// alone, in the second-level cache, they take 13% more, for a batch of eight 12% less (Xeon, model
// 167).
DEPTHWISE_SMALL inline bool SuitsWalks(const Geometry& g, int64_t lanes) {
  if (g.channels_last || g.stride_width > 1) return false;
  if (Min(g.filter_height, g.filter_width) == 1 || g.filter_height == 4) return false;
  const int64_t taps = g.filter_height * g.filter_width;
  const double lanes_filled = static_cast<double>(g.out_width) / lanes;
  const Axis rows = RowAxis(g, 0);
  const double least = taps <= 9 ? 0.52 : taps <= 25 ? 0.6 : 0.8;
  return lanes_filled >= least * CeilDiv(g.out_width, lanes) && rows.stride <= rows.window &&
         rows.out_count >= 2 * g.filter_height + (taps > 9);
}

// Plans this kernel; false if it does not suit the problem, or if no strip of columns fits into
// `limit` bytes.
template <class A>
DEPTHWISE_SMALL inline bool PlanPlaneFilterGradient(const FilterGradientProblem& problem,
                                                    double limit, int64_t threads,
                                                    FilterGradientPlan* plan) {
  constexpr int64_t kCount = kLanes<A>, kSize = sizeof(A);
  const Geometry& g = problem.geometry;
  if (!SuitsWalks(g, kCount)) return false;
  const Axis rows = RowAxis(g, 0);
  const double taps = static_cast<double>(g.filter_height) * g.filter_width;
  const double reach = static_cast<double>(g.filter_width - 1) * g.dilation_width;
  const double row_bytes = (static_cast<double>(g.in_width) + g.out_width) * kSize;
  const int64_t whole = CeilDiv(rows.out_count, kFlatRows) * kFlatRows;
  plan->tile_rows =
      Min(whole, Max(kLeastPlaneTileRows, static_cast<int64_t>(kPlaneTileBytes / row_bytes)));
  const double in_rows = static_cast<double>(plan->tile_rows - 1) * rows.stride + rows.window;
  const auto bytes = [&](int64_t columns) {
    const double most = static_cast<double>(columns) + kCount;
    return 2 * taps * kVectorBytes + (in_rows * (most + reach) + plan->tile_rows * most) * kSize;
  };
  plan->strip_columns = g.out_width;
  while (plan->strip_columns > kCount && bytes(plan->strip_columns) > limit) {
    plan->strip_columns = CeilDiv(CeilDiv(plan->strip_columns, 2), kCount) * kCount;
  }
  if (bytes(plan->strip_columns) > limit) return false;
  PlanChunks(g, kCount, plan);
  // Tiles of equal height, and strips so narrow that a tile has no more pixels than a block.
  const int64_t band_rows = Min(rows.out_count, plan->band_rows);
  plan->tile_rows = CeilDiv(band_rows, CeilDiv(band_rows, plan->tile_rows));
  const int64_t widest = Max(kCount, plan->block_pixels / plan->tile_rows);
  const int64_t strips = CeilDiv(g.out_width, Min(plan->strip_columns, widest));
  if (strips > 1) plan->strip_columns = CeilDiv(CeilDiv(g.out_width, strips), kCount) * kCount;
  const double chunk_pixels = static_cast<double>(plan->bands_per_chunk) * band_rows * g.out_width;
  plan->has_one_block = chunk_pixels <= plan->block_pixels;

  const int64_t chunks = CeilDiv(plan->bands, plan->bands_per_chunk);
  const int64_t sums = g.filter_height * g.filter_width;
  const double in_plane = static_cast<double>(g.in_height) * g.in_width;
  const double out_plane = static_cast<double>(g.out_height) * g.out_width;
  const double planes = kPlaneGroupBytes / (kSize * (in_plane > out_plane ? in_plane : out_plane));
  const int64_t wanted = threads == 1 ? 1 : CeilDiv(kGradientItemsPerThread * threads, chunks);
  const int64_t most = Min(kPlaneSumsBytes / (sums * kVectorBytes), static_cast<int64_t>(planes));
  plan->group_channels = Max(1, Min(most, CeilDiv(g.OutputChannels(), wanted)));
  // What is gathered is so for a vector of channels, if memory has room for them.
  const double tile_bytes = bytes(plan->strip_columns);
  const bool gathers =
      IsGathered(problem.input_strides) || IsGathered(problem.out_backprop_strides);
  if (gathers) {
    const auto room = static_cast<int64_t>(limit / tile_bytes) - 1;
    plan->group_channels = Max(1, Min(Min(kCount, g.OutputChannels()), room));
  }
  plan->groups = CeilDiv(g.OutputChannels(), plan->group_channels);
  plan->items = plan->groups * chunks;
  plan->sums_bytes = CeilDiv(plan->group_channels * sums, kCount) * kVectorBytes;
  // Sums are read by squares, the last of which reaches beyond them.
  plan->scratch_bytes = static_cast<int64_t>(tile_bytes * (gathers ? plan->group_channels : 1)) +
                        (2 * plan->group_channels * sums + kCount) * kVectorBytes;
  plan->algorithm = Algorithm::kPlane;
  return true;
}

}  // namespace depthwise::DEPTHWISE_ISA
