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

  __attribute__((always_inline)) int64_t OutChannels() const {
    return in_channels * channel_multiplier;
  }
};

// Distances between neighbours of an array along each axis, in elements; may be zero or negative.
struct Strides {
  int64_t batch, row, column, channel;
};

static inline int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t Max(int64_t a, int64_t b) { return a > b ? a : b; }
// Quotient rounded up; b > 0, a of any sign.
static inline int64_t CeilDiv(int64_t a, int64_t b) { return a / b + (a % b > 0); }

static inline int64_t GreatestCommonDivisor(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

// One spatial axis of a dilated problem, seen as `Residues()` interleaved problems without
// dilation. Problem number `residue` computes the outputs residue + t * out_step, and its window
// walks the input in units of the dilation: tap d of output t reads unit position t * stride + d,
// which is the input coordinate in_first + (t * stride + d) * in_step. Unit positions outside
// [unit_begin, unit_end) fall on padding.
struct Axis {
  int64_t out_first, out_step, out_count;
  int64_t in_first, in_step;
  int64_t stride;
  int64_t unit_begin, unit_end;

  __attribute__((always_inline)) int64_t InputCoordinate(int64_t unit) const {
    return in_first + unit * in_step;
  }
};

static inline int64_t Residues(int64_t stride, int64_t dilation) {
  return dilation / GreatestCommonDivisor(dilation, stride);
}

static inline Axis MakeAxis(int64_t in_size, int64_t out_size, int64_t stride, int64_t dilation,
                            int64_t pad_before, int64_t residue) {
  Axis axis;
  axis.out_first = residue;
  axis.out_step = Residues(stride, dilation);
  axis.out_count = residue < out_size ? CeilDiv(out_size - residue, axis.out_step) : 0;
  axis.in_first = residue * stride - pad_before;
  axis.in_step = dilation;
  axis.stride = stride * axis.out_step / dilation;
  axis.unit_begin = Max(0, CeilDiv(-axis.in_first, dilation));
  axis.unit_end = Max(axis.unit_begin, CeilDiv(in_size - axis.in_first, dilation));
  return axis;
}

// How many of the residues have an output: a dilation can exceed the output by far.
static inline int64_t RowResidues(const Geometry& g) {
  return Min(Residues(g.stride_height, g.dilation_height), Max(1, g.out_height));
}

static inline int64_t ColumnResidues(const Geometry& g) {
  return Min(Residues(g.stride_width, g.dilation_width), Max(1, g.out_width));
}

static inline Axis RowAxis(const Geometry& g, int64_t residue) {
  return MakeAxis(g.in_height, g.out_height, g.stride_height, g.dilation_height, g.pad_top,
                  residue);
}

static inline Axis ColumnAxis(const Geometry& g, int64_t residue) {
  return MakeAxis(g.in_width, g.out_width, g.stride_width, g.dilation_width, g.pad_left, residue);
}

}  // namespace depthwise
