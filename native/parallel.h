// Loops spread over threads: the only threading code. dispatch.cc calls it, bindings.cc and
// selftest.cc set the number of threads.
#pragma once

#include <cstdint>

namespace depthwise {

// The same as MAX_THREADS in src/depthwise/_settings.py.
inline constexpr int kMaxThreads = 1024;

// How many threads one ParallelFor() may use, the calling one included. At the first use it is the
// number in the environment variable DEPTHWISE_NUM_THREADS, else the first one in the list
// OMP_NUM_THREADS, else UsableCores(); a variable that does not hold an integer from 1 to
// kMaxThreads counts as unset. SetNumThreads() brings n into that range. Both may be called at any
// time from any thread; calls of ParallelFor() that are under way keep the number they began with.
int GetNumThreads();
void SetNumThreads(int n);

// ParallelFor() without its template: body(context, begin, end) does the items [begin, end).
using RangeBody = void (*)(const void* context, int64_t begin, int64_t end) noexcept;
void ParallelForRanges(int64_t count, int64_t grain, RangeBody body, const void* context);

// Calls body(begin, end) for disjoint ranges that make up [0, count) and returns when all are done;
// what they wrote is visible to the caller. Calls nothing if count is 0. grain is at least 1.
//
// Threads: ranges of `grain` items (the last may be shorter) go to whichever thread is free, the
// caller among them; those that one thread does lie together. One range is enough, body(0, count)
// on the calling thread, if count <= grain, if the number of threads is 1, or if the threads are
// taken: by another caller or by the loop around this one. So any number of callers, nested ones
// too, never wait for each other and never multiply threads. Every thread computes with the
// floating-point environment of the caller. A child of fork() starts without threads and makes its
// own; body itself must not fork. Allocation: none but the threads, which are started when first
// needed and then kept. Aliasing: body is used in place, by several threads at a time, which is why
// it is const. An exception that leaves it ends the process.
template <class Body>
void ParallelFor(int64_t count, int64_t grain, const Body& body) {
  const RangeBody call = [](const void* context, int64_t begin, int64_t end) noexcept {
    (*static_cast<const Body*>(context))(begin, end);
  };
  ParallelForRanges(count, grain, call, &body);
}

}  // namespace depthwise
