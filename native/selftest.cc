// A self-test without Python: the convolution and both gradients on every instruction set of this
// machine against the definition, on small signed integers, whose sums are exact. For targets that
// are cross-compiled and emulated, and for sanitizer builds. Prints the number of cases; exits with
// 1 at the first wrong element or the first write outside the output.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "dispatch.h"
#include "parallel.h"
#include "selftest_array.h"
#include "selftest_random.h"
#include "selftest_transform.h"
#include "settings.h"

namespace depthwise {
namespace {

// `line` is that of a cache, in elements.
Geometry DrawGeometry(Random& random, int64_t lanes, int64_t line) {
  Geometry g{};
  g.channels_last = Pick(random, 0, 1) != 0;
  g.batch = Pick(random, 1, 2);
  g.in_height = Pick(random, 1, 19);
  g.in_width = Pick(random, 1, 40);
  g.in_channels = Pick(random, 0, 2) != 0 ? Pick(random, 1, 2 * lanes + 3) : Pick(random, 1, 5);
  g.channel_multiplier = Pick(random, 0, 2) != 0 ? 1 : Pick(random, 2, 5);
  g.filter_height = Pick(random, 1, 8);
  g.filter_width = Pick(random, 1, 8);
  g.stride_height = g.stride_width = g.dilation_height = g.dilation_width = 1;
  // Both at a time are no documented problem, but the kernels know no difference.
  const int64_t kind = Pick(random, 0, 3);
  if (kind & 1) {
    g.stride_height = Pick(random, 1, 3);
    g.stride_width = Pick(random, 1, 4);
  }
  if (kind & 2) {
    g.dilation_height = Pick(random, 1, 3);
    g.dilation_width = Pick(random, 1, 4);
  }
  // Windows that do not overlap, over pixels long enough for pixel_rows.h.
  if (Pick(random, 0, 11) == 0) {
    g.channels_last = true;
    g.in_channels = Pick(random, 128, 133);
    g.channel_multiplier = g.dilation_height = g.dilation_width = 1;
    g.filter_height = Pick(random, 3, 4);
    g.filter_width = Pick(random, 3, 4);
    g.stride_height = g.filter_height + Pick(random, 0, 1);
    g.stride_width = g.filter_width + Pick(random, 0, 1);
  }
  // 3x3 without a stride, in tiles of many rows.
  if (Pick(random, 0, 7) == 0) {
    g.channels_last = true;
    g.in_height = Pick(random, 3, 19);
    g.in_width = Pick(random, 5, 24);
    g.in_channels = Pick(random, lanes / 2, 2 * lanes + 3);
    g.filter_height = g.filter_width = 3;
    g.stride_height = g.stride_width = 1;
    g.dilation_height = Pick(random, 1, 2);
    g.dilation_width = Pick(random, 1, 2);
  }
  // 3x3 over pixels long enough for blocks of them.
  if (Pick(random, 0, 3) == 0) {
    g.channels_last = true;
    g.in_channels = Pick(random, 64, 83);
    g.channel_multiplier = 1;
    g.filter_height = g.filter_width = 3;
    const int64_t block = Pick(random, 0, 2);
    g.stride_height = g.stride_width = block == 1 ? 2 : 1;
    g.dilation_height = block == 2 ? Pick(random, 1, 2) : 1;
    g.dilation_width = block == 2 ? Pick(random, 2, 3) : 1;
  }
  // Planes that plane_walk.h suits, with a stride of several strips too.
  if (Pick(random, 0, 5) == 0) {
    g.channels_last = false;
    g.in_channels = Pick(random, 1, 5);
    g.channel_multiplier = 1;
    g.filter_height = g.filter_width = Pick(random, 0, 1) != 0 ? 3 : 5;
    g.stride_height = g.stride_width = Pick(random, 1, 2);
    g.dilation_height = g.dilation_width = 1;
    g.in_width = g.stride_width * Pick(random, lanes / 2, 6 * lanes);
  }
  // Tall filters on planes and few channels, of several walks, too (tall_walk_tile.h).
  if (Pick(random, 0, 5) == 0) {
    g.in_height = Pick(random, 3, 70);
    g.in_channels = Pick(random, 1, 7);
    g.channel_multiplier = 1;
    g.filter_height = 2 * Pick(random, 2, 5) + 1;
    g.filter_width = Pick(random, 3, 6);
    g.stride_height = g.stride_width = g.dilation_height = 1;
  }
  g.pad_top = Pick(random, 0, 4);
  g.pad_left = Pick(random, 0, 4);
  int64_t pad_bottom = Pick(random, 0, 4), pad_right = Pick(random, 0, 4);
  // Filters of one row or column, which row.h suits, of rows of several strips.
  const int64_t thin = Pick(random, 0, 9);
  if (thin < 2) {
    g.in_channels = Pick(random, 1, lanes + 2);
    g.channel_multiplier = Pick(random, 1, 2);
    g.stride_height = g.stride_width = 1;
    g.dilation_height = g.dilation_width = Pick(random, 1, 3);
  }
  if (thin == 0) {
    g.in_height = Pick(random, 1, 3);
    g.in_width = Pick(random, 1, 20 * lanes);
    g.filter_height = 1;
    g.filter_width = Pick(random, 1, 12);
    g.pad_top = pad_bottom = 0;
    if (g.in_height > 1) g.dilation_height = 1;
  } else if (thin == 1) {
    g.in_height = Pick(random, 1, 40);
    g.in_width = Pick(random, 1, 2 * lanes + 1);
    g.filter_height = Pick(random, 1, 8);
    g.filter_width = 1;
    g.pad_left = pad_right = 0;
    g.dilation_height = 1;
  }
  // Rows of a whole number of cache lines.
  if (Pick(random, 0, 3) == 0) {
    g.in_channels = CeilDiv(g.in_channels, line) * line;
    g.in_width = g.stride_width * Min(32, line * Pick(random, 1, 2));
    pad_right = Max(0, (g.filter_width - 1) * g.dilation_width - g.pad_left);
  }
  const auto out_size = [&](int64_t in, int64_t before, int64_t after, int64_t filter,
                            int64_t dilation, int64_t stride) {
    const int64_t rest = in + before + after - ((filter - 1) * dilation + 1);
    return rest < 0 ? 0 : rest / stride + 1;
  };
  g.out_height = out_size(g.in_height, g.pad_top, pad_bottom, g.filter_height, g.dilation_height,
                          g.stride_height);
  g.out_width =
      out_size(g.in_width, g.pad_left, pad_right, g.filter_width, g.dilation_width, g.stride_width);
  return g;
}

size_t Offset(const Strides& s, int64_t b, int64_t i, int64_t j, int64_t c) {
  return static_cast<size_t>(b * s.batch + i * s.row + j * s.column + c * s.channel);
}

using Numbers = std::vector<float>;

// All sums stay below 2048 in magnitude, and so are exact even in float16: those of the filter
// gradient have some thousand terms of -1, 0 or 1, those of the input gradient 8 * 8 * 5 of 3.
struct Problem {
  Geometry geometry;
  Strides in, out;
  Numbers input, filter, bias, out_backprop;        // drawn
  Numbers output, input_backprop, filter_backprop;  // by the definition
};

Numbers Draw(Random& random, size_t count, int64_t largest) {
  Numbers numbers(count);
  for (float& number : numbers) number = static_cast<float>(Pick(random, -largest, largest));
  return numbers;
}

Problem DrawProblem(Random& random, const Geometry& g) {
  Problem p{};
  p.geometry = g;
  p.in = DenseStrides(g, g.in_height, g.in_width, g.in_channels);
  p.out = DenseStrides(g, g.out_height, g.out_width, g.OutputChannels());
  p.input = Draw(random, static_cast<size_t>(g.batch * p.in.batch), 1);
  p.filter =
      Draw(random, static_cast<size_t>(g.filter_height * g.filter_width * g.OutputChannels()), 3);
  p.bias = Draw(random, static_cast<size_t>(g.OutputChannels()), 3);
  p.out_backprop = Draw(random, static_cast<size_t>(g.batch * p.out.batch), 1);
  p.output.resize(p.out_backprop.size());
  p.input_backprop.resize(p.input.size());
  p.filter_backprop.resize(p.filter.size());
  return p;
}

// Adds what tap (di, dj) of output channel e contributes at output (b, i, j).
void AddTap(Problem& p, int64_t b, int64_t i, int64_t j, int64_t e, int64_t di, int64_t dj) {
  const Geometry& g = p.geometry;
  const int64_t row = i * g.stride_height + di * g.dilation_height - g.pad_top;
  const int64_t column = j * g.stride_width + dj * g.dilation_width - g.pad_left;
  if (row < 0 || row >= g.in_height || column < 0 || column >= g.in_width) return;
  const size_t in = Offset(p.in, b, row, column, e / g.channel_multiplier);
  const size_t out = Offset(p.out, b, i, j, e);
  const auto tap = static_cast<size_t>((di * g.filter_width + dj) * g.OutputChannels() + e);
  p.output[out] += p.input[in] * p.filter[tap];
  p.input_backprop[in] += p.filter[tap] * p.out_backprop[out];
  p.filter_backprop[tap] += p.input[in] * p.out_backprop[out];
}

// Sets the output without a bias, and both gradients.
void Define(Problem& p) {
  const Geometry& g = p.geometry;
  for (int64_t b = 0; b < g.batch; ++b) {
    for (int64_t i = 0; i < g.out_height; ++i) {
      for (int64_t j = 0; j < g.out_width; ++j) {
        for (int64_t e = 0; e < g.OutputChannels(); ++e) {
          for (int64_t di = 0; di < g.filter_height; ++di) {
            for (int64_t dj = 0; dj < g.filter_width; ++dj) AddTap(p, b, i, j, e, di, dj);
          }
        }
      }
    }
  }
}

Numbers OutputWithBias(const Problem& p) {
  const Geometry& g = p.geometry;
  Numbers output = p.output;
  for (int64_t b = 0; b < g.batch; ++b) {
    for (int64_t i = 0; i < g.out_height; ++i) {
      for (int64_t j = 0; j < g.out_width; ++j) {
        for (int64_t e = 0; e < g.OutputChannels(); ++e) {
          output[Offset(p.out, b, i, j, e)] += p.bias[static_cast<size_t>(e)];
        }
      }
    }
  }
  return output;
}

// The filter as [channels, taps].
Numbers TransposedFilter(const Problem& p) {
  const auto channels = static_cast<size_t>(p.geometry.OutputChannels());
  const size_t taps = p.filter.size() / channels;
  Numbers transposed(p.filter.size());
  for (size_t i = 0; i < transposed.size(); ++i) {
    transposed[i] = p.filter[i % taps * channels + i / taps];
  }
  return transposed;
}

Array ToArray(DType dtype, const Numbers& numbers) {
  Array array(dtype, numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i) array.Set(i, numbers[i]);
  return array;
}

// Whether compute(to) writes just the expected numbers, and nothing around them, so many elements
// after the beginning of a cache line.
template <class Compute>
bool Writes(const char* name, DType dtype, const Numbers& expected, size_t offset,
            Compute compute) {
  constexpr size_t kGuard = 64;
  constexpr float kPoison = 77;
  const size_t begin = kGuard + offset, end = begin + expected.size();
  Array result = ToArray(dtype, Numbers(end + kGuard, kPoison));
  compute(result.At(begin));
  for (size_t i = 0; i < end + kGuard; ++i) {
    if ((i >= begin && i < end) || result.Equals(i, kPoison)) continue;
    std::printf("%s: a write outside the array\n", name);
    return false;
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    if (result.Equals(begin + i, expected[i])) continue;
    std::printf("%s: element %zu is wrong; %g is right\n", name, i,
                static_cast<double>(expected[i]));
    return false;
  }
  return true;
}

bool Check(Random& random, DType dtype, const Geometry& g) {
  Problem p = DrawProblem(random, g);
  Define(p);
  Array input = ToArray(dtype, p.input), filter = ToArray(dtype, p.filter);
  Array bias = ToArray(dtype, p.bias), out_backprop = ToArray(dtype, p.out_backprop);
  // The same filter with the taps of each channel together.
  const int64_t taps = g.filter_height * g.filter_width;
  Array taps_together = ToArray(dtype, TransposedFilter(p));
  const FilterStrides by_channels = DenseFilterStrides(g), by_taps{1, taps};
  const auto forward = [&](Array& array, FilterStrides strides, const void* bias_or_null) {
    return [&, strides, bias_or_null](void* to) {
      Forward(dtype, {g, input.At(0), p.in, array.At(0), strides, bias_or_null, to, p.out});
    };
  };
  const auto backprop_input = [&](Array& array, FilterStrides strides) {
    return [&, strides](void* to) {
      Forward(dtype,
              {Transposed(g), out_backprop.At(0), p.out, array.At(0), strides, nullptr, to, p.in});
    };
  };
  const size_t offset = Pick(random, 0, 1) != 0 ? static_cast<size_t>(Pick(random, 1, 63)) : 0;
  return Writes("output", dtype, p.output, offset, forward(filter, by_channels, nullptr)) &&
         Writes("output with bias", dtype, OutputWithBias(p), offset,
                forward(filter, by_channels, bias.At(0))) &&
         Writes("output, taps together", dtype, p.output, offset,
                forward(taps_together, by_taps, nullptr)) &&
         Writes("input_backprop", dtype, p.input_backprop, offset,
                backprop_input(filter, by_channels)) &&
         Writes("input_backprop, taps together", dtype, p.input_backprop, offset,
                backprop_input(taps_together, by_taps)) &&
         Writes("filter_backprop", dtype, p.filter_backprop, offset, [&](void* to) {
           FilterGradient(dtype, {g, input.At(0), p.in, out_backprop.At(0), p.out, to});
         });
}

void PrintFailure(const std::string& isa, DType dtype, const Geometry& g) {
  std::printf(
      "failed: %s dtype %d %s input %dx%dx%dx%d filter %dx%dx%d strides %d %d dilations %d %d "
      "padding %d %d threads %d assumed bytes %g\n",
      isa.c_str(), static_cast<int>(dtype), g.channels_last ? "NHWC" : "NCHW",
      static_cast<int>(g.batch), static_cast<int>(g.in_height), static_cast<int>(g.in_width),
      static_cast<int>(g.in_channels), static_cast<int>(g.filter_height),
      static_cast<int>(g.filter_width), static_cast<int>(g.channel_multiplier),
      static_cast<int>(g.stride_height), static_cast<int>(g.stride_width),
      static_cast<int>(g.dilation_height), static_cast<int>(g.dilation_width),
      static_cast<int>(g.pad_top), static_cast<int>(g.pad_left), GetNumThreads(), AssumedBytes());
}

int RunAll(int cases_each) {
  int cases = 0;
  for (const std::string& isa : SupportedIsas()) {
    SetIsa(isa);
    Random random(1);
    for (int i = 0; i < cases_each; ++i) {
      SetNumThreads(1 + i % 3);
      // Beyond no cache, the second-level one, the last-level one, all of them.
      constexpr double kAssumedMebibytes[] = {0, 4, 12, 64};
      SetAssumedBytes(kAssumedMebibytes[Pick(random, 0, 3)] * (1 << 20));
      const auto dtype = static_cast<DType>(i % kNumDTypes);
      const auto line = static_cast<int64_t>(64 / kElementSize[i % kNumDTypes]);
      const Geometry g = DrawGeometry(random, CurrentTable().lanes, line);
      ++cases;
      if (Check(random, dtype, g)) continue;
      PrintFailure(isa, dtype, g);
      return 1;
    }
    SetAssumedBytes(0);
    for (const bool channels_last : {false, true}) {
      cases += 2;
      if (!CheckTransform<float>(random, DType::kFloat32, channels_last) ||
          !CheckTransform<double>(random, DType::kFloat64, channels_last)) {
        std::printf("failed: %s transform %s\n", isa.c_str(), channels_last ? "NHWC" : "NCHW");
        return 1;
      }
    }
    for (int i = 0; i < cases_each; ++i) {
      ++cases;
      if (KeepsScratchSmall(random)) continue;
      std::printf("failed: %s scratch memory of draw %d\n", isa.c_str(), i);
      return 1;
    }
    std::printf("%s: %d cases right\n", isa.c_str(), 2 * cases_each + 4);
  }
  std::printf("%d passed, 0 failed\n", cases);
  return 0;
}

}  // namespace
}  // namespace depthwise

int main(int argc, char** argv) { return depthwise::RunAll(argc > 1 ? std::atoi(argv[1]) : 400); }
