// The direct kernel: NHWC images read in place. Only the taps are packed.
//
// Order of the loops: image, output rows of a tile, column tile, channels innermost, so that memory
// is read and written in sequence; but a few vectors of channels at a time, see VectorGroups. Where
// windows share little, pixels in place of tiles, see pixel_rows.h.
#pragma once

#include "channel_rows.h"
#include "direct_plan.h"
#include "pack.h"
#include "pixel_rows.h"

namespace depthwise::DEPTHWISE_ISA {

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
        vectors_(VectorsOf<S>(problem, plan)),
        ends_(vectors_, problem.geometry.in_channels),
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
      const int64_t channel = vectors_.First(v), count = Min(kCount, g.OutputChannels() - channel);
      PackBias<S>(problem_, channel, count, kCount, 1, to);
      for (int64_t c = 0; c < kCount - count; ++c) to[count + c] = BiasOf<S>(problem_, c);
    }
    for (int64_t v = first; v < last && g.channel_multiplier > 1; ++v) {
      Spread()[v - first] =
          SpreadChannels<S>::Of(vectors_.First(v), g.channel_multiplier, g.in_channels);
    }
  }

  // Where channels are next to each other: a tap of all vectors, and then the next tap. Vector by
  // vector, each line of which lies as far from the last as there are channels, 14x14x512 27x27
  // takes 8% more, 13% if its taps are in memory; 14x14x672 5x5 6%.
  void PackTapsInSequence() {
    const auto pack_class = [&](const Taps& columns, A* to) DEPTHWISE_INLINE_LAMBDA {
      const auto pack = [&](const E* tap, int64_t step, int64_t count) DEPTHWISE_INLINE_LAMBDA {
        PackRun(tap, step, count, vectors_, ends_, first_, last_, TapsStep(), to);
        to += count * kCount;
      };
      ForEachRunOfTaps(problem_, rows_, columns, static_cast<const E*>(problem_.filter), pack);
    };
    ForEachClassOfColumns(problem_.geometry, rows_, taps_, pack_class);
  }

  // A function of its own, since with the loops around it its addresses are spilled.
  static __attribute__((noinline)) void PackRun(const E* tap, int64_t step, int64_t count,
                                                ChannelVectors<S> vectors, EndsLoad<S> ends,
                                                int64_t first, int64_t last, int64_t to_step,
                                                A* to) {
    const int64_t neighbours_end = vectors.NeighboursEnd(last);
    for (; count > 0; --count, tap += step, to += kCount) {
      A* vector = to;
      for (int64_t v = first; v < neighbours_end; ++v, vector += to_step) {
        StoreUnaligned(vector, S::Load(tap + vectors.First(v)));
      }
      if constexpr (kHasEnds<S>) {
        if (neighbours_end == last) continue;
        StoreUnaligned(vector, ends(tap + vectors.First(neighbours_end)));
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
  SpreadChannels<S>* Spread() const {
    return reinterpret_cast<SpreadChannels<S>*>(Bias() + (last_ - first_) * kCount);
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
        .neighbours_end = vectors_.NeighboursEnd(last_),
        .pairs = false,
        .tall = false,
        .by_rows = plan_.by_rows,
        .fetch_first = first_,
        .fetch_shares = plan_.prefetch && may_fetch && !plan_.by_rows ? last_ - first_ : 0,
        // The vectors of a part of the channels would fetch what others write.
        .fetches_output = plan_.prefetch_output && plan_.blocks == 1,
        .fetches_next_tile = plan_.prefetch_tiles && last_ - first_ == vectors_.Count(),
        .next_images = plan_.prefetch_images ? &next_images_ : nullptr,
        .stream = plan_.stream,
        .has_padding = false,
        .spread = g.channel_multiplier > 1 ? Spread() : nullptr,
        .first_input = in.row >= 0 && in.column >= 0 && in.batch >= 0
                           ? static_cast<const E*>(problem_.input)
                           : nullptr,
        .ends = &ends_,
    };
    if (plan_.by_pixels) {
      for (int64_t t = item.first; t < item.last;) {
        const int64_t rows_used = PixelRowsTogether<S>(rows, columns_.First(), t, item.last);
        PixelRows<S>(arrays, RowsInPlace(rows, t, rows_used, image, in.row), rows_used,
                     output + (rows.out_first + t * rows.out_step) * out.row);
        t += rows_used;
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
          ChannelRows<S, VectorOf::kNeighbours>(g, part, tile_rows, rows_used, 0, g.out_width, to);
        }
        if (rest == end) continue;
        ChannelArrays<S> part = arrays.Part(rest, end);
        part.tall = plan_.tall && rows_used > kChannelRows;
        if constexpr (kHasLaneMasks<E>) {
          if (part.spread != nullptr) {
            ChannelRows<S, VectorOf::kCopies>(g, part, tile_rows, rows_used, 0, g.out_width, to);
            continue;
          }
        }
        ChannelRows<S, VectorOf::kNeighbours>(g, part, tile_rows, rows_used, 0, g.out_width, to);
      }
    }
  }

  const ForwardProblem& problem_;
  const ForwardPlan& plan_;
  const ColumnAxes columns_;
  const ChannelVectors<S> vectors_;
  const EndsLoad<S> ends_;
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
