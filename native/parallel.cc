// One pool of workers for the process. A caller that finds it free opens seats, workers take them,
// and all of them and the caller draw ranges from counters. When the ranges are gone the caller
// closes the seats and waits only for workers that have one: on a busy machine a worker can be
// milliseconds late, and by then the caller has done the work alone. While two other programs
// compute, 1000 calls of 600 us with 2 threads take 1.8 s, as with one; with GCC's OpenMP 10 s.
//
// There is a counter for each thread, at its own part of the ranges; a thread that is through with
// its part helps in those of the others. So threads do not write next to each other, nor read what
// another has in its cache, from this call or the last one: on two cores 56x56x96 7x7 takes 133
// instead of 153 us, 28x28x256 3x3 37 instead of 45 (Xeon family 6 model 167).
//
// Times in this file: AMD EPYC (Zen 4), 2 cores of a virtual machine, 2026-11. All but the above
// were taken at real-time priority, since the machine was in use.
#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>

#include "cpu.h"
#include "sleeping_place.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif

namespace depthwise {
namespace {

struct Job {
  RangeBody body = nullptr;
  const void* context = nullptr;
  int64_t count = 0, grain = 1;
  int parts = 1;
  std::fenv_t environment{};
};

// More threads than this share counters.
constexpr int kMaxParts = 64;

struct alignas(64) Counter {
  std::atomic<int64_t> next_range{0};
};

// How long a thread polls before it sleeps. A worker that polls begins 0.3 us after the call; one
// that sleeps begins 12 to 25 us after it, and waking it costs the caller 7 us. So a loop of calls
// with less than this between them is free of both; 20 us is too short for some lines of Python,
// and 100 us gained only calls that far apart.
constexpr std::chrono::microseconds kPollTime{50};

void Pause() {
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_ia32_pause();
#else
  asm volatile("isb");  // unlike `yield`, which most Arm cores ignore
#endif
}

// Whether `condition` comes true within kPollTime: by the clock, since a pause, 24 ns here, has
// another length on every CPU.
template <class Condition>
bool PollUntil(Condition condition) {
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

constexpr uint32_t kSeat = 1 << 16;

// What different threads write at the same time is on different cache lines. Where no memory order
// is given it is sequential consistency, which one proof needs: a worker counts itself a sleeper
// and then looks for a seat, a caller opens seats and then counts the sleepers, so at least one of
// them sees the other.
struct Pool {
  // Held by the caller whose job is in the pool. It alone writes `workers`.
  alignas(64) std::atomic<bool> busy{false};
  std::atomic<bool> refused{false};  // the system would not start another worker
  int workers = 0;

  // Open seats * kSeat + seated workers. Only who is counted here, or holds `busy`, reads the job.
  alignas(64) std::atomic<uint32_t> state{0};
  Job job;

  Counter counters[kMaxParts];  // of the parts of the job

  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<SleepingPlace*> places{nullptr};  // of all workers
};

// Never destroyed, and its threads are never joined: the process ends while they sleep. A static
// destructor would join threads that do not exist in a forked child, that Windows has ended before,
// or that still compute for a daemon thread. (Python never unloads an extension module.)
constinit Pool pool;

#if defined(__unix__) || defined(__APPLE__)

// Threads that are started while one of these lives have all signals blocked, so that handlers run
// on Python's threads. Except faults, which hit the thread that has them: a fault that is blocked
// ends the process before faulthandler can report it.
struct BlockedSignals {
  BlockedSignals() {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigdelset(&blocked, fault);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before, nullptr); }

  sigset_t before;
};

// In the child of a fork: the workers are gone, and so is the thread that may have had the pool.
// Stores only, to memory that is ours; there is no lock that could be held.
void ForgetWorkers() {
  pool.busy.store(false);
  pool.refused.store(false);
  pool.workers = 0;
  pool.state.store(0);
  pool.sleepers.store(0);
  pool.places.store(nullptr);
}

// Registered when the library is loaded: a flag for "at the first use" could be caught by a fork.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, ForgetWorkers);

#else

struct BlockedSignals {};

#endif

int64_t Ranges(int64_t count, int64_t grain) { return (count - 1) / grain + 1; }

// The first range of a part, or one more than the last of the part before.
int64_t FirstRange(const Job& job, int part) {
  return Ranges(job.count, job.grain) * part / job.parts;
}

// Begins with the part of that number.
void RunRanges(int first_part) {
  const Job& job = pool.job;
  for (int i = 0; i < job.parts; ++i) {
    const int part = (first_part + i) % job.parts;
    const int64_t end = FirstRange(job, part + 1);
    std::atomic<int64_t>& next_range = pool.counters[part].next_range;
    while (true) {
      const int64_t range = next_range.fetch_add(1, std::memory_order_relaxed);
      if (range >= end) break;
      const int64_t begin = range * job.grain;
      job.body(job.context, begin, begin + std::min(job.grain, job.count - begin));
    }
  }
}

// Returns the number of the seat, from 1 on, or 0 if none is open.
int TakeSeat() {
  uint32_t state = pool.state.load();
  while (state >= kSeat) {
    if (pool.state.compare_exchange_weak(state, state - kSeat + 1)) {
      return static_cast<int>(state / kSeat);
    }
  }
  return 0;
}

// A condition variable took the same time as the atomic of a SleepingPlace within the noise, and
// has a mutex, which a fork can catch locked.
int TakeSeatOrSleep(SleepingPlace& place) {
  place.LieDown();
  pool.sleepers.fetch_add(1);
  const int seat = TakeSeat();
  if (seat != 0) {
    place.GetUp();
  } else {
    place.Sleep();
  }
  pool.sleepers.fetch_sub(1);
  return seat;
}

// Wakes sleepers for the seats that no idle worker will take, but two at most: each of them calls
// this too once it has a seat. An empty call takes 15 us with 64 threads that sleep; it was 78 us
// when the caller woke all of them. A count that another thread is just changing can make it wake
// one too few or too many, which costs time and nothing else.
void WakeForOpenSeats() {
  const uint32_t state = pool.state.load();
  const int open = static_cast<int>(state / kSeat), seated = static_cast<int>(state % kSeat);
  const int sleepers = pool.sleepers.load();
  const int idle = pool.workers - sleepers - seated;
  int missing = std::min({open - idle, sleepers, 2});
  for (SleepingPlace* place = pool.places.load(); place != nullptr && missing > 0;
       place = place->next) {
    if (place->Wake()) --missing;
  }
}

void Work() {
  auto* const place = new SleepingPlace;  // for good, as is the thread
  place->next = pool.places.load();
  while (!pool.places.compare_exchange_weak(place->next, place)) {
  }
  while (true) {
    int seat = 0;
    if (!PollUntil([&] { return (seat = TakeSeat()) != 0; })) seat = TakeSeatOrSleep(*place);
    if (seat == 0) continue;
    WakeForOpenSeats();
    // Rounding and flushing of subnormals as the caller has them: else the bits of a result would
    // depend on which thread computed it. Together with fegetenv() 0.12 us.
    std::fesetenv(&pool.job.environment);
    RunRanges(seat);
    if (pool.state.fetch_sub(1) == 1) pool.state.notify_one();
  }
}

// Brings the pool to `wanted` workers. If the system refuses one (a limit on processes or memory),
// goes on with fewer, and asks again only after SetNumThreads().
void StartWorkers(int wanted) {
  if (pool.workers >= wanted || pool.refused.load()) return;
  [[maybe_unused]] const BlockedSignals blocked;
  try {
    for (; pool.workers < wanted; ++pool.workers) std::thread(Work).detach();
  } catch (const std::exception&) {
    pool.refused.store(true);
  }
}

// The integer, from 1 to kMaxThreads, that is alone or first in a list in an environment variable;
// 0 if there is none.
int ThreadsFromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return 0;
  char* end;
  const long n = std::strtol(text, &end, 10);
  while (*end == ' ') ++end;
  const bool is_valid = (*end == '\0' || *end == ',') && 1 <= n && n <= kMaxThreads;
  return is_valid ? static_cast<int>(n) : 0;
}

int DefaultNumThreads() {
  for (const char* name : {"DEPTHWISE_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (const int n = ThreadsFromEnvironment(name)) return n;
  }
  return std::clamp(UsableCores(), 1, kMaxThreads);
}

constinit std::atomic<int> num_threads{0};  // 0: not asked for yet

}  // namespace

int GetNumThreads() {
  int n = num_threads.load(std::memory_order_relaxed);
  if (n != 0) return n;
  const int initial = DefaultNumThreads();
  // Another thread may have set a number in the meantime: then n is that.
  return num_threads.compare_exchange_strong(n, initial) ? initial : n;
}

void SetNumThreads(int n) {
  num_threads.store(std::clamp(n, 1, kMaxThreads));
  pool.refused.store(false);
}

void ParallelForRanges(int64_t count, int64_t grain, RangeBody body, const void* context) {
  if (count <= 0) return;
  const int threads = static_cast<int>(std::min<int64_t>(Ranges(count, grain), GetNumThreads()));
  if (threads == 1 || pool.busy.exchange(true)) {
    body(context, 0, count);
    return;
  }
  StartWorkers(threads - 1);
  const int seats = std::min(threads - 1, pool.workers);
  const int parts = std::min(seats + 1, kMaxParts);
  pool.job = {body, context, count, grain, parts, {}};
  std::fegetenv(&pool.job.environment);
  for (int part = 0; part < parts; ++part) {
    pool.counters[part].next_range.store(FirstRange(pool.job, part), std::memory_order_relaxed);
  }
  pool.state.store(static_cast<uint32_t>(seats) * kSeat);
  WakeForOpenSeats();
  RunRanges(0);
  pool.state.fetch_and(kSeat - 1);
  if (!PollUntil([] { return pool.state.load() == 0; })) {
    while (const uint32_t state = pool.state.load()) pool.state.wait(state);
  }
  pool.busy.store(false);
}

}  // namespace depthwise
