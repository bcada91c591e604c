// A self-test without Python: every kernel of every instruction set of this machine against the
// definition, on small signed integers, whose sums are exact in every dtype. For targets that are
// cross-compiled and emulated, and for sanitizer builds. Prints the number of cases; exits with 1
// at the first wrong element or the first write outside the output.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "dispatch.h"
#include "parallel.h"

namespace depthwise {
namespace {

uint16_t ToHalf(float value) {  // of an integer below 2048 in magnitude
  if (value == 0) return 0;
  int exponent;
  const float fraction = std::frexp(std::fabs(value), &exponent);
  const int mantissa = static_cast<int>(fraction * 2048) - 1024;
  return static_cast<uint16_t>((value < 0 ? 0x8000 : 0) | (exponent + 14) << 10 | mantissa);
}

uint16_t ToBFloat16(float value) {  // of an integer below 256 in magnitude
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>(bits >> 16);
}

// An array of one of the four dtypes, filled with or compared to plain numbers.
class Array {
 public:
  Array(DType dtype, size_t count) : dtype_(dtype), bytes_(count * ElementSize()) {}

  size_t ElementSize() const {
    return dtype_ == DType::kFloat64 ? 8 : dtype_ == DType::kFloat32 ? 4 : 2;
  }
  std::byte* At(size_t i) { return bytes_.data() + i * ElementSize(); }

  void Set(size_t i, float value) {
    switch (dtype_) {
      case DType::kFloat32: Write(i, value); break;
      case DType::kFloat64: Write(i, static_cast<double>(value)); break;
      case DType::kFloat16: Write(i, ToHalf(value)); break;
      case DType::kBFloat16: Write(i, ToBFloat16(value)); break;
    }
  }
  bool Equals(size_t i, float value) {
    Array expected(dtype_, 1);
    expected.Set(0, value);
    return std::memcmp(At(i), expected.At(0), ElementSize()) == 0;
  }

 private:
  template <class T>
  void Write(size_t i, T value) {
    std::memcpy(At(i), &value, sizeof value);
  }

  DType dtype_;
  std::vector<std::byte> bytes_;
};

using Random = std::mt19937;

int64_t Pick(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

Geometry DrawGeometry(Random& random, int64_t lanes) {
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
  const int64_t kind = Pick(random, 0, 2);
  if (kind == 1) {
    g.stride_height = Pick(random, 1, 3);
    g.stride_width = Pick(random, 1, 4);
  } else if (kind == 2) {
    g.dilation_height = Pick(random, 1, 3);
    g.dilation_width = Pick(random, 1, 4);
  }
  g.pad_top = Pick(random, 0, 4);
  g.pad_left = Pick(random, 0, 4);
  const auto out_size = [&](int64_t in, int64_t before, int64_t after, int64_t filter,
                            int64_t dilation, int64_t stride) {
    const int64_t rest = in + before + after - ((filter - 1) * dilation + 1);
    return rest < 0 ? 0 : rest / stride + 1;
  };
  g.out_height = out_size(g.in_height, g.pad_top, Pick(random, 0, 4), g.filter_height,
                          g.dilation_height, g.stride_height);
  g.out_width = out_size(g.in_width, g.pad_left, Pick(random, 0, 4), g.filter_width,
                         g.dilation_width, g.stride_width);
  return g;
}

Strides ContiguousStrides(bool channels_last, int64_t height, int64_t width, int64_t channels) {
  if (channels_last) return {height * width * channels, width * channels, channels, 1};
  return {channels * height * width, width, 1, height * width};
}

size_t Offset(const Strides& s, int64_t b, int64_t i, int64_t j, int64_t c) {
  return static_cast<size_t>(b * s.batch + i * s.row + j * s.column + c * s.channel);
}

// Inputs are from -1 to 1, taps from -3 to 3: sums of at most 8 * 8 taps stay below 256, and so
// are exact even in bfloat16.
struct Numbers {
  std::vector<float> input, filter;
};

float Definition(const Geometry& g, const Numbers& numbers, const Strides& in, int64_t b, int64_t i,
                 int64_t j, int64_t e) {
  float sum = 0;
  for (int64_t di = 0; di < g.filter_height; ++di) {
    for (int64_t dj = 0; dj < g.filter_width; ++dj) {
      const int64_t row = i * g.stride_height + di * g.dilation_height - g.pad_top;
      const int64_t column = j * g.stride_width + dj * g.dilation_width - g.pad_left;
      if (row < 0 || row >= g.in_height || column < 0 || column >= g.in_width) continue;
      sum += numbers.input[Offset(in, b, row, column, e / g.channel_multiplier)] *
             numbers.filter[static_cast<size_t>((di * g.filter_width + dj) * g.OutputChannels() + e)];
    }
  }
  return sum;
}

bool Check(Random& random, DType dtype, const Geometry& g) {
  constexpr size_t kGuard = 64;
  constexpr float kPoison = 77;
  const Strides in = ContiguousStrides(g.channels_last, g.in_height, g.in_width, g.in_channels);
  const Strides out =
      ContiguousStrides(g.channels_last, g.out_height, g.out_width, g.OutputChannels());
  const size_t in_count = static_cast<size_t>(g.batch * in.batch);
  const size_t out_count = static_cast<size_t>(g.batch * out.batch);
  const size_t filter_count =
      static_cast<size_t>(g.filter_height * g.filter_width * g.OutputChannels());

  Numbers numbers{std::vector<float>(in_count), std::vector<float>(filter_count)};
  Array input(dtype, in_count), filter(dtype, filter_count);
  Array output(dtype, out_count + 2 * kGuard);
  for (size_t i = 0; i < in_count; ++i) {
    numbers.input[i] = static_cast<float>(Pick(random, -1, 1));
    input.Set(i, numbers.input[i]);
  }
  for (size_t i = 0; i < filter_count; ++i) {
    numbers.filter[i] = static_cast<float>(Pick(random, -3, 3));
    filter.Set(i, numbers.filter[i]);
  }
  for (size_t i = 0; i < out_count + 2 * kGuard; ++i) output.Set(i, kPoison);

  Forward(dtype, {g, input.At(0), in, filter.At(0), output.At(kGuard), out});

  for (size_t i = 0; i < kGuard; ++i) {
    if (!output.Equals(i, kPoison) || !output.Equals(kGuard + out_count + i, kPoison)) {
      std::printf("a write outside the output\n");
      return false;
    }
  }
  for (int64_t b = 0; b < g.batch; ++b) {
    for (int64_t i = 0; i < g.out_height; ++i) {
      for (int64_t j = 0; j < g.out_width; ++j) {
        for (int64_t e = 0; e < g.OutputChannels(); ++e) {
          const float expected = Definition(g, numbers, in, b, i, j, e);
          if (output.Equals(kGuard + Offset(out, b, i, j, e), expected)) continue;
          std::printf("wrong at b=%d i=%d j=%d channel=%d; %g is right\n", static_cast<int>(b),
                      static_cast<int>(i), static_cast<int>(j), static_cast<int>(e),
                      static_cast<double>(expected));
          return false;
        }
      }
    }
  }
  return true;
}

int RunAll(int cases_each) {
  int cases = 0;
  for (const std::string& isa : SupportedIsas()) {
    SetIsa(isa);
    Random random(1);
    for (int i = 0; i < cases_each; ++i) {
      SetNumThreads(1 + i % 3);
      const Geometry g = DrawGeometry(random, CurrentTable().lanes);
      const DType dtype = static_cast<DType>(i % kNumDTypes);
      ++cases;
      if (Check(random, dtype, g)) continue;
      std::printf(
          "failed: %s dtype %d %s input %dx%dx%dx%d filter %dx%dx%d strides %d %d dilations %d %d "
          "padding %d %d\n",
          isa.c_str(), static_cast<int>(dtype), g.channels_last ? "NHWC" : "NCHW",
          static_cast<int>(g.batch), static_cast<int>(g.in_height), static_cast<int>(g.in_width),
          static_cast<int>(g.in_channels), static_cast<int>(g.filter_height),
          static_cast<int>(g.filter_width), static_cast<int>(g.channel_multiplier),
          static_cast<int>(g.stride_height), static_cast<int>(g.stride_width),
          static_cast<int>(g.dilation_height), static_cast<int>(g.dilation_width),
          static_cast<int>(g.pad_top), static_cast<int>(g.pad_left));
      return 1;
    }
    std::printf("%s: %d cases right\n", isa.c_str(), cases_each);
  }
  std::printf("%d passed, 0 failed\n", cases);
  return 0;
}

}  // namespace
}  // namespace depthwise

int main(int argc, char** argv) { return depthwise::RunAll(argc > 1 ? std::atoi(argv[1]) : 400); }
