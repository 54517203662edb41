"""A transposed convolution, 5 × 5 of stride 2, in tiles of rows: three fifths of its products; on a CPU, in float32.

It is four convolutions, whose outputs interleave (folded_u_net.py). Down the rows each has r = 3 taps or fewer:
y[j] = Σ_k w[k]·x[j + k], where each w[k] is a matrix of channels for each tap along the row. With the algorithm of Toom
and Cook, N = 6 rows of x give m = 4 of y with N such products instead of r·m,

    y = A · ((G·w) ⊙ (B·x)),   A[i, p] = p^i,  G[p, k] = p^k,  B = V^−T with V[p, n] = p^n,  0 ≤ n < N,

for N points p, of which ∞ stands for the highest power alone. Points near 1, and rows of G made as large as each other,
keep the rounding errors below those of the sum over all taps. Even and odd rows share B·x.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)  # and ∞
ONE = 1  # the index of the point 1, at which all rows of y take all of the product
TAPS, ROWS = 3, 4  # r and m
TOGETHER = 4  # tiles at once: few enough to stay in the processor's cache

Place = tuple[slice, slice, slice]


class TiledKernel(NamedTuple):
    """G·w of the taps to the left, in the middle and to the right, which even columns lack, and the bias.

    Outputs are even columns, then odd ones, each even rows, then odd ones.
    """

    left: Tensor  # (N, in, 2·2·out)
    middle: Tensor  # (N, in, 2·2·out)
    right: Tensor  # (N, in, 2·out)
    bias: Tensor  # (2·2·out)


@cache
def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """A (m, N), G (N, r) and B (N, N)."""

    def powers(number: int) -> np.ndarray:  # (N, number)
        return np.vstack([np.vander(POINTS, number, increasing=True), np.eye(number)[-1]])

    kernel = powers(TAPS)
    size = np.abs(kernel).sum(1, keepdims=True)
    before = np.linalg.inv(powers(len(POINTS) + 1)).T * size
    return _tensor(powers(ROWS).T), _tensor(kernel / size), _tensor(before)


def _tensor(matrix: np.ndarray) -> Tensor:
    return torch.tensor(matrix, dtype=torch.float32)


def tile_kernel(conv: nn.ConvTranspose2d, parts: Iterable[tuple[Tensor, Tensor]]) -> TiledKernel:
    """Of a convolution's taps (2, 2, n, in, 3, 3) of even and odd rows, even and odd columns, and biases (2, 2, n), for
    n outputs after the other.
    """
    _, matrix, _ = _matrices()
    left, middle = torch.empty(2, len(matrix), conv.in_channels, 2, 2, conv.out_channels)
    right, biases = torch.empty_like(left[:, :, 1]), torch.empty(2, 2, conv.out_channels)
    done = 0
    for taps, bias in parts:
        at = slice(done, done + bias.shape[-1])
        left[..., at], middle[..., at], both = torch.einsum("pk,rcoikl->lpicro", matrix, taps)
        right[..., at] = both[:, :, 1]
        biases[..., at] = bias.transpose(0, 1)
        done = at.stop
    return TiledKernel(left.flatten(2), middle.flatten(2), right.flatten(2), biases.flatten())


def upsampled_in_tiles(x: Tensor, height: int, kernel: TiledKernel) -> Iterator[tuple[Place, Tensor]]:
    """`height` rows of (B, H + 2, W + 2, in), H whole tiles, become parts of (B, 2·height, 2W, out) and their places.

    A part may be longer than its place.
    """
    after, _, before = _matrices()
    points, width = len(before), x.shape[2]
    for index, signal in enumerate(x):
        for first in range(0, height, TOGETHER * ROWS):
            tiles = min(TOGETHER, -(-(height - first) // ROWS))
            rows = signal[first : first + tiles * ROWS + TAPS - 1].unfold(0, points, ROWS)  # (tiles, W + 2, in, N)
            rows = rows.movedim(-1, 1).flatten(2)  # (tiles, N, (W + 2)·in)
            v = x.new_empty(points, tiles * width, x.shape[3])
            torch.bmm(before.expand(tiles, -1, -1), rows, out=v.view(points, tiles, -1).transpose(0, 1))
            # A product of all tiles' columns at once; what begins in one row and ends in the next is dropped.
            y = x.new_empty(points, tiles * width, len(kernel.bias))
            whole = y[:, :-2]
            torch.bmm(v[:, 1:-1], kernel.middle, out=whole)
            whole.baddbmm_(v[:, :-2], kernel.left)
            whole[..., len(kernel.bias) // 2 :].baddbmm_(v[:, 2:], kernel.right)
            y[ONE] += kernel.bias
            y = torch.bmm(after.expand(tiles, -1, -1), y.view(points, tiles, -1).transpose(0, 1))
            y = y.view(1, tiles * ROWS, width, 2, 2, -1)[:, :, : width - 2]  # (1, rows, W, 2, 2, out)
            for column in (0, 1):
                for row in (0, 1):
                    at = slice(2 * first + row, 2 * (first + tiles * ROWS), 2)
                    yield (slice(index, index + 1), at, slice(column, None, 2)), y[:, :, :, column, row]
