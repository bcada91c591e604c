// The transform kernel: large filters, one vector of output channels at a time, by Fourier
// transforms along the width and sums over the rows of the filter at each frequency. Called by
// kernels.cc; TransformedImages by transform_filter_gradient.h, too.
//
// pack:      input rows of a strip -> [rows, columns, lanes] of accumulators, as block.h does
// transform: packed rows -> spectra, [frequency, row, lanes]
// multiply:  for each frequency, a sum over the filter's rows, of complex numbers
// invert:    their spectra -> output rows, which are verified
// store:     as block.h does
#pragma once

#include "block.h"
#include "transform_strip.h"

namespace depthwise::DEPTHWISE_ISA {

// Packs the input of output rows, and has them computed: whatever the filter is, and wherever the
// outputs go.
template <class S>
class TransformedImages {
 public:
  using A = typename S::Accumulator;
  static constexpr int kCount = kLanes<A>;
  static constexpr int64_t kRows = kTransformRows;

  // Some outputs of a vector of channels, [rows, columns, lanes]: the first of them is that number
  // `row` of an item and in column `column`.
  struct Outputs {
    const A* data;
    int64_t row, rows, column, columns;
  };

  TransformedImages(const ForwardProblem& problem, const TransformShape& shape,
                    int64_t strip_columns, void* scratch)
      : problem_(problem),
        shape_(shape),
        strip_columns_(strip_columns),
        strip_(shape, strip_columns, problem.geometry, static_cast<A*>(scratch)) {}

  // Bytes of `scratch`.
  static int64_t ScratchBytes(const TransformShape& shape, int64_t strip_columns,
                              const Geometry& g) {
    return TransformMemory<A>(shape, strip_columns, g, nullptr).size * int64_t{sizeof(A)};
  }

  // The vector of output channels that is computed from now on.
  void SetChannels(const BlockChannels& channels) { channels_ = channels; }
  const BlockChannels& Channels() const { return channels_; }

  // Where their taps and their bias have to be packed, before TransformFilter().
  A* Taps() const { return strip_.memory.taps; }
  A* Bias() const { return strip_.memory.bias; }
  void TransformFilter() { strip_.TransformFilter(); }

  // Strips of rows of an image, of all its residues.
  int64_t StripsOfImage() const { return RowStrips() * RowResidues(problem_.geometry); }

  // Computes strip number `i` of all images, and calls store(item, outputs) for what is ready.
  template <class Store>
  void ComputeStrip(int64_t i, Store&& store) {
    const Geometry& g = problem_.geometry;
    const int64_t strips = RowStrips(), residues = RowResidues(g);
    const Axis rows = RowAxis(g, i / strips % residues);
    const int64_t t = i % strips * shape_.rows;
    const int64_t last = Min(rows.out_count, t + shape_.rows);
    if (t >= last) return;
    ComputeRows(Item{rows, t, last, 0, i / (strips * residues)}, store);
  }

 private:
  int64_t RowStrips() const {
    const Geometry& g = problem_.geometry;
    return CeilDiv(CeilDiv(g.out_height, RowResidues(g)), shape_.rows);
  }

  template <class Store>
  DEPTHWISE_SMALL void ComputeRows(const Item& item, Store&& store) {
    const Geometry& g = problem_.geometry;
    const Axis& axis = item.rows;
    const RowRange range = InputRowsOf(axis, item.first, item.last - item.first);
    const typename TransformStrip<A>::Rows rows{item.first, item.last, axis.window,
                                                item.first + range.begin, item.first + range.end};
    const TransformMemory<A>& memory = strip_.memory;
    const Ring<A> ring{memory.packed, memory.packed_rows, memory.packed_row_stride};
    for (int64_t first = 0; first < g.out_width; first += strip_columns_) {
      const int64_t columns = Min(strip_columns_, g.out_width - first);
      const ColumnRange in_columns = InputColumnsOf(g, first, first + columns);
      const auto packer = MakeBlockPacker<S>(problem_, axis, item.b, channels_, in_columns);
      if (rows.unit_begin < rows.unit_end) packer.Pack(ring, rows.unit_begin, rows.unit_end, axis);
      const int64_t residues = ColumnResidues(g);
      for (int64_t residue = 0; residue < residues; ++residue) {
        const Axis column_axis = ColumnAxis(g, residue);
        const int64_t t = first / column_axis.out_step;
        const int64_t count = Min(shape_.columns, column_axis.out_count - t);
        if (count <= 0) continue;
        const typename TransformStrip<A>::Columns strip{
            .count = count,
            .unit_begin = Max(0, column_axis.unit_begin - t),
            .unit_end = Min(column_axis.unit_end - t, count - 1 + column_axis.window),
            .offset = (column_axis.ColumnCoordinate(t) - in_columns.begin) * kCount,
            .step = column_axis.in_step * kCount,
        };
        const int64_t out_step = column_axis.out_step * kCount;
        strip_.Convolve(ring, strip, rows);
        for (int64_t row = item.first; row < item.last; row += kRows) {
          A* const buffer = memory.output +
                            (residues > 1 ? (row - item.first) * columns : 0) * kCount +
                            residue * kCount;
          strip_.Finish(ring, strip, rows, row, columns * kCount, out_step, buffer);
          if (residues > 1) continue;
          store(item, Outputs{memory.output, row - item.first, Min(kRows, item.last - row), first,
                              columns});
        }
      }
      if (residues > 1) {
        store(item, Outputs{memory.output, 0, item.last - item.first, first, columns});
      }
    }
  }

  const ForwardProblem& problem_;
  const TransformShape& shape_;
  const int64_t strip_columns_;
  TransformStrip<A> strip_;
  BlockChannels channels_{};
};

template <class S>
class TransformKernel {
 public:
  using E = typename S::Element;
  static constexpr int kCount = kLanes<typename S::Accumulator>;

  TransformKernel(const ForwardProblem& problem, const ForwardPlan& plan, void* scratch)
      : problem_(problem),
        plan_(plan),
        images_(problem, plan.transform, plan.strip_columns, scratch) {}

  void Compute(int64_t item) {
    const int64_t block = item / plan_.parts, part = item % plan_.parts;
    if (block != block_) PackTaps(block);
    const int64_t all = images_.StripsOfImage() * problem_.geometry.batch;
    // Without a product of `all` and a part's number, which might overflow.
    const int64_t each = all / plan_.parts, rest = all % plan_.parts;
    const int64_t first = part * each + Min(part, rest);
    for (int64_t i = first; i < first + each + (part < rest); ++i) {
      images_.ComputeStrip(
          i, [&](const Item& of, const typename TransformedImages<S>::Outputs& outputs) {
            Store(of, outputs);
          });
    }
  }

 private:
  void PackTaps(int64_t block) {
    const Geometry& g = problem_.geometry;
    const int64_t first = block * kCount;
    const int64_t channels = Min(kCount, g.OutputChannels() - first);
    block_ = block;
    images_.SetChannels({first, channels, g.transposed ? 1 : g.channel_multiplier});
    PackFilterClasses<S>(problem_, RowAxis(g, 0), first, channels, images_.Taps());
    PackBias<S>(problem_, first, channels, kCount, 1, images_.Bias());
    images_.TransformFilter();
  }

  void Store(const Item& item, const typename TransformedImages<S>::Outputs& outputs) {
    const Strides& out = problem_.output_strides;
    const BlockChannels& channels = images_.Channels();
    const int64_t row = item.rows.out_first + (item.first + outputs.row) * item.rows.out_step;
    E* const to = static_cast<E*>(problem_.output) + item.b * out.batch +
                  channels.first_channel * out.channel + row * out.row +
                  outputs.column * out.column;
    StoreRows<S>(problem_, plan_, outputs.data, outputs.rows, outputs.columns, channels.channels,
                 item.rows.out_step * out.row, to);
  }

  const ForwardProblem& problem_;
  const ForwardPlan& plan_;
  TransformedImages<S> images_;
  int64_t block_ = -1;  // whose filter is transformed
};

// Chooses the shape of a transform; false if it does not suit, or if it would not be faster.
template <class S>
inline bool ShapeTransform(const Geometry& g, double limit, const TransformEffort& effort,
                           TransformShape* shape) {
  constexpr int64_t kWidestLanes = 64 / int64_t{sizeof(typename S::Accumulator)};
  return ChooseTransform(g, kWidestLanes, limit, effort, shape);
}

// Plans the transform kernel; false if the direct sum is to be taken. Its taps must be finite.
template <class S>
DEPTHWISE_SMALL inline bool PlanTransform(const ForwardProblem& problem, double limit,
                                          ForwardPlan* plan) {
  const Geometry& g = problem.geometry;
  if (!ShapeTransform<S>(g, limit, kTransformEffort, &plan->transform)) return false;
  plan->algorithm = Algorithm::kTransform;
  plan->blocks = CeilDiv(g.OutputChannels(), kLanes<typename S::Accumulator>);
  plan->strip_columns = plan->transform.columns * ColumnResidues(g);
  plan->scratch_bytes = TransformedImages<S>::ScratchBytes(plan->transform, plan->strip_columns, g);
  return true;
}

template <class S>
inline void RunTransform(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                         int64_t end, void* scratch) {
  TransformKernel<S> kernel(problem, plan, scratch);
  for (int64_t item = begin; item < end; ++item) kernel.Compute(item);
}

}  // namespace depthwise::DEPTHWISE_ISA
