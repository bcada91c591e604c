// From a call of XLA to dispatch.h: the version handshake, the buffers, the geometry.
#include "xla_handlers.h"

#include <algorithm>
#include <exception>
#include <initializer_list>
#include <new>
#include <stdexcept>

#include "dispatch.h"
#include "xla_ffi.h"

namespace depthwise {
namespace {

constexpr int64_t kGeometryFields = 16;

Geometry GeometryOf(const xla::CallFrame& frame) {
  const xla::Attributes& attributes = frame.attributes;
  if (attributes.size != 1 || attributes.types[0] != xla::kArrayType) {
    throw std::invalid_argument("needed one attribute, the array \"geometry\"");
  }
  const auto& array = *static_cast<const xla::Array*>(attributes.attributes[0]);
  if (array.dtype != xla::kS64 || array.size != kGeometryFields) {
    throw std::invalid_argument("the attribute \"geometry\" is not an array of 16 int64");
  }
  const auto* field = static_cast<const int64_t*>(array.data);
  return {field[0],  field[1],  field[2],  field[3],       field[4],  field[5],
          field[6],  field[7],  field[8],  field[9],       field[10], field[11],
          field[12], field[13], field[14], field[15] != 0, false};
}

DType DTypeOf(const xla::Buffer& buffer) {
  switch (buffer.dtype) {
    case xla::kF32: return DType::kFloat32;
    case xla::kF64: return DType::kFloat64;
    case xla::kF16: return DType::kFloat16;
    case xla::kBF16: return DType::kBFloat16;
    default: throw std::invalid_argument("needed float16, bfloat16, float32 or float64 buffers");
  }
}

// What a call is given: two arguments and a result of one type.
struct Call {
  Geometry geometry;
  const xla::Buffer &first, &second, &result;
  DType dtype;

  explicit Call(const xla::CallFrame& frame)
      : geometry(GeometryOf(frame)),
        first(At(frame.arguments, 2, 0)),
        second(At(frame.arguments, 2, 1)),
        result(At(frame.results, 1, 0)),
        dtype(DTypeOf(first)) {
    if (second.dtype != first.dtype || result.dtype != first.dtype) {
      throw std::invalid_argument("needed buffers of one type");
    }
  }

  static const xla::Buffer& At(const xla::Buffers& buffers, int64_t size, int64_t index) {
    if (buffers.size != size || buffers.types[index] != xla::kBufferType) {
      throw std::invalid_argument("needed two buffers as arguments and one as result");
    }
    return *static_cast<const xla::Buffer*>(buffers.buffers[index]);
  }
};

void CheckShape(const xla::Buffer& buffer, std::initializer_list<int64_t> shape) {
  if (buffer.rank != 4 || !std::equal(shape.begin(), shape.end(), buffer.dims)) {
    throw std::invalid_argument("a buffer does not have the shape that the geometry tells");
  }
}

// Checked against the geometry.
ImageData Image(const xla::Buffer& buffer, const Geometry& g, int64_t height, int64_t width,
                int64_t channels) {
  if (g.channels_last) {
    CheckShape(buffer, {g.batch, height, width, channels});
  } else {
    CheckShape(buffer, {g.batch, channels, height, width});
  }
  return {buffer.data, DenseStrides(g, height, width, channels)};
}

ImageData Input(const xla::Buffer& buffer, const Geometry& g) {
  return Image(buffer, g, g.in_height, g.in_width, g.in_channels);
}

ImageData Output(const xla::Buffer& buffer, const Geometry& g) {
  return Image(buffer, g, g.out_height, g.out_width, g.OutputChannels());
}

FilterData Filter(const xla::Buffer& buffer, const Geometry& g) {
  CheckShape(buffer, {g.filter_height, g.filter_width, g.in_channels, g.channel_multiplier});
  return {buffer.data, DenseFilterStrides(g)};
}

void CallForward(const Call& call) {
  const Geometry& g = call.geometry;
  Output(call.result, g);
  ComputeOutput(call.dtype, g, Input(call.first, g), Filter(call.second, g), nullptr,
                call.result.data);
}

void CallBackpropInput(const Call& call) {
  const Geometry& g = call.geometry;
  Input(call.result, g);
  ComputeInputBackprop(call.dtype, g, Filter(call.first, g), Output(call.second, g),
                       call.result.data);
}

void CallBackpropFilter(const Call& call) {
  const Geometry& g = call.geometry;
  Filter(call.result, g);
  ComputeFilterBackprop(call.dtype, g, Input(call.first, g), Output(call.second, g),
                        {call.result.data, DenseFilterStrides(g)});
}

xla::Error* MakeError(const xla::CallFrame& frame, int code, const char* message) {
  xla::ErrorCreateArgs args{sizeof(xla::ErrorCreateArgs), nullptr, message, code};
  return frame.api->error_create(&args);
}

// The handler of an entry point. A frame with the metadata extension is no call: it asks which
// version of the interface this was compiled for.
template <void (*kCompute)(const Call&)>
xla::Error* Handle(xla::CallFrame* frame) {
  for (auto* extension = frame->extension_start; extension; extension = extension->next) {
    if (extension->type != xla::kMetadataExtension) continue;
    xla::ApiVersion& version =
        reinterpret_cast<xla::MetadataExtension*>(extension)->metadata->api_version;
    version.major_version = xla::kMajorVersion;
    version.minor_version = xla::kMinorVersion;
    return nullptr;
  }
  if (frame->stage != xla::kExecuteStage) return nullptr;
  try {
    kCompute(Call(*frame));
    return nullptr;
  } catch (const std::bad_alloc&) {
    return MakeError(*frame, xla::kResourceExhausted, "depthwise: scratch memory does not fit");
  } catch (const std::invalid_argument& error) {
    return MakeError(*frame, xla::kInvalidArgument, error.what());
  } catch (const std::exception& error) {
    return MakeError(*frame, xla::kInternal, error.what());
  }
}

template <void (*kCompute)(const Call&)>
void* HandlerOf() {
  return reinterpret_cast<void*>(&Handle<kCompute>);
}

}  // namespace

const XlaHandler kXlaHandlers[3] = {
    {"forward", HandlerOf<CallForward>()},
    {"backprop_input", HandlerOf<CallBackpropInput>()},
    {"backprop_filter", HandlerOf<CallBackpropFilter>()},
};

}  // namespace depthwise
