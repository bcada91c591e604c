"""Depthwise convolution with the semantics of TensorFlow's ``tf.nn.depthwise_conv2d``."""

from ._api import depthwise_conv2d
from ._settings import get_num_threads, set_num_threads, show_config

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "depthwise_conv2d",
    "get_num_threads",
    "set_num_threads",
    "show_config",
]
