#include "tensor_calls.h"

#include <utility>

#include "dispatch.h"
#include "released_gil.h"
#include "tensors.h"

namespace nb = nanobind;

namespace depthwise {
namespace {

// An NCHW image may lie in memory as NHWC, and is computed as that then. As
// is_channels_last_memory() in _torch_ops.py, which looks at zeros as well, as ReadImage() below.
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
  return {image.data, {strides[0], strides[row], strides[row + 1], strides[key.is_nchw ? 1 : 3]}};
}

void WriteShape(const TensorView& from, int64_t (&shape)[4]) {
  for (int axis = 0; axis < 4; ++axis) shape[axis] = from.shape[axis];
}

// What a call computes from, and what is known of its result.
struct Problem {
  CallKey key;
  DType dtype;
  ImageData input, out_backprop;
  const void* filter;
  bool has_taps_together;  // of the filter, or its gradient
  const void* bias;

  FilterStrides StridesOfFilter(const Geometry& g) const {
    if (has_taps_together) return {1, g.filter_height * g.filter_width};
    return DenseFilterStrides(g);
  }

  TensorResult NewResult(const Geometry& g) const {
    switch (key.operation) {
      case Operation::kForward: return NewImage(g, g.OutputChannels(), g.out_height, g.out_width);
      case Operation::kBackpropInput: return NewImage(g, g.in_channels, g.in_height, g.in_width);
      default: break;
    }
    if (has_taps_together) {
      return NewTensor({g.OutputChannels(), 1, g.filter_height, g.filter_width}, dtype, false);
    }
    return NewTensor({g.filter_height, g.filter_width, g.in_channels, g.channel_multiplier}, dtype,
                     false);
  }

  TensorResult NewImage(const Geometry& g, int64_t channels, int64_t height, int64_t width) const {
    if (!key.is_nchw) return NewTensor({g.batch, height, width, channels}, dtype, false);
    return NewTensor({g.batch, channels, height, width}, dtype, key.is_channels_last_memory);
  }

  void Compute(const Geometry& g, void* result) const {
    const FilterStrides strides = StridesOfFilter(g);
    switch (key.operation) {
      case Operation::kForward:
        return ComputeOutput(dtype, g, input, {filter, strides}, bias, result);
      case Operation::kBackpropInput:
        return ComputeInputBackprop(dtype, g, {filter, strides}, out_backprop, result);
      case Operation::kBackpropFilter:
        return ComputeFilterBackprop(dtype, g, input, out_backprop, {result, strides});
    }
  }
};

// Whether an exception says that the arguments are wrong, which Python code then does as well.
bool IsOfArguments() {
  for (PyObject* const type :
       {PyExc_TypeError, PyExc_ValueError, PyExc_OverflowError, PyExc_ZeroDivisionError}) {
    if (PyErr_ExceptionMatches(type)) return true;
  }
  return false;
}

// Finds what read(&problem) reads, and its solution, by `solve` if it is new; false if that cannot
// be.
template <class Read, class Solve>
bool FindProblem(const Read& read, const Solve& solve, Problem* problem, Geometry* geometry) {
  if (!read(problem)) return false;
  if (const Solution* const found = FindSolution(problem->key)) {
    *geometry = found->geometry;
    return true;
  }
  const nb::object solved = nb::steal(solve(nb::bool_(problem->key.is_channels_last_memory)));
  if (!solved.is_valid()) {
    if (!IsOfArguments()) throw nb::python_error();
    PyErr_Clear();
    return false;
  }
  *geometry = nb::cast<const Geometry&>(solved);
  // While that Python code ran others may have run, too, and changed a tensor.
  Problem now{};
  if (!read(&now) || !(now.key == problem->key)) return false;
  *problem = now;
  RememberSolution(problem->key, {*geometry, problem->dtype});
  return true;
}

nb::object Run(const Problem& problem, const Geometry& g) {
  TensorResult result = problem.NewResult(g);
  if (!result.tensor.is_valid()) return nb::none();
  {
    const ReleasedGil released;
    problem.Compute(g, result.data);
  }
  return std::move(result.tensor);
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
  key.operation = given.operation;
  if (!ReadLayerOptions(given.in_channels, given.stride, given.padding, given.dilation, &key)) {
    return false;
  }
  TensorView input, weight, other;
  if (!ReadImage(given.input, &input) || !ReadTensor(given.weight, 4, &weight) ||
      weight.dtype != input.dtype || !weight.IsContiguous({0, 1, 2, 3})) {
    return false;
  }
  key.is_channels_last_memory = IsChannelsLastMemory(input);
  if (given.operation != Operation::kForward) {
    if (!ReadImage(given.other, &other) || other.dtype != input.dtype ||
        IsChannelsLastMemory(other) != key.is_channels_last_memory) {
      return false;
    }
    problem->out_backprop = ImageOf(other, key);
    WriteShape(other, key.sizes);
  } else if (!given.other.is_none()) {
    if (!ReadTensor(given.other, 1, &other) || other.dtype != input.dtype ||
        other.shape[0] != weight.shape[0] || !other.IsContiguous({0})) {
      return false;
    }
    problem->bias = other.data;
  }
  WriteShape(input, key.first_shape);
  WriteShape(weight, key.second_shape);
  key.type = static_cast<int64_t>(input.dtype);
  problem->dtype = input.dtype;
  problem->input = ImageOf(input, key);
  problem->filter = weight.data;
  problem->has_taps_together = true;
  return true;
}

}  // namespace

nb::object CallWithTensors(const CallArguments& arguments, nb::handle solve) {
  const CallArguments& a = arguments;
  Problem problem{};
  Geometry geometry;
  if (FindWay({a.first, a.second}) != Way::kNative) return nb::none();
  const auto read = [&](Problem* read_problem) { return ReadCall(a, read_problem); };
  const auto call = [&](nb::handle is_channels_last) {
    return PyObject_CallFunctionObjArgs(solve.ptr(), nb::int_(static_cast<int>(a.operation)).ptr(),
                                        a.first.ptr(), a.second.ptr(), a.sizes.ptr(),
                                        a.strides.ptr(), a.padding.ptr(), a.data_format.ptr(),
                                        a.dilations.ptr(), is_channels_last.ptr(), nullptr);
  };
  if (!FindProblem(read, call, &problem, &geometry)) return nb::none();
  return Run(problem, geometry);
}

nb::object CallLayer(const LayerArguments& arguments, nb::handle solve) {
  const LayerArguments& a = arguments;
  Problem problem{};
  Geometry geometry;
  const Way way = FindWay({a.input, a.weight, a.other});
  const bool is_recorded = way == Way::kRecorded && a.operation == Operation::kForward;
  if (way != Way::kNative && !is_recorded) return nb::none();
  const auto read = [&](Problem* read_problem) { return ReadLayer(a, read_problem); };
  const auto call = [&](nb::handle is_channels_last) {
    return PyObject_CallFunctionObjArgs(solve.ptr(), nb::int_(static_cast<int>(a.operation)).ptr(),
                                        a.input.ptr(), a.weight.ptr(), a.other.ptr(),
                                        a.in_channels.ptr(), a.stride.ptr(), a.padding.ptr(),
                                        a.dilation.ptr(), is_channels_last.ptr(), nullptr);
  };
  if (!FindProblem(read, call, &problem, &geometry)) return nb::none();
  return is_recorded ? nb::object(nb::bool_(true)) : Run(problem, geometry);
}

}  // namespace depthwise
