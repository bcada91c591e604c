// The interpreter lock released while native code computes. Called by bindings.cc, call_memo.cc and
// tensor_calls.cc.
#pragma once

#include <nanobind/nanobind.h>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#include <unistd.h>
#endif

namespace depthwise {

// Releases the GIL for its scope. nanobind's guard does not survive a daemon thread that is in a
// call when the interpreter exits: up to Python 3.13 taking the GIL then unwinds the thread,
// through a destructor that lets nothing pass, and the process aborts. Here such a thread stops for
// good.
class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  ~ReleasedGil() {
#if defined(__GLIBCXX__)
    try {
      PyEval_RestoreThread(state_);
    } catch (abi::__forced_unwind&) {
      for (;;) pause();
    }
#else
    PyEval_RestoreThread(state_);
#endif
  }
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace depthwise
