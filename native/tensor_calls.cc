#include "tensor_calls.h"

#include <utility>

#include "dispatch.h"
#include "released_gil.h"
#include "tensors.h"

namespace nb = nanobind;

namespace depthwise {
namespace {

// An NCHW image may lie in memory as NHWC, and is computed as that then.
bool IsChannelsLastMemory(const TensorView& image) {
  return image.shape[1] != 1 && image.strides[1] == 1 && image.strides[3] != 1;
}

// False for an image that had better be copied first: one whose pixels are all the same would be
// packed one by one.
bool ReadImage(nb::handle object, TensorView* image) {
  if (!ReadTensor(object, 4, image)) return false;
  for (int axis = 0; axis < 4; ++axis) {
    if (image->strides[axis] == 0) return false;
  }
  return true;
}

// In the order of the kernels' axes, which are those of the image in memory.
ImageData ImageOf(const TensorView& image, const CallKey& key) {
  const int64_t* const strides = image.strides;
  const int row = key.is_nchw ? 2 : 1;
  return {image.data,
          {strides[0], strides[row], strides[row + 1], strides[key.is_nchw ? 1 : 3]}};
}

void WriteShape(const TensorView& from, int64_t (&shape)[4]) {
  for (int axis = 0; axis < 4; ++axis) shape[axis] = from.shape[axis];
}

// What a call computes from, and where its result goes to.
struct Problem {
  CallKey key;
  DType dtype;
  ImageData input, out_backprop;
  const void* filter;
  bool has_taps_together;  // of the filter
  const void* bias;

  FilterData Filter(const Geometry& g) const {
    if (!has_taps_together) return {filter, DenseFilterStrides(g)};
    return {filter, {1, g.filter_height * g.filter_width}};
  }

  void Compute(const Geometry& g, void* result) const {
    switch (key.operation) {
      case Operation::kForward: return ComputeOutput(dtype, g, input, Filter(g), bias, result);
      case Operation::kBackpropInput:
        return ComputeInputBackprop(dtype, g, Filter(g), out_backprop, result);
      case Operation::kBackpropFilter:
        return ComputeFilterBackprop(dtype, g, input, out_backprop,
                                     {result, DenseFilterStrides(g)});
    }
  }
};

nb::object NewResult(const Problem& problem, const Geometry& g, void** data) {
  const bool is_forward = problem.key.operation == Operation::kForward;
  TensorResult result;
  if (problem.key.operation == Operation::kBackpropFilter) {
    result = NewTensor({g.filter_height, g.filter_width, g.in_channels, g.channel_multiplier},
                       problem.dtype, false);
  } else {
    const int64_t channels = is_forward ? g.OutputChannels() : g.in_channels;
    const int64_t height = is_forward ? g.out_height : g.in_height;
    const int64_t width = is_forward ? g.out_width : g.in_width;
    if (problem.key.is_nchw) {
      result = NewTensor({g.batch, channels, height, width}, problem.dtype,
                         problem.key.is_channels_last_memory);
    } else {
      result = NewTensor({g.batch, height, width, channels}, problem.dtype, false);
    }
  }
  *data = result.data;
  return std::move(result.tensor);
}

// Computes a problem, whose geometry `solve` finds if it is new.
template <class Solve>
nb::object Run(const Problem& problem, Solve&& solve) {
  Solution solution;
  if (const Solution* const found = FindSolution(problem.key)) {
    solution = *found;
  } else {
    const nb::object solved = nb::steal(solve(nb::bool_(problem.key.is_channels_last_memory)));
    if (!solved.is_valid()) {
      PyErr_Clear();
      return nb::none();
    }
    solution = {nb::cast<const Geometry&>(solved), problem.dtype};
    RememberSolution(problem.key, solution);
  }
  const Geometry& g = solution.geometry;
  void* data;
  nb::object result = NewResult(problem, g, &data);
  if (!result.is_valid()) return nb::none();
  {
    const ReleasedGil released;
    problem.Compute(g, data);
  }
  return result;
}

// False if the call is unusual.
bool ReadCall(const CallArguments& given, Problem* problem) {
  CallKey& key = problem->key;
  key.caller = Caller::kTensors;
  if (!ReadOptions(given, &key)) return false;
  const auto read_filter = [&](nb::handle object, TensorView* filter) {
    if (!ReadTensor(object, 4, filter)) return false;
    problem->filter = filter->data;
    problem->has_taps_together = !filter->IsContiguous({0, 1, 2, 3});
    return !problem->has_taps_together || filter->IsContiguous({2, 3, 0, 1});
  };
  TensorView first, second;
  const bool is_read = given.operation == Operation::kBackpropInput
                           ? read_filter(given.first, &first)
                           : ReadImage(given.first, &first);
  if (!is_read) return false;
  if (!(given.operation == Operation::kForward ? read_filter(given.second, &second)
                                               : ReadImage(given.second, &second)) ||
      second.dtype != first.dtype) {
    return false;
  }
  const TensorView& image = given.operation == Operation::kBackpropInput ? second : first;
  key.is_channels_last_memory = key.is_nchw && IsChannelsLastMemory(image);
  switch (given.operation) {
    case Operation::kForward: problem->input = ImageOf(first, key); break;
    case Operation::kBackpropInput: problem->out_backprop = ImageOf(second, key); break;
    case Operation::kBackpropFilter:
      // Two images in different orders would be packed element by element.
      if (key.is_nchw && IsChannelsLastMemory(second) != key.is_channels_last_memory) return false;
      problem->input = ImageOf(first, key);
      problem->out_backprop = ImageOf(second, key);
      break;
  }
  WriteShape(first, key.first_shape);
  WriteShape(second, key.second_shape);
  problem->dtype = first.dtype;
  key.type = static_cast<int64_t>(first.dtype);
  return true;
}

bool ReadLayer(const LayerArguments& given, Problem* problem) {
  CallKey& key = problem->key;
  key.caller = Caller::kLayer;
  key.operation = Operation::kForward;
  if (!ReadLayerOptions(given.in_channels, given.stride, given.padding, given.dilation, &key)) {
    return false;
  }
  TensorView input, weight;
  if (!ReadImage(given.input, &input) || !ReadTensor(given.weight, 4, &weight) ||
      weight.dtype != input.dtype || !weight.IsContiguous({0, 1, 2, 3})) {
    return false;
  }
  problem->bias = nullptr;
  if (!given.bias.is_none()) {
    TensorView bias;
    if (!ReadTensor(given.bias, 1, &bias) || bias.dtype != input.dtype ||
        bias.shape[0] != weight.shape[0] || !bias.IsContiguous({0})) {
      return false;
    }
    problem->bias = bias.data;
  }
  key.is_channels_last_memory = IsChannelsLastMemory(input);
  WriteShape(input, key.first_shape);
  WriteShape(weight, key.second_shape);
  key.type = static_cast<int64_t>(input.dtype);
  problem->input = ImageOf(input, key);
  problem->filter = weight.data;
  problem->has_taps_together = true;
  problem->dtype = input.dtype;
  return true;
}

}  // namespace

nb::object CallWithTensors(const CallArguments& arguments, nb::handle solve) {
  const CallArguments& a = arguments;
  Problem problem{};
  if (!MayComputeFrom({a.first, a.second}) || !ReadCall(a, &problem)) return nb::none();
  return Run(problem, [&](nb::handle is_channels_last) {
    return PyObject_CallFunctionObjArgs(
        solve.ptr(), nb::int_(static_cast<int>(a.operation)).ptr(), a.first.ptr(), a.second.ptr(),
        a.sizes.ptr(), a.strides.ptr(), a.padding.ptr(), a.data_format.ptr(), a.dilations.ptr(),
        is_channels_last.ptr(), nullptr);
  });
}

nb::object CallLayer(const LayerArguments& arguments, nb::handle solve) {
  const LayerArguments& a = arguments;
  Problem problem{};
  if (!MayComputeFrom({a.input, a.weight, a.bias}) || !ReadLayer(a, &problem)) return nb::none();
  return Run(problem, [&](nb::handle is_channels_last) {
    return PyObject_CallFunctionObjArgs(solve.ptr(), a.input.ptr(), a.weight.ptr(),
                                        a.in_channels.ptr(), a.stride.ptr(), a.padding.ptr(),
                                        a.dilation.ptr(), is_channels_last.ptr(), nullptr);
  });
}

}  // namespace depthwise
