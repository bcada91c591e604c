// A real Fourier transform along the width of packed rows, [columns, lanes], whose vectors are
// channels: a convolution of rows becomes a product for each frequency. Used by transform.h.
//
// Frequency f of a transform of length L is (f + 1/2) / L, for f < L / 2. So L real numbers have
// L / 2 complex ones as their spectrum, and none of these needs a case of its own, as those at
// frequencies 0 and L / 2 would. (What the convolution wraps around comes back with its sign
// changed; it must fall where nobody reads.)
//
// The transform is a dense product with cosines and sines, folded twice:
//   position -n has the cosine of n, and its sine with the sign changed;
//   frequency L / 2 - 1 - f has the cosine of f times (-1)^n, and its sine times -(-1)^n.
// That leaves L / 4 multiply-adds for each position: 18 for a row of 56 and a filter of 31 taps.
#pragma once

#include "simd.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Rows that are transformed together share the loads of coefficients, and results those of data: 3
// results of 4 rows are 12 sums for even and 12 for odd positions of 32 registers, 2 rows for 16.
inline constexpr int kTransformRows = kManyRegisters ? 4 : 2;
inline constexpr int kTransformResults = 3;

// A row as a sequence: `origin` is at position 0, `step` elements lie between neighbours; those at
// positions [begin, end) are there, all others are zero.
template <class A>
struct Sequence {
  const A* origin;
  int64_t step, begin, end;
};

// The sum of the squares of a sequence, and all bits of its elements.
template <class A>
struct Norms {
  using Bits = decltype(Vec<A>{} < Vec<A>{});
  Vec<A> squares{};
  Bits bits{};

  DEPTHWISE_INLINE void Add(const Norms& other) {
    squares += other.squares;
    bits |= other.bits;
  }
  // The lanes in which all elements are zero. (Squares of small numbers are zero, too.)
  DEPTHWISE_INLINE Bits AreZeros() const { return Abs(reinterpret_cast<Vec<A>>(bits)) == 0; }
};

template <class A>
class WidthTransform {
 public:
  using V = Vec<A>;
  static constexpr int kCount = kLanes<A>;
  static constexpr int kRows = kTransformRows;

  // Elements of memory for a transform of length 4 * quarter, of sequences at positions less than
  // `inputs` from 0, which gives results at positions less than `outputs` from 0.
  static double MemorySize(double quarter, double inputs, double outputs) {
    const double tables = 8 * quarter + 2 * quarter * (inputs + outputs) + kCount;
    return tables + kRows * kCount * (2 * inputs > 4 * quarter ? 2 * inputs : 4 * quarter);
  }

  // Computes the tables, to `memory`, which is aligned to vectors.
  WidthTransform(int64_t quarter, int64_t inputs, int64_t outputs, A* memory)
      : quarter_(quarter), inputs_(inputs), outputs_(outputs) {
    folded_ = memory;
    A* const cosines = folded_ + kRows * kCount * Max(2 * inputs, 4 * quarter);
    forward_ = cosines + 8 * quarter;
    inverse_ = forward_ + 2 * quarter * inputs;
    constexpr double kPi = 3.14159265358979323846;
    const int64_t half_turn = 4 * quarter, turn = 2 * half_turn, right_angle = 2 * quarter;
    // Of all angles from those of at most 45 degrees: of larger ones the rounding alone would show
    // in float64.
    for (int64_t i = 0; i <= right_angle; ++i) {
      const int64_t least = Min(i, right_angle - i);
      const double angle = kPi * static_cast<double>(least) / static_cast<double>(half_turn);
      const auto value = static_cast<A>(least == i ? __builtin_cos(angle) : __builtin_sin(angle));
      cosines[half_turn - i] = cosines[half_turn + i] = -value;
      cosines[i] = cosines[(turn - i) % turn] = value;
    }
    // Appends the cosines of `rows` sequences of `count` angles: from row to row the first angle
    // grows by row_step, the step between those of a row by step_growth. By additions: with
    // multiples of angles, which need divisions, and a cosine for each angle of the turn, the
    // tables of a 31x31 filter's gradient on 28x28 pixels took 5.6 us instead of 1.4, 8% of all of
    // it.
    const auto plus = [&](int64_t angle, int64_t step) {
      return angle + step < turn ? angle + step : angle + step - turn;
    };
    const auto append = [&](A*& to, int64_t rows, int64_t angle, int64_t row_step, int64_t step,
                            int64_t step_growth, int64_t count) {
      for (int64_t row = 0; row < rows; ++row, angle = plus(angle, row_step), step += step_growth) {
        int64_t at = angle;
        for (int64_t i = 0; i < count; ++i, at = plus(at, step)) *to++ = cosines[at];
      }
    };
    // From the cosine of an angle to its sine, and to that with the sign changed.
    const int64_t sine = 3 * right_angle, minus_sine = right_angle;
    A* to = forward_;
    ForEachBlock(quarter, [&](auto size, int64_t first) {
      // Position n at frequency f: angle n * (2 f + 1).
      append(to, inputs, 0, 2 * first + 1, 0, 2, decltype(size)::value);
      append(to, inputs, minus_sine, 2 * first + 1, 0, 2, decltype(size)::value);
    });
    to = inverse_;
    for (int parity = 0; parity < 2; ++parity) {
      ForEachBlock((outputs + 1 - parity) / 2, [&](auto size, int64_t first) {
        const int64_t position = 2 * first + parity;
        append(to, quarter, position, 2 * position, 2, 4, decltype(size)::value);
        append(to, quarter, plus(position, sine), 2 * position, 2, 4, decltype(size)::value);
      });
    }
  }

  // Transforms kRows sequences: the sum over n of x[n] * exp(-2 pi i n (f + 1/2) / L). The real
  // part at frequency f of the first `rows_used` goes to `to` + f * frequency_step + row *
  // row_step, the imaginary part behind it.
  __attribute__((noinline)) void Forward(const Sequence<A> (&rows)[kRows], Norms<A> (&norms)[kRows],
                                         int64_t rows_used, int64_t row_step,
                                         int64_t frequency_step, A* to) const {
    A* const even = folded_;
    A* const odd = folded_ + inputs_ * kRows * kCount;
    // Beyond that positions are zero in all rows: taps reach less far than an image.
    int64_t reach = 0;
    for (const Sequence<A>& row : rows) reach = Max(reach, Max(row.end, 1 - row.begin));
    for (int row = 0; row < kRows; ++row) {
      norms[row] = Fold(rows[row], reach, even + row * kCount, odd + row * kCount);
    }
    const A* table = forward_;
    ForEachBlock(quarter_, [&](auto size, int64_t first) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kSize = decltype(size)::value;
      // One after the other: the sums of both would not fit into the registers.
      for (int imaginary = 0; imaginary < 2; ++imaginary) {
        V sums[2][kSize][kRows] = {};  // of even and of odd positions
        AddAlternating(imaginary == 0 ? even : odd, table, reach, sums);
        table += inputs_ * kSize;
        const A sign = imaginary == 0 ? 1 : -1;
#pragma GCC unroll 3
        for (int i = 0; i < kSize; ++i) {
          A* low = to + (first + i) * frequency_step + imaginary * kCount;
          A* high = to + (2 * quarter_ - 1 - first - i) * frequency_step + imaginary * kCount;
#pragma GCC unroll 4
          for (int row = 0; row < kRows; ++row, low += row_step, high += row_step) {
            if (row >= rows_used) break;
            StoreUnaligned(low, sums[0][i][row] + sums[1][i][row]);
            StoreUnaligned(high, (sums[0][i][row] - sums[1][i][row]) * sign);
          }
        }
      }
    });
  }

  // The other way for kRows rows: the sum over f of the real parts of Y[f] * exp(2 pi i m (f + 1/2)
  // / L). Y[f] is read from `from` + f * frequency_step, [row][real, imaginary]; the result at
  // position m goes to `to` + row * row_step + m * step, for m in [begin, end), which are less than
  // `outputs` from 0. `squares` are the sums over f of |Y[f]|^2.
  __attribute__((noinline)) void Inverse(const A* from, int64_t frequency_step, A* to,
                                         int64_t row_step, int64_t step, int64_t begin, int64_t end,
                                         V (&squares)[kRows]) const {
    // [parity of m][cosine, sine][f][row]
    const auto folded = [&](int parity, int sine) {
      return folded_ + (2 * parity + sine) * quarter_ * kRows * kCount;
    };
    V sums_of_squares[kRows] = {};
    for (int64_t f = 0; f < quarter_; ++f) {
      const A* low = from + f * frequency_step;
      const A* high = from + (2 * quarter_ - 1 - f) * frequency_step;
#pragma GCC unroll 4
      for (int row = 0; row < kRows; ++row, low += 2 * kCount, high += 2 * kCount) {
        const V real = LoadUnaligned<V>(low), imaginary = LoadUnaligned<V>(low + kCount);
        const V high_real = LoadUnaligned<V>(high),
                high_imaginary = LoadUnaligned<V>(high + kCount);
        sums_of_squares[row] += real * real;
        sums_of_squares[row] += imaginary * imaginary;
        sums_of_squares[row] += high_real * high_real;
        sums_of_squares[row] += high_imaginary * high_imaginary;
        const int64_t offset = (f * kRows + row) * kCount;
        StoreUnaligned(folded(0, 0) + offset, real + high_real);
        StoreUnaligned(folded(0, 1) + offset, imaginary - high_imaginary);
        StoreUnaligned(folded(1, 0) + offset, real - high_real);
        StoreUnaligned(folded(1, 1) + offset, imaginary + high_imaginary);
      }
    }
    for (int row = 0; row < kRows; ++row) squares[row] = sums_of_squares[row];
    const A* table = inverse_;
    for (int parity = 0; parity < 2; ++parity) {
      const auto block = [&](auto size, int64_t first) DEPTHWISE_INLINE_LAMBDA {
        constexpr int kSize = decltype(size)::value;
        V sums[2][kSize][kRows] = {};  // of cosines and of sines
        AddProducts<kSize>({folded(parity, 0), table},
                           {folded(parity, 1), table + quarter_ * kSize}, kRows * kCount, kSize,
                           quarter_, sums);
        table += 2 * quarter_ * kSize;
#pragma GCC unroll 3
        for (int i = 0; i < kSize; ++i) {
          const int64_t m = 2 * (first + i) + parity;
          const bool is_wanted = begin <= m && m < end, is_mirror_wanted = begin <= -m && -m < end;
          A* at = to + m * step;
          A* mirror = to - m * step;
#pragma GCC unroll 4
          for (int row = 0; row < kRows; ++row, at += row_step, mirror += row_step) {
            if (is_wanted) StoreUnaligned(at, sums[0][i][row] - sums[1][i][row]);
            if (is_mirror_wanted) StoreUnaligned(mirror, sums[0][i][row] + sums[1][i][row]);
          }
        }
      };
      ForEachBlock((outputs_ + 1 - parity) / 2, block);
    }
  }

 private:
  // Calls compute(Size<size>, first) for blocks of at most kTransformResults of `count` results.
  template <class Compute>
  static DEPTHWISE_INLINE void ForEachBlock(int64_t count, Compute&& compute) {
    static_assert(kTransformResults == 3);
    int64_t first = 0;
    for (; first + 3 <= count; first += 3) compute(Size<3>{}, first);
    if (count - first == 2) compute(Size<2>{}, first);
    if (count - first == 1) compute(Size<1>{}, first);
  }

  // Stores x[n] + x[-n] to even[n] and x[n] - x[-n] to odd[n], kRows vectors apart, for n < reach.
  static DEPTHWISE_INLINE Norms<A> Fold(const Sequence<A>& x, int64_t reach, A* even, A* odd) {
    // Two sums of squares, for no element to wait for its mirror's: with one, to fold took a fifth
    // of the whole forward transform.
    Norms<A> norms, mirror_norms;
    const auto fold = [&](int64_t n, bool is_there, bool is_mirror_there) DEPTHWISE_INLINE_LAMBDA {
      V a{}, b{};
      if (is_there) a = LoadUnaligned<V>(x.origin + n * x.step);
      if (is_mirror_there) b = LoadUnaligned<V>(x.origin - n * x.step);
      norms.squares += a * a;
      mirror_norms.squares += b * b;
      using Bits = typename Norms<A>::Bits;
      norms.bits |= reinterpret_cast<Bits>(a) | reinterpret_cast<Bits>(b);
      StoreUnaligned(even + n * kRows * kCount, a + b);
      StoreUnaligned(odd + n * kRows * kCount, a - b);
    };
    fold(0, x.begin <= 0 && 0 < x.end, false);
    int64_t n = 1;
    // Most positions are there on both sides of 0.
    const int64_t begin = Max(1, Max(x.begin, 1 - x.end));
    const int64_t end = Min(reach, Min(x.end, 1 - x.begin));
    const auto is_there = [&](int64_t position) { return x.begin <= position && position < x.end; };
    for (; n < Min(begin, reach); ++n) fold(n, is_there(n), is_there(-n));
    for (; n < end; ++n) fold(n, true, true);
    for (; n < reach; ++n) fold(n, is_there(n), is_there(-n));
    norms.Add(mirror_norms);
    return norms;
  }

  // One stream of products: `terms` rows of data, [kRows], and as many of coefficients.
  struct Products {
    const A* data;
    const A* table;

    template <int kSize>
    DEPTHWISE_INLINE void Add(V (&sums)[kSize][kRows]) const {
      V x[kRows];
#pragma GCC unroll 4
      for (int row = 0; row < kRows; ++row) {
        x[row] = LoadUnaligned<V>(data + row * kCount);
        Pin(x[row]);
      }
#pragma GCC unroll 3
      for (int i = 0; i < kSize; ++i) {
        V coefficient = table[i] - V{};
#pragma GCC unroll 4
        for (int row = 0; row < kRows; ++row) sums[i][row] += coefficient * x[row];
      }
    }
  };

  // Adds `terms` products of two streams at a time: with one, the sums of 2 rows would be too few
  // to fill the pipelines.
  template <int kSize>
  static DEPTHWISE_INLINE void AddProducts(Products a, Products b, int64_t data_step,
                                           int64_t table_step, int64_t terms,
                                           V (&sums)[2][kSize][kRows]) {
    for (int64_t t = 0; t < terms; ++t) {
      a.Add(sums[0]);
      b.Add(sums[1]);
      a.data += data_step;
      a.table += table_step;
      b.data += data_step;
      b.table += table_step;
    }
  }

  // sums[0] += the sum over even n < terms of table[n] * data[n], sums[1] += that over odd n.
  template <int kSize>
  static DEPTHWISE_INLINE void AddAlternating(const A* data, const A* table, int64_t terms,
                                              V (&sums)[2][kSize][kRows]) {
    constexpr int64_t kStep = kRows * kCount;
    AddProducts({data, table}, {data + kStep, table + kSize}, 2 * kStep, 2 * kSize, terms / 2,
                sums);
    const int64_t last = terms - 1;
    if (last % 2 == 0) Products{data + last * kStep, table + last * kSize}.Add(sums[0]);
  }

  int64_t quarter_, inputs_, outputs_;
  A* folded_;
  A* forward_;  // [block of frequencies][cosine, -sine][n][f]
  A* inverse_;  // [parity of m][block of positions][cosine, sine][f][m]
};

}  // namespace depthwise::DEPTHWISE_ISA
