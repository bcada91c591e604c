"""The two examples of TensorFlow's page on depthwise_conv2d, with their results.

python examples/documented.py
"""

import numpy as np

from depthwise import depthwise_conv2d

# One image of 3 x 2 pixels with one channel; two filters of 2 x 1 for that channel.
input = np.array([[1, 2], [3, 4], [5, 6]], np.float32).reshape(1, 3, 2, 1)
filter = np.array([[1, 2], [3, 4]], np.float32).reshape(2, 1, 1, 2)

print('padding="VALID": only windows that lie inside the image')
output = depthwise_conv2d(input, filter, strides=[1, 1, 1, 1], padding="VALID")
print(output, output.shape, output.dtype, sep="\n")

print("\nexplicit padding: one row of zeros above, one column of zeros on the left")
padding = [[0, 0], [1, 0], [1, 0], [0, 0]]
output = depthwise_conv2d(input, filter, strides=[1, 1, 1, 1], padding=padding)
print(output, output.shape, output.dtype, sep="\n")
