"""Depthwise convolution and its gradients, with the semantics of TensorFlow's functions."""

from ._api import depthwise_conv2d
from ._gradients import depthwise_conv2d_backprop_filter, depthwise_conv2d_backprop_input
from ._settings import get_num_threads, set_num_threads, show_config

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "depthwise_conv2d",
    "depthwise_conv2d_backprop_filter",
    "depthwise_conv2d_backprop_input",
    "get_num_threads",
    "set_num_threads",
    "show_config",
]
