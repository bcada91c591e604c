// The filter gradient of large filters: a convolution of each image whose filter is its
// out_backprop, and whose outputs are the taps. So it is computed by the transform kernel, where
// that takes less; the taps of all images are added up.
#pragma once

#include "filter_gradient.h"
#include "transform.h"

namespace depthwise::DEPTHWISE_ISA {

// Along each axis tap d is the sum over i of out_backprop[i] * input[i * stride + d * dilation]:
// the two distances exchange their roles.
inline Geometry TapsAsOutputs(const Geometry& g) {
  Geometry taps = g;
  Exchange(taps.filter_height, taps.out_height);
  Exchange(taps.filter_width, taps.out_width);
  Exchange(taps.stride_height, taps.dilation_height);
  Exchange(taps.stride_width, taps.dilation_width);
  return taps;
}

// Filters of up to 5x5 never pay: most problems are told apart here.
inline constexpr int64_t kMostSummedTaps = 25;
// Of the sums of one vector of channels, which a thread keeps besides the transform's memory.
inline constexpr double kMostSumBytes = 2 << 20;

// Images that are added up one by one, and then as a chunk: so few that there are enough chunks for
// all threads, whose rounding errors then add up as those of few images. By the sizes alone, as all
// of the plan; `vectors` are of 64 bytes, whatever the instruction set has.
inline int64_t ImagesOfChunk(int64_t batch, int64_t vectors) {
  constexpr int64_t kMostImages = 16;
  const int64_t chunks = Max(CeilDiv(kMaxChunks, vectors), CeilDiv(batch, kMostImages));
  return CeilDiv(batch, Min(chunks, kMaxChunks));
}

// Plans the kernel of this file; false if the direct sum is to be taken.
template <class S>
DEPTHWISE_SMALL inline bool PlanTransformFilterGradient(const FilterGradientProblem& problem,
                                                        double limit, FilterGradientPlan* plan) {
  const Geometry g = TapsAsOutputs(problem.geometry);
  const double taps = static_cast<double>(g.out_height) * static_cast<double>(g.out_width);
  if (taps <= kMostSummedTaps || 64 * taps > kMostSumBytes) return false;
  if (!ShapeTransform<S>(g, limit, kGradientTransformEffort, &plan->transform)) return false;
  plan->algorithm = Algorithm::kTransform;
  plan->strip_columns = plan->transform.columns * ColumnResidues(g);
  plan->group_vectors = 1;
  plan->groups = CeilDiv(g.OutputChannels(), kLanes<typename S::Accumulator>);
  plan->bands = g.batch;
  constexpr int64_t kWidestLanes = 64 / int64_t{sizeof(typename S::Accumulator)};
  plan->bands_per_chunk = ImagesOfChunk(g.batch, CeilDiv(g.OutputChannels(), kWidestLanes));
  plan->items = plan->groups * CeilDiv(plan->bands, plan->bands_per_chunk);
  plan->sums_bytes = g.out_height * g.out_width * kVectorBytes;
  plan->scratch_bytes = TransformedImages<S>::ScratchBytes(plan->transform, plan->strip_columns, g);
  return true;
}

// Computes the sums of an item.
template <class S>
inline void RunTransformFilterGradient(const FilterGradientProblem& problem,
                                       const FilterGradientPlan& plan, int64_t item,
                                       typename S::Accumulator* sums,
                                       typename S::Accumulator* scratch) {
  using A = typename S::Accumulator;
  using E = typename S::Element;
  constexpr int kCount = kLanes<A>;
  const Geometry& given = problem.geometry;
  const Strides& out = problem.out_backprop_strides;
  const Geometry g = TapsAsOutputs(given);
  const ForwardProblem convolution{.geometry = g,
                                   .input = problem.input,
                                   .input_strides = problem.input_strides,
                                   .filter = nullptr,
                                   .filter_strides = {},
                                   .bias = nullptr,
                                   .output = nullptr,
                                   .output_strides = {}};
  FillZero(sums, sums + g.out_height * g.out_width * kCount);
  TransformedImages<S> images(convolution, plan.transform, plan.strip_columns, scratch);

  const int64_t first_channel = item % plan.groups * kCount;
  const int64_t channels = Min(kCount, g.OutputChannels() - first_channel);
  images.SetChannels({first_channel, channels, g.channel_multiplier});
  FillZero(images.Bias(), images.Bias() + kCount);
  Axis out_rows{};
  out_rows.in_step = 1;
  out_rows.planes = 1;
  const int64_t begin = item / plan.groups * plan.bands_per_chunk;
  for (int64_t b = begin; b < Min(g.batch, begin + plan.bands_per_chunk); ++b) {
    const BlockPacker<S> out_backprop{
        .block = {first_channel, channels, 1},
        .image = static_cast<const E*>(problem.out_backprop) + b * out.batch +
                 first_channel * out.channel,
        .strides = out,
        .plane_steps = PlaneStepsOf<A>({first_channel, channels, 1}, out.channel),
        .plane_step = 0,
        .in_width = given.out_width,
        .first_column = 0,
        .columns = given.out_width,
    };
    const Ring<A> taps{images.Taps(), given.out_height, given.out_width * kCount};
    out_backprop.Pack(taps, 0, given.out_height, out_rows);
    images.TransformFilter();
    const int64_t strips = images.StripsOfImage();
    for (int64_t i = b * strips; i < (b + 1) * strips; ++i) {
      images.ComputeStrip(
          i, [&](const Item& of, const typename TransformedImages<S>::Outputs& outputs) {
            const A* from = outputs.data;
            for (int64_t row = outputs.row; row < outputs.row + outputs.rows; ++row) {
              const int64_t di = of.rows.out_first + (of.first + row) * of.rows.out_step;
              A* to = sums + (di * g.out_width + outputs.column) * kCount;
              for (int64_t dj = 0; dj < outputs.columns; ++dj, from += kCount, to += kCount) {
                StoreUnaligned(to, LoadUnaligned<Vec<A>>(to) + LoadUnaligned<Vec<A>>(from));
              }
            }
          });
    }
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
