// What can be set: by users the instruction set, and how large filters are computed; by tests as
// how large data are taken. Called by dispatch.cc, bindings.cc and selftest.cc.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace depthwise {

// Names of the instruction sets that this machine runs and this build has, best first.
std::vector<std::string> SupportedIsas();

// The one in use: the best, or the one that the environment variable DEPTHWISE_ISA names.
// Throws std::invalid_argument if that one is unknown or not supported.
std::string CurrentIsa();
void SetIsa(const std::string& name);
const KernelTable& CurrentTable();

// How large filters are computed: "transform", where that takes less, or "direct", as the
// environment variable DEPTHWISE_LARGE_FILTER may ask. Both throw std::invalid_argument if a name
// is unknown.
std::string LargeFilterInUse();
void SetLargeFilter(const std::string& name);
bool MayTransform();

// For tests: as how many bytes the input and output of a problem are taken together when its plan
// is made, so that small problems are computed like large ones. 0, the default: as many as they
// have. How the work is cut into items does not depend on it.
double AssumedBytes();
void SetAssumedBytes(double bytes);

}  // namespace depthwise
