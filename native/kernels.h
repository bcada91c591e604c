// What an instruction set offers: one table of plain functions. dispatch.cc calls nothing else.
#pragma once

#include <cstddef>
#include <cstdint>

#include "geometry.h"

namespace depthwise {

// Same order and values as DTYPE_CODES in src/depthwise/_kernels.py.
enum class DType : int { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBFloat16 = 3 };
constexpr int kNumDTypes = 4;
constexpr size_t kElementSize[kNumDTypes] = {4, 8, 2, 2};

// Arrays of one forward call, or of one input gradient if the geometry is transposed (then `input`
// is out_backprop and `output` the gradient). `filter` has no gaps; `input` has any strides;
// `bias`, one element for each output channel that is added to its sums, is contiguous or null;
// `output` is C-contiguous in the order of geometry.channels_last, or some columns of such an
// array, and overlaps none of them.
struct ForwardProblem {
  Geometry geometry;
  const void* input;
  Strides input_strides;
  const void* filter;
  FilterStrides filter_strides;
  const void* bias;
  void* output;
  Strides output_strides;
};

enum class Algorithm : int {
  kDirect,        // direct.h: NHWC in place
  kBlock,         // block.h: packed, one vector of channels at a time
  kRow,           // row.h: NCHW in place, filters of one row or column
  kPlane,         // plane.h, plane_filter_gradient.h: rows of NCHW and of few channels in place
  kStridedPlane,  // strided_plane.h: NCHW with a stride of 2, in place
  kNarrowPlane,   // narrow_plane.h: NCHW with two rows in a vector
  kPermuted,      // permuted.h: few channels with a stride or a multiplier, in place
  kFlat,          // flat.h: packed rows as flat sequences, for few channels
  kTransform,     // transform.h: packed, large filters by Fourier transforms along the width
  kDefinition,    // definition.h: one output at a time
};

// How transform.h cuts a problem up. Units, taps and positions are those of the column axis; output
// t of a strip is at position t - columns / 2, tap v at v - tap_centre.
struct TransformShape {
  int64_t columns;             // outputs of one residue of a strip
  int64_t rows;                // output rows of a strip
  int64_t quarter;             // of the length of the transform
  int64_t tap_begin, tap_end;  // taps that meet the image
  int64_t tap_centre;
  int64_t inputs,
      outputs;  // one more than how far from position 0 input and taps, and outputs, lie
};

// How a problem is computed. Which algorithm is taken never changes a bit of the result, except for
// kTransform, which is chosen by the geometry and the type of accumulators alone: all others add
// the taps of an output in (di, dj) order.
struct ForwardPlan {
  Algorithm algorithm;
  int64_t items;          // independent pieces of work, any partition of which may run in parallel
  int64_t rows_per_item;  // output rows of each row residue of one item
  int64_t residues_per_item;
  int64_t blocks;         // of channels, each an item of its own
  int64_t scratch_bytes;  // that one thread needs, 64-byte aligned
  bool prefetch;          // the input is fetched ahead
  bool prefetch_output;   // and so is the output, to be written
  bool prefetch_tiles;    // kDirect: so is what the next tile is the first to touch
  bool prefetch_images;   // kDirect: so is the next image, and its output, in place of rows
  bool stream;            // full vectors of the output are stored past the caches
  int64_t staged_bytes;   // of a buffer from which all of it is, or 0: see staged_rows.h
  bool pairs;             // kDirect: vectors of channels are computed two at a time
  bool tall;              // kDirect: tiles have many output rows
  bool by_rows;           // kDirect, kBlock: tiles have one output row
  bool by_pixels;         // kDirect: by pixels or blocks of them, see pixel_rows.h
  bool repair_borders;    // packed, but the filter is not finite: see ForwardKernels::repair

  // The rest is used by the packed kernels alone.
  int64_t strip_columns;      // output columns whose input is packed at a time
  int64_t ring_rows;          // packed rows that are kept; row.h: copied as a whole together, or 0
  int64_t ring_row_stride;    // elements from one to the next; row.h: of the ends of a row
  int64_t period;             // flat.h, plane.h: output channels that a row interleaves
  int64_t phases;             // vectors after which the channels of a row repeat; row.h: of a tile
  int64_t ring_phase_stride;  // flat.h: elements from one stride phase of a row to the next

  TransformShape transform;
  int64_t parts;  // transform.h: into which the strips of all images are divided
};

// Arrays of one filter gradient. `filter_backprop` is C-contiguous and overlaps neither of the
// others, which have any strides.
struct FilterGradientProblem {
  Geometry geometry;
  const void* input;
  Strides input_strides;
  const void* out_backprop;
  Strides out_backprop_strides;
  void* filter_backprop;
};

// Of so many taps an output takes as long to read and write as to compute, or longer.
inline constexpr double kFewTaps = 9;
static inline bool HasFewTaps(const Geometry& g) {
  return static_cast<double>(g.filter_height) * g.filter_width <= kFewTaps;
}

// Bytes of input and output together.
static inline double DataBytes(const Geometry& g, double element_bytes) {
  const double in_pixels = static_cast<double>(g.in_height) * static_cast<double>(g.in_width);
  const double out_pixels = static_cast<double>(g.out_height) * static_cast<double>(g.out_width);
  return static_cast<double>(g.batch) * element_bytes *
         (in_pixels * static_cast<double>(g.InputChannels()) +
          out_pixels * static_cast<double>(g.OutputChannels()));
}

// From this much data on, input and output together, the next rows of the input are fetched ahead,
// since they may be in memory only.
inline constexpr double kPrefetchBytes = 8 << 20;
// If a thread reads and writes more, the second-level cache of today's servers does not keep it.
inline constexpr double kFarBytes = 2.25 * 1024 * 1024;
// From this size of a pixel on one vector more is worth it, for the others to be aligned.
inline constexpr int64_t kPeeledBytes = 768;

// What a plan depends on besides its problem.
struct PlanOptions {
  int64_t threads;
  bool may_transform;       // or every product is added
  double stream_bytes;      // of input and output together, from which on ForwardPlan::stream pays
  int64_t ways;             // lines of a set of the first-level cache
  bool may_prefetch_tiles;  // whether ForwardPlan::prefetch_tiles pays on this CPU
  double assumed_bytes;     // of input and output together; 0: as many as they have
};

struct ForwardKernels {
  ForwardPlan (*plan)(const ForwardProblem& problem, const PlanOptions& options);
  // Computes the items [begin, end) of a plan. Uses no other memory than `scratch`.
  void (*run)(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin, int64_t end,
              void* scratch);
  // For plans with repair_borders, after all of run(): computes again, by the definition, the
  // outputs of the rows [begin, end) of batch * out_height whose window covers padding that run()
  // takes for zeros.
  void (*repair)(const ForwardProblem& problem, const ForwardPlan& plan, int64_t begin,
                 int64_t end);
  // Whether vectors of channels begin with lines of the cache where pixels of both images begin as
  // far within one: see SuitsEnds() in direct_plan.h.
  bool (*begin_with_lines)(const Geometry& geometry);
};

// How a filter gradient is computed. The sum over batch, height and width is cut into chunks by the
// sizes alone, and those are added up in their order, so that threads never change a bit of it.
struct FilterGradientPlan {
  Algorithm algorithm;
  int64_t items;  // chunks of each group of channels; those of the first chunk come first
  int64_t groups;
  int64_t sums_bytes;     // of one item
  int64_t scratch_bytes;  // that one thread needs besides, 64-byte aligned
  // Packed with zero padding, which leaks NaN and infinity into taps that they must not reach: if a
  // tap is not finite afterwards, all has to be done again with drop_not_finite, which packs zeros
  // in their place, and the definition tells the taps that they do reach.
  bool check_finite, drop_not_finite;

  // A chunk is a number of bands, each some output rows of one residue of one image.
  int64_t bands, bands_per_residue, bands_per_chunk;
  int64_t band_rows;
  int64_t block_pixels;   // that are summed up before they are added to the sums of the chunk
  int64_t group_vectors;  // of channels
  int64_t peel;           // of kDirect: the channel where the second vector starts, or 0
  bool prefetch;          // rows are fetched ahead
  // Of kPlane: channels that take turns, output rows of a tile, and whether a chunk is no more than
  // a block.
  int64_t group_channels, tile_rows;
  bool has_one_block;

  // As in ForwardPlan. The strips are the same for all memory layouts: they give the order of sums.
  int64_t strip_columns;
  int64_t ring_rows, ring_row_stride;
  int64_t period, phases, ring_phase_stride;

  TransformShape transform;  // of kTransform, whose bands are whole images
};

struct FilterGradientKernels {
  FilterGradientPlan (*plan)(const FilterGradientProblem& problem, const PlanOptions& options);
  // Computes the partial sums of one item.
  void (*run)(const FilterGradientProblem& problem, const FilterGradientPlan& plan, int64_t item,
              void* sums, void* scratch);
  // Adds those of the taps [begin, end), numbered di * filter_width + dj, to the totals,
  // [filter_height, filter_width, output channels] of accumulators.
  void (*add)(const FilterGradientProblem& problem, const FilterGradientPlan& plan, int64_t item,
              const void* sums, int64_t begin, int64_t end, void* totals);
  // Rounds totals to filter_backprop, which is where they already are for float32 and float64.
  void (*store)(const FilterGradientProblem& problem, const void* totals);
  bool (*is_finite)(const FilterGradientProblem& problem, const void* totals);
  // For Algorithm::kDefinition and after drop_not_finite: sets the taps [begin, end) by the
  // definition, those of all channels or where that is not finite.
  void (*define)(const FilterGradientProblem& problem, bool only_not_finite, int64_t begin,
                 int64_t end);
};

struct KernelTable {
  const char* isa;
  // For tests that probe the edges of tiles: lanes of float32, rows of a flat tile, columns of a
  // channel tile, rows of a tall one.
  int lanes, tile_rows, tile_columns, tall_rows;
  ForwardKernels forward[kNumDTypes];
  FilterGradientKernels filter_gradient[kNumDTypes];
  // Runs independent float32 multiply-adds in registers; returns how many floating-point
  // operations (two a multiply-add) `rounds` rounds take.
  int64_t (*spin_multiply_adds)(int64_t rounds);
};

}  // namespace depthwise
