#include "settings.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "cpu.h"

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

enum class LargeFilter : int { kTransform, kDirect };
constexpr const char* kLargeFilterNames[] = {"transform", "direct"};

LargeFilter FindLargeFilter(const std::string& name) {
  for (const LargeFilter way : {LargeFilter::kTransform, LargeFilter::kDirect}) {
    if (name == kLargeFilterNames[static_cast<int>(way)]) return way;
  }
  throw std::invalid_argument("\"" + name + "\" is not a way to compute large filters; needed " +
                              "\"transform\" or \"direct\"");
}

LargeFilter LargeFilterOfEnvironment() {
  const char* forced = std::getenv("DEPTHWISE_LARGE_FILTER");
  if (forced == nullptr || *forced == '\0') return LargeFilter::kTransform;
  try {
    return FindLargeFilter(forced);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(std::string("environment variable DEPTHWISE_LARGE_FILTER: ") +
                                error.what());
  }
}

std::atomic<LargeFilter>& CurrentLargeFilter() {
  static std::atomic<LargeFilter> current{LargeFilterOfEnvironment()};
  return current;
}

std::atomic<double> assumed_bytes{0};

}  // namespace

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

std::string LargeFilterInUse() {
  return kLargeFilterNames[static_cast<int>(CurrentLargeFilter().load())];
}

void SetLargeFilter(const std::string& name) { CurrentLargeFilter().store(FindLargeFilter(name)); }

const KernelTable& CurrentTable() { return *CurrentInstructionSet().table; }

bool MayTransform() {
  return CurrentLargeFilter().load(std::memory_order_relaxed) == LargeFilter::kTransform;
}

double AssumedBytes() { return assumed_bytes.load(std::memory_order_relaxed); }

void SetAssumedBytes(double bytes) { assumed_bytes.store(bytes, std::memory_order_relaxed); }

}  // namespace depthwise
