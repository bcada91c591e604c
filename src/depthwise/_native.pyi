from typing import Any

compiler: str
max_kept_bytes: int
FORWARD: int
BACKPROP_INPUT: int
BACKPROP_FILTER: int

class Geometry:
    def __init__(
        self,
        batch: int,
        in_height: int,
        in_width: int,
        in_channels: int,
        filter_height: int,
        filter_width: int,
        channel_multiplier: int,
        stride_height: int,
        stride_width: int,
        dilation_height: int,
        dilation_width: int,
        pad_top: int,
        pad_left: int,
        out_height: int,
        out_width: int,
        channels_last: bool,
    ) -> None: ...

def empty(shape: tuple[int, int, int, int], dtype: Any, image: Any) -> Any: ...
def aligns_with_input(geometry: Geometry, dtype: int, is_gradient: bool) -> bool: ...
def release_kept_memory() -> int: ...
def forward(
    geometry: Geometry, dtype: int, input: Any, filter: Any, output: Any, bias: Any = None
) -> None: ...
def backprop_input(
    geometry: Geometry, dtype: int, filter: Any, out_backprop: Any, input_backprop: Any
) -> None: ...
def backprop_filter(
    geometry: Geometry, dtype: int, input: Any, out_backprop: Any, filter_backprop: Any
) -> None: ...
def call_like_before(
    operation: int,
    first: Any,
    second: Any,
    sizes: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
) -> Any: ...
def remember_call(
    operation: int,
    first: Any,
    second: Any,
    sizes: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
    geometry: Geometry,
    dtype: int,
) -> None: ...
def forward_at(
    geometry: Geometry,
    dtype: int,
    input: int,
    input_strides: tuple[int, int, int, int],
    filter: int,
    taps_together: bool,
    bias: int,
    output: int,
) -> None: ...
def backprop_input_at(
    geometry: Geometry,
    dtype: int,
    filter: int,
    taps_together: bool,
    out_backprop: int,
    out_backprop_strides: tuple[int, int, int, int],
    input_backprop: int,
) -> None: ...
def backprop_filter_at(
    geometry: Geometry,
    dtype: int,
    input: int,
    input_strides: tuple[int, int, int, int],
    out_backprop: int,
    out_backprop_strides: tuple[int, int, int, int],
    filter_backprop: int,
    taps_together: bool,
) -> None: ...
def connect_tensors(
    exchange: Any,
    tensor_type: Any,
    parameter_type: Any,
    transformers: tuple[Any, ...],
    watchers: tuple[Any, ...],
    records: Any,
    forward_ad: Any,
) -> bool: ...
def call_with_tensors(
    operation: int,
    first: Any,
    second: Any,
    sizes: Any,
    strides: Any,
    padding: Any,
    data_format: Any,
    dilations: Any,
    solve: Any,
) -> Any: ...
def call_layer(
    operation: int,
    input: Any,
    weight: Any,
    other: Any,
    in_channels: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    solve: Any,
) -> Any: ...
def xla_handlers() -> dict[str, Any]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def supported_isas() -> list[str]: ...
def get_isa() -> str: ...
def set_isa(name: str) -> None: ...
def get_large_filter() -> str: ...
def set_large_filter(name: str) -> None: ...
def set_assumed_bytes(bytes: float) -> None: ...
def tile_constants() -> dict[str, int]: ...
def peak_gflops(seconds: float) -> float: ...
