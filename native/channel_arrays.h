// The arrays of kernels whose vectors are channels, and how channels are cut into vectors and
// loaded. Called by channel_tile.h, which takes them by tiles, and pixel_rows.h, by pixels.
#pragma once

#include "fetch_ahead.h"
#include "shuffle.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// What the lanes of a vector of output channels are: neighbours in memory; of a channel multiplier,
// with copies of input channels; or both ends of a pixel, see EndsLoad.
enum class VectorOf { kNeighbours, kCopies, kEnds };

inline constexpr int kChannelRows = 2;
inline constexpr int kChannelColumns = kManyRegisters ? 7 : 4;
// Output rows of a tall tile, see SuitsTallTiles(). Only AVX-512 has them, where that was measured;
// and for the size of the package not float64, and with a channel multiplier float32 alone.
inline constexpr int kTallRows = 7;
template <class S, VectorOf kVectorOf>
inline constexpr bool kHasTallTiles =
    kVectorBytes == 64 && sizeof(typename S::Element) <= 4 &&
    (kVectorOf == VectorOf::kNeighbours || sizeof(typename S::Element) == 4);

// Output columns of a tile of one vector of channels; of a pair of them, see TakesPairs(); and of
// one output row, see SuitsRowTiles(), which has as many sums as one of two.
template <int kVectors, int kRows>
inline constexpr int kTileColumns = kVectors > 1 ? 4
                                    : kRows == 1 ? kChannelRows* kChannelColumns
                                                 : kChannelColumns;
// Only AVX-512 has those, and for the size of the package float32, to which the block kernel packs
// 16-bit types.
template <class S>
inline constexpr bool kHasRowTiles = kVectorBytes == 64 && sizeof(typename S::Element) == 4;
// The widest filter that has tiles of its own.
inline constexpr int64_t kWidestSpecial = 7;

// Whether tiles have one output row, for images of one. They are for any width of filters that has
// no tile of its own, and inside the image: at its ends tiles of two rows compute the row, so that
// it has to be long. A loaded vector serves twice as many sums. 1x1000x512 1x31 takes 270 instead
// of 440 us, of which the order of GroupVectors() saves half, 1x2000x64 1x11 28 instead of 38
// (Xeon, model 167).
template <class S>
DEPTHWISE_SMALL inline bool SuitsRowTiles(const Geometry& g) {
  const Axis columns = ColumnAxis(g, 0);
  return kHasRowTiles<S> && g.out_height == 1 && columns.stride == 1 &&
         columns.window > kWidestSpecial &&
         columns.out_count >= 2 * kTileColumns<1, 1> + columns.window;
}

// Pairs are where a vector is a line of the cache; and only float32 has them, for the size of the
// package.
template <class S>
inline constexpr bool kHasPairs = kVectorBytes == 64 && sizeof(typename S::Element) == 4;

// Whether tiles can fetch what the next one needs, and the next image: where that was measured, for
// the size of the package, see SuitsPrefetchedTiles() and SuitsPrefetchedImages().
template <class S>
inline constexpr bool kFetchesTiles = kVectorBytes == 64 && sizeof(typename S::Element) == 4;

// How channels are cut into vectors. All are full: the last one ends with the channels, and the
// second may start at channel `peel`, so that from there on they are aligned; either overlaps the
// one before. With WithEnds() the first one starts there, and the last one takes both ends of a
// pixel: what is left of it after the others, and before.
template <class S>
class ChannelVectors {
 public:
  static constexpr int64_t kCount = kLanes<typename S::Accumulator>;

  ChannelVectors(int64_t channels, int64_t peel)
      : first_start_(peel > 0 ? peel - kCount : 0),
        last_start_(channels - kCount),
        count_(CeilDiv(channels - peel, kCount) + (peel > 0)),
        neighbours_(count_) {}
  // For channels of whole vectors, and a `peel` of at least one channel.
  static ChannelVectors WithEnds(int64_t channels, int64_t peel) {
    ChannelVectors vectors(channels, 0);
    vectors.first_start_ = peel;
    vectors.last_start_ = channels;
    --vectors.neighbours_;
    return vectors;
  }

  DEPTHWISE_INLINE int64_t Count() const { return count_; }
  // Of the ends of a pixel the first of its last channels.
  DEPTHWISE_INLINE int64_t First(int64_t v) const {
    return Min(Max(0, first_start_ + v * kCount), last_start_);
  }
  // Where those before `last` end whose channels are neighbours in memory.
  DEPTHWISE_INLINE int64_t NeighboursEnd(int64_t last) const { return Min(last, neighbours_); }

 private:
  int64_t first_start_, last_start_;  // of First()
  int64_t count_, neighbours_;
};

// How a tile loads and stores a vector of channels: as it lies in memory; with the channel
// multiplier's copies of each input channel side by side; or from both ends of a pixel.
template <class S>
struct PlainLoad {
  // Taps of a row that are used at a time. Of two rows 7 are 14 registers, with the input and the
  // sums beside them; of 16 registers the taps have none.
  static constexpr int kMostTaps = kManyRegisters ? 7 : 4;

  DEPTHWISE_INLINE typename S::Vector operator()(const typename S::Element* from) const {
    return S::Load(from);
  }
  DEPTHWISE_INLINE void Store(typename S::Element* to, typename S::Vector v, bool stream) const {
    StoreVector<S>(to, v, stream);
  }
};

// Which input channels a vector of outputs has copies of, with a channel multiplier: some of half a
// vector. It begins with them, or where the pixel ends before it does, ends with the pixel. So of
// pixels with fewer channels than that it begins in the pixel before.
template <class S>
struct SpreadChannels {
  using Index = typename IndexOf<typename S::Accumulator>::Type;
  static constexpr int64_t kHalf = kLanes<typename S::Accumulator> / 2;

  Index index;         // each lane's place in the half
  int64_t begin, end;  // the places that there are
  int64_t first;       // the channel where the half begins

  // Of the vector that begins with that output channel.
  static SpreadChannels Of(int64_t channel, int64_t multiplier, int64_t in_channels) {
    const int64_t first = channel / multiplier;
    const int64_t last = (channel + 2 * kHalf - 1) / multiplier;
    SpreadChannels spread;
    spread.first = Min(first, in_channels - kHalf);
    spread.begin = first - spread.first;
    spread.end = last + 1 - spread.first;
    for (int lane = 0; lane < 2 * kHalf; ++lane) {
      spread.index[lane] = (channel + lane) / multiplier - spread.first;
    }
    return spread;
  }
};

// Loads a half as it is, or with a mask, which takes one of the two units that multiply-adds need.
// Whole vectors with masks are on two lines of the cache more often, too: with them 224x224x3 3x3
// with stride 2 and multiplier 8 took 145 instead of 109 us (Xeon, model 167).
template <class S, bool kMasked>
struct SpreadLoad {
  using E = typename S::Element;
  static constexpr int kMostTaps = 3;  // for the size of the code

  typename SpreadChannels<S>::Index index;
  LaneMask<E> mask;

  DEPTHWISE_INLINE explicit SpreadLoad(const SpreadChannels<S>& spread) : index(spread.index) {
    if constexpr (kMasked) mask = LanesBetween<E>(spread.begin, spread.end);
  }
  DEPTHWISE_INLINE typename S::Vector operator()(const E* from) const {
    if constexpr (kMasked) return Permute(S::LoadHalfMasked(from, mask), index);
    return Permute(S::LoadHalf(from), index);
  }
  DEPTHWISE_INLINE void Store(E* to, typename S::Vector v, bool stream) const {
    StoreVector<S>(to, v, stream);
  }
};

// Whether a vector can be of both ends of a pixel: where a vector is a line of the cache; and for
// the size of the package in float32 alone.
template <class S>
inline constexpr bool kHasEnds = kVectorBytes == 64 && sizeof(typename S::Element) == 4;

// The last channels of a pixel, from where a line of the cache begins, and its first ones, up to
// where one begins. Each of them is in the lane that is its place in a line, so that no load and no
// store touches two lines, though pixels begin within one: NumPy's are 16 bytes off. They are never
// stored past the caches.
template <class S>
struct EndsLoad {
  using E = typename S::Element;
  static constexpr int kMostTaps = 5;  // for the size of the code

  LaneMask<E> last_lanes{}, first_lanes{};  // of the last channels, and of the first
  int64_t channels;                         // of a pixel

  EndsLoad(const ChannelVectors<S>& vectors, int64_t pixel_channels) : channels(pixel_channels) {
    if constexpr (kHasEnds<S>) {
      const int64_t ends = vectors.NeighboursEnd(vectors.Count());
      if (ends == vectors.Count()) return;
      const int64_t lanes = channels - vectors.First(ends);
      last_lanes = LanesBetween<E>(0, lanes);
      first_lanes = LanesBetween<E>(lanes, vectors.kCount);
    }
  }

  // `from` is the first of the last channels.
  DEPTHWISE_INLINE typename S::Vector operator()(const E* from) const {
    return LoadLanesInto(LoadLanes(from, last_lanes), from - channels, first_lanes);
  }
  DEPTHWISE_INLINE void Store(E* to, typename S::Vector v, bool) const {
    StoreLanes(to, v, last_lanes);
    StoreLanes(to - channels, v, first_lanes);
  }
};

// What one call needs to know of its arrays; steps in elements.
template <class S>
struct ChannelArrays {
  // Vectors of accumulators, taps_step for each vector of channels: see PackFilterClasses().
  const typename S::Accumulator* taps;
  int64_t taps_step;
  const typename S::Accumulator* bias;  // a vector for each vector of channels: see PackBias()
  int64_t window_rows;                  // units under the filter along the height
  int64_t row_stride;                   // between output rows, in units
  const ColumnAxes* columns;
  int64_t first_column;    // the input column where rows begin
  int64_t in_column_step;  // between neighbouring columns
  int64_t out_row_step, out_column_step;
  ChannelVectors<S> vectors;
  int64_t first_vector, last_vector;  // those to compute
  int64_t neighbours_end;             // of these, the end of all but the ends of a pixel
  bool pairs;                         // which are computed two at a time
  bool tall;                          // by tiles of kTallRows
  bool by_rows;                       // by tiles of one row
  // Vectors, from fetch_first on, that share in fetching the input of the next two output rows
  // ahead; 0 if nothing is fetched.
  int64_t fetch_first, fetch_shares;
  bool fetches_output;         // so are those output rows, to be written
  bool fetches_next_tile;      // see PrefetchNextTile()
  FetchedImages* next_images;  // of which each vector of a tile fetches a share, or null
  bool stream;                 // store past the caches
  bool has_padding;            // columns outside the image are there, and zero
  // One for each vector from first_vector on, or null if the channel multiplier is 1.
  const SpreadChannels<S>* spread;
  const typename S::Element* first_input;  // before which there is nothing to read; or null
  const EndsLoad<S>* ends;                 // of the vectors from neighbours_end on

  // Of the vectors [first, last), which are some of these.
  DEPTHWISE_INLINE ChannelArrays Part(int64_t first, int64_t last) const {
    ChannelArrays part = *this;
    part.taps += (first - first_vector) * taps_step;
    part.bias += (first - first_vector) * kLanes<typename S::Accumulator>;
    if (spread != nullptr) part.spread += first - first_vector;
    part.first_vector = first;
    part.last_vector = last;
    part.neighbours_end = vectors.NeighboursEnd(last);
    return part;
  }
};

}  // namespace depthwise::DEPTHWISE_ISA
