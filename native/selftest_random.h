// The random numbers of the self-test.
#pragma once

#include <cstdint>
#include <random>

namespace depthwise {

using Random = std::mt19937;

inline int64_t Pick(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

}  // namespace depthwise
