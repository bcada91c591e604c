// What selftest.cc checks of large filters: the transform, and the scratch memory of its plans.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "dispatch.h"
#include "selftest_random.h"
#include "settings.h"

namespace depthwise {

// Whether a large filter's transform, and that of its gradient, gives what the direct sum gives,
// which is exact, but for rounding; and is one, so that it does round.
template <class T>
inline bool CheckTransform(Random& random, DType dtype, bool channels_last) {
  Geometry g{};
  g.batch = 1;
  g.in_height = g.out_height = 40;
  g.in_width = g.out_width = 45;
  g.in_channels = 16;
  g.filter_height = 19;
  g.filter_width = 21;
  g.channel_multiplier = 1;
  g.stride_height = g.stride_width = g.dilation_height = g.dilation_width = 1;
  g.pad_top = 9;
  g.pad_left = 10;
  g.channels_last = channels_last;
  const Strides strides = DenseStrides(g, g.in_height, g.in_width, g.in_channels);
  const auto draw = [&](int64_t count) {
    std::vector<T> numbers(static_cast<size_t>(count));
    for (T& number : numbers) number = static_cast<T>(Pick(random, -3, 3));
    return numbers;
  };
  const std::vector<T> input = draw(strides.batch);
  const std::vector<T> out_backprop = draw(strides.batch);
  const std::vector<T> filter = draw(g.filter_height * g.filter_width * g.in_channels);
  const auto is_right = [&](size_t count, auto&& compute) {
    std::vector<T> direct(count), transformed(count);
    SetLargeFilter("direct");
    compute(direct.data());
    SetLargeFilter("transform");
    compute(transformed.data());
    bool is_close = true;
    for (size_t i = 0; i < count; ++i) {
      is_close = is_close && std::fabs(transformed[i] - direct[i]) < T{0.01};
    }
    return is_close && transformed != direct;
  };
  return is_right(input.size(),
                  [&](T* output) {
                    Forward(dtype, {g, input.data(), strides, filter.data(), DenseFilterStrides(g),
                                    nullptr, output, strides});
                  }) &&
         is_right(filter.size(), [&](T* filter_backprop) {
           FilterGradient(
               dtype, {g, input.data(), strides, out_backprop.data(), strides, filter_backprop});
         });
}

// Whether the plans of a large filter, which is not computed, take no more scratch memory than
// users are promised.
inline bool KeepsScratchSmall(Random& random) {
  constexpr int64_t kMostBytes = 2 << 20, kMostGradientBytes = 4 << 20;
  Geometry g{};
  g.batch = g.channel_multiplier = g.stride_height = g.stride_width = 1;
  g.in_height = Pick(random, 1, 200);
  g.in_width = Pick(random, 1, 200);
  g.in_channels = 16;
  g.filter_height = Pick(random, 11, 96);
  g.filter_width = Pick(random, 11, 96);
  g.dilation_height = Pick(random, 1, 3);
  g.dilation_width = Pick(random, 1, 2);
  g.pad_top = Pick(random, 0, 150);
  g.pad_left = Pick(random, 0, 100);
  g.out_height =
      g.in_height + g.pad_top + Pick(random, 0, 150) - (g.filter_height - 1) * g.dilation_height;
  g.out_width =
      g.in_width + g.pad_left + Pick(random, 0, 100) - (g.filter_width - 1) * g.dilation_width;
  if (g.out_height < 1 || g.out_width < 1) return true;
  const Strides in = DenseStrides(g, g.in_height, g.in_width, g.in_channels);
  const Strides out = DenseStrides(g, g.out_height, g.out_width, g.in_channels);
  const auto taps = static_cast<size_t>(g.filter_height * g.filter_width * g.in_channels);
  const std::vector<double> filter(taps);
  PlanOptions options{};
  options.threads = 1;
  options.may_transform = true;
  options.stream_bytes = 8 << 20;
  for (int i = 0; i < kNumDTypes; ++i) {
    const ForwardKernels& kernels = CurrentTable().forward[i];
    const auto bytes = [&](const Geometry& of, const Strides& from, const Strides& to) {
      const ForwardProblem problem{of,      nullptr, from, filter.data(), DenseFilterStrides(g),
                                   nullptr, nullptr, to};
      return kernels.plan(problem, options).scratch_bytes;
    };
    const FilterGradientPlan gradient =
        CurrentTable().filter_gradient[i].plan({g, nullptr, in, nullptr, out, nullptr}, options);
    if (bytes(g, in, out) > kMostBytes || bytes(Transposed(g), out, in) > kMostBytes ||
        gradient.scratch_bytes > kMostGradientBytes) {
      return false;
    }
  }
  return true;
}

}  // namespace depthwise
