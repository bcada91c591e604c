// CPUID and XGETBV by hand rather than __builtin_cpu_supports(): that knows the x86-64 levels only
// in newer compilers than the build asks for, and needs a run-time library that clang-cl leaves
// out. On Linux the scheduler and /sys/fs/cgroup tell the cores; elsewhere the standard library.
#include "cpu.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>

#include <cstdio>
#include <limits>
#include <string>
#include <vector>
#endif

namespace depthwise {
namespace {

constexpr int kUsualWays = 8;

#if defined(__x86_64__) || defined(_M_X64)

constexpr uint32_t Bits(std::initializer_list<int> positions) {
  uint32_t bits = 0;
  for (int position : positions) bits |= uint32_t{1} << position;
  return bits;
}

bool HasAll(uint32_t value, uint32_t bits) { return (value & bits) == bits; }

// The register states that the operating system saves on a context switch. Inline assembly because
// the intrinsic needs -mxsave, and then the compiler could use XSAVE anywhere in this file.
uint32_t EnabledStates() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

int DetectX86Level() {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 1;
  const uint32_t leaf1_c = c;
  uint32_t extended_c = 0, leaf7_b = 0;
  if (__get_cpuid(0x80000001, &a, &b, &c, &d)) extended_c = c;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) leaf7_b = b;

  // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF.
  const bool v2 = HasAll(leaf1_c, Bits({0, 9, 13, 19, 20, 23})) && HasAll(extended_c, Bits({0}));
  if (!v2) return 1;
  // FMA, MOVBE, OSXSAVE, AVX, F16C; LZCNT; BMI1, AVX2, BMI2; XMM and YMM state.
  const bool v3 = HasAll(leaf1_c, Bits({12, 22, 27, 28, 29})) && HasAll(extended_c, Bits({5})) &&
                  HasAll(leaf7_b, Bits({3, 5, 8})) && HasAll(EnabledStates(), Bits({1, 2}));
  if (!v3) return 2;
  // AVX512F, DQ, CD, BW, VL; mask registers, upper halves of ZMM0 to 15, ZMM16 to 31. (macOS
  // enables those states only at the first use, so an Intel Mac stays at level 3.)
  const bool v4 =
      HasAll(leaf7_b, Bits({16, 17, 28, 30, 31})) && HasAll(EnabledStates(), Bits({5, 6, 7}));
  return v4 ? 4 : 3;
}

// CPUID leaves a virtual machine, which takes microseconds: asked once.
int X86Level() {
  static const int level = DetectX86Level();
  return level;
}

bool DetectIntel() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx && c == signature_INTEL_ecx &&
         d == signature_INTEL_edx;
}

int DetectFirstLevelWays() {
  constexpr uint32_t kIntelLeaf = 4, kAmdLeaf = 0x8000001d, kDataCache = 1;
  for (const uint32_t leaf : {kIntelLeaf, kAmdLeaf}) {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(leaf, 0, &a, &b, &c, &d) && (a & 31) == kDataCache) {
      return static_cast<int>(b >> 22) + 1;
    }
  }
  return kUsualWays;
}

#else

int X86Level() { return 0; }
bool DetectIntel() { return false; }
int DetectFirstLevelWays() { return kUsualWays; }

#endif

#if defined(__linux__)

constexpr int kUnlimited = std::numeric_limits<int>::max();

// The CPUs in the scheduling mask. The kernel refuses a mask that is smaller than its own, so it
// grows until it fits: CPU_SETSIZE, 1024, is not enough everywhere.
int CoresOfAffinity() {
  for (int cpus = CPU_SETSIZE; cpus <= 1 << 20; cpus *= 2) {
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    std::vector<unsigned long> mask(bytes / sizeof(unsigned long));
    auto* set = reinterpret_cast<cpu_set_t*>(mask.data());
    if (sched_getaffinity(0, bytes, set) == 0) return CPU_COUNT_S(bytes, set);
  }
  return kUnlimited;
}

std::string ReadFile(const std::string& path) {
  std::string text;
  if (std::FILE* file = std::fopen(path.c_str(), "re")) {
    char buffer[4096];
    while (const size_t count = std::fread(buffer, 1, sizeof buffer, file)) {
      text.append(buffer, count);
    }
    std::fclose(file);
  }
  return text;
}

// Cores that `quota` microseconds of CPU time in each `period` keep busy. A quota that is not
// positive, or text without two numbers ("max 100000", a missing file), sets no limit.
int CoresOfQuota(const std::string& quota_and_period) {
  long long quota = 0, period = 0;
  if (std::sscanf(quota_and_period.c_str(), "%lld %lld", &quota, &period) != 2) return kUnlimited;
  if (quota <= 0 || period <= 0) return kUnlimited;
  return static_cast<int>(std::min<long long>((quota - 1) / period + 1, kUnlimited));
}

// The tightest limit of the group `path` and its ancestors below the mount point `root`. Inside a
// container `path` can name directories that only the host sees; those are missing here, and the
// walk ends at the container's own limit in `root`.
int CoresOfGroup(const std::string& root, std::string path) {
  int cores = kUnlimited;
  while (true) {
    const std::string group = root + path + "/";
    cores = std::min(cores, CoresOfQuota(ReadFile(group + "cpu.max")));
    cores = std::min(cores, CoresOfQuota(ReadFile(group + "cpu.cfs_quota_us") + " " +
                                         ReadFile(group + "cpu.cfs_period_us")));
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return cores;
    path.resize(slash);
  }
}

// Each line of /proc/self/cgroup is "id:controllers:path": version 2 has one line with id 0 and no
// controllers, version 1 one line a hierarchy, of which the one that lists "cpu" counts.
int CoresOfControlGroups() {
  int cores = kUnlimited;
  const std::string groups = ReadFile("/proc/self/cgroup");
  for (size_t begin = 0; begin < groups.size();) {
    const size_t end = std::min(groups.find('\n', begin), groups.size());
    const std::string line = groups.substr(begin, end - begin);
    begin = end + 1;
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    // From colon to colon, with commas instead of both: each controller stands between two commas.
    std::string controllers = line.substr(first, second - first + 1);
    controllers.front() = controllers.back() = ',';
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      cores = std::min(cores, CoresOfGroup("/sys/fs/cgroup", path));
    } else if (controllers.find(",cpu,") != std::string::npos) {
      cores = std::min(cores, CoresOfGroup("/sys/fs/cgroup/cpu", path));
    }
  }
  return cores;
}

#endif

}  // namespace

bool CpuHasV2() { return X86Level() >= 2; }
bool CpuHasV3() { return X86Level() >= 3; }
bool CpuHasV4() { return X86Level() >= 4; }

bool CpuIsIntel() {
  static const bool is_intel = DetectIntel();
  return is_intel;
}

int FirstLevelWays() {
  static const int ways = DetectFirstLevelWays();
  return ways;
}

int UsableCores() {
#if defined(__linux__)
  const int cores = std::min(CoresOfAffinity(), CoresOfControlGroups());
  if (cores != kUnlimited) return std::max(cores, 1);
#endif
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

}  // namespace depthwise
