// What the kernels for planes fetch ahead. Called by block.h, narrow_plane.h, filter_gradient.h and
// plane_gradient_tile.h.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace depthwise::DEPTHWISE_ISA {

// Memory that is fetched in shares while something else is computed.
template <class E>
struct FetchedAhead {
  static constexpr int64_t kLine = 64 / int64_t{sizeof(E)};
  const E* memory = nullptr;
  int64_t size = 0;
  int64_t fetched = 0;

  template <bool kToWrite>
  DEPTHWISE_INLINE void Fetch(int64_t done, int64_t parts) {
    for (const int64_t due = size * done / parts; fetched < due; fetched += kLine) {
      PrefetchLine<kToWrite>(memory + fetched);
    }
  }
};

// The next planes of two arrays: with kWritesOutput the second is written, or else read as well.
template <class E, bool kWritesOutput>
class NextPlanes {
 public:
  // Fetches as much as is due when so many parts of those before are computed.
  DEPTHWISE_INLINE void Fetch(int64_t done, int64_t parts) {
    if (in_.size == 0) return;
    in_.template Fetch<false>(done, parts);
    out_.template Fetch<kWritesOutput>(done, parts);
  }

 protected:
  FetchedAhead<E> in_, out_;
};

// Whether planes of so many columns and rows follow each other in memory, and images, too.
DEPTHWISE_INLINE bool AreDensePlanes(const Strides& strides, int64_t channels, int64_t height,
                                     int64_t width) {
  return strides.column == 1 && strides.row == width && strides.channel == height * width &&
         strides.batch == channels * height * width;
}

// Whether blocks of so many planes are worth fetching ahead: small ones, of arrays that exceed the
// second-level cache together. Of larger planes the hardware finds the next rows itself:
// 8x192x28x28 7x7 takes 5% more.
template <class E>
DEPTHWISE_INLINE bool AreFetchedAhead(const Geometry& g, int64_t channels) {
  constexpr int64_t kSize = sizeof(E), kMostBytes = 24 * 1024, kLeastBytes = 2 << 20;
  const int64_t in_plane = g.in_height * g.in_width, out_plane = g.out_height * g.out_width;
  return !g.channels_last && g.channel_multiplier == 1 &&
         channels * Max(in_plane, out_plane) * kSize <= kMostBytes &&
         g.batch * g.in_channels * (in_plane + out_plane) * kSize >= kLeastBytes;
}

// While a block of small planes is computed, the planes of the next block are fetched, which follow
// in memory: both what it reads and what it writes, since a line of the output has two planes on it
// and cannot be stored past the caches. From memory 32x384x14x14 7x7 takes 3.5 instead of 5.5 ms
// (4.9 without the output's), 32x1024x7x7 3x3 1.5 instead of 2.6; from the last-level cache 7 to
// 15% less.
template <class E>
class NextBlock : public NextPlanes<E, true> {
 public:
  NextBlock(const ForwardProblem& problem, int64_t b, int64_t first_channel, int64_t channels) {
    const Geometry& g = problem.geometry;
    const int64_t first = b * g.in_channels + first_channel + channels;
    if (!AreDensePlanes(problem.input_strides, g.in_channels, g.in_height, g.in_width) ||
        !AreFetchedAhead<E>(g, channels) || first + channels > g.batch * g.in_channels) {
      return;
    }
    const int64_t in_plane = g.in_height * g.in_width, out_plane = g.out_height * g.out_width;
    this->in_ = {static_cast<const E*>(problem.input) + first * in_plane, channels * in_plane};
    this->out_ = {static_cast<const E*>(problem.output) + first * out_plane, channels * out_plane};
  }
};

// The same for the filter gradient, which reads both arrays: a block of planes of one image after
// the other, and then the next block of the same images (unless another thread does that). Such
// pieces of few kilobytes, each far from the last, the hardware does not foresee. From memory
// 32x1024x7x7 3x3 takes 1180 instead of 2180 us, 8x512x14x14 516 instead of 950; from the
// last-level cache 1150 and 447 instead of 1560 and 528. Planes of 28x28, which are not fetched,
// would take 4 to 8% less from memory and 8 to 13% more from that cache.
template <class E>
class NextImage : public NextPlanes<E, false> {
 public:
  NextImage(const FilterGradientProblem& problem, const FilterGradientPlan& plan, int64_t item,
            int64_t b, int64_t channels) {
    const Geometry& g = problem.geometry;
    const Strides& in = problem.input_strides;
    const Strides& out = problem.out_backprop_strides;
    const bool has_whole_images = plan.bands == g.batch && plan.strip_columns >= g.out_width;
    if (!has_whole_images || !AreDensePlanes(in, g.in_channels, g.in_height, g.in_width) ||
        !AreDensePlanes(out, g.in_channels, g.out_height, g.out_width) ||
        !AreFetchedAhead<E>(g, channels)) {
      return;
    }
    const int64_t first = item / plan.groups * plan.bands_per_chunk;
    const bool is_last = b + 1 == Min(g.batch, first + plan.bands_per_chunk);
    const int64_t next_b = is_last ? first : b + 1;
    const int64_t channel = (item % plan.groups + (is_last ? 1 : 0)) * channels;
    if (channel + channels > g.in_channels) return;
    this->in_ = {static_cast<const E*>(problem.input) + next_b * in.batch + channel * in.channel,
                 channels * in.channel};
    this->out_ = {
        static_cast<const E*>(problem.out_backprop) + next_b * out.batch + channel * out.channel,
        channels * out.channel};
  }
};

}  // namespace depthwise::DEPTHWISE_ISA
