// Memory that is used again: fresh pages for every call would cost more than many a convolution.
// Each thread has its own, in dispatch.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace depthwise {

class KeptMemory {
 public:
  // At least so many bytes, 64-byte aligned, or null if there are none to be had. What was in them
  // is lost when they have to grow.
  std::byte* Get(int64_t bytes) {
    if (bytes > size_) {
      memory_.reset();
      memory_.reset(new (kAlignment, std::nothrow) std::byte[static_cast<size_t>(bytes)]);
      size_ = memory_ ? bytes : 0;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};

  struct Free {
    void operator()(std::byte* memory) const { ::operator delete[](memory, kAlignment); }
  };

  std::unique_ptr<std::byte[], Free> memory_;
  int64_t size_ = 0;
};

}  // namespace depthwise
