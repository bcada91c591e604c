// Where a worker of the pool sleeps until it is woken, on another processor than who wakes it.
// Called by parallel.cc.
//
// Linux likes to wake a thread where it slept or where its waker runs, unless it knows of an idle
// processor; on a virtual machine it takes one that has been idle for some milliseconds for one
// that the host has taken away. The worker then waits until the caller is done, or the load is
// balanced: of 60 loops of 16 calls, 20 ms apart, 57 had both threads on one of two processors to
// their end (Xeon family 6 model 167, Linux 6.18).
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace depthwise {

#if defined(__linux__)

// The processors on which the thread that made this may run.
class ThreadAffinity {
 public:
  ThreadAffinity() : thread_(static_cast<pid_t>(syscall(SYS_gettid))) {}

  // Takes the caller's processor away. By any thread; two system calls, 2 us.
  void ExcludeThisProcessor() {
    State usual = State::kUsual;
    if (!state_.compare_exchange_strong(usual, State::kChanging)) return;
    state_.store(Reduce(sched_getcpu()) ? State::kReduced : State::kUsual,
                 std::memory_order_release);
  }

  // Gives it back. By the thread itself.
  void Restore() {
    if (state_.load(std::memory_order_acquire) != State::kReduced) return;
    sched_setaffinity(thread_, sizeof usual_, &usual_);
    state_.store(State::kUsual, std::memory_order_release);
  }

 private:
  enum class State { kUsual, kChanging, kReduced };

  // False where that is the only processor, or there are more than a cpu_set_t can tell.
  bool Reduce(int processor) {
    if (processor < 0 || processor >= CPU_SETSIZE ||
        sched_getaffinity(thread_, sizeof usual_, &usual_) != 0) {
      return false;
    }
    cpu_set_t others = usual_;
    CPU_CLR(processor, &others);
    return CPU_COUNT(&others) > 0 && sched_setaffinity(thread_, sizeof others, &others) == 0;
  }

  const pid_t thread_;
  std::atomic<State> state_{State::kUsual};
  cpu_set_t usual_;  // written while kChanging, read while kReduced
};

#else

struct ThreadAffinity {
  void ExcludeThisProcessor() {}
  void Restore() {}
};

#endif

class SleepingPlace {
 public:
  // By the worker, who makes it, too. From when it lies down on it can be woken; then it either
  // sleeps, until that happens, or gets up again.
  void LieDown() {
    affinity_.Restore();
    is_asleep_.store(1);
  }
  void Sleep() { is_asleep_.wait(1); }
  void GetUp() { is_asleep_.store(0); }

  // By anyone; false if the worker does not lie here, or another thread wakes it.
  bool Wake() {
    if (is_asleep_.load() == 0 || is_asleep_.exchange(0) == 0) return false;
    affinity_.ExcludeThisProcessor();
    is_asleep_.notify_one();
    return true;
  }

  SleepingPlace* next = nullptr;  // in the list of the pool

 private:
  std::atomic<uint32_t> is_asleep_{0};  // a futex on Linux
  ThreadAffinity affinity_;
};

}  // namespace depthwise
