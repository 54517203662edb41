"""A U-Net of Spleeter as processors like it: the same function as SpleeterUNet, in half the time and less memory.

Tensors lie channels-last, (B, H, W, C) in memory. What a convolution reads lies in a buffer whose border is there from
the start, and each step writes straight into the buffer of the next, so that nothing is padded or concatenated later.

A transposed convolution of stride 2, with 1 cut off before and 2 after, is per dimension, of input x and taps w,

    y[2j]     = w[1]·x[j] + w[3]·x[j − 1]
    y[2j + 1] = w[0]·x[j + 1] + w[2]·x[j] + w[4]·x[j − 1],

so four convolutions of 2 or 3 × 2 or 3 taps give the even and odd rows and columns; where outputs are few, one of 3×3
taps with four times the outputs and some taps of zero. Of the largest kernels no second form is kept: all their taps
are one matrix product, (out·25, in), and what it gives is added where it belongs.

The norm that follows an activation, z = f·a + s, belongs to the next convolution, which reads a with the kernel w·f and
the bias b + Σ w·s. Its zeros around z are −s/f around a.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.networks.spleeter import SLOPE, Norm, SpleeterUNet

MOST_COPIED = 1 << 20  # weights of a kernel; of a larger one no second form is kept: four megabytes, and most of all
PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # even and odd rows, even and odd columns
FEW = 4  # outputs, for which four convolutions would take longer than one
LEAST_FACTOR = 1e-20  # of a norm: a smaller one would leave nothing to divide by
