// The Python module depthwise._native. Each binding has the same steps: check what the kernels
// rely on, typed views of the arrays, release the GIL, one call into dispatch.h.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "array_view.h"
#include "call_memo.h"
#include "dispatch.h"
#include "numpy_arrays.h"
#include "output_memory.h"
#include "parallel.h"
#include "released_gil.h"
#include "settings.h"
#include "tensor_calls.h"
#include "tensors.h"
#include "xla_handlers.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace depthwise {
namespace {

size_t ElementSize(int dtype) {
  if (dtype < 0 || dtype >= kNumDTypes) throw std::invalid_argument("dtype is not a known code");
  return kElementSize[dtype];
}

// The views of the three arrays, which have to fit the geometry.
ArrayView ViewImages(nb::handle array, const char* name, bool writable, size_t size,
                     const Geometry& g, int64_t height, int64_t width, int64_t channels) {
  if (g.channels_last) return {array, name, writable, size, {g.batch, height, width, channels}};
  return {array, name, writable, size, {g.batch, channels, height, width}};
}

ArrayView ViewInput(nb::handle array, const char* name, bool writable, size_t size,
                    const Geometry& g) {
  return ViewImages(array, name, writable, size, g, g.in_height, g.in_width, g.in_channels);
}

ArrayView ViewOutput(nb::handle array, const char* name, bool writable, size_t size,
                     const Geometry& g) {
  return ViewImages(array, name, writable, size, g, g.out_height, g.out_width, g.OutputChannels());
}

ArrayView ViewFilter(nb::handle array, const char* name, bool writable, size_t size,
                     const Geometry& g) {
  return {array,
          name,
          writable,
          size,
          {g.filter_height, g.filter_width, g.in_channels, g.channel_multiplier}};
}

void ForwardBinding(const Geometry& g, int dtype, nb::handle input, nb::handle filter,
                    nb::handle output, nb::handle bias) {
  const size_t size = ElementSize(dtype);
  const ArrayView input_view = ViewInput(input, "input", false, size, g);
  const ArrayView filter_view = ViewFilter(filter, "filter", false, size, g);
  const ArrayView output_view = ViewOutput(output, "output", true, size, g);
  std::optional<ArrayView> bias_view;
  if (!bias.is_none()) {
    bias_view.emplace(bias, "bias", false, size,
                      std::initializer_list<int64_t>{g.OutputChannels()});
    bias_view->RequireContiguous("bias");
  }
  input_view.RequireAligned("input");
  filter_view.RequireContiguous("filter");
  output_view.RequireContiguous("output");
  const ReleasedGil released;
  ComputeOutput(static_cast<DType>(dtype), g, input_view.Image(g.channels_last),
                {filter_view.data(), DenseFilterStrides(g)},
                bias_view ? bias_view->data() : nullptr, output_view.data());
}

void BackpropInputBinding(const Geometry& g, int dtype, nb::handle filter, nb::handle out_backprop,
                          nb::handle input_backprop) {
  const size_t size = ElementSize(dtype);
  const ArrayView filter_view = ViewFilter(filter, "filter", false, size, g);
  const ArrayView out_view = ViewOutput(out_backprop, "out_backprop", false, size, g);
  const ArrayView input_view = ViewInput(input_backprop, "input_backprop", true, size, g);
  filter_view.RequireContiguous("filter");
  out_view.RequireAligned("out_backprop");
  input_view.RequireContiguous("input_backprop");
  const ReleasedGil released;
  ComputeInputBackprop(static_cast<DType>(dtype), g, {filter_view.data(), DenseFilterStrides(g)},
                       out_view.Image(g.channels_last), input_view.data());
}

void BackpropFilterBinding(const Geometry& g, int dtype, nb::handle input, nb::handle out_backprop,
                           nb::handle filter_backprop) {
  const size_t size = ElementSize(dtype);
  const ArrayView input_view = ViewInput(input, "input", false, size, g);
  const ArrayView out_view = ViewOutput(out_backprop, "out_backprop", false, size, g);
  const ArrayView filter_view = ViewFilter(filter_backprop, "filter_backprop", true, size, g);
  input_view.RequireAligned("input");
  out_view.RequireAligned("out_backprop");
  filter_view.RequireContiguous("filter_backprop");
  const ReleasedGil released;
  ComputeFilterBackprop(static_cast<DType>(dtype), g, input_view.Image(g.channels_last),
                        out_view.Image(g.channels_last),
                        {filter_view.data(), DenseFilterStrides(g)});
}

// The same three for arrays of other libraries, by their addresses: to make views of them that are
// typed and counted takes 4 us a call, more than the rest of a small one. The results are
// C-contiguous; of filters see FilterStrides.
using Address = uintptr_t;
using ImageShape = std::tuple<int64_t, int64_t, int64_t, int64_t>;  // NHWC or NCHW
using ImageStrides = ImageShape;

Strides StridesOf(const ImageStrides& strides, bool channels_last) {
  const auto [a, b, c, d] = strides;
  return channels_last ? Strides{a, b, c, d} : Strides{a, c, d, b};
}

void* At(Address address) { return reinterpret_cast<void*>(address); }

// Of a filter whose taps lie together, or whose channels do.
FilterStrides StridesOf(const Geometry& g, bool taps_together) {
  return taps_together ? FilterStrides{1, g.filter_height * g.filter_width} : DenseFilterStrides(g);
}

void ForwardAt(const Geometry& g, int dtype, Address input, const ImageStrides& strides,
               Address filter, bool taps_together, Address bias, Address output) {
  ElementSize(dtype);
  const ReleasedGil released;
  ComputeOutput(static_cast<DType>(dtype), g, {At(input), StridesOf(strides, g.channels_last)},
                {At(filter), StridesOf(g, taps_together)}, At(bias), At(output));
}

void BackpropInputAt(const Geometry& g, int dtype, Address filter, bool taps_together,
                     Address out_backprop, const ImageStrides& strides, Address input_backprop) {
  ElementSize(dtype);
  const ReleasedGil released;
  ComputeInputBackprop(static_cast<DType>(dtype), g, {At(filter), StridesOf(g, taps_together)},
                       {At(out_backprop), StridesOf(strides, g.channels_last)}, At(input_backprop));
}

void BackpropFilterAt(const Geometry& g, int dtype, Address input, const ImageStrides& strides,
                      Address out_backprop, const ImageStrides& out_strides,
                      Address filter_backprop, bool taps_together) {
  ElementSize(dtype);
  const ReleasedGil released;
  ComputeFilterBackprop(static_cast<DType>(dtype), g,
                        {At(input), StridesOf(strides, g.channels_last)},
                        {At(out_backprop), StridesOf(out_strides, g.channels_last)},
                        {At(filter_backprop), StridesOf(g, taps_together)});
}

Geometry MakeGeometry(int64_t batch, int64_t in_height, int64_t in_width, int64_t in_channels,
                      int64_t filter_height, int64_t filter_width, int64_t channel_multiplier,
                      int64_t stride_height, int64_t stride_width, int64_t dilation_height,
                      int64_t dilation_width, int64_t pad_top, int64_t pad_left, int64_t out_height,
                      int64_t out_width, bool channels_last) {
  return {batch,         in_height,       in_width,           in_channels,
          filter_height, filter_width,    channel_multiplier, stride_height,
          stride_width,  dilation_height, dilation_width,     pad_top,
          pad_left,      out_height,      out_width,          channels_last,
          false};
}

nb::object CallLikeBeforeBinding(int operation, nb::handle first, nb::handle second,
                                 nb::handle sizes, nb::handle strides, nb::handle padding,
                                 nb::handle data_format, nb::handle dilations) {
  return CallLikeBefore({static_cast<Operation>(operation), first, second, sizes, strides, padding,
                         data_format, dilations});
}

void RememberCallBinding(int operation, nb::handle first, nb::handle second, nb::handle sizes,
                         nb::handle strides, nb::handle padding, nb::handle data_format,
                         nb::handle dilations, const Geometry& geometry, int dtype) {
  ElementSize(dtype);
  RememberCall({static_cast<Operation>(operation), first, second, sizes, strides, padding,
                data_format, dilations},
               geometry, static_cast<DType>(dtype));
}

bool ConnectTensorsBinding(nb::object exchange, nb::object tensor_type, nb::object parameter_type,
                           nb::object transformers, nb::object watchers, nb::object records,
                           nb::object forward_ad) {
  return ConnectTensors(
      {exchange, {tensor_type, parameter_type}, transformers, watchers, records, forward_ad});
}

nb::object CallWithTensorsBinding(int operation, nb::handle first, nb::handle second,
                                  nb::handle sizes, nb::handle strides, nb::handle padding,
                                  nb::handle data_format, nb::handle dilations, nb::handle solve) {
  return CallWithTensors({static_cast<Operation>(operation), first, second, sizes, strides, padding,
                          data_format, dilations},
                         solve);
}

nb::object CallLayerBinding(int operation, nb::handle input, nb::handle weight, nb::handle other,
                            nb::handle in_channels, nb::handle stride, nb::handle padding,
                            nb::handle dilation, nb::handle solve) {
  return CallLayer({static_cast<Operation>(operation), input, weight, other, in_channels, stride,
                    padding, dilation},
                   solve);
}

nb::object EmptyBinding(const ImageShape& shape, nb::handle dtype, nb::handle image) {
  const auto [a, b, c, d] = shape;
  return NewResult({a, b, c, d}, dtype.ptr(), image.is_none() ? nullptr : image.ptr()).array;
}

nb::dict XlaHandlers() {
  nb::dict handlers;
  for (const XlaHandler& handler : kXlaHandlers) {
    handlers[handler.name] = nb::capsule(handler.function);
  }
  return handlers;
}

nb::dict TileConstants() {
  const KernelTable& table = CurrentTable();
  nb::dict constants;
  constants["lanes"] = table.lanes;
  constants["tile_rows"] = table.tile_rows;
  constants["tile_columns"] = table.tile_columns;
  constants["tall_rows"] = table.tall_rows;
  return constants;
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() =
      "Native kernels of depthwise. Arrays are checked against the geometry, which is trusted.";
  // Results that live as long as the interpreter are no leak: PyTorch never frees those that a
  // module's variables hold, and nanobind would tell of them on every exit.
  nb::set_leak_warnings(false);

  ImportNumpy();

  nb::class_<Geometry>(m, "Geometry", "A valid problem; the fields of _geometry.Geometry.")
      .def(nb::new_(&MakeGeometry), "batch"_a, "in_height"_a, "in_width"_a, "in_channels"_a,
           "filter_height"_a, "filter_width"_a, "channel_multiplier"_a, "stride_height"_a,
           "stride_width"_a, "dilation_height"_a, "dilation_width"_a, "pad_top"_a, "pad_left"_a,
           "out_height"_a, "out_width"_a, "channels_last"_a);

  m.def(
      "empty", &EmptyBinding, "shape"_a, "dtype"_a, "image"_a.none(),
      "Returns a new C-contiguous array. Large ones lie in memory that is reused, 64-byte aligned "
      "or as far from it as the NHWC image that they are computed from.");
  m.def(
      "aligns_with_input",
      [](const Geometry& g, int dtype, bool is_gradient) {
        ElementSize(dtype);
        return AlignsWithInput(g, static_cast<DType>(dtype), is_gradient);
      },
      "geometry"_a, "dtype"_a, "is_gradient"_a,
      "Returns whether a result had better be as far from alignment as its input.");
  m.def("release_kept_memory", &ReleaseKeptMemory,
        "Frees the memory of past outputs that is kept for later ones; returns its size.");
  m.attr("max_kept_bytes") = kMaxKeptBytes;

  m.def("forward", &ForwardBinding, "geometry"_a, "dtype"_a, "input"_a, "filter"_a, "output"_a,
        "bias"_a = nb::none(),
        "Computes output, plus a bias for each of its channels. BufferError, and nothing computed, "
        "if the input is not aligned or one of the others not contiguous.");
  m.def("backprop_input", &BackpropInputBinding, "geometry"_a, "dtype"_a, "filter"_a,
        "out_backprop"_a, "input_backprop"_a, "Likewise computes input_backprop.");
  m.def("backprop_filter", &BackpropFilterBinding, "geometry"_a, "dtype"_a, "input"_a,
        "out_backprop"_a, "filter_backprop"_a, "Likewise computes filter_backprop.");

  m.attr("FORWARD") = static_cast<int>(Operation::kForward);
  m.attr("BACKPROP_INPUT") = static_cast<int>(Operation::kBackpropInput);
  m.attr("BACKPROP_FILTER") = static_cast<int>(Operation::kBackpropFilter);
  m.def("call_like_before", &CallLikeBeforeBinding, "operation"_a, "first"_a.none(),
        "second"_a.none(), "sizes"_a.none(), "strides"_a.none(), "padding"_a.none(),
        "data_format"_a.none(), "dilations"_a.none(),
        "Returns the result of a call of a public function that is like one which was remembered, "
        "else None. First and second are its arrays, in the order of its parameters.");
  m.def("remember_call", &RememberCallBinding, "operation"_a, "first"_a.none(), "second"_a.none(),
        "sizes"_a.none(), "strides"_a.none(), "padding"_a.none(), "data_format"_a.none(),
        "dilations"_a.none(), "geometry"_a, "dtype"_a,
        "Remembers a valid call, unless its arguments are unusual.");

  m.def("forward_at", &ForwardAt, "geometry"_a, "dtype"_a, "input"_a, "input_strides"_a, "filter"_a,
        "taps_together"_a, "bias"_a, "output"_a,
        "The same by addresses, which are trusted; bias may be 0. Strides are in elements. The "
        "filter is C-contiguous, or if its taps are together with the channels first.");
  m.def("backprop_input_at", &BackpropInputAt, "geometry"_a, "dtype"_a, "filter"_a,
        "taps_together"_a, "out_backprop"_a, "out_backprop_strides"_a, "input_backprop"_a,
        "Likewise.");
  m.def("backprop_filter_at", &BackpropFilterAt, "geometry"_a, "dtype"_a, "input"_a,
        "input_strides"_a, "out_backprop"_a, "out_backprop_strides"_a, "filter_backprop"_a,
        "taps_together"_a, "Likewise.");

  m.def("connect_tensors", &ConnectTensorsBinding, "exchange"_a, "tensor_type"_a,
        "parameter_type"_a, "transformers"_a, "watchers"_a, "records"_a, "forward_ad"_a,
        "Makes the two below work, see TensorLibrary in tensors.h; False if they cannot.");
  m.def("call_with_tensors", &CallWithTensorsBinding, "operation"_a, "first"_a.none(),
        "second"_a.none(), "sizes"_a.none(), "strides"_a.none(), "padding"_a.none(),
        "data_format"_a.none(), "dilations"_a.none(), "solve"_a,
        "Returns the result of a public function, or None where that takes PyTorch or is wrong. "
        "`solve` returns the geometry for the arguments and whether NCHW is computed as NHWC.");
  m.def(
      "call_layer", &CallLayerBinding, "operation"_a, "input"_a.none(), "weight"_a.none(),
      "other"_a.none(), "in_channels"_a.none(), "stride"_a.none(), "padding"_a.none(),
      "dilation"_a.none(), "solve"_a,
      "Likewise of a layer with a group for each channel, whose bias is `other`, or out_backprop. "
      "True, and nothing computed, if gradients of the output are wanted.");

  m.def("xla_handlers", &XlaHandlers,
        "The same three functions for jax.ffi.register_ffi_target(), by name.");

  m.def("set_num_threads", &SetNumThreads, "n"_a);
  m.def("get_num_threads", &GetNumThreads);
  m.def("supported_isas", &SupportedIsas);
  m.def("get_isa", &CurrentIsa);
  m.def("set_isa", &SetIsa, "name"_a, "For tests: runs everything on a lesser instruction set.");
  m.def("get_large_filter", &LargeFilterInUse);
  m.def("set_large_filter", &SetLargeFilter, "name"_a, "For tests: \"transform\" or \"direct\".");
  m.def("set_assumed_bytes", &SetAssumedBytes, "bytes"_a,
        "For tests: chooses kernels as for input and output of so many bytes together; 0: of as "
        "many as they have.");
  m.def("tile_constants", &TileConstants, "Sizes at whose multiples the kernels change their way.");
  m.def("peak_gflops", &MeasurePeakGflops, "seconds"_a, nb::call_guard<ReleasedGil>(),
        "Peak float32 multiply-add rate of one core in GFLOP/s.");
  m.attr("compiler") = DEPTHWISE_COMPILER;
  // Read at import, so that a bad environment variable is an error there and not in the first call.
  CurrentIsa();
  LargeFilterInUse();
}

}  // namespace depthwise
