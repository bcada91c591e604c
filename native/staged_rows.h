// Rows that fill no cache lines, on their way past the caches: computed to a buffer, and stored
// from there line by line. Called by plane.h.
#pragma once

#include "geometry.h"
#include "simd.h"

namespace depthwise::DEPTHWISE_ISA {

// An output whose rows follow each other, written some rows at a time, from a buffer or, without
// one, in place. Where rows end within a line, those that follow go on in it.
class StagedRows {
 public:
  // For at most so many bytes at a time: they begin within a line.
  static int64_t BufferBytes(int64_t bytes) {
    return CeilDiv(bytes + kLine - 1, kLine) * kLine + kLine;
  }

  // `buffer` is aligned to lines, or null.
  explicit StagedRows(void* buffer) : buffer_(static_cast<char*>(buffer)) {}
  ~StagedRows() { StoreHeld(); }
  StagedRows(const StagedRows&) = delete;
  StagedRows& operator=(const StagedRows&) = delete;

  // Where to compute what belongs to `to`.
  template <class E>
  DEPTHWISE_INLINE E* PlaceOf(E* to) {
    if (buffer_ == nullptr) return to;
    if (reinterpret_cast<char*>(to) != line_ + end_) Begin(reinterpret_cast<char*>(to));
    return reinterpret_cast<E*>(buffer_ + end_);
  }

  // Stores so many bytes that were computed there.
  DEPTHWISE_INLINE void Store(int64_t bytes) {
    if (buffer_ != nullptr) StoreLines(bytes);
  }

 private:
  static constexpr int64_t kLine = 64;

  // All full lines; the rest of the last one waits for what follows.
  __attribute__((noinline)) void StoreLines(int64_t bytes) {
    end_ += bytes;
    int64_t at = 0;
    if (begin_ > 0 && end_ >= kLine) {
      CopyBytes(begin_, kLine);
      begin_ = 0;
      at = kLine;
    }
    for (; at + kLine <= end_; at += kLine) StreamLine(line_ + at, buffer_ + at);
    std::memmove(buffer_, buffer_ + at, kLine);
    line_ += at;
    end_ -= at;
  }

  __attribute__((noinline)) void Begin(char* to) {
    StoreHeld();
    begin_ = end_ = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine);
    line_ = to - begin_;
  }

  __attribute__((noinline)) void StoreHeld() { CopyBytes(begin_, end_); }

  void CopyBytes(int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) line_[k] = buffer_[k];
  }

  static DEPTHWISE_INLINE void StreamLine(char* to, const char* from) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), LoadUnaligned<__m512i>(from));
#elif defined(__AVX2__)
    auto* const halves = reinterpret_cast<__m256i*>(to);
    _mm256_stream_si256(halves, LoadUnaligned<__m256i>(from));
    _mm256_stream_si256(halves + 1, LoadUnaligned<__m256i>(from + kLine / 2));
#else
    std::memcpy(to, from, kLine);
#endif
  }

  char* const buffer_;           // of line_ and what follows
  char* line_ = nullptr;         // the first of the output that is not stored
  int64_t begin_ = 0, end_ = 0;  // the bytes that the buffer holds for it
};

}  // namespace depthwise::DEPTHWISE_ISA
