// The direct kernel: NHWC images read in place. Only the taps are packed.
//
// Order of the loops: image, output rows of a tile, column tile, channels innermost, so that memory
// is read and written in sequence; but a few vectors of channels at a time, see VectorGroups. Where
// windows share little, single pixels in place of tiles, see pixel_rows.h.
#pragma once

#include "channel_rows.h"
#include "pack.h"
#include "pixel_rows.h"

namespace depthwise::DEPTHWISE_ISA {

// The most taps that are packed at a time: those of all channels but for filters that would not
// stay in the second-level cache.
inline constexpr int64_t kPackedTapBytes = 256 * 1024;

// Of one vector of channels: its taps, its bias and how it is loaded.
template <class S>
inline double PackedVectorBytes(const Geometry& g) {
  return (static_cast<double>(g.filter_height) * g.filter_width + 1) * kVectorBytes +
         double{sizeof(SpreadLoad<S>)};
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
// 14x14x672 5x5 take 4 to 6% less, 7x7x768 7x7 12%; but 3x3 is faster in sequence there, too.
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
inline bool TakesPairs(const Geometry& g, const Strides& in, int64_t ways, bool is_far) {
  if constexpr (!kHasPairs<S>) return false;
  const Axis rows = RowAxis(g, 0), columns = ColumnAxis(g, 0);
  const bool has_phases = g.transposed && (g.stride_height > 1 || g.stride_width > 1);
  const bool has_tile = columns.window == 3 && columns.stride <= 2 &&
                        columns.stride == rows.stride && columns.out_count >= kChannelColumns;
  const auto computed = [&](int64_t tile) { return CeilDiv(columns.out_count, tile) * tile; };
  // Only from 9 lines on does it pay, and in the shorter rows of a dilation from twice as many; but
  // there from 9, too, and with up to a twentieth more columns, where larger sets are filled from
  // far: 65x65x256 with dilation 2 takes 395 instead of 465, eight images of 33x33x256 869 instead
  // of 926, but a single one, which is near, 73 instead of 66 (Xeon, model 167).
  const bool is_dilated = columns.in_step > 1, is_filled_from_far = is_far && ways > 8;
  const int64_t room = is_dilated && !is_filled_from_far ? 18 : 9;
  const int64_t more = is_dilated && is_filled_from_far ? computed(kTileColumns<1>) / 20 : 0;
  const bool are_even = computed(kTileColumns<2>) <= computed(kTileColumns<1>) + more;
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
inline bool SuitsTallTiles(const Geometry& g, const Strides& in, double bytes,
                           const PlanOptions& options) {
  const bool has_multiplier = g.channel_multiplier > 1;
  if (!(has_multiplier ? kHasTallTiles<S, true> : kHasTallTiles<S, false>)) return false;
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
  if constexpr (kConvertsSlowly<S>) return false;
  const Geometry& g = problem.geometry;
  const bool can_multiply = !g.transposed && kHasLaneMasks<typename S::Element>;
  if (!g.channels_last || (g.channel_multiplier > 1 && !can_multiply) ||
      problem.input_strides.channel != 1 || g.OutputChannels() < kLanes<typename S::Accumulator> ||
      PackedVectorBytes<S>(g) > limit) {
    return false;
  }
  plan->algorithm = Algorithm::kDirect;
  plan->by_pixels = SuitsPixels<S>(g, bytes, options.threads);
  const bool is_far = bytes > kFarBytes * static_cast<double>(options.threads);
  plan->pairs = TakesPairs<S>(g, problem.input_strides, options.ways, is_far);
  plan->tall = !plan->pairs && SuitsTallTiles<S>(g, problem.input_strides, bytes, options);
  plan->blocks = 1;
  plan->scratch_bytes = DirectGroupVectors<S>(g) * static_cast<int64_t>(PackedVectorBytes<S>(g));
  return true;
}

// Whether what the next tile touches is worth fetching, for a plan that knows whether it streams:
// where the second-level cache does not keep input and output, taps are few and tiles touch memory
// in sequence. 56x56x96 2x2 takes 57 instead of 71, 56x56x144 3x3 121 instead of 139 (Xeon, model
// 167); with input and output of 1.6 MB 28x28x256 3x3 took 39 instead of 35, 5x5 takes 2% longer,
// streamed outputs up to twice as long. Whole rows are not fetched then: of so much data that they
// might be, tiles have to fetch their input as well.
template <class S>
inline bool SuitsPrefetchedTiles(const ForwardProblem& problem, const ForwardPlan& plan,
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
inline bool SuitsPrefetchedImages(const ForwardProblem& problem, const ForwardPlan& plan,
                                  double bytes, int64_t threads) {
  constexpr double kMostBytes = 2 * kCachedItemBytes;  // of an image and its output
  const Geometry& g = problem.geometry;
  if (plan.algorithm != Algorithm::kDirect || plan.by_pixels || plan.pairs || plan.blocks > 1 ||
      bytes <= kPrefetchBytes || bytes > kMostBytes * static_cast<double>(g.batch) ||
      RowResidues(g) > 1 || ColumnResidues(g) > 1 || g.batch < (threads == 1 ? 2 : 8 * threads)) {
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

// For the vector of output channels that begins with that one.
template <class S>
inline SpreadLoad<S> SpreadLoadOf(int64_t channel, int64_t multiplier) {
  constexpr int kCount = kLanes<typename S::Accumulator>;
  SpreadLoad<S> load;
  load.first_channel = channel / multiplier;
  for (int lane = 0; lane < kCount; ++lane) {
    load.index[lane] = (channel + lane) / multiplier - load.first_channel;
  }
  load.channels = load.index[kCount - 1] + 1;
  return load;
}

template <class S>
class DirectKernel {
 public:
  using E = typename S::Element;
  using A = typename S::Accumulator;
  static constexpr int64_t kCount = kLanes<A>;

  DirectKernel(const ForwardProblem& problem, const ForwardPlan& plan, void* scratch)
      : problem_(problem),
        plan_(plan),
        columns_(problem.geometry),
        vectors_{problem.geometry.OutputChannels(), PeeledChannels<S>(problem, plan)},
        taps_(static_cast<A*>(scratch)) {}

  void Compute(const Item& item) {
    const Geometry& g = problem_.geometry;
    const int64_t block = CeilDiv(vectors_.Count(), plan_.blocks);
    const int64_t begin = item.block * block, end = Min(vectors_.Count(), begin + block);
    const int64_t all = DirectGroupVectors<S>(g);
    const VectorGroups groups = plan_.by_pixels ? VectorGroups{all, all} : GroupVectors<S>(g, item);
    if (plan_.prefetch_images) next_images_ = ImagesAfter(item.b);
    for (int64_t first = begin; first < end; first += groups.packed) {
      PackTaps(item.rows, first, Min(end, first + groups.packed));
      ComputeRows(item, first == begin, groups.together);
    }
  }

 private:
  // Packs the taps of the vectors [first, last), and their bias, unless they are packed already: of
  // several images once.
  void PackTaps(const Axis& rows, int64_t first, int64_t last) {
    const bool are_same = rows.taps.first == rows_.taps.first && rows.window == rows_.window;
    if (first == first_ && last == last_ && are_same) return;
    rows_ = rows;
    first_ = first;
    last_ = last;
    const Geometry& g = problem_.geometry;
    if (FilterStep(problem_) == 1) {
      PackTapsInSequence();
    } else {
      A* to = taps_;
      for (int64_t v = first; v < last; ++v) {
        to = PackFilterClasses<S>(problem_, rows, vectors_.First(v), kCount, to);
      }
    }
    A* to = Bias();
    for (int64_t v = first; v < last; ++v, to += kCount) {
      PackBias<S>(problem_, vectors_.First(v), kCount, kCount, 1, to);
    }
    for (int64_t v = first; v < last && g.channel_multiplier > 1; ++v) {
      Spread()[v - first] = SpreadLoadOf<S>(vectors_.First(v), g.channel_multiplier);
    }
  }

  // Where channels are next to each other: a tap of all vectors, and then the next tap. Vector by
  // vector, each line of which lies as far from the last as there are channels, 14x14x512 27x27
  // takes 8% more, 13% if its taps are in memory; 14x14x672 5x5 6%.
  void PackTapsInSequence() {
    const auto pack_class = [&](const Taps& columns, A* to) DEPTHWISE_INLINE_LAMBDA {
      const auto pack = [&](const E* tap, int64_t step, int64_t count) DEPTHWISE_INLINE_LAMBDA {
        PackRun(tap, step, count, vectors_, first_, last_, TapsStep(), to);
        to += count * kCount;
      };
      ForEachRunOfTaps(problem_, rows_, columns, static_cast<const E*>(problem_.filter), pack);
    };
    ForEachClassOfColumns(problem_.geometry, rows_, taps_, pack_class);
  }

  // A function of its own, since with the loops around it its addresses are spilled.
  static __attribute__((noinline)) void PackRun(const E* tap, int64_t step, int64_t count,
                                                ChannelVectors<S> vectors, int64_t first,
                                                int64_t last, int64_t to_step, A* to) {
    for (; count > 0; --count, tap += step, to += kCount) {
      A* vector = to;
      for (int64_t v = first; v < last; ++v, vector += to_step) {
        StoreUnaligned(vector, S::Load(tap + vectors.First(v)));
      }
    }
  }

  // Image b + 1 and its output, in a share for each vector of each tile of image b.
  FetchedImages ImagesAfter(int64_t b) const {
    const Geometry& g = problem_.geometry;
    if (b + 1 == g.batch) return {};
    constexpr int64_t kSize = sizeof(E);
    const int64_t in = problem_.input_strides.batch, out = problem_.output_strides.batch;
    const int64_t tiles =
        CeilDiv(g.out_height, kChannelRows) * CeilDiv(g.out_width, kChannelColumns);
    return {static_cast<const E*>(problem_.input) + (b + 1) * in, in * kSize,
            static_cast<const E*>(problem_.output) + (b + 1) * out, out * kSize,
            tiles * vectors_.Count()};
  }

  // Between the taps of vectors.
  int64_t TapsStep() const { return rows_.window * problem_.geometry.filter_width * kCount; }
  A* Bias() const { return taps_ + (last_ - first_) * TapsStep(); }
  SpreadLoad<S>* Spread() const {
    return reinterpret_cast<SpreadLoad<S>*>(Bias() + (last_ - first_) * kCount);
  }

  // Computes all rows of an item, of the vectors whose taps are packed, `together` of them at a
  // time. The first vectors of an item may fetch the next rows ahead, for the others, too.
  void ComputeRows(const Item& item, bool may_fetch, int64_t together) {
    const Geometry& g = problem_.geometry;
    const Strides& in = problem_.input_strides;
    const Strides& out = problem_.output_strides;
    const Axis& rows = item.rows;
    const E* image = static_cast<const E*>(problem_.input) + item.b * in.batch;
    E* output = static_cast<E*>(problem_.output) + item.b * out.batch;
    const ChannelArrays<S> arrays{
        .taps = taps_,
        .taps_step = TapsStep(),
        .bias = Bias(),
        .window_rows = rows.window,
        .row_stride = rows.stride,
        .columns = &columns_,
        .first_column = 0,
        .in_column_step = in.column,
        .out_row_step = rows.out_step * out.row,
        .out_column_step = out.column,
        .vectors = vectors_,
        .first_vector = first_,
        .last_vector = last_,
        .pairs = false,
        .tall = false,
        .fetch_first = first_,
        .fetch_shares = plan_.prefetch && may_fetch ? last_ - first_ : 0,
        // The vectors of a part of the channels would fetch what others write.
        .fetches_output = plan_.prefetch_output && plan_.blocks == 1,
        .fetches_next_tile = plan_.prefetch_tiles && last_ - first_ == vectors_.Count(),
        .next_images = plan_.prefetch_images ? &next_images_ : nullptr,
        .stream = plan_.stream,
        .has_padding = false,
        .spread = g.channel_multiplier > 1 ? Spread() : nullptr,
    };
    if (plan_.by_pixels) {
      for (int64_t t = item.first; t < item.last; ++t) {
        PixelRow<S>(arrays, RowsInPlace(rows, t, 1, image, in.row), output + t * out.row);
      }
      return;
    }
    const int64_t rows_together =
        RowsTogether(rows.stride, rows.window, plan_.tall ? kTallRows : kChannelRows);
    for (int64_t t = item.first; t < item.last; t += rows_together) {
      const int64_t rows_used = Min(rows_together, item.last - t);
      const TileRows<E> tile_rows = RowsInPlace(rows, t, rows_used, image, in.row);
      E* const to = output + (rows.out_first + t * rows.out_step) * out.row;
      for (int64_t v = first_; v < last_; v += together) {
        const int64_t end = Min(last_, v + together);
        const int64_t rest = plan_.pairs ? end - (end - v) % 2 : v;
        if (rest > v) {
          ChannelArrays<S> part = arrays.Part(v, rest);
          part.pairs = true;
          ChannelRows<S, false>(g, part, tile_rows, rows_used, 0, g.out_width, to);
        }
        if (rest == end) continue;
        ChannelArrays<S> part = arrays.Part(rest, end);
        part.tall = plan_.tall && rows_used > kChannelRows;
        if constexpr (kHasLaneMasks<E>) {
          if (part.spread != nullptr) {
            ChannelRows<S, true>(g, part, tile_rows, rows_used, 0, g.out_width, to);
            continue;
          }
        }
        ChannelRows<S, false>(g, part, tile_rows, rows_used, 0, g.out_width, to);
      }
    }
  }

  const ForwardProblem& problem_;
  const ForwardPlan& plan_;
  const ColumnAxes columns_;
  const ChannelVectors<S> vectors_;
  A* const taps_;
  // The vectors whose taps are packed, and for which rows.
  int64_t first_ = 0, last_ = 0;
  Axis rows_{};
  FetchedImages next_images_;
};

template <class S>
inline void RunDirect(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                      int64_t end, void* scratch) {
  DirectKernel<S> kernel(problem, plan, scratch);
  for (Parts parts(problem.geometry, plan, begin, end); parts.AreLeft(); parts.Advance()) {
    kernel.Compute(parts.Part());
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
