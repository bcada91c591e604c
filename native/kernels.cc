// All kernels of one instruction set, as one table. Compiled once per instruction set with
// DEPTHWISE_ISA set to its namespace and the compiler flags that go with it.
//
// Everything here lives in that namespace or has internal linkage. An inline function of the
// standard library would be emitted once for all instruction sets, and the linker might keep the
// copy that uses instructions this CPU lacks: so none is called.
#include "kernels.h"

#include "block.h"
#include "definition.h"
#include "direct.h"
#include "filter_gradient.h"
#include "flat.h"
#include "flat_filter_gradient.h"
#include "narrow_plane.h"
#include "permuted.h"
#include "plane.h"
#include "plane_filter_gradient.h"
#include "row.h"
#include "strided_plane.h"
#include "transform.h"
#include "transform_filter_gradient.h"

namespace depthwise::DEPTHWISE_ISA {

// Scratch memory that one thread may use; the promise to users is 2 MB.
inline constexpr double kScratchBytes = 1792 * 1024;
static_assert(kScratchBytes + kMostStagedBytes < 2 * 1024 * 1024);

// Threads finish together if there are some items for each. Of the channels of a pixel each should
// have some vectors that follow each other.
inline constexpr int64_t kItemsPerThread = 4;
inline constexpr int64_t kLeastVectors = 4;

// DataBytes(), or what a plan shall assume.
template <class S>
double PlannedBytes(const Geometry& g, const PlanOptions& options) {
  return options.assumed_bytes > 0 ? options.assumed_bytes
                                   : DataBytes(g, sizeof(typename S::Element));
}

// The rows of an input gradient with a stride are computed in phases, which read the same rows of
// out_backprop and write rows in turn: of so many bytes at a time, which stay in the second-level
// cache until the next phase.
inline constexpr double kInterleavedBytes = 256 * 1024;

// Cuts the rows of `pieces` blocks and images into items of at least `least_rows` output rows.
template <class S>
DEPTHWISE_SMALL void SplitRows(const Geometry& g, int64_t pieces, int64_t least_rows,
                               int64_t threads, ForwardPlan* plan) {
  const int64_t residues = RowResidues(g);
  const int64_t rows = CeilDiv(g.out_height, residues);
  plan->residues_per_item = g.transposed ? Min(residues, g.stride_height) : 1;
  pieces *= CeilDiv(residues, plan->residues_per_item);
  int64_t wanted = threads > 1 ? CeilDiv(kItemsPerThread * threads, pieces) : 1;
  if (plan->residues_per_item > 1) {
    const double bytes =
        DataBytes(g, sizeof(typename S::Element)) / (static_cast<double>(g.batch) * plan->blocks);
    wanted = Max(wanted, static_cast<int64_t>(bytes / kInterleavedBytes));
  }
  // The more rows an item has, the more of its tiles are full: one item for each thread, or so many
  // with a tall tile each as give all threads equal shares. Two threads take 28x28x192 3x3 in 15.4
  // instead of 17.2 us.
  if (plan->tall) {
    const int64_t fair = threads / GreatestCommonDivisor(pieces, threads);
    const int64_t chunks = Max(CeilDiv(threads, pieces), Min(fair, rows / kTallRows));
    plan->rows_per_item = CeilDiv(rows, chunks);
    plan->items = pieces * CeilDiv(rows, plan->rows_per_item);
    return;
  }
  // Whole tiles, so that only the last item has one that is not full.
  const int64_t tiles = CeilDiv(rows, kFlatRows);
  const int64_t most = CeilDiv(Max(Min(rows, least_rows), CeilDiv(rows, wanted)), kFlatRows);
  // Fewer rows if the threads then have equal shares: 14 tiles are 7 items of two, of which one of
  // two threads gets 4, or 14 of one. 56x56x96 7x7 takes them 113 instead of 133 us.
  const auto largest_share = [&](int64_t item_tiles) {
    return CeilDiv(pieces * CeilDiv(tiles, item_tiles), threads) * item_tiles;
  };
  int64_t best = most;
  for (int64_t item_tiles = most; threads > 1 && 2 * item_tiles >= most && item_tiles > 0;
       --item_tiles) {
    if (largest_share(item_tiles) < largest_share(best)) best = item_tiles;
  }
  plan->rows_per_item = best * kFlatRows;
  plan->items = pieces * CeilDiv(rows, plan->rows_per_item);
}

// Into how many blocks of channels each image is divided for the direct kernel: into some if it has
// too few rows for all threads; and into as many as are wanted, before its rows are, if those of
// neighbouring items would share most of their input. Then each item packs fewer taps, too: with
// two threads 28x28x240 5x5 takes 52 instead of 61 us, 14x14x512 27x27 270 instead of 420. No more
// than that: where one block ends and the next begins their threads write to the same lines, with
// two blocks of 14x14x576 3x3 24 instead of 11 us. See also AlignsWithInput() in dispatch.h.
template <class S>
DEPTHWISE_SMALL int64_t BlocksOfImage(const Geometry& g, int64_t threads, bool tall) {
  const Axis rows = RowAxis(g, 0);
  const int64_t wanted = CeilDiv(kItemsPerThread * threads, g.batch);
  const int64_t item_rows = Max(kFlatRows, CeilDiv(rows.out_count, wanted));
  const bool share_most = rows.window - rows.stride >= item_rows * rows.stride;
  // Into as many items SplitRows() can cut the rows.
  const int64_t items = g.batch * CeilDiv(g.out_height, tall ? kChannelRows : kFlatRows);
  const int64_t blocks = share_most ? wanted : CeilDiv(threads, items);
  const int64_t least_channels = kLeastVectors * kLanes<typename S::Accumulator>;
  return Max(1, Min(blocks, g.in_channels / least_channels));
}

// Whether every full vector of the output starts at a cache line: the rows do, or the items of
// planes that are one row, and so do the strips into which a packed plane is cut.
template <class S>
DEPTHWISE_SMALL bool IsStreamable(const ForwardProblem& problem, const ForwardPlan& plan) {
  constexpr int64_t kLine = 64 / int64_t{sizeof(typename S::Element)};
  const Geometry& g = problem.geometry;
  const Strides& out = problem.output_strides;
  const bool by_channels = g.channels_last && g.OutputChannels() >= kLine;
  // Vectors of fewer lanes begin within lines.
  if (plan.algorithm == Algorithm::kPermuted && !FillsVectors<S>(g)) return false;
  const bool is_one_row = plan.algorithm == Algorithm::kRow && RowShapeOf(g).is_column;
  const int64_t rows = is_one_row ? Min(plan.rows_per_item, g.out_height) : 1;
  return kCanStream<S> && reinterpret_cast<uintptr_t>(problem.output) % 64 == 0 &&
         out.batch % kLine == 0 && rows * out.row % kLine == 0 &&
         (!by_channels || g.OutputChannels() % kLine == 0) &&
         (g.channels_last || out.channel % kLine == 0) &&
         (g.channels_last || plan.strip_columns % kLine == 0 || plan.strip_columns >= g.out_width);
}

// Whether the next rows of an image can be fetched ahead: without gaps, so that no byte is fetched
// which no tap reads.
bool IsDense(const Geometry& g, const Strides& input_strides) {
  return input_strides.column == g.InputChannels() && g.dilation_width == 1 &&
         g.stride_width <= g.filter_width && g.stride_height <= g.filter_height;
}

// Rows that are fetched ahead, and those that are in use until then, have to stay in the
// second-level cache: with input and output fetched 60x60x1000 5x5, whose rows have 240 kB, took
// 3630 instead of 2680 us.
inline constexpr double kFetchedRowsBytes = 1.5 * 1024 * 1024;

// Whether the next rows of a plan are worth fetching ahead, unless its tiles fetch for themselves.
template <class S>
DEPTHWISE_SMALL bool SuitsPrefetchedRows(const ForwardProblem& problem, const ForwardPlan& plan,
                                         const PlanOptions& options, double bytes) {
  const Geometry& g = problem.geometry;
  if (plan.algorithm == Algorithm::kStridedPlane) {
    return SuitsPrefetchedWalk<S>(problem, options, bytes);
  }
  const bool is_far = bytes > kFarBytes * static_cast<double>(options.threads);
  // The only row of an image may have any stride.
  const bool is_dense = g.in_height == 1 || problem.input_strides.row == g.in_width;
  if (plan.algorithm == Algorithm::kRow) return is_far && is_dense;
  if (plan.algorithm == Algorithm::kPlane) {
    const int64_t row = g.in_width * plan.period;
    const bool pays = TakesTallWalk<S>(g) ? is_far
                                          : AreManyShortRows<S>(row, bytes) &&
                                                (plan.stream || plan.staged_bytes > 0);
    return pays && RowResidues(g) == 1 && problem.input_strides.row == row;
  }
  if (bytes <= kPrefetchBytes || plan.prefetch_tiles || plan.prefetch_images ||
      !IsDense(g, problem.input_strides)) {
    return false;
  }
  constexpr int kRows = 2 * kChannelRows;  // those of a tile, and of the next
  const Axis rows = RowAxis(g, 0);
  const double in_rows =
      static_cast<double>(kRows - 1) * static_cast<double>(rows.stride) + rows.window;
  const double out_rows = plan.prefetch_output ? kRows : 0;
  const double pixel = sizeof(typename S::Element);
  return in_rows * pixel * static_cast<double>(g.in_width) * g.InputChannels() +
             out_rows * pixel * static_cast<double>(g.out_width) * g.OutputChannels() <=
         kFetchedRowsBytes;
}

template <class S>
DEPTHWISE_SMALL ForwardPlan PlanSums(const ForwardProblem& problem, const PlanOptions& options) {
  const int64_t threads = options.threads;
  const Geometry& g = problem.geometry;
  ForwardPlan plan{};
  if (PlanDirect<S>(problem, options, PlannedBytes<S>(g, options), kScratchBytes, &plan)) {
    if (threads > 1) plan.blocks = BlocksOfImage<S>(g, threads, plan.tall);
    SplitRows<S>(g, g.batch * plan.blocks, 1, threads, &plan);
    return plan;
  }
  const bool is_packed = PlanRow<S>(problem, &plan) || PlanNarrowPlane<S>(problem, &plan) ||
                         PlanPlane<S>(problem, kScratchBytes, &plan) ||
                         PlanStridedPlane<S>(problem, kScratchBytes, &plan) ||
                         PlanPermuted<S>(problem, kScratchBytes, &plan) ||
                         PlanBlock<S>(problem, kScratchBytes, &plan) ||
                         PlanFlat<S>(problem, kScratchBytes, &plan);
  const bool is_finite = !is_packed || AreFiniteTaps<S>(g, problem.filter);
  // The definition is needed for all outputs where zeros lie between the columns too.
  const bool is_repairable =
      plan.algorithm != Algorithm::kFlat || !g.transposed || g.stride_width == 1;
  if (is_packed && (is_finite || is_repairable)) {
    plan.repair_borders = !is_finite;
    // Each item packs filter_height - 1 rows that its neighbour packs too.
    SplitRows<S>(g, g.batch * plan.blocks, 2 * g.filter_height, threads, &plan);
  } else {
    plan = ForwardPlan{};
    plan.algorithm = Algorithm::kDefinition;
    plan.items = g.batch * g.out_height;
  }
  return plan;
}

template <class S>
DEPTHWISE_SMALL ForwardPlan Plan(const ForwardProblem& problem, const PlanOptions& options) {
  const Geometry& g = problem.geometry;
  ForwardPlan plan{};
  if (options.may_transform && PlanTransform<S>(problem, kScratchBytes, &plan) &&
      AreFiniteTaps<S>(g, problem.filter)) {
    // The parts of a block each transform its filter.
    plan.parts = options.threads > 1 ? CeilDiv(kItemsPerThread * options.threads, plan.blocks) : 1;
    plan.items = plan.blocks * plan.parts;
  } else {
    plan = PlanSums<S>(problem, options);
  }
  const double bytes = PlannedBytes<S>(g, options);
  plan.prefetch_images = SuitsPrefetchedImages<S>(problem, plan, bytes, options.threads);
  plan.stream =
      bytes > options.stream_bytes && !plan.prefetch_images && IsStreamable<S>(problem, plan);
  plan.staged_bytes =
      bytes > options.stream_bytes && !plan.stream ? StagedBytes<S>(problem, plan, bytes) : 0;
  plan.scratch_bytes += plan.staged_bytes;
  plan.prefetch_tiles = SuitsPrefetchedTiles<S>(problem, plan, options, bytes);
  // A plain store to memory waits for its line. 8x56x56x128 3x3 takes 1910 instead of 2880 us with
  // AVX2, with float16 850 instead of 990, 8x28x28x192 7x7 1240 instead of 1720, if nothing was in
  // the caches; from the last-level cache a tenth less to a tenth more.
  plan.prefetch_output = !plan.stream;
  plan.prefetch = SuitsPrefetchedRows<S>(problem, plan, options, bytes);
  if (!plan.prefetch && plan.prefetch_output) {
    plan.prefetch_output = false;
    plan.prefetch = SuitsPrefetchedRows<S>(problem, plan, options, bytes);
  }
  return plan;
}

template <class S>
void Run(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin, int64_t end,
         void* scratch) {
  switch (plan.algorithm) {
    case Algorithm::kDirect:
      if constexpr (!kIsPackedOnly<S>) RunDirect<S>(problem, plan, begin, end, scratch);
      break;
    case Algorithm::kBlock: RunBlock<S>(problem, plan, begin, end, scratch); break;
    case Algorithm::kRow:
      if constexpr (kHasRows<S>) RunRow<S>(problem, plan, begin, end, scratch);
      break;
    case Algorithm::kPlane:
      if constexpr (kHasLaneMasks<typename S::Element>) {
        RunPlane<S>(problem, plan, begin, end, scratch);
      }
      break;
    case Algorithm::kNarrowPlane:
      if constexpr (kHasNarrowPlanes<S>) RunNarrowPlane<S>(problem, plan, begin, end, scratch);
      break;
    case Algorithm::kStridedPlane:
      if constexpr (kHasLaneMasks<typename S::Element>) {
        RunStridedPlane<S>(problem, plan, begin, end, scratch);
      }
      break;
    case Algorithm::kPermuted:
      if constexpr (kHasPermuted<S>) RunPermuted<S>(problem, plan, begin, end, scratch);
      break;
    case Algorithm::kFlat: RunFlat<S>(problem, plan, begin, end, scratch); break;
    case Algorithm::kTransform: RunTransform<S>(problem, plan, begin, end, scratch); break;
    case Algorithm::kDefinition: RunDefinition<S>(problem, begin, end); break;
  }
  if (plan.stream || plan.staged_bytes > 0) FinishStreams();
}

template <class S>
constexpr ForwardKernels ForwardKernelsOf() {
  return {Plan<S>, Run<S>, RunDefinitionAtBorders<S>, SuitsEnds<S>};
}

// Outputs for each pair of an input and a tap that there may be along an axis.
inline constexpr double kMaxGaps = 4;

template <class S>
DEPTHWISE_SMALL FilterGradientPlan PlanFilterGradient(const FilterGradientProblem& problem,
                                                      const PlanOptions& options) {
  const Geometry& g = problem.geometry;
  FilterGradientPlan plan{};
  // With a padding or dilation far beyond the image, most windows miss it, and in a broadcast array
  // there may be any number of them. The definition walks none of those.
  const auto has_gaps = [](double out_size, double in_size, double filter_size) {
    return out_size > kMaxGaps * in_size * filter_size;
  };
  const bool mostly_gaps = has_gaps(g.out_height, g.in_height, g.filter_height) ||
                           has_gaps(g.out_width, g.in_width, g.filter_width);
  if (mostly_gaps) {
    plan.algorithm = Algorithm::kDefinition;
    return plan;
  }
  if (options.may_transform && PlanTransformFilterGradient<S>(problem, kScratchBytes, &plan)) {
    return plan;
  }
  if constexpr (kHasPlaneGradients<S>) {
    if (PlanPlaneFilterGradient<typename S::Element>(problem, kScratchBytes, options.threads,
                                                     &plan)) {
      return plan;
    }
  }
  if (!PlanChannelFilterGradient<S>(problem, kScratchBytes, options.threads, &plan) &&
      !PlanFlatFilterGradient<S>(problem, kScratchBytes, &plan)) {
    plan.algorithm = Algorithm::kDefinition;
  }
  // With more taps the multiply-adds take longer than memory does: to fetch ahead gains nothing on
  // one thread, and on two 8x28x28x240 5x5 took 649 instead of 418 us.
  plan.prefetch = plan.algorithm == Algorithm::kDirect && plan.groups == 1 && HasFewTaps(g) &&
                  PlannedBytes<S>(g, options) > kPrefetchBytes &&
                  IsDense(g, problem.input_strides) &&
                  problem.out_backprop_strides.column == g.OutputChannels();
  return plan;
}

template <class S>
void RunFilterGradient(const FilterGradientProblem& problem, const FilterGradientPlan& plan,
                       int64_t item, void* sums, void* scratch) {
  using A = typename S::Accumulator;
  const auto run = plan.algorithm == Algorithm::kFlat        ? RunFlatFilterGradient<S>
                   : plan.algorithm == Algorithm::kTransform ? RunTransformFilterGradient<S>
                                                             : RunChannelFilterGradient<S>;
  if constexpr (kHasPlaneGradients<S>) {
    if (plan.algorithm == Algorithm::kPlane) {
      return RunPlaneFilterGradient<A>(problem, plan, item, static_cast<A*>(sums),
                                       static_cast<A*>(scratch));
    }
  }
  run(problem, plan, item, static_cast<A*>(sums), static_cast<A*>(scratch));
}

template <class S>
void AddFilterGradient(const FilterGradientProblem& problem, const FilterGradientPlan& plan,
                       int64_t item, const void* sums, int64_t begin, int64_t end, void* totals) {
  using A = typename S::Accumulator;
  const auto add = plan.algorithm == Algorithm::kFlat    ? AddFlatFilterGradient<S>
                   : plan.algorithm == Algorithm::kPlane ? AddPlaneFilterGradient<A>
                                                         : AddChannelFilterGradient<S>;
  add(problem, plan, item, static_cast<const A*>(sums), begin, end, static_cast<A*>(totals));
}

template <class S>
void StoreFilterGradient(const FilterGradientProblem& problem, const void* totals) {
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  const Geometry& g = problem.geometry;
  const int64_t count = g.filter_height * g.filter_width * g.OutputChannels();
  const auto* from = static_cast<const typename S::Accumulator*>(totals);
  auto* to = static_cast<typename S::Element*>(problem.filter_backprop);
  for (int64_t i = 0; i < count; i += kCount) {
    const int64_t rest = Min(kCount, count - i);
    S::StorePartial(to + i, Plain<S>::LoadPartial(from + i, rest), rest);
  }
}

template <class S>
bool IsFiniteFilterGradient(const FilterGradientProblem& problem, const void* totals) {
  return AreFiniteTaps<Plain<S>>(problem.geometry, totals);
}

template <class S>
constexpr FilterGradientKernels FilterGradientKernelsOf() {
  return {PlanFilterGradient<S>,  RunFilterGradient<S>,      AddFilterGradient<S>,
          StoreFilterGradient<S>, IsFiniteFilterGradient<S>, RunFilterGradientDefinition<S>};
}

// Twelve independent chains are enough to fill the pipelines of every CPU so far (latency 4 or 5,
// two multiply-adds a cycle).
int64_t SpinMultiplyAdds(int64_t rounds) {
  constexpr int kChains = 12;
  Vec<float> sums[kChains] = {};
  Vec<float> a = Vec<float>{} + 0.5f, b = Vec<float>{} + 0.25f;
  for (int64_t round = 0; round < rounds; ++round) {
    Pin(a);  // or their product would be a constant, and nothing multiplied
    Pin(b);
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      Pin(sums[i]);  // or the chains would be found equal, and computed once
      sums[i] += a * b;
    }
  }
  float total = 0;
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) total += sums[i][0];
  // The comparison is never true; it makes the result depend on the sums.
  return total < 0 ? 0 : rounds * kChains * kLanes<float> * 2;
}

#define DEPTHWISE_STRING_OF(x) #x
#define DEPTHWISE_STRING(x) DEPTHWISE_STRING_OF(x)

extern const KernelTable kTable;
constexpr KernelTable kTable = {
    DEPTHWISE_STRING(DEPTHWISE_ISA),
    kLanes<float>,
    kFlatRows,
    kChannelColumns,
    kTallRows,
    {ForwardKernelsOf<Float32>(), ForwardKernelsOf<Float64>(), ForwardKernelsOf<Float16>(),
     ForwardKernelsOf<BFloat16>()},
    {FilterGradientKernelsOf<Float32>(), FilterGradientKernelsOf<Float64>(),
     FilterGradientKernelsOf<Float16>(), FilterGradientKernelsOf<BFloat16>()},
    SpinMultiplyAdds,
};

}  // namespace depthwise::DEPTHWISE_ISA
