// A strip of output rows of one vector of channels by Fourier transforms along the width, from
// packed rows to rows of outputs, [columns, lanes]. Used by transform.h, which packs and stores.
//
// A transform mixes all columns of a row, so that its rounding errors, and NaN, reach outputs whose
// own window has nothing to do with them. So every output is verified: it must be at least as large
// as what the errors could amount to, or the sum of the magnitudes of its products must be. Where
// it is not, the taps are added one by one.
#pragma once

#include "transform_memory.h"
#include "transform_shape.h"

namespace depthwise::DEPTHWISE_ISA {

// The error of an output is taken to be less than kNoise eps of the norms of all inputs and taps
// that it meets, and (kBias + kBiasOfTerm for each term of the longest sum) eps of the norm of its
// row. Measured on random data 0.15 to 0.4 of the first; on constant, smooth and alternating
// images, whose rounding errors have a common sign, up to 4.7 of the second. (The direct sum of
// 31x31 taps has 0.9 and 16 to 50.)
inline constexpr float kNoise = 0.5;
inline constexpr float kBias = 4, kBiasOfTerm = 1.0 / 16;

template <class A>
class TransformStrip {
 public:
  using V = Vec<A>;
  static constexpr int kCount = kLanes<A>;
  static constexpr int64_t kRows = kTransformRows;

  // Output rows [first, last) of a row residue, `window` units under the filter, of which
  // [unit_begin, unit_end) are inside the image and are packed.
  struct Rows {
    int64_t first, last, window;
    int64_t unit_begin, unit_end;
  };

  // The units under one window that are inside the image, from its first.
  struct Window {
    int64_t begin, end;
  };

  // Some neighbouring outputs of a column residue. Units are counted from the first of their
  // windows; of them [unit_begin, unit_end) are inside the image; unit 0 lies `offset` from the
  // start of a packed row.
  struct Columns {
    int64_t count;
    int64_t unit_begin, unit_end;
    int64_t offset, step;
  };

  TransformStrip(const TransformShape& shape, int64_t strip_columns, const Geometry& g, A* scratch)
      : memory(shape, strip_columns, g, scratch),
        g_(g),
        shape_(shape),
        transform_(shape_.quarter, shape_.inputs, shape_.outputs, memory.transform) {}

  // Transforms the taps, which lie packed at memory.taps.
  __attribute__((noinline)) void TransformFilter() {
    const Axis rows = RowAxis(g_, 0);
    Norms<A> all{};
    for (int64_t u = 0; u < rows.window; u += kRows) {
      Sequence<A> sequences[kRows];
      for (int row = 0; row < kRows; ++row) {
        sequences[row] = {memory.taps, kCount, 0, 0};
        if (u + row >= rows.window) continue;
        sequences[row] = {memory.taps + ((u + row) * g_.filter_width + shape_.tap_centre) * kCount,
                          kCount, shape_.tap_begin - shape_.tap_centre,
                          shape_.tap_end - shape_.tap_centre};
      }
      Norms<A> norms[kRows];
      transform_.Forward(sequences, norms, Min(kRows, rows.window - u), 3 * kCount,
                         3 * memory.filter_rows * kCount, memory.filter_spectrum + 3 * u * kCount);
      for (const Norms<A>& row : norms) all.Add(row);
    }
    filter_norms_ = all;
    are_multipliers_ = false;
  }

  // Computes the products of all output rows, in the frequencies, from the packed rows.
  void Convolve(const Ring<A>& ring, const Columns& columns, const Rows& rows) {
    TransformRows(ring, columns, rows);
    Multiply(rows);
  }

  // Computes the output rows [t, t + kRows) from their products. Of the last of a strip less than
  // kRows may count; all are written.
  __attribute__((noinline)) void Finish(const Ring<A>& ring, const Columns& columns,
                                        const Rows& rows, int64_t t, int64_t row_step,
                                        int64_t column_step, A* to) const {
    const int64_t centre = shape_.columns / 2;
    V squares[kRows];
    transform_.Inverse(memory.spectrum + 2 * (t - rows.first) * kCount,
                       2 * memory.spectrum_rows * kCount, to + centre * column_step, row_step,
                       column_step, -centre, columns.count - centre, squares);
    for (int64_t row = 0; row < Min(kRows, rows.last - t); ++row) {
      Verify(ring, rows, columns, t + row, squares[row], column_step, to + row * row_step);
    }
  }

  const TransformMemory<A> memory;

 private:
  // Computes the spectra of the packed rows, with kRows - 1 rows of zeros before and after them.
  __attribute__((noinline)) void TransformRows(const Ring<A>& ring, const Columns& columns,
                                               const Rows& rows) {
    const auto at = [&](int64_t f, int64_t row) DEPTHWISE_INLINE_LAMBDA {
      return memory.spectrum + 2 * (f * memory.spectrum_rows + memory.first_row + row) * kCount;
    };
    const int64_t count = rows.unit_end - rows.unit_begin;
    for (int64_t f = 0; f < 2 * shape_.quarter; ++f) {
      FillZero(at(f, 0), at(f, kRows - 1));
      FillZero(at(f, kRows - 1 + count), at(f, 2 * (kRows - 1) + count));
    }
    const int64_t centre = shape_.columns / 2 + shape_.tap_centre;
    for (int64_t i = 0; i < count; i += kRows) {
      Sequence<A> sequences[kRows];
      for (int row = 0; row < kRows; ++row) {
        sequences[row] = {memory.packed, columns.step, 0, 0};
        if (i + row >= count || columns.unit_begin >= columns.unit_end) continue;
        sequences[row] = {
            ring.Row(rows.unit_begin + i + row) + columns.offset + centre * columns.step,
            columns.step, columns.unit_begin - centre, columns.unit_end - centre};
      }
      Norms<A> norms[kRows];
      transform_.Forward(sequences, norms, Min(kRows, count - i), 2 * kCount,
                         2 * memory.spectrum_rows * kCount, at(0, kRows - 1 + i));
      for (int64_t row = 0; row < Min(kRows, count - i); ++row) memory.norms[i + row] = norms[row];
    }
  }

  // Sums the products of the filter's rows with those under them, at all frequencies.
  //
  // (a + ib)(c + id) by three multiplications, Gauss's way: of c(a+b), a(d-c) and b(c+d) the sums
  // over all rows are kept apart, and combined once.
  __attribute__((noinline)) void Multiply(const Rows& rows) {
    const int64_t first_unit = rows.unit_begin - (kRows - 1);  // in the spectra
    for (int64_t f = 0; f < 2 * shape_.quarter; ++f) {
      A* const spectrum = memory.spectrum + 2 * f * memory.spectrum_rows * kCount;
      A* const filter = memory.filter_spectrum + 3 * f * memory.filter_rows * kCount;
      if (!are_multipliers_) MakeMultipliers(filter, rows.window);
      A* to = spectrum;
      for (int64_t t = rows.first; t < rows.last; t += kRows, to += 2 * kRows * kCount) {
        const int64_t begin = Max(0, first_unit - t), end = Min(rows.window, rows.unit_end - t);
        MultiplyRows(spectrum + 2 * (memory.first_row + t + begin - first_unit) * kCount,
                     filter + 3 * begin * kCount, end - begin, to);
      }
    }
    are_multipliers_ = true;
  }

  // Makes what the products need of the filter's rows at one frequency: the conjugate c + id, since
  // tap v of an output at position m meets position m + v, as the three of c, d - c and c + d. Just
  // before they are needed: for all frequencies at a time, 31x31 took 3% longer.
  DEPTHWISE_INLINE void MakeMultipliers(A* at, int64_t rows) const {
    const A scale = A{1} / static_cast<A>(2 * shape_.quarter);
    for (int64_t u = 0; u < rows; ++u, at += 3 * kCount) {
      const V c = LoadUnaligned<V>(at) * scale, d = LoadUnaligned<V>(at + kCount) * -scale;
      StoreUnaligned(at, c);
      StoreUnaligned(at + kCount, d - c);
      StoreUnaligned(at + 2 * kCount, c + d);
    }
  }

  // One frequency of kRows output rows: the sum over u < taps of spectrum[u + row] * filter[u].
  static DEPTHWISE_INLINE void MultiplyRows(const A* spectrum, const A* filter, int64_t taps,
                                            A* to) {
    V sums[3][kRows] = {};
    V x[3][kRows];  // the next rows of the spectrum, in turn
    const auto load = [&](int64_t row, int slot) DEPTHWISE_INLINE_LAMBDA {
      x[0][slot] = LoadUnaligned<V>(spectrum + 2 * row * kCount);
      x[1][slot] = LoadUnaligned<V>(spectrum + (2 * row + 1) * kCount);
      x[2][slot] = x[0][slot] + x[1][slot];
    };
    const auto add = [&](const A* tap, int first_slot) DEPTHWISE_INLINE_LAMBDA {
      V c = LoadUnaligned<V>(tap), d_less_c = LoadUnaligned<V>(tap + kCount),
        c_and_d = LoadUnaligned<V>(tap + 2 * kCount);
      Pin(c);
      Pin(d_less_c);
      Pin(c_and_d);
#pragma GCC unroll 4
      for (int row = 0; row < kRows; ++row) {
        const int slot = (first_slot + row) % kRows;
        sums[0][row] += x[2][slot] * c;
        sums[1][row] += x[0][slot] * d_less_c;
        sums[2][row] += x[1][slot] * c_and_d;
      }
    };
    int64_t u = 0;
    if (taps >= kRows) {
#pragma GCC unroll 4
      for (int row = 0; row < kRows - 1; ++row) load(row, row);
      for (; u + kRows <= taps; u += kRows) {
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) {
          load(kRows - 1, (kRows - 1 + i) % kRows);
          add(filter, i);
          spectrum += 2 * kCount;
          filter += 3 * kCount;
        }
      }
    }
    for (; u < taps; ++u) {
#pragma GCC unroll 4
      for (int row = 0; row < kRows; ++row) load(row, row);
      add(filter, 0);
      spectrum += 2 * kCount;
      filter += 3 * kCount;
    }
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) {
      StoreUnaligned(to + 2 * row * kCount, sums[0][row] - sums[2][row]);
      StoreUnaligned(to + (2 * row + 1) * kCount, sums[0][row] + sums[1][row]);
    }
  }

  // Replaces what the transform may have got wrong of output row t, and adds the bias.
  //
  // Some taps of the middle, where filters are seldom small, are added for every output, since they
  // nearly always verify it: a branch to do so for those that need it is mispredicted often.
  // Neighbouring outputs look at the same taps and share what they load: one by one it took 30
  // cycles each, a sixth of the whole transform.
  DEPTHWISE_INLINE void Verify(const Ring<A>& ring, const Rows& rows, const Columns& columns,
                               int64_t t, V row_squares, int64_t column_step, A* output) const {
    const Window window{Max(0, rows.unit_begin - t), Min(rows.window, rows.unit_end - t)};
    const V least = LeastMagnitude(memory.norms + t - rows.unit_begin, window, row_squares);
    const V bias = LoadUnaligned<V>(memory.bias);
    const bool is_empty = window.begin >= window.end;
    const int64_t middle = is_empty ? 0 : (window.begin + window.end) / 2;
    const A* const row = is_empty ? nullptr : ring.Row(t + middle) + columns.offset;
    const A* const taps = memory.taps + middle * g_.filter_width * kCount;
    // The outputs [j, j + kOutputs), by the taps [v, v + kRun), if there is such a run.
    const auto verify = [&](auto together, int64_t j, int64_t v) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kOutputs = decltype(together)::value;
      A* const to = output + j * column_step;
      V magnitudes[kOutputs] = {};
      if (v >= 0) {
        AddMagnitudes(row + (j + v) * columns.step, columns.step, taps + v * kCount, magnitudes);
      }
      V values[kOutputs];
      V smallest = V{} + kLargest, not_finite{};
#pragma GCC unroll 4
      for (int i = 0; i < kOutputs; ++i) {
        values[i] = LoadUnaligned<V>(to + i * column_step);
        const V absolute = Abs(values[i]);
        // A magnitude that is NaN says nothing.
        const V bound = magnitudes[i] > absolute ? magnitudes[i] : absolute;
        smallest = bound < smallest ? bound : smallest;
        not_finite += values[i] * 0;
      }
      if (__builtin_expect(AnyLane(~((smallest >= least) & (not_finite == 0))), 0)) {
        for (int i = 0; i < kOutputs; ++i) {
          const V absolute = Abs(values[i]);
          const auto is_verified =
              ((absolute >= least) | (magnitudes[i] >= least)) & (absolute <= kLargest);
          if (!AnyLane(~is_verified)) continue;
          const V doubtful_least = is_verified ? V{} : least;
          values[i] = Recompute(ring, columns, t, window, j + i, doubtful_least, values[i]);
        }
      }
#pragma GCC unroll 4
      for (int i = 0; i < kOutputs; ++i) StoreUnaligned(to + i * column_step, values[i] + bias);
    };
    for (int64_t j = 0; j < columns.count;) {
      const bool are_left = j + kTogether <= columns.count;
      const int64_t run = are_left && !is_empty ? FirstOfRun(columns, j, kTogether) : -1;
      if (run >= 0) {
        verify(Size<kTogether>{}, j, run);
        j += kTogether;
      } else {
        verify(Size<1>{}, j, is_empty ? -1 : FirstOfRun(columns, j, 1));
        ++j;
      }
    }
  }

  // The first of kRun taps that all of so many outputs, from j on, have on the image, in the middle
  // of the filter if there are more; -1 if there are less.
  DEPTHWISE_INLINE int64_t FirstOfRun(const Columns& columns, int64_t j, int64_t outputs) const {
    const int64_t width = g_.filter_width;
    const int64_t begin = Max(0, columns.unit_begin - j);
    const int64_t end = Min(width, columns.unit_end - j - (outputs - 1));
    const int64_t v = Max(begin, Min(width / 2 - kRun / 2, end - kRun));
    return v + kRun <= end ? v : -1;
  }

  // Adds the magnitudes of kRun products to those of neighbouring outputs, from the same taps each;
  // `x` is what the first of them meets for the first output.
  template <int kOutputs>
  static DEPTHWISE_INLINE void AddMagnitudes(const A* x, int64_t step, const A* taps,
                                             V (&sums)[kOutputs]) {
    V of_taps[kRun];
#pragma GCC unroll 8
    for (int i = 0; i < kRun; ++i) of_taps[i] = Abs(LoadUnaligned<V>(taps + i * kCount));
#pragma GCC unroll 11
    for (int i = 0; i < kRun + kOutputs - 1; ++i, x += step) {
      const V of_input = Abs(LoadUnaligned<V>(x));
#pragma GCC unroll 4
      for (int output = 0; output < kOutputs; ++output) {
        if (output <= i && i - output < kRun) sums[output] += of_input * of_taps[i - output];
      }
    }
  }

  // The least magnitude of an output, or of the products that it sums, for the error of the
  // transform to be within the bound of the specification, (taps + 2) * eps * magnitude. `norms`
  // are those of the input rows under the window.
  V LeastMagnitude(const Norms<A>* norms, const Window& window, V row_squares) const {
    // Two sums, which do not wait for each other.
    Norms<A> input, others;
    int64_t u = window.begin;
    for (; u + 2 <= window.end; u += 2) {
      input.Add(norms[u]);
      others.Add(norms[u + 1]);
    }
    if (u < window.end) input.Add(norms[u]);
    input.Add(others);
    const Norms<A>& filter = filter_norms_;
    const auto taps = static_cast<A>(g_.filter_height * g_.filter_width);
    const auto longest_sum =
        static_cast<A>(window.end - window.begin + shape_.quarter + shape_.inputs / 2);
    const V noise = kNoise * Sqrt(input.squares) * Sqrt(filter.squares);
    const V bias = (kBias + kBiasOfTerm * longest_sum) * Sqrt(row_squares);
    V least = (noise + bias) / (taps + 2);
    // Squares that underflow say nothing: then nothing is trusted but zeros.
    const V infinity = V{} + static_cast<A>(__builtin_inf());
    least = input.squares < kSmallSquare ? infinity : least;
    least = filter.squares < kSmallSquare ? infinity : least;
    least = input.AreZeros() ? V{} : least;
    return filter.AreZeros() ? V{} : least;
  }

  // The output number j of row t by the definition, in the lanes where the transform's `value` is
  // not finite or where the products do not amount to `least`; `value` in the others.
  __attribute__((noinline)) V Recompute(const Ring<A>& ring, const Columns& columns, int64_t t,
                                        const Window& window, int64_t j, V least, V value) const {
    const int64_t width = g_.filter_width;
    const int64_t begin = Max(0, columns.unit_begin - j);
    const int64_t end = Min(width, columns.unit_end - j);
    // Calls visit(input, taps, count) for some neighbouring columns at a time, until it says true.
    const auto for_each_run = [&](int64_t u_begin, int64_t u_end, auto&& visit) {
      for (int64_t u = u_begin; u < u_end; ++u) {
        const A* x = ring.Row(t + u) + columns.offset + j * columns.step;
        const A* tap = memory.taps + u * width * kCount;
        for (int64_t v = begin; v < end; v += kRun) {
          if (visit(x + v * columns.step, tap + v * kCount, Min(kRun, end - v))) return true;
        }
      }
      return false;
    };
    // From the middle on: of random numbers a few taps are enough.
    V magnitude{};
    const auto is_finite = Abs(value) <= kLargest;
    const auto is_enough = [&](const A* x, const A* tap, int64_t count) {
      for (int64_t v = 0; v < count; ++v, x += columns.step, tap += kCount) {
        magnitude += Abs(LoadUnaligned<V>(x) * LoadUnaligned<V>(tap));
      }
      return !AnyLane(~(is_finite & (magnitude >= least)));
    };
    const int64_t middle = (window.begin + window.end) / 2;
    if (for_each_run(middle, window.end, is_enough) ||
        for_each_run(window.begin, middle, is_enough)) {
      return value;
    }
    // Row by row: where the taps are an image's gradient there are thousands of them.
    V sum{};
    for (int64_t u = window.begin; u < window.end; ++u) {
      const A* x = ring.Row(t + u) + columns.offset + (j + begin) * columns.step;
      const A* tap = memory.taps + (u * width + begin) * kCount;
      V row{};
      for (int64_t v = begin; v < end; ++v, x += columns.step, tap += kCount) {
        row += LoadUnaligned<V>(x) * LoadUnaligned<V>(tap);
      }
      sum += row;
    }
    return is_finite & (magnitude >= least) ? value : sum;
  }

  // Taps that are looked at together to verify an output, and outputs that are verified together.
  static constexpr int kRun = 8, kTogether = 4;
  static constexpr A kLargest = sizeof(A) == 4 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023;
  // Far above the least normal number, and far below the square of any number of interest.
  static constexpr A kSmallSquare = sizeof(A) == 4 ? 1e-30 : 1e-290;

  const Geometry& g_;
  const TransformShape& shape_;
  const WidthTransform<A> transform_;
  Norms<A> filter_norms_{};
  bool are_multipliers_ = false;  // the filter's spectrum, or as its rows were transformed
};

}  // namespace depthwise::DEPTHWISE_ISA
