// Polling, for what another thread does soon: waiting by the operating system takes longer than
// many a convolution. Included by parallel.cc and dispatch.cc.
#pragma once

#include <chrono>

namespace depthwise {

// How long a thread polls before it sleeps. A worker that polls begins 0.3 us after the call; one
// that sleeps begins 12 to 25 us after it, and waking it costs the caller 7 us. So a loop of calls
// with less than this between them is free of both; 20 us is too short for some lines of Python,
// and 100 us gained only calls that far apart.
inline constexpr std::chrono::microseconds kPollTime{50};

inline void Pause() {
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_ia32_pause();
#else
  asm volatile("isb");  // unlike `yield`, which most Arm cores ignore
#endif
}

// Whether `condition` comes true within kPollTime: by the clock, since a pause, 24 ns here, has
// another length on every CPU.
template <class Condition>
inline bool PollUntil(Condition condition) {
  if (condition()) return true;
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + kPollTime;
  do {
    for (int i = 0; i < 16; ++i) {
      if (condition()) return true;
      Pause();
    }
  } while (Clock::now() < deadline);
  return false;
}

}  // namespace depthwise
