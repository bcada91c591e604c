#include "call_memo.h"

#include <utility>

#include "dispatch.h"
#include "numpy_arrays.h"
#include "released_gil.h"

namespace nb = nanobind;

namespace depthwise {
namespace {

// What a call is about.
struct Call {
  CallKey key;
  NumpyImage first, second;
};

// False if the call is unusual.
bool ReadCall(const CallArguments& given, Call* call) {
  CallKey& key = call->key;
  key = {};
  if (!ReadImage(given.first.ptr(), &call->first) ||
      !ReadImage(given.second.ptr(), &call->second) || call->first.type != call->second.type) {
    return false;
  }
  const NumpyImage* filter = given.operation == Operation::kForward         ? &call->second
                             : given.operation == Operation::kBackpropInput ? &call->first
                                                                            : nullptr;
  if (filter != nullptr && !filter->is_contiguous) return false;
  for (int axis = 0; axis < 4; ++axis) {
    key.first_shape[axis] = call->first.shape[axis];
    key.second_shape[axis] = call->second.shape[axis];
  }
  key.type = call->first.type;
  return ReadOptions(given, &key);
}

// A new result for a call, an image of that size or a filter.
NumpyResult NewImage(const CallArguments& arguments, const Solution& solution, int64_t height,
                     int64_t width, int64_t channels) {
  const Geometry& g = solution.geometry;
  PyObject* const dtype = DtypeOf(arguments.first.ptr());
  if (!g.channels_last) return NewResult({g.batch, channels, height, width}, dtype, nullptr);
  const bool is_forward = arguments.operation == Operation::kForward;
  PyObject* const image = (is_forward ? arguments.first : arguments.second).ptr();
  return NewResult({g.batch, height, width, channels}, dtype,
                   AlignsWithInput(g, solution.dtype, !is_forward) ? image : nullptr);
}

NumpyResult NewResultOf(const CallArguments& arguments, const Solution& solution) {
  const Geometry& g = solution.geometry;
  switch (arguments.operation) {
    case Operation::kForward:
      return NewImage(arguments, solution, g.out_height, g.out_width, g.OutputChannels());
    case Operation::kBackpropInput:
      return NewImage(arguments, solution, g.in_height, g.in_width, g.in_channels);
    default:
      return NewResult({g.filter_height, g.filter_width, g.in_channels, g.channel_multiplier},
                       DtypeOf(arguments.first.ptr()), nullptr);
  }
}

void Compute(const Call& call, const Solution& solution, void* result) {
  const auto [g, dtype] = solution;
  const auto filter = [&](const NumpyImage& array) {
    return FilterData{array.data, DenseFilterStrides(g)};
  };
  const auto image = [&](const NumpyImage& array) { return array.Image(g.channels_last); };
  switch (call.key.operation) {
    case Operation::kForward:
      return ComputeOutput(dtype, g, image(call.first), filter(call.second), nullptr, result);
    case Operation::kBackpropInput:
      return ComputeInputBackprop(dtype, g, filter(call.first), image(call.second), result);
    case Operation::kBackpropFilter:
      return ComputeFilterBackprop(dtype, g, image(call.first), image(call.second),
                                   {result, DenseFilterStrides(g)});
  }
}

}  // namespace

nb::object CallLikeBefore(const CallArguments& arguments) {
  Call call;
  if (!ReadCall(arguments, &call)) return nb::none();
  const Solution* const found = FindSolution(call.key);
  if (found == nullptr) return nb::none();
  const Solution solution = *found;  // which may be forgotten while the GIL is released
  try {
    NumpyResult result = NewResultOf(arguments, solution);
    {
      const ReleasedGil released;
      Compute(call, solution, result.data);
    }
    return std::move(result.array);
  } catch (nb::python_error&) {
    return nb::none();
  }
}

void RememberCall(const CallArguments& arguments, const Geometry& geometry, DType dtype) {
  Call call;
  if (ReadCall(arguments, &call)) RememberSolution(call.key, {geometry, dtype});
}

}  // namespace depthwise
