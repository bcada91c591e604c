// Blocks that died are kept in a queue, oldest first, and handed out again to outputs of about
// their size.
#include "output_memory.h"

#include <deque>
#include <iterator>
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

// Oldest first. Never destroyed: arrays may die after static objects do.
std::deque<KeptBlock>& KeptBlocks() {
  static auto* blocks = new std::deque<KeptBlock>;
  return *blocks;
}
size_t kept_bytes = 0;

size_t AlignmentOf(size_t capacity) { return capacity >= 2 * kHugePage ? kHugePage : kLine; }

void Free(const KeptBlock& block) {
  ::operator delete(block.data, std::align_val_t{AlignmentOf(block.capacity)});
}

void FreeOldest() {
  const KeptBlock block = KeptBlocks().front();
  KeptBlocks().pop_front();
  kept_bytes -= block.capacity;
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
  std::deque<KeptBlock>& blocks = KeptBlocks();
  // A block may be up to a quarter too large, so that little memory is held for nothing.
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    if (block->capacity >= bytes && block->capacity - bytes <= bytes / 4) {
      data_ = block->data;
      capacity_ = block->capacity;
      kept_bytes -= capacity_;
      blocks.erase(std::next(block).base());
      return;
    }
  }
  // None fits: what is kept makes room, so that it never adds to more than the limit.
  while (kept_bytes > 0 && kept_bytes + bytes > kMaxKeptBytes) FreeOldest();
  capacity_ = bytes < kLine ? kLine : bytes;
  data_ = Allocate(capacity_);
}

OutputMemory::~OutputMemory() {
  const KeptBlock block{data_, capacity_};
  if (capacity_ > kMaxKeptBytes) {
    Free(block);
    return;
  }
  while (kept_bytes + capacity_ > kMaxKeptBytes) FreeOldest();
  KeptBlocks().push_back(block);
  kept_bytes += capacity_;
}

size_t ReleaseKeptMemory() {
  const size_t bytes = kept_bytes;
  while (!KeptBlocks().empty()) FreeOldest();
  return bytes;
}

}  // namespace depthwise
