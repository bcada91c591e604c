// The masks of a plane's tiles that reach beyond the ends of its rows, which all rows have in
// common. Called by plane.h.
#pragma once

#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Masks are kept for a tile of each phase of the first strip, of one later strip, which is usually
// the last, and for one of a single vector at the end. To make them for each tile of each row took
// a tenth of the time of 60x640 7x7, a quarter of 37x37 3x3.
template <class S, int kMostVectors>
class EndMasks {
 public:
  using E = typename S::Element;
  enum Strip { kFirst, kLater, kRest };  // a rest has no phases

  static int64_t Bytes(int64_t phases, int64_t filter_width) {
    return Slots(phases) *
           (int64_t{sizeof(int64_t)} + filter_width * kMostVectors * int64_t{sizeof(LaneMask<E>)});
  }

  // For filters of filter_width taps, tap_step elements apart, on rows of in_size elements after
  // `before` of padding. Clear() has to be called first.
  EndMasks(void* memory, int64_t phases, int64_t filter_width, int64_t tap_step, int64_t before,
           int64_t in_size)
      : phases_(phases),
        filter_width_(filter_width),
        tap_step_(tap_step),
        before_(before),
        in_size_(in_size),
        masks_(static_cast<LaneMask<E>*>(memory)),
        places_(reinterpret_cast<int64_t*>(masks_ + Slots(phases) * SlotSize())) {
    static_assert(kMostVectors * sizeof(LaneMask<E>) % alignof(int64_t) == 0);
  }

  // Before tiles of other sizes.
  void Clear() {
    for (int64_t slot = 0; slot < Slots(phases_); ++slot) places_[slot] = -1;
  }

  // Those of a tile of so many vectors, vector_step elements apart, that begins at element `place`
  // of the output: [filter_width, vectors].
  DEPTHWISE_INLINE const LaneMask<E>* Find(Strip strip, int64_t phase, int64_t place,
                                           int64_t vectors, int64_t vector_step) {
    const int64_t slot = strip * phases_ + phase;
    LaneMask<E>* const masks = masks_ + slot * SlotSize();
    if (places_[slot] != place) {
      places_[slot] = place;
      Make(place, vectors, vector_step, masks);
    }
    return masks;
  }

 private:
  static int64_t Slots(int64_t phases) { return 2 * phases + 1; }
  int64_t SlotSize() const { return filter_width_ * kMostVectors; }

  __attribute__((noinline)) void Make(int64_t place, int64_t vectors, int64_t vector_step,
                                      LaneMask<E>* masks) const {
    for (int64_t dj = 0; dj < filter_width_; ++dj) {
      for (int64_t v = 0; v < vectors; ++v) {
        const int64_t at = place - before_ + dj * tap_step_ + v * vector_step;
        *masks++ = LanesInside<S>(at, in_size_);
      }
    }
  }

  const int64_t phases_, filter_width_, tap_step_, before_, in_size_;
  LaneMask<E>* const masks_;
  int64_t* const places_;  // where the tile of each slot begins
};

}  // namespace depthwise::DEPTHWISE_ISA
