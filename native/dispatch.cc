// The scratch memory of threads, and the one way from a problem to its kernels.
#include "dispatch.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#include "column_pieces.h"
#include "cpu.h"
#include "kept_memory.h"
#include "parallel.h"
#include "settings.h"

namespace depthwise {

namespace {

// From this much input and output together on, the output is stored past the caches, which saves
// reading it first: half of a usual last-level cache, since the output is in it twice, read, then
// written. 0.7 instead of 1.5 ms for 8x56x56x128, 2.9 instead of 6.8 ms for 32x112x112x32 (Zen 4,
// one thread, 2026-11); with less, it would cost the reader of the output more: with one reading,
// both take as long at 16 MB, plain stores a fifth less at 13. The operating system's word for the
// size of the cache cannot be trusted: on a virtual machine that shares one of 32 MB it said 320
// MB.
constexpr double kStreamBytes = 15 << 20;
// Intel's servers have a slow last-level cache behind a large second-level one: there it is half of
// that for those with so few taps that the multiply-adds do not take longer. Input gradient of
// 8x56x56x128 3x3, stride 2: 1.0 instead of 1.7 ms; 4x56x56x128 3x3 0.70 instead of 0.84 (Xeon,
// family 6, model 207, other data in the caches).
constexpr double kIntelStreamBytes = 8 << 20;

PlanOptions OptionsFor(const Geometry& g, int64_t threads) {
  const double phases = g.transposed ? static_cast<double>(g.stride_height) * g.stride_width : 1;
  const double taps = static_cast<double>(g.filter_height) * g.filter_width / phases;
  return {
      .threads = threads,
      .may_transform = MayTransform(),
      .stream_bytes = CpuIsIntel() && taps <= kFewTaps ? kIntelStreamBytes : kStreamBytes,
      .ways = FirstLevelWays(),
      // Measured on a server of Intel's alone (Xeon, family 6, model 167); tests reach it anywhere.
      .may_prefetch_tiles = CpuIsIntel() || AssumedBytes() > 0,
      .assumed_bytes = AssumedBytes()};
}

// Larger results of few taps may be stored past the caches, which asks for whole cache lines;
// smaller ones only where they are aligned anyway.
constexpr double kCachedBytes = 8 << 20;
// Filters from about 13x13 on are transformed.
constexpr double kMostDirectTaps = 12 * 12;

// Scratch memory of the calling thread, kept until the thread ends.
void* ThreadScratch(int64_t bytes) {
  thread_local KeptMemory memory;
  return memory.Get(bytes);
}

// Below this many multiply-adds (some 10 us of work) waking a second thread costs more than it
// saves.
constexpr double kParallelMultiplyAdds = 5e5;

// Ranges of items that a thread takes, where there are more items. One by one 1024 items of 1 us,
// of NCHW 32x512x14x14 3x3, take two threads 790 us instead of 640.
constexpr int64_t kRangesPerThread = 16;

// How many threads a problem is worth. The multiply-adds are counted at the smaller of the two
// images: with a stride, that of the output.
int ThreadsFor(const Geometry& g) {
  const double pixels = std::min(static_cast<double>(g.in_height) * g.in_width,
                                 static_cast<double>(g.out_height) * g.out_width);
  const double multiply_adds =
      pixels * g.batch * g.filter_height * g.filter_width * g.in_channels * g.channel_multiplier;
  return multiply_adds < kParallelMultiplyAdds ? 1 : GetNumThreads();
}

// The same problem in the form that has the best kernels. Tiles lie along the width, so that of
// images with one column each would have a single output: those are turned by 90 degrees. Of one
// channel both layouts are the same, and planes have more kernels. `others` are the strides besides
// those of the input.
template <class Problem>
Problem Normalized(Problem problem, Strides Problem::*others) {
  Geometry& g = problem.geometry;
  if (g.in_channels == 1 && g.channel_multiplier == 1 && g.channels_last) {
    g.channels_last = false;
    problem.input_strides.channel = problem.input_strides.batch;
    (problem.*others).channel = (problem.*others).batch;
  }
  if (IsOneColumn(problem.geometry)) {
    problem.geometry = Turned(problem.geometry);
    problem.input_strides = Turned(problem.input_strides);
    problem.*others = Turned(problem.*others);
  }
  return problem;
}

// Runs all items of a plan; false if there is no memory for that. Within another loop it is the
// work of one thread.
bool RunPlan(const ForwardKernels& kernels, const ForwardProblem& problem, const ForwardPlan& plan,
             int threads) {
  std::atomic<bool> out_of_memory{false};
  const auto run = [&](int64_t begin, int64_t end) {
    void* scratch = ThreadScratch(plan.scratch_bytes);
    if (scratch == nullptr && plan.scratch_bytes > 0) {
      out_of_memory.store(true, std::memory_order_relaxed);
      return;
    }
    kernels.run(problem, plan, begin, end, scratch);
  };
  const int64_t grain = std::max<int64_t>(1, plan.items / (kRangesPerThread * threads));
  ParallelFor(plan.items, threads == 1 ? plan.items : grain, run);
  if (out_of_memory.load(std::memory_order_relaxed)) return false;
  if (plan.repair_borders) {
    const auto repair = [&](int64_t begin, int64_t end) {
      kernels.repair(problem, plan, begin, end);
    };
    const int64_t rows = problem.geometry.batch * problem.geometry.out_height;
    ParallelFor(rows, threads == 1 ? rows : 8, repair);
  }
  return true;
}

// Of the sums that are kept to be added up; where an item has more, those of one item a thread.
constexpr double kKeptSumBytesPerThread = 512 << 10;
// Fewer are added by one thread alone: two take for NHWC 8x56x56x128 3x3, of 147 kB, 3% longer in
// the whole (Xeon, model 167).
constexpr int64_t kParallelSumBytes = 256 << 10;

// How many items are computed together, before their sums are added up.
int64_t ItemsTogether(const FilterGradientPlan& plan, int64_t threads) {
  if (threads == 1) return 1;
  const double most =
      kKeptSumBytesPerThread / static_cast<double>(plan.sums_bytes) * static_cast<double>(threads);
  if (most >= static_cast<double>(plan.items)) return plan.items;
  const int64_t rounds = CeilDiv(plan.items, std::max(static_cast<int64_t>(most), threads));
  return CeilDiv(plan.items, rounds);
}

// Adds up all items of a plan, in their order, whichever thread computed them. Their sums are kept
// until all are there, or as many as fit, so that no thread waits for another, and each reads
// images that follow each other. When threads took the next chunk in turn, and added it in its
// turn, two took for NHWC 8x14x14x512 3x3 224 instead of 172 us, for 8x56x56x128 3x3 746 instead of
// 580, for NCHW 32x1024x7x7 3x3 787 instead of 606 (Xeon, model 167).
void AddItems(const FilterGradientKernels& kernels, const FilterGradientProblem& problem,
              const FilterGradientPlan& plan, int threads, void* totals) {
  thread_local KeptMemory kept_sums;
  const int64_t together = ItemsTogether(plan, threads);
  std::byte* const sums = kept_sums.Get(together * plan.sums_bytes);
  if (sums == nullptr) throw std::bad_alloc();
  const int64_t taps = problem.geometry.filter_height * problem.geometry.filter_width;
  for (int64_t first = 0; first < plan.items; first += together) {
    const int64_t count = std::min(together, plan.items - first);
    std::atomic<bool> out_of_memory{false};
    const auto run = [&](int64_t begin, int64_t end) {
      void* scratch = ThreadScratch(plan.scratch_bytes);
      if (scratch == nullptr) {
        out_of_memory.store(true, std::memory_order_relaxed);
        return;
      }
      for (int64_t i = begin; i < end; ++i) {
        kernels.run(problem, plan, first + i, sums + i * plan.sums_bytes, scratch);
      }
    };
    ParallelFor(count, 1, run);
    if (out_of_memory.load(std::memory_order_relaxed)) throw std::bad_alloc();
    const auto add = [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < count; ++i) {
        kernels.add(problem, plan, first + i, sums + i * plan.sums_bytes, begin, end, totals);
      }
    };
    const bool is_small = count * plan.sums_bytes < kParallelSumBytes;
    ParallelFor(taps, is_small ? taps : CeilDiv(taps, threads), add);
  }
}

// Copies a filter whose channels lie together to one whose taps do.
template <class E>
void GatherTaps(const void* dense, int64_t taps, int64_t channels, void* gathered) {
  const E* from = static_cast<const E*>(dense);
  E* to = static_cast<E*>(gathered);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t t = 0; t < taps; ++t) *to++ = from[t * channels + c];
  }
}

}  // namespace

bool AlignsWithInput(const Geometry& g, DType dtype, bool is_gradient) {
  const Geometry problem = is_gradient ? Transposed(g) : g;
  const auto element_size = static_cast<double>(kElementSize[static_cast<int>(dtype)]);
  const double result_bytes = static_cast<double>(g.batch) * problem.out_height *
                              problem.out_width * problem.OutputChannels() * element_size;
  // With a stride an input gradient has fewer taps, a convolution as many, and little output.
  const double taps = static_cast<double>(g.filter_height) * g.filter_width /
                      (static_cast<double>(g.stride_height) * g.stride_width);
  const int threads = ThreadsFor(g);
  const double rows = static_cast<double>(g.batch) * std::min(g.in_height, g.out_height);
  const bool has_few_rows = rows < 4 * threads;
  if (threads > 1 && (!HasFewTaps(g) || has_few_rows)) return false;
  // Only channels as they are have whole lines to gain, and larger filters are transformed.
  const bool is_direct = taps <= kMostDirectTaps && g.channel_multiplier == 1;
  if (result_bytes > kCachedBytes && (taps <= kFewTaps || !is_direct)) return false;
  // Where single pixels are computed they are peeled from 256 bytes on, for the input: the output,
  // which is small there, gains nothing from being as far from alignment.
  const double pixel_bytes = static_cast<double>(problem.InputChannels()) * element_size;
  if (pixel_bytes >= double{kPeeledBytes}) return true;
  // What might be stored past the caches gains more from an aligned result.
  const ForwardKernels& kernels = CurrentTable().forward[static_cast<int>(dtype)];
  return DataBytes(g, element_size) <= kCachedBytes && taps <= kMostDirectTaps &&
         kernels.begin_with_lines(problem);
}

void Forward(DType dtype, const ForwardProblem& given) {
  const ForwardProblem problem = Normalized(given, &ForwardProblem::output_strides);
  const Geometry& g = problem.geometry;
  if (g.batch == 0 || g.out_height == 0 || g.out_width == 0) return;
  const size_t element_size = kElementSize[static_cast<int>(dtype)];
  if ((g.in_height == 0 || g.in_width == 0) && problem.bias == nullptr) {
    const auto count = static_cast<size_t>(g.batch * g.out_height * g.out_width);
    const auto channels = static_cast<size_t>(g.OutputChannels());
    std::memset(problem.output, 0, count * channels * element_size);
    return;
  }
  const int threads = ThreadsFor(g);
  const ForwardKernels& kernels = CurrentTable().forward[static_cast<int>(dtype)];
  PlanOptions options = OptionsFor(g, threads);
  const ForwardPlan plan = kernels.plan(problem, options);
  const bool has_idle = plan.items < threads && plan.algorithm != Algorithm::kTransform;
  const int64_t columns = has_idle ? PieceColumns(g, threads) : g.out_width;
  const int64_t pieces = CeilDiv(g.out_width, columns);
  if (pieces <= plan.items) {
    if (!RunPlan(kernels, problem, plan, threads)) throw std::bad_alloc();
    return;
  }
  options.threads = 1;
  options.may_transform = false;  // as the whole was not: it has other bits
  options.stream_bytes *= static_cast<double>(columns) / static_cast<double>(g.out_width);
  std::atomic<bool> is_complete{true};
  ParallelFor(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t last = std::min(g.out_width, (i + 1) * columns);
      const ForwardProblem piece = PieceOf(problem, i * columns, last, element_size);
      if (!RunPlan(kernels, piece, kernels.plan(piece, options), 1)) {
        is_complete.store(false, std::memory_order_relaxed);
      }
    }
  });
  if (!is_complete.load(std::memory_order_relaxed)) throw std::bad_alloc();
}

void FilterGradient(DType dtype, const FilterGradientProblem& given) {
  const FilterGradientProblem problem =
      Normalized(given, &FilterGradientProblem::out_backprop_strides);
  const Geometry& g = problem.geometry;
  const int64_t taps = g.filter_height * g.filter_width;
  const auto count = static_cast<size_t>(taps * g.OutputChannels());
  const size_t bytes = count * kElementSize[static_cast<int>(dtype)];
  std::memset(problem.filter_backprop, 0, bytes);
  if (g.batch == 0 || g.in_height == 0 || g.in_width == 0 || g.out_height == 0 ||
      g.out_width == 0) {
    return;
  }
  const int threads = ThreadsFor(g);
  const FilterGradientKernels& kernels = CurrentTable().filter_gradient[static_cast<int>(dtype)];
  const auto define = [&](bool only_not_finite) {
    ParallelFor(taps, threads == 1 ? taps : 1, [&](int64_t begin, int64_t end) {
      kernels.define(problem, only_not_finite, begin, end);
    });
  };
  FilterGradientPlan plan = kernels.plan(problem, OptionsFor(g, threads));
  if (plan.algorithm == Algorithm::kDefinition) return define(false);
  // The 16-bit types are rounded once, at the end.
  const bool is_narrow = dtype == DType::kFloat16 || dtype == DType::kBFloat16;
  std::vector<float> narrow_totals(is_narrow ? count : 0);
  void* totals = is_narrow ? narrow_totals.data() : problem.filter_backprop;
  AddItems(kernels, problem, plan, threads, totals);
  const bool is_right = !plan.check_finite || kernels.is_finite(problem, totals);
  if (is_narrow) kernels.store(problem, totals);
  if (is_right) return;
  // Once more without what is not finite, and then the taps that it does reach. So the others have
  // the same bits as if it were not there.
  plan.drop_not_finite = true;
  std::fill(narrow_totals.begin(), narrow_totals.end(), 0.0f);
  std::memset(problem.filter_backprop, 0, bytes);
  AddItems(kernels, problem, plan, threads, totals);
  if (is_narrow) kernels.store(problem, totals);
  define(true);
}

void ComputeOutput(DType dtype, const Geometry& g, const ImageData& input, const FilterData& filter,
                   const void* bias, void* output) {
  Forward(dtype, {g, input.data, input.strides, filter.data, filter.strides, bias, output,
                  DenseStrides(g, g.out_height, g.out_width, g.OutputChannels())});
}

void ComputeInputBackprop(DType dtype, const Geometry& g, const FilterData& filter,
                          const ImageData& out_backprop, void* input_backprop) {
  Forward(dtype,
          {Transposed(g), out_backprop.data, out_backprop.strides, filter.data, filter.strides,
           nullptr, input_backprop, DenseStrides(g, g.in_height, g.in_width, g.in_channels)});
}

void ComputeFilterBackprop(DType dtype, const Geometry& g, const ImageData& input,
                           const ImageData& out_backprop, const FilterResult& filter_backprop) {
  const int64_t taps = g.filter_height * g.filter_width, channels = DenseFilterStrides(g).tap;
  const size_t size = kElementSize[static_cast<int>(dtype)];
  const auto compute = [&](void* dense) {
    FilterGradient(dtype,
                   {g, input.data, input.strides, out_backprop.data, out_backprop.strides, dense});
  };
  if (filter_backprop.strides.channel == 1) return compute(filter_backprop.data);
  const auto dense =
      std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(taps * channels) * size);
  compute(dense.get());
  const auto gather = size == 8   ? GatherTaps<uint64_t>
                      : size == 4 ? GatherTaps<uint32_t>
                                  : GatherTaps<uint16_t>;
  gather(dense.get(), taps, channels, filter_backprop.data);
}

double MeasurePeakGflops(double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRounds = 20000;
  double best = 0;
  const Clock::time_point start = Clock::now();
  for (Clock::time_point now = start; now - start < std::chrono::duration<double>(seconds);) {
    const int64_t operations = CurrentTable().spin_multiply_adds(kRounds);
    const Clock::time_point end = Clock::now();
    const std::chrono::duration<double, std::nano> elapsed = end - now;
    if (elapsed.count() > 0) best = std::max(best, operations / elapsed.count());
    now = end;
  }
  return best;
}

}  // namespace depthwise
