"""A convolution of many channels in tiles, with a fraction of its multiplications; for a CPU, in float32.

A layer of r taps computes  y[t] = Σ_k w[k]·x[t + k],  each w[k] a matrix of channels. From N frames of x (a tile) come
m = N − r + 1 frames of y, for which that takes r·m products of such matrices. The tile's discrete Fourier transform X
and the kernel's, V = conj(W), need fewer: bin by bin Y = X·V, and the first m frames of y's inverse transform are
right, for no sum went around the tile's end (overlap-save). The bins 0 and N/2 are real, each other bin a + ib of X and
c + id of V takes three real products (Gauss):

    p1 = (a + b)·c,  p2 = a·(d − c),  p3 = b·(c + d);   Re Y = p1 − p3,  Im Y = p1 + p2

All of it together is a bilinear algorithm (S. Winograd, Arithmetic Complexity of Computations, 1980, chapter IV):

    y = A · ((G·w) ⊙ (B·x)),   B (P, N), G (P, r), A (m, P),   P = 3·N/2 − 1 products for m frames.

For 15 taps and N = 48 they are 2.1 a frame instead of 15. B and A are applied to each channel; that is dear where there
are few channels, so `points_for` weighs one against the other. The rounding errors are smaller than those of the sum
over all taps.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

POINTS = (16, 20, 40)  # lengths of a tile to choose from
# What a multiplication costs beside one of a plain convolution, measured with AVX2:
PRODUCT = 1.25  # in a product of matrices of channels
TRANSFORM = 2.2  # in B and A
FEWEST_ROWS = 48  # with fewer rows, a product of matrices takes as long as with so many: it waits for the matrix
WORTH = 0.65  # the share of a plain convolution's cost from which on the larger kernel is not worth its memory


class Tiling(NamedTuple):
    """The three matrices of tiles of N = `points` frames; see above."""

    before: Tensor  # B (P, N)
    kernel: Tensor  # G (P, r)
    after: Tensor  # A (m, P)


@cache
def tiling(points: int, taps: int) -> Tiling:
    """The matrices for tiles of `points` frames, an even number, and kernels of `taps` taps."""
    frames = points - taps + 1
    before, kernel, after = [], [], []
    for k in range(points // 2 + 1):
        angles = 2 * np.pi * k * np.arange(points) / points
        cos, sin = np.cos(angles), np.sin(angles)
        a, b, c, d = cos, -sin, cos[:taps], sin[:taps]
        if k in (0, points // 2):
            before += [a]
            kernel += [c]
            after += [cos[:frames] / points]
        else:  # y[t] = 2/N · Σ_k (Re Y·cos − Im Y·sin)
            re, im = 2 / points * cos[:frames], -2 / points * sin[:frames]
            before += [a + b, a, b]
            kernel += [c, d - c, c + d]
            after += [re + im, im, -re]
    return Tiling(
        *(torch.tensor(x, dtype=torch.float32) for x in (np.array(before), np.array(kernel), np.array(after).T))
    )


def points_for(taps: int, inside: int, outside: int, frames: int) -> int | None:
    """The best length of a tile for `frames` frames of a convolution from `inside` to `outside` channels.

    None where the convolution as it is takes less time.
    """

    def cost(points: int) -> float:
        products, each = 3 * points // 2 - 1, points - taps + 1
        tiles = -(-frames // each)
        of_products = PRODUCT * max(tiles, FEWEST_ROWS) * products * inside * outside
        return of_products + TRANSFORM * tiles * products * (points * inside + each * outside)

    best = min((points for points in POINTS if points >= 2 * (taps - 1)), key=cost, default=None)
    plain = max(frames, FEWEST_ROWS) * taps * inside * outside
    return best if best is not None and cost(best) < WORTH * plain else None


def tile_kernel(weight: Tensor, points: int) -> Tensor:
    """G·w of a kernel [out, in, tap], (P, in, out)."""
    outside, inside, taps = weight.shape
    matrix = tiling(points, taps).kernel.to(weight.dtype)
    return (matrix @ weight.permute(2, 1, 0).flatten(1)).view(-1, inside, outside)


def tiles_of(rows: Tensor, number: int, points: int, taps: int) -> Tensor:
    """`number` overlapping tiles (number, N, C) of rows (t, C), zeros beyond their end. Copies at most the rows."""
    each = points - taps + 1
    missing = (number - 1) * each + points - len(rows)
    if missing > 0:
        rows = torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])
    step = rows.stride(0)
    return rows.as_strided((number, points, rows.shape[1]), (each * step, step, rows.stride(1)))


def transform(matrix: Tensor, tiles: Tensor) -> Tensor:
    """A matrix (P, N) times each tile (n, N, C): (P, n, C), tiles side by side in memory."""
    return torch.bmm(matrix.expand(len(tiles), -1, -1), tiles).transpose(0, 1)


def spectra_of(rows: Tensor, matrices: Tiling, frames: int) -> Tensor:
    """B·x of the tiles that the first `frames` frames of a convolution of rows (t, C) come from: (P, n, C)."""
    each, points = len(matrices.after), matrices.before.shape[1]
    return transform(matrices.before, tiles_of(rows, -(-frames // each), points, points - each + 1))


def frames_of(products: Tensor, matrices: Tiling, frames: int) -> Tensor:
    """The first `frames` frames (frames, out) of A times products (P, n, out)."""
    return transform(matrices.after, products.transpose(0, 1)).transpose(0, 1).flatten(0, 1)[:frames]
