// Memory for large outputs: 64-byte aligned, and reused. A fresh 50 MB array costs more time in
// page faults than its convolution takes (4.3 against 2.3 ms), and an array that starts within a
// cache line costs every store two. numpy_arrays.cc makes arrays of the blocks,
// tensors.cc tensors.
#pragma once

#include <cstddef>

namespace depthwise {

// Of freed blocks at most this much is kept, and less while larger blocks are asked for.
constexpr size_t kMaxKeptBytes = size_t{128} << 20;
// From this size on a result is worth a block of its own, which costs half a microsecond.
constexpr size_t kReusedBytes = 64 * 1024;

// One block, 64-byte aligned. The destructor keeps its memory for later blocks, or frees it. On any
// thread: PyTorch's tensors may die without the GIL. Throws std::bad_alloc.
class OutputMemory {
 public:
  explicit OutputMemory(size_t bytes);
  ~OutputMemory();
  OutputMemory(const OutputMemory&) = delete;
  OutputMemory& operator=(const OutputMemory&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_;
  size_t bytes_, capacity_;
};

// Frees what is kept. Returns how many bytes that were.
size_t ReleaseKeptMemory();

}  // namespace depthwise
