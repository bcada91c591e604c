// Handlers of XLA's foreign function interface, one for each native entry point: XLA calls them
// with its buffers when a compiled program reaches the operation. bindings.cc hands them to Python,
// which registers them under a name; src/depthwise/jax.py makes the programs.
#pragma once

namespace depthwise {

// Each takes two dense buffers and writes a third, in the order and shapes of the entry points in
// dispatch.h, and one attribute "geometry": the fields of Geometry in their order as 16 int64, the
// last one 1 for NHWC. The geometry is trusted to be valid, the buffers are checked against it.
// Returns null, or an error that XLA raises. Safe to call from any number of threads.
struct XlaHandler {
  const char* name;
  void* function;
};
extern const XlaHandler kXlaHandlers[3];

}  // namespace depthwise
