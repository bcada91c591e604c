// What the kernels for planes fetch ahead. Called by block.h and narrow_plane.h.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace depthwise::DEPTHWISE_ISA {

// While a block of small planes is computed, the planes of the next block are fetched, which follow
// in memory: both what it reads and what it writes, since a line of the output has two planes on it
// and cannot be stored past the caches. From memory 32x384x14x14 7x7 takes 3.5 instead of 5.5 ms
// (4.9 without the output's), 32x1024x7x7 3x3 1.5 instead of 2.6; from the last-level cache 7 to
// 15% less. Of larger planes the hardware finds the next rows itself: 8x192x28x28 7x7 takes 5%
// more.
template <class E>
class NextBlock {
 public:
  NextBlock(const ForwardProblem& problem, int64_t b, int64_t first_channel, int64_t channels) {
    const Geometry& g = problem.geometry;
    const Strides& in = problem.input_strides;
    const int64_t in_plane = g.in_height * g.in_width, out_plane = g.out_height * g.out_width;
    const int64_t images = g.batch * g.in_channels;
    const bool is_dense = !g.channels_last && in.column == 1 && in.row == g.in_width &&
                          in.channel == in_plane && in.batch == g.in_channels * in_plane;
    const int64_t first = b * g.in_channels + first_channel + channels;
    if (!is_dense || g.channel_multiplier > 1 || first + channels > images ||
        channels * Max(in_plane, out_plane) * kSize > kMostBytes ||
        images * (in_plane + out_plane) * kSize < kLeastBytes) {
      return;
    }
    in_ = {static_cast<const E*>(problem.input) + first * in_plane, channels * in_plane};
    out_ = {static_cast<const E*>(problem.output) + first * out_plane, channels * out_plane};
  }

  // Fetches as much as is due when so many parts of the block are computed.
  DEPTHWISE_INLINE void Fetch(int64_t done, int64_t parts) {
    if (in_.size == 0) return;
    const int64_t in_due = in_.size * done / parts, out_due = out_.size * done / parts;
    for (; in_.fetched < in_due; in_.fetched += kLine) {
      Prefetch(in_.memory + in_.fetched);
    }
    for (; out_.fetched < out_due; out_.fetched += kLine) {
      PrefetchForWrite(out_.memory + out_.fetched);
    }
  }

 private:
  static constexpr int64_t kSize = sizeof(E), kLine = 64 / kSize;
  static constexpr int64_t kMostBytes = 24 * 1024, kLeastBytes = 2 << 20;

  struct Planes {
    const E* memory = nullptr;
    int64_t size = 0;
    int64_t fetched = 0;
  };
  Planes in_, out_;
};

}  // namespace depthwise::DEPTHWISE_ISA
