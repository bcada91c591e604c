// The transform kernel: large filters, one vector of output channels at a time, by Fourier
// transforms along the width and sums over the rows of the filter at each frequency.
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

template <class S>
class TransformKernel {
 public:
  using E = typename S::Element;
  using A = typename S::Accumulator;
  static constexpr int kCount = kLanes<A>;
  static constexpr int64_t kRows = kTransformRows;

  TransformKernel(const ForwardProblem& problem, const ForwardPlan& plan, void* scratch)
      : problem_(problem),
        plan_(plan),
        shape_(plan.transform),
        strip_(plan, problem.geometry, static_cast<A*>(scratch)) {}

  // Bytes of `scratch` for a plan.
  static int64_t ScratchBytes(const ForwardPlan& plan, const Geometry& g) {
    return TransformMemory<A>(plan, g, nullptr).size * int64_t{sizeof(A)};
  }

  void Compute(int64_t item) {
    const Geometry& g = problem_.geometry;
    const int64_t block = item / plan_.parts, part = item % plan_.parts;
    if (block != block_) PackTaps(block);
    const int64_t residues = RowResidues(g);
    const int64_t strips = CeilDiv(CeilDiv(g.out_height, residues), shape_.rows);
    const int64_t all = strips * residues * g.batch;
    // Without a product of `all` and a part's number, which might overflow.
    const int64_t each = all / plan_.parts, rest = all % plan_.parts;
    const int64_t first = part * each + Min(part, rest);
    for (int64_t i = first; i < first + each + (part < rest); ++i) {
      const Axis rows = RowAxis(g, i / strips % residues);
      const int64_t t = i % strips * shape_.rows;
      const int64_t last = Min(rows.out_count, t + shape_.rows);
      if (t < last) ComputeStrips(Item{rows, t, last, block, i / (strips * residues)});
    }
  }

 private:
  void PackTaps(int64_t block) {
    const Geometry& g = problem_.geometry;
    const int64_t first = block * kCount;
    block_ = block;
    channels_ = {first, Min(kCount, g.OutputChannels() - first),
                 g.transposed ? 1 : g.channel_multiplier};
    const TransformMemory<A>& memory = strip_.memory;
    PackFilterClasses<S>(problem_, RowAxis(g, 0), first, channels_.channels, memory.taps);
    PackBias<S>(problem_, first, channels_.channels, kCount, 1, memory.bias);
    strip_.TransformFilter();
  }

  // Computes the output rows of an item.
  void ComputeStrips(const Item& item) {
    const Geometry& g = problem_.geometry;
    const Axis& axis = item.rows;
    const Strides& out = problem_.output_strides;
    E* const output = static_cast<E*>(problem_.output) + item.b * out.batch +
                      channels_.first_channel * out.channel +
                      (axis.out_first + item.first * axis.out_step) * out.row;
    const RowRange range = InputRowsOf(axis, item.first, item.last - item.first);
    const typename TransformStrip<A>::Rows rows{item.first, item.last, axis.window,
                                                item.first + range.begin, item.first + range.end};
    const TransformMemory<A>& memory = strip_.memory;
    const Ring<A> ring{memory.packed, memory.packed_rows, memory.packed_row_stride};
    const int64_t row_step = axis.out_step * out.row;
    for (int64_t first = 0; first < g.out_width; first += plan_.strip_columns) {
      const int64_t columns = Min(plan_.strip_columns, g.out_width - first);
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
            .offset = (column_axis.InputCoordinate(t) - in_columns.begin) * kCount,
            .step = column_axis.in_step * kCount,
        };
        const int64_t out_step = column_axis.out_step * kCount;
        strip_.Convolve(ring, strip, rows);
        for (int64_t row = item.first; row < item.last; row += kRows) {
          const int64_t rows_used = Min(kRows, item.last - row);
          A* const buffer = memory.output +
                            (residues > 1 ? (row - item.first) * columns : 0) * kCount +
                            residue * kCount;
          strip_.Finish(ring, strip, rows, row, columns * kCount, out_step, buffer);
          if (residues > 1) continue;
          StoreRows<S>(problem_, plan_, memory.output, rows_used, columns, channels_.channels,
                       row_step, output + (row - item.first) * row_step + first * out.column);
        }
      }
      if (residues > 1) {
        StoreRows<S>(problem_, plan_, memory.output, item.last - item.first, columns,
                     channels_.channels, row_step, output + first * out.column);
      }
    }
  }

  const ForwardProblem& problem_;
  const ForwardPlan& plan_;
  const TransformShape& shape_;
  TransformStrip<A> strip_;
  int64_t block_ = -1;  // whose filter is transformed
  BlockChannels channels_{};
};

// Plans the transform kernel; false if it does not suit, or if it would not be faster. Its taps
// must be finite.
template <class S>
inline bool PlanTransform(const ForwardProblem& problem, double limit, ForwardPlan* plan) {
  const Geometry& g = problem.geometry;
  constexpr int64_t kWidestLanes = 64 / int64_t{sizeof(typename S::Accumulator)};
  if (!ChooseTransform(g, kWidestLanes, limit, &plan->transform)) return false;
  plan->algorithm = Algorithm::kTransform;
  plan->blocks = CeilDiv(g.OutputChannels(), kLanes<typename S::Accumulator>);
  plan->strip_columns = plan->transform.columns * ColumnResidues(g);
  plan->scratch_bytes = TransformKernel<S>::ScratchBytes(*plan, g);
  return true;
}

template <class S>
inline void RunTransform(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                         int64_t end, void* scratch) {
  TransformKernel<S> kernel(problem, plan, scratch);
  for (int64_t item = begin; item < end; ++item) kernel.Compute(item);
}

}  // namespace depthwise::DEPTHWISE_ISA
