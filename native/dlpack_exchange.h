// The part of DLPack's C interface, https://dmlc.github.io/dlpack/latest, that tensors.cc needs:
// how an array library tells where the elements of a Python object are, and makes an object of
// memory. Declared here, since it is small and DLPack's header is in no package that every build
// has.
#pragma once

#include <cstdint>

namespace depthwise::dlpack {

struct Version {
  uint32_t major, minor;
};

constexpr uint32_t kMajorVersion = 1, kMinorVersion = 2;

struct Device {
  int32_t type, id;
};
constexpr int32_t kCpu = 1;

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};
constexpr uint8_t kFloat = 2, kBfloat = 4;

struct Tensor {
  void* data;
  Device device;
  int32_t rank;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null for C order
  uint64_t byte_offset;
};

struct ManagedTensor {
  Version version;
  void* context;                    // the deleter's
  void (*deleter)(ManagedTensor*);  // called by the last owner, on any thread, without the GIL
  uint64_t flags;
  Tensor tensor;
};

struct ExchangeHeader {
  Version version;
  ExchangeHeader* previous;  // for users of an earlier major version, or null
};

// Returns 0, or -1 with a Python exception.
struct Exchange {
  ExchangeHeader header;
  void* allocate;
  void* managed_from_object;
  int (*object_from_managed)(ManagedTensor*, void** object);  // takes the tensor
  // Valid until control returns to the library. Null if there is none.
  int (*view_of_object)(void* object, Tensor* view);
  void* current_stream;
};

constexpr const char* kCapsuleName = "dlpack_exchange_api";

}  // namespace depthwise::dlpack
