// One valid depthwise convolution problem in plain integers: the same struct, with the same field
// names, as Geometry in src/depthwise/_geometry.py, and the arithmetic of one spatial axis.
// Everything here has internal linkage or is inlined by force: the header is compiled once per
// instruction set, and no inline function may be shared between them (see kernels.cc).
#pragma once

#include <cstdint>

namespace depthwise {

struct Geometry {
  int64_t batch;
  int64_t in_height, in_width, in_channels;
  int64_t filter_height, filter_width, channel_multiplier;
  int64_t stride_height, stride_width;
  int64_t dilation_height, dilation_width;
  int64_t pad_top, pad_left;
  int64_t out_height, out_width;
  bool channels_last;  // true: NHWC, false: NCHW
  // The input gradient is computed as a convolution of its own: see Transposed(). Then in_height,
  // in_width, out_height and out_width are those of that convolution, whose input is out_backprop
  // and whose output is the gradient; all else is as in the problem that it is the gradient of.
  bool transposed;

  __attribute__((always_inline)) int64_t InputChannels() const {
    return transposed ? in_channels * channel_multiplier : in_channels;
  }
  __attribute__((always_inline)) int64_t OutputChannels() const {
    return transposed ? in_channels : in_channels * channel_multiplier;
  }
};

// The problem of the input gradient: from the output's place to the input's.
static inline Geometry Transposed(Geometry g) {
  const Geometry forward = g;
  g.in_height = forward.out_height;
  g.in_width = forward.out_width;
  g.out_height = forward.in_height;
  g.out_width = forward.in_width;
  g.transposed = true;
  return g;
}

// Whether nothing happens along the width.
static inline bool IsOneColumn(const Geometry& g) {
  return g.in_width == 1 && g.out_width == 1 && g.filter_width == 1 && g.pad_left == 0;
}

__attribute__((always_inline)) static inline void Exchange(int64_t& a, int64_t& b) {
  const int64_t before = a;
  a = b;
  b = before;
}

// The same problem with height and width exchanged.
static inline Geometry Turned(Geometry g) {
  Exchange(g.in_height, g.in_width);
  Exchange(g.filter_height, g.filter_width);
  Exchange(g.stride_height, g.stride_width);
  Exchange(g.dilation_height, g.dilation_width);
  Exchange(g.pad_top, g.pad_left);
  Exchange(g.out_height, g.out_width);
  return g;
}

// Distances between neighbours of an array along each axis, in elements; may be zero or negative.
struct Strides {
  int64_t batch, row, column, channel;
};

static inline Strides Turned(const Strides& strides) {
  return {strides.batch, strides.column, strides.row, strides.channel};
}

// Of a filter, whose memory has no gaps: from tap to tap, (di, dj) in order, and from output
// channel to output channel. One of them is 1: [taps, channels] is what the public functions take,
// [channels, taps] the parameters of other libraries' layers.
struct FilterStrides {
  int64_t tap, channel;
};

// Those of a C-contiguous array, [filter_height, filter_width, in_channels, channel_multiplier].
static inline FilterStrides DenseFilterStrides(const Geometry& g) {
  return {g.in_channels * g.channel_multiplier, 1};
}

// Those of a C-contiguous array of images.
static inline Strides DenseStrides(const Geometry& g, int64_t height, int64_t width,
                                   int64_t channels) {
  if (g.channels_last) return {height * width * channels, width * channels, channels, 1};
  return {channels * height * width, width, 1, height * width};
}

static inline int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t Max(int64_t a, int64_t b) { return a > b ? a : b; }
// Quotient rounded up; b > 0, a of any sign. A division takes longer than it does to find that
// there is none, as for most strides and dilations: for small images an axis would take 18% of the
// time.
static inline int64_t CeilDiv(int64_t a, int64_t b) { return b == 1 ? a : a / b + (a % b > 0); }

// The same rounded down, of an a that is not negative. (g++ takes b == 1 ? a : a / b for a / b.)
static inline int64_t FloorDiv(int64_t a, int64_t b) {
  if (b > 1) a /= b;
  return a;
}

static inline int64_t GreatestCommonDivisor(int64_t a, int64_t b) {
  if (a == 1 || b == 1) return 1;
  while (b != 0) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

// The filter taps along one axis that an output meets: tap u of them is first + u * step of the
// filter. Those of the classes with lower numbers, `before` in all, are packed before them.
struct Taps {
  int64_t count, first, step, before;
};

// One spatial axis, seen as interleaved problems without dilation. Problem number `residue`
// computes the outputs residue + t * out_step, and its window walks the input in units of in_step:
// tap u of output t reads unit position t * stride + u, which is the input coordinate in_first + (t
// * stride + u) * in_step. Unit positions outside [unit_begin, unit_end) fall on padding.
//
// A forward problem has dilation / gcd(stride, dilation) residues, and all of them meet all taps.
// In a transposed one, output y meets tap d at input i if y + pad = i * stride + d * dilation: the
// residues of y modulo the stride meet different classes of taps (or none), the last tap first, and
// their stride is 1.
//
// Along the height a transposed problem with a channel multiplier has `planes` units for each input
// row: unit position p is row p / planes, and of the input channels that belong to an output
// channel the one with number p % planes.
struct Axis {
  int64_t out_first, out_step, out_count;
  int64_t in_first, in_step;
  int64_t stride;
  int64_t unit_begin, unit_end;
  int64_t window;  // units under the filter: taps.count, of each plane
  int64_t planes;
  Taps taps;

  __attribute__((always_inline)) int64_t InputCoordinate(int64_t unit) const {
    return ColumnCoordinate(FloorDiv(unit, planes));
  }
  // The same along the width, where there are no planes: to look for them in each tile took 5x5 of
  // 7x7 pixels in NCHW 5% longer.
  __attribute__((always_inline)) int64_t ColumnCoordinate(int64_t unit) const {
    return in_first + unit * in_step;
  }
};

// What an axis is made of; sizes and padding as in Geometry.
struct AxisSizes {
  int64_t in_size, out_size, filter_size, stride, dilation, pad_before;
  bool transposed;

  // How many of the residues have an output: a stride or dilation can exceed the output by far.
  __attribute__((always_inline)) int64_t Residues() const {
    const int64_t all = dilation / GreatestCommonDivisor(dilation, stride);
    return Min(transposed ? all * stride : all, Max(1, out_size));
  }
  // The distance between the taps of a class, which is also the number of classes.
  __attribute__((always_inline)) int64_t TapStep() const {
    return transposed ? stride / GreatestCommonDivisor(stride, dilation) : 1;
  }
  __attribute__((always_inline)) int64_t MaxTaps() const { return CeilDiv(filter_size, TapStep()); }
};

// The taps of class number `index`: every TapStep()-th from that one on; none if there are fewer.
static inline Taps TapsOf(const AxisSizes& sizes, int64_t index) {
  if (!sizes.transposed) return {sizes.filter_size, 0, 1, 0};
  const int64_t step = sizes.TapStep();
  if (step == 1) return {sizes.filter_size, sizes.filter_size - 1, -1, 0};
  if (index >= sizes.filter_size) return {0, 0, 0, sizes.filter_size};
  const int64_t count = CeilDiv(sizes.filter_size - index, step);
  return {count, index + (count - 1) * step, -step,
          index * (sizes.filter_size / step) + Min(index, sizes.filter_size % step)};
}

static inline Axis MakeAxis(const AxisSizes& sizes, int64_t residue) {
  const int64_t divisor = GreatestCommonDivisor(sizes.stride, sizes.dilation);
  Axis axis{};
  axis.out_first = residue;
  if (!sizes.transposed) {
    axis.out_step = FloorDiv(sizes.dilation, divisor);
    axis.in_first = residue * sizes.stride - sizes.pad_before;
    axis.in_step = sizes.dilation;
    axis.stride = FloorDiv(sizes.stride, divisor);
    axis.taps = TapsOf(sizes, 0);
  } else {
    const int64_t tap_step = sizes.stride / divisor;
    const int64_t origin = residue + sizes.pad_before;
    axis.out_step = sizes.dilation / divisor * sizes.stride;
    axis.in_step = sizes.dilation / divisor;
    axis.stride = 1;
    if (divisor == 1 || origin % divisor == 0) {
      // The smallest tap that any input of this residue meets.
      int64_t first_tap = tap_step == 1 ? 0 : origin / divisor % tap_step;
      if (axis.in_step > 1 && tap_step > 1) {
        first_tap = 0;
        while (first_tap < sizes.filter_size &&
               (origin - first_tap * sizes.dilation) % sizes.stride != 0) {
          ++first_tap;
        }
      }
      axis.taps = TapsOf(sizes, first_tap);
      if (axis.taps.count > 0) {
        axis.in_first = CeilDiv(origin - first_tap * sizes.dilation, sizes.stride) -
                        (axis.taps.count - 1) * axis.in_step;
      }
    }
  }
  axis.window = axis.taps.count;
  axis.planes = 1;
  axis.out_count = residue < sizes.out_size ? CeilDiv(sizes.out_size - residue, axis.out_step) : 0;
  axis.unit_begin = Max(0, CeilDiv(-axis.in_first, axis.in_step));
  axis.unit_end = Max(axis.unit_begin, CeilDiv(sizes.in_size - axis.in_first, axis.in_step));
  return axis;
}

static inline AxisSizes RowSizes(const Geometry& g) {
  return {g.in_height,       g.out_height, g.filter_height, g.stride_height,
          g.dilation_height, g.pad_top,    g.transposed};
}

static inline AxisSizes ColumnSizes(const Geometry& g) {
  return {g.in_width,       g.out_width, g.filter_width, g.stride_width,
          g.dilation_width, g.pad_left,  g.transposed};
}

static inline int64_t RowResidues(const Geometry& g) { return RowSizes(g).Residues(); }

static inline int64_t ColumnResidues(const Geometry& g) { return ColumnSizes(g).Residues(); }

static inline Axis RowAxis(const Geometry& g, int64_t residue) {
  Axis axis = MakeAxis(RowSizes(g), residue);
  if (g.transposed) {
    axis.planes = g.channel_multiplier;
    axis.stride *= axis.planes;
    axis.unit_begin *= axis.planes;
    axis.unit_end *= axis.planes;
    axis.window *= axis.planes;
  }
  return axis;
}

static inline Axis ColumnAxis(const Geometry& g, int64_t residue) {
  return MakeAxis(ColumnSizes(g), residue);
}

// Input columns [begin, end) hold all that output columns [first, last) need, and more.
struct ColumnRange {
  int64_t begin, end;
};

static inline ColumnRange InputColumnsOf(const Geometry& g, int64_t first, int64_t last) {
  const int64_t reach = (g.filter_width - 1) * g.dilation_width;
  if (!g.transposed) {
    return {first * g.stride_width - g.pad_left,
            (last - 1) * g.stride_width - g.pad_left + reach + 1};
  }
  const int64_t begin = CeilDiv(first + g.pad_left - reach, g.stride_width);
  return {begin, Max(begin, (last - 1 + g.pad_left) / g.stride_width + 1)};
}

// An upper bound of their number for `columns` output columns.
static inline int64_t MaxInputColumns(const Geometry& g, int64_t columns) {
  const int64_t reach = (g.filter_width - 1) * g.dilation_width;
  return g.transposed ? (columns - 1 + reach) / g.stride_width + 1
                      : (columns - 1) * g.stride_width + reach + 1;
}

}  // namespace depthwise
