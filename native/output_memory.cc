// Blocks that died are kept in a queue, oldest first, and handed out again to outputs of about
// their size.
#include "output_memory.h"

#include <deque>
#include <iterator>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace depthwise {
namespace {

// Large blocks start at a huge page, so that the kernel can back them with such pages at once.
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLine = 64;

struct KeptBlock {
  void* data;
  size_t capacity;
};

// Never destroyed: arrays may die after static objects do.
struct KeptBlocks {
  std::mutex mutex;
  std::deque<KeptBlock> blocks;  // oldest first
  size_t bytes = 0;

  // Empty if another thread is here. It is not waited for: a child of fork() may inherit the lock
  // of a thread that it has not got.
  std::unique_lock<std::mutex> TryLock() { return std::unique_lock(mutex, std::try_to_lock); }

  void FreeOldest();
};
KeptBlocks& Kept() {
  static auto* kept = new KeptBlocks;
  return *kept;
}

size_t AlignmentOf(size_t capacity) { return capacity >= 2 * kHugePage ? kHugePage : kLine; }

void Free(const KeptBlock& block) {
  ::operator delete(block.data, std::align_val_t{AlignmentOf(block.capacity)});
}

void KeptBlocks::FreeOldest() {
  const KeptBlock block = blocks.front();
  blocks.pop_front();
  bytes -= block.capacity;
  Free(block);
}

void* Allocate(size_t capacity) {
  void* data = ::operator new(capacity, std::align_val_t{AlignmentOf(capacity)});
#if defined(MADV_HUGEPAGE)
  // Best effort: without it the pages are small.
  if (AlignmentOf(capacity) == kHugePage) madvise(data, capacity, MADV_HUGEPAGE);
#endif
  return data;
}

}  // namespace

OutputMemory::OutputMemory(size_t bytes) : bytes_(bytes) {
  KeptBlocks& kept = Kept();
  if (const auto lock = kept.TryLock()) {
    // A block may be up to a quarter too large, so that little memory is held for nothing.
    for (auto block = kept.blocks.rbegin(); block != kept.blocks.rend(); ++block) {
      if (block->capacity >= bytes && block->capacity - bytes <= bytes / 4) {
        data_ = block->data;
        capacity_ = block->capacity;
        kept.bytes -= capacity_;
        kept.blocks.erase(std::next(block).base());
        return;
      }
    }
    // None fits: what is kept makes room, so that it never adds to more than the limit.
    while (kept.bytes > 0 && kept.bytes + bytes > kMaxKeptBytes) kept.FreeOldest();
  }
  capacity_ = bytes < kLine ? kLine : bytes;
  data_ = Allocate(capacity_);
}

OutputMemory::~OutputMemory() {
  const KeptBlock block{data_, capacity_};
  KeptBlocks& kept = Kept();
  const auto lock = kept.TryLock();
  if (!lock || capacity_ > kMaxKeptBytes) {
    Free(block);
    return;
  }
  while (kept.bytes + capacity_ > kMaxKeptBytes) kept.FreeOldest();
  kept.blocks.push_back(block);
  kept.bytes += capacity_;
}

size_t ReleaseKeptMemory() {
  KeptBlocks& kept = Kept();
  const auto lock = kept.TryLock();
  if (!lock) return 0;
  const size_t bytes = kept.bytes;
  while (!kept.blocks.empty()) kept.FreeOldest();
  return bytes;
}

}  // namespace depthwise
