// What the direct kernel decides before it computes: which tiles, how many vectors of channels at a
// time, where these begin, and what is fetched ahead. Called by kernels.cc and direct.h.
#pragma once

#include "channel_arrays.h"
#include "pixel_rows.h"

namespace depthwise::DEPTHWISE_ISA {

// The most taps that are packed at a time: those of all channels but for filters that would not
// stay in the second-level cache.
inline constexpr int64_t kPackedTapBytes = 256 * 1024;

// Of one vector of channels: its taps, its bias and how it is loaded.
template <class S>
inline double PackedVectorBytes(const Geometry& g) {
  return (static_cast<double>(g.filter_height) * g.filter_width + 1) * kVectorBytes +
         double{sizeof(SpreadChannels<S>)};
}

template <class S>
inline int64_t DirectGroupVectors(const Geometry& g) {
  const auto bytes_each = static_cast<int64_t>(PackedVectorBytes<S>(g));
  // One more than the channels fill, if the second vector overlaps the first.
  return Min(CeilDiv(g.OutputChannels(), kLanes<typename S::Accumulator>) + 1,
             Max(1, kPackedTapBytes / bytes_each));
}

// Input of an item that stays in the second-level cache, whatever its rows are read for.
inline constexpr double kCachedItemBytes = 640 * 1024;

// How many vectors of channels are computed at a time: `packed` for all rows of an item, and of
// those `together` for each pair of rows. Both are few for filters that read so much for each
// vector that the first-level cache keeps neither its taps nor the columns that the next tile
// needs, too, for more of them: 56x56x96 7x7 takes 4 to 9% less, 28x28x192 6%, 56x56x144 6x6 4%,
// larger filters as long; 5x5 and less, or with a stride, is faster in sequence. Where all rows
// stay in the second-level cache the taps of a few vectors serve them all: 14x14x384 7x7 and
// 14x14x672 5x5 take 4 to 6% less, 7x7x768 7x7 12%; but 3x3 is faster in sequence there, too, and
// so is a single row: 1x1000x512 1x31 takes 270 instead of 360 us.
struct VectorGroups {
  int64_t packed, together;
};

template <class S>
inline VectorGroups GroupVectors(const Geometry& g, const Item& item) {
  const Axis columns = ColumnAxis(g, 0);
  const int64_t all = DirectGroupVectors<S>(g), taps = item.rows.window * columns.window;
  // As many bytes for each instruction set: it is a cache that has to keep them.
  const int64_t few = Min(all, (taps > 25 ? 3 : 5) * 64 / kVectorBytes);
  const double rows = WindowRows(item.rows.stride, item.rows.window, item.last - item.first);
  const double bytes = rows * static_cast<double>(g.in_width) * g.InputChannels() *
                       double{sizeof(typename S::Element)};
  if (SuitsRowTiles<S>(g) && g.channel_multiplier == 1) return {all, all};
  if (taps > 9 && bytes <= kCachedItemBytes) return {few, few};
  return {all, taps > 25 && item.rows.stride == 1 && columns.stride == 1 ? few : all};
}

// Whether a tile reads more lines of one vector of channels than the first-level cache has room for
// in the sets that they share, as where a pixel is a power of two. On Zen 4 each set then waits ten
// cycles for every line: with a stride of 2 14x14x512 3x3 takes 16 us where 14x14x576 takes 8.
template <class S>
inline bool ColumnsCollide(const Axis& rows, const Axis& columns, const Strides& in, int64_t room,
                           int64_t tile_rows) {
  // Of all x86 CPUs so far: 64 sets of 8 ways or more.
  constexpr int64_t kWayBytes = 4096;
  // Of strides of any size, without overflow: only their remainders count.
  const int64_t step =
      columns.in_step % kWayBytes * (in.column % kWayBytes) * int64_t{sizeof(typename S::Element)};
  const int64_t sets = kWayBytes / GreatestCommonDivisor(step < 0 ? -step : step, kWayBytes);
  const int64_t lines = WindowRows(rows.stride, rows.window, tile_rows) *
                        WindowRows(columns.stride, columns.window, kChannelColumns);
  return lines > room * sets;
}

// Whether vectors of channels are computed in pairs, which read neighbouring lines of half as many
// columns: where columns collide, and there is a tile. With a stride of 2, aligned and as NumPy
// aligns, 14x14x512 3x3 takes 12.0 and 14.3 us instead of 16.5 and 19.6, 56x56x128 33.7 and 45
// instead of 34.6 and 57; without 28x28x512 97 and 116 instead of 129 and 149 (Zen 4). Sets of 12
// lines, as on Intel's CPUs since 2019 and Zen 5, collide less: on a Xeon pairs pay where four
// columns cut a row as evenly as seven, 28x28x512 131 to 120, but not elsewhere: 14x14x512 18 to
// 22, with a stride of 2 7.4 to 8.7.
template <class S>
DEPTHWISE_SMALL inline bool TakesPairs(const Geometry& g, const Strides& in, int64_t ways,
                                       bool is_far) {
  if constexpr (!kHasPairs<S>) return false;
  const Axis rows = RowAxis(g, 0), columns = ColumnAxis(g, 0);
  const bool has_phases = g.transposed && (g.stride_height > 1 || g.stride_width > 1);
  const bool has_tile = columns.window == 3 && columns.stride <= 2 &&
                        columns.stride == rows.stride && columns.out_count >= kChannelColumns;
  const auto computed = [&](int64_t tile) { return CeilDiv(columns.out_count, tile) * tile; };
  // Only from 9 lines on does it pay, and in the shorter rows of a dilation from twice as many; but
  // there from 9, too, and with up to a twentieth more columns, where larger sets are filled from
  // far: 65x65x256 with dilation 2 took 395 instead of 465, eight images of 33x33x256 869 instead
  // of 926, but a single one, which is near, 73 instead of 66 (Xeon, model 167; the first two are
  // now computed by pixels, as are all with dilations and pixels as small).
  const bool is_dilated = columns.in_step > 1, is_filled_from_far = is_far && ways > 8;
  const int64_t room = is_dilated && !is_filled_from_far ? 18 : 9;
  const int64_t more =
      is_dilated && is_filled_from_far ? computed(kTileColumns<1, kChannelRows>) / 20 : 0;
  const bool are_even =
      computed(kTileColumns<2, kChannelRows>) <= computed(kTileColumns<1, kChannelRows>) + more;
  return has_tile && (are_even || ways <= 8) && !has_phases && g.channel_multiplier == 1 &&
         ColumnsCollide<S>(rows, columns, in, room, kChannelRows);
}

// Whether 3x3 is computed by tiles of kTallRows output rows: each input row is then read once for
// seven of them, where pairs of rows read it twice, and of each loaded vector nine multiply-adds
// are made in place of six. 28x28x240 takes 30 instead of 39 us, 14x14x576 15 instead of 20,
// 112x112x16 31 instead of 44, with a multiplier of 2 28x28x96 27 instead of 33 (Xeon, model 167).
// A tile touches 81 lines here and there: from afar, where sequence counts, 60x60x120 would take 4
// to 7% more, unless so much is computed for each line as for 16-bit types and multipliers.
template <class S>
DEPTHWISE_SMALL inline bool SuitsTallTiles(const Geometry& g, const Strides& in, double bytes,
                                           const PlanOptions& options) {
  const bool has_multiplier = g.channel_multiplier > 1;
  if (!(has_multiplier ? kHasTallTiles<S, VectorOf::kCopies>
                       : kHasTallTiles<S, VectorOf::kNeighbours>)) {
    return false;
  }
  const Axis rows = RowAxis(g, 0), columns = ColumnAxis(g, 0);
  const bool is_3x3 =
      g.filter_height == 3 && g.filter_width == 3 && g.stride_height == 1 && g.stride_width == 1;
  const bool computes_much = has_multiplier || sizeof(typename S::Element) == 2;
  const double near =
      computes_much ? kPrefetchBytes : kFarBytes * static_cast<double>(options.threads);
  // What is stored past the caches or fetched ahead has tiles of two rows.
  const double most = Min(Min(near, kPrefetchBytes), options.stream_bytes);
  return is_3x3 && bytes <= most && rows.out_count > kChannelRows &&
         columns.out_count >= kChannelColumns &&
         !ColumnsCollide<S>(rows, columns, in, options.ways, kTallRows);
}

// Plans the direct kernel, for `bytes` of input and output together; false if layout or type do not
// allow it, or if one vector of channels has more taps than `limit` bytes can hold.
template <class S>
DEPTHWISE_SMALL inline bool PlanDirect(const ForwardProblem& problem, const PlanOptions& options,
                                       double bytes, double limit, ForwardPlan* plan) {
  if constexpr (kIsPackedOnly<S>) return false;
  const Geometry& g = problem.geometry;
  const bool can_multiply = !g.transposed && kHasLaneMasks<typename S::Element>;
  if (!g.channels_last || (g.channel_multiplier > 1 && !can_multiply) ||
      problem.input_strides.channel != 1 || g.OutputChannels() < kLanes<typename S::Accumulator> ||
      PackedVectorBytes<S>(g) > limit) {
    return false;
  }
  plan->algorithm = Algorithm::kDirect;
  plan->by_pixels = SuitsPixels<S>(g, bytes, options);
  const bool is_far = bytes > kFarBytes * static_cast<double>(options.threads);
  plan->pairs = TakesPairs<S>(g, problem.input_strides, options.ways, is_far);
  plan->tall = !plan->pairs && SuitsTallTiles<S>(g, problem.input_strides, bytes, options);
  plan->by_rows = !plan->by_pixels && !plan->pairs && SuitsRowTiles<S>(g);
  plan->blocks = 1;
  plan->scratch_bytes = DirectGroupVectors<S>(g) * static_cast<int64_t>(PackedVectorBytes<S>(g));
  return true;
}

// Whether what the next tile touches is worth fetching, for a plan that knows whether it streams:
// where the second-level cache does not keep input and output, taps are few and tiles touch memory
// in sequence. 56x56x96 2x2 takes 57 instead of 71, 56x56x144 3x3, now by blocks of pixels, 121
// instead of 139 (Xeon, model 167); with input and output of 1.6 MB 28x28x256 3x3 took 39 instead
// of 35, 5x5 takes 2% longer, streamed outputs up to twice as long. Whole rows are not fetched
// then: of so much data that they might be, tiles have to fetch their input as well.
template <class S>
DEPTHWISE_SMALL inline bool SuitsPrefetchedTiles(const ForwardProblem& problem,
                                                 const ForwardPlan& plan,
                                                 const PlanOptions& options, double bytes) {
  if constexpr (!kFetchesTiles<S>) return false;
  const Geometry& g = problem.geometry;
  const bool fetch_input = g.filter_height == 3 && g.filter_width == 3 && g.stride_height == 1 &&
                           g.stride_width == 1 && g.out_width >= kChannelColumns;
  return options.may_prefetch_tiles && plan.algorithm == Algorithm::kDirect &&
         (fetch_input || bytes <= kPrefetchBytes) &&
         bytes > kFarBytes * static_cast<double>(options.threads) && !plan.stream &&
         !plan.by_pixels && !plan.pairs && plan.blocks == 1 && HasFewTaps(g) &&
         g.channel_multiplier == 1 && ColumnResidues(g) == 1 &&
         problem.input_strides.column == g.in_channels &&
         problem.output_strides.column == g.in_channels;
}

// Whether, while an image is computed by a few vectors of channels at a time for all its rows, the
// next image and its output are worth fetching. Then the output is not stored past the caches, for
// which each pixel is written in several goes: from the last-level cache and from memory
// 32x14x14x384 7x7 takes 2150 and 2500 instead of 2380 and 3100 us, 32x7x7x768 7x7 960 and 1130
// instead of 1050 and 1700 (Xeon, model 167). The last image of a thread's part is followed by one
// that another thread has computed: hence many images.
template <class S>
DEPTHWISE_SMALL inline bool SuitsPrefetchedImages(const ForwardProblem& problem,
                                                  const ForwardPlan& plan, double bytes,
                                                  int64_t threads) {
  if constexpr (!kFetchesTiles<S>) return false;
  constexpr double kMostBytes = 2 * kCachedItemBytes;  // of an image and its output
  const Geometry& g = problem.geometry;
  if (plan.algorithm != Algorithm::kDirect || plan.by_pixels || plan.by_rows || plan.pairs ||
      plan.blocks > 1 || bytes <= kPrefetchBytes ||
      bytes > kMostBytes * static_cast<double>(g.batch) || RowResidues(g) > 1 ||
      ColumnResidues(g) > 1 || g.batch < (threads == 1 ? 2 : 8 * threads)) {
    return false;
  }
  const Axis rows = RowAxis(g, 0);
  const VectorGroups groups = GroupVectors<S>(g, Item{rows, 0, rows.out_count, 0, 0});
  const int64_t vectors = CeilDiv(g.OutputChannels(), kLanes<typename S::Accumulator>);
  return plan.rows_per_item >= rows.out_count && groups.packed < vectors &&
         problem.input_strides.column == g.InputChannels() &&
         problem.input_strides.row == g.in_width * g.InputChannels() &&
         problem.input_strides.batch == g.in_height * g.in_width * g.InputChannels();
}

// Where the second vector of channels starts, so that from there on input and output are read and
// written in whole cache lines; 0 if they cannot be. With two lines for each vector 28x28x256 3x3
// with stride 2 takes 21 instead of 16 us, and most where neighbouring columns meet in a few sets
// of the first-level cache, so that the second line is gone before the next vector comes.
template <class S>
inline int64_t PeeledChannels(const ForwardProblem& problem, const ForwardPlan& plan) {
  const Geometry& g = problem.geometry;
  // Streamed output has to be aligned.
  if (plan.stream || g.channel_multiplier > 1) return 0;
  const int64_t both = ChannelsToAlignment<S>(g.in_channels, problem.input, problem.input_strides,
                                              problem.output, problem.output_strides);
  // With a stride there is much more input than output.
  if (both > 0 || g.transposed || g.stride_width == 1) return both;
  return ChannelsToAlignment<S>(g.in_channels, problem.input, problem.input_strides, problem.input,
                                problem.input_strides, plan.by_pixels ? kPixelBytes : kPeeledBytes);
}

// Whether one vector of channels takes both ends of a pixel if that leaves all loads and stores on
// one line of the cache each. It goes to tiles of any number of columns: of 48 channels it is a
// third of the work, and 56x56x48 7x7 would take 12% more, of few taps 56x56x96 3x1 5%, in the
// short rows of a dilation 33x33x256 3x3 4% (Xeon, model 167).
template <class S>
DEPTHWISE_SMALL inline bool SuitsEnds(const Geometry& g) {
  if constexpr (!kHasEnds<S>) return false;
  constexpr int64_t kSize = sizeof(typename S::Element), kLeastTaps = 6;
  const int64_t least_bytes = HasFewTaps(g) ? 256 : 384;  // of a pixel
  return g.channels_last && g.channel_multiplier == 1 && ColumnResidues(g) == 1 &&
         static_cast<double>(g.filter_height) * g.filter_width >= kLeastTaps &&
         g.in_channels % kLanes<typename S::Accumulator> == 0 &&
         g.in_channels * kSize >= least_bytes;
}

// How channels are cut into vectors. The vector of both ends needs both arrays as far from a line,
// and a filter whose channels are neighbours.
template <class S>
inline ChannelVectors<S> VectorsOf(const ForwardProblem& problem, const ForwardPlan& plan) {
  const Geometry& g = problem.geometry;
  if (SuitsEnds<S>(g) && !plan.stream && !plan.pairs && FilterStep(problem) == 1) {
    const int64_t peel = ChannelsToAlignment<S>(g.in_channels, problem.input, problem.input_strides,
                                                problem.output, problem.output_strides, 0);
    if (peel > 0) return ChannelVectors<S>::WithEnds(g.in_channels, peel);
  }
  return {g.OutputChannels(), PeeledChannels<S>(problem, plan)};
}

}  // namespace depthwise::DEPTHWISE_ISA
