// The part of XLA's foreign function interface that our handlers use: the C structs by which XLA
// calls a function compiled elsewhere, declared again. XLA keeps this binary interface stable and
// numbers its changes; its own headers come with jaxlib, 100 MB that a build would need for these
// 100 lines. tests/test_xla_ffi.py compares every field with the headers of an installed jaxlib.
// Source: xla/ffi/api/c_api.h of jaxlib 0.10. Included by xla_handlers.cc alone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace depthwise::xla {

// Not the version of that header, 0.3: XLA accepts handlers of its own version or an older one, and
// this one has all that is below. jaxlib 0.6 has version 0.1.
constexpr int kMajorVersion = 0;
constexpr int kMinorVersion = 1;

// Every struct begins with its size and a list of extensions.
struct Extension {
  size_t struct_size;
  int type;
  Extension* next;
};
constexpr int kMetadataExtension = 1;

struct ApiVersion {
  size_t struct_size;
  Extension* extension_start;
  int major_version, minor_version;
};

// What XLA asks of a handler before it calls it.
struct Metadata {
  size_t struct_size;
  ApiVersion api_version;
  uint32_t traits;
};
struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

struct Error;  // XLA's own
constexpr int kInvalidArgument = 3, kResourceExhausted = 8, kInternal = 13;
struct ErrorCreateArgs {
  size_t struct_size;
  Extension* extension_start;
  const char* message;
  int code;
};

struct Api {
  size_t struct_size;
  Extension* extension_start;
  ApiVersion api_version;
  const void* internal_api;
  Error* (*error_create)(ErrorCreateArgs* args);
};

constexpr int kS64 = 5, kF16 = 10, kF32 = 11, kF64 = 12, kBF16 = 16;  // element types

// An argument or a result: dense, the last axis contiguous.
struct Buffer {
  size_t struct_size;
  Extension* extension_start;
  int dtype;
  void* data;
  int64_t rank;
  int64_t* dims;
};
constexpr int kBufferType = 1;

// An attribute that is an array.
struct Array {
  int dtype;
  size_t size;
  void* data;
};
constexpr int kArrayType = 1;

struct ByteSpan {
  const char* data;
  size_t size;
};

// Arguments, and results alike.
struct Buffers {
  size_t struct_size;
  Extension* extension_start;
  int64_t size;
  int* types;
  void** buffers;
};

// Sorted by name.
struct Attributes {
  size_t struct_size;
  Extension* extension_start;
  int64_t size;
  int* types;
  ByteSpan** names;
  void** attributes;
};

struct CallFrame {
  size_t struct_size;
  Extension* extension_start;
  const Api* api;
  void* context;
  int stage;
  Buffers arguments, results;
  Attributes attributes;
};
constexpr int kExecuteStage = 3;

}  // namespace depthwise::xla
