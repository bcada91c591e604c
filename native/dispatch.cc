// The table of instruction sets, the scratch memory of threads, and the one way from a problem to
// its kernels.
#include "dispatch.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>

#include "cpu.h"
#include "parallel.h"

namespace depthwise {

#if defined(__x86_64__) || defined(_M_X64)
namespace v2 {
extern const KernelTable kTable;
}
namespace v3 {
extern const KernelTable kTable;
}
namespace v4 {
extern const KernelTable kTable;
}
#else
namespace neon {
extern const KernelTable kTable;
}
#endif

namespace {

struct InstructionSet {
  const char* name;
  bool (*is_supported)();
  const KernelTable* table;
};

// Best first.
constexpr InstructionSet kInstructionSets[] = {
#if defined(__x86_64__) || defined(_M_X64)
    {"x86-64-v4", CpuHasV4, &v4::kTable},
    {"x86-64-v3", CpuHasV3, &v3::kTable},
    {"x86-64-v2", CpuHasV2, &v2::kTable},
#else
    {"aarch64", [] { return true; }, &neon::kTable},
#endif
};

std::atomic<const InstructionSet*> current_isa{nullptr};

const InstructionSet& FindIsa(const std::string& name) {
  std::string names;
  for (const InstructionSet& isa : kInstructionSets) {
    if (!isa.is_supported()) continue;
    if (name == isa.name) return isa;
    names += names.empty() ? isa.name : std::string(", ") + isa.name;
  }
  throw std::invalid_argument("instruction set \"" + name + "\" is not one of those that this " +
                              "machine supports: " + names);
}

const InstructionSet& CurrentInstructionSet() {
  if (const InstructionSet* isa = current_isa.load(std::memory_order_relaxed)) return *isa;
  const char* forced = std::getenv("DEPTHWISE_ISA");
  const std::vector<std::string> supported = SupportedIsas();
  if (supported.empty()) {
    throw std::runtime_error("this CPU lacks x86-64-v2 (SSE4.2), the least that depthwise needs");
  }
  const InstructionSet* isa = nullptr;
  try {
    isa = &FindIsa(forced && *forced ? forced : supported.front());
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(std::string("environment variable DEPTHWISE_ISA: ") + error.what());
  }
  current_isa.store(isa, std::memory_order_relaxed);
  return *isa;
}

constexpr std::align_val_t kAlignment{64};

struct FreeAligned {
  void operator()(std::byte* memory) const { ::operator delete[](memory, kAlignment); }
};

// Scratch memory of the calling thread, kept until the thread ends: fresh pages for every call
// would cost more than many a convolution. Null if there is none to be had.
void* ThreadScratch(int64_t bytes) {
  thread_local std::unique_ptr<std::byte[], FreeAligned> memory;
  thread_local int64_t size = 0;
  if (bytes > size) {
    memory.reset();
    memory.reset(new (kAlignment, std::nothrow) std::byte[static_cast<size_t>(bytes)]);
    size = memory ? bytes : 0;
  }
  return memory.get();
}

// Below this many multiply-adds (some 10 us of work) waking a second thread costs more than it
// saves.
constexpr double kParallelMultiplyAdds = 5e5;

}  // namespace

void Forward(DType dtype, const ForwardProblem& problem) {
  const Geometry& g = problem.geometry;
  if (g.batch == 0 || g.out_height == 0 || g.out_width == 0) return;
  const double multiply_adds = static_cast<double>(g.batch) * g.out_height * g.out_width *
                               g.OutChannels() * g.filter_height * g.filter_width;
  const int threads = multiply_adds < kParallelMultiplyAdds ? 1 : GetNumThreads();
  const ForwardKernels& kernels = CurrentTable().forward[static_cast<int>(dtype)];
  const ForwardPlan plan = kernels.plan(problem, threads);
  std::atomic<bool> out_of_memory{false};
  const auto run = [&](int64_t begin, int64_t end) {
    void* scratch = ThreadScratch(plan.scratch_bytes);
    if (scratch == nullptr && plan.scratch_bytes > 0) {
      out_of_memory.store(true, std::memory_order_relaxed);
      return;
    }
    kernels.run(problem, plan, begin, end, scratch);
  };
  ParallelFor(plan.items, threads == 1 ? plan.items : 1, run);
  if (out_of_memory.load(std::memory_order_relaxed)) throw std::bad_alloc();
  if (plan.repair_borders) {
    const auto repair = [&](int64_t begin, int64_t end) { kernels.repair(problem, begin, end); };
    const int64_t rows = g.batch * g.out_height;
    ParallelFor(rows, threads == 1 ? rows : 8, repair);
  }
}

std::vector<std::string> SupportedIsas() {
  std::vector<std::string> names;
  for (const InstructionSet& isa : kInstructionSets) {
    if (isa.is_supported()) names.emplace_back(isa.name);
  }
  return names;
}

std::string CurrentIsa() { return CurrentInstructionSet().name; }

void SetIsa(const std::string& name) {
  current_isa.store(&FindIsa(name), std::memory_order_relaxed);
}

const KernelTable& CurrentTable() { return *CurrentInstructionSet().table; }

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
