// What the machine offers: the instruction sets of CPU and operating system, and the cores that
// this process may use. Called by settings.cc, dispatch.cc and parallel.cc.
#pragma once

namespace depthwise {

// Whether the CPU executes every instruction of an x86-64 level (as the x86-64 psABI defines them)
// and the operating system saves the registers it uses. Each level includes all lower ones; all are
// false on other architectures. May be called from any thread.
bool CpuHasV2();
bool CpuHasV3();
bool CpuHasV4();

// Whether it is one of Intel's, whose caches differ from others'. May be called from any thread.
bool CpuIsIntel();

// How many lines each set of the first-level data cache holds, of the core that asks first; 8 if
// the CPU does not say. May be called from any thread.
int FirstLevelWays();

// How many threads of this process can run at the same time, at least 1: the CPUs it may be
// scheduled on, or the CPU time that its control group is granted, rounded up, if that is less.
// Reads files on Linux (tens of microseconds), so ask once. May be called from any thread.
int UsableCores();

}  // namespace depthwise
