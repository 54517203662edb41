"""A U-Net of Spleeter as processors like it: the function of a SpleeterUNet in less time and memory, without gradients.

Tensors lie in memory as (B, H, W, C). What a convolution reads lies in a buffer that already has the border which the
convolution's padding would add; each step writes into the next one's buffer, so nothing is padded or concatenated.

A transposed convolution of stride 2, with 1 cut off before and 2 after, is per dimension, of the input x and taps w,

    y[2j]     = w[1]·x[j] + w[3]·x[j − 1]
    y[2j + 1] = w[0]·x[j + 1] + w[2]·x[j] + w[4]·x[j − 1],

so four convolutions of 2 or 3 × 2 or 3 taps give even and odd rows and columns; where outputs are few, one of 3 × 3
taps gives all four; where inputs are many, tiles of rows (row_tiles.py) take fewer products. The deepest is one matrix
product instead, whose products are added where they belong, so that its kernel serves as it is, like the large ones of
the way down, whose tiles would gain little for their memory.

A norm that follows an activation a, z = f·a + s, is left to the convolution that reads z. With the kernel w·f and the
bias b + Σ w·s it may read a instead, if the zeros around z become −s/f around a.
"""

from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.networks.row_tiles import ROWS, Place, TiledKernel, tile_kernel, upsampled_in_tiles
from waveunet_cli.networks.spleeter import SLOPE, Norm, SpleeterUNet

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # even and odd rows, even and odd columns
REACH = 3  # spectra that the last convolution reads before and after its own
MANY = 128  # inputs, from which on tiles take less time than convolutions
LARGE = 3 << 18  # weights of a kernel, three megabytes
FEW = 4  # outputs, for which four convolutions would take longer than one
LEAST_FACTOR = 1e-20  # stands for a norm's factor of 0, by which nothing can be divided


class Kernel(NamedTuple):
    """Weights (out, in, h, w) and biases (out) of a convolution."""

    weight: Tensor
    bias: Tensor


class FoldedUNet:
    """From magnitudes to what becomes a mask, (B, C, T, bins) → (B, C, T, bins), computed in `dtype`.

    T is `spectra`, which make a block, or less: then the rest of the block is silence, and its masks are not computed.
    """

    def __init__(self, unet: SpleeterUNet, spectra: int, dtype: torch.dtype) -> None:
        self._spectra = spectra
        self._is_elu = unet.is_elu
        back, *up = (cast(nn.ConvTranspose2d, conv) for conv in unet.up)
        *norms, last_norm = (cast(Norm, norm) for norm in unet.up_norms)
        self._down = [_kernel(*_parameters(cast(nn.Conv2d, conv)), dtype) for conv in unet.down]
        self._norms = [_affine(cast(Norm, norm), dtype) for norm in unet.down_norms]
        self._back = _parameters(back, dtype)
        self._up = [_folded_up(conv, norm, dtype) for conv, norm in zip(up, norms, strict=True)]
        self._output, self._border = _folded_output(unet.output, last_norm, dtype)

    @torch.no_grad()
    def __call__(self, seen: Tensor) -> Tensor:
        wanted = seen.shape[2]
        read, heights = self._heights(wanted)
        seen = F.pad(seen, (0, 0, 0, read - wanted)).permute(0, 2, 3, 1)  # (B, read, bins, C)
        x = _frame(seen, 1, 2, self._border.new_zeros(seen.shape[-1]))
        x[:, 1:-2, 1:-2] = seen
        skips: list[Tensor] = []
        for kernel, norm in zip(self._down[:-1], self._norms, strict=True):
            skips.append(_convolved(x, kernel, stride=2))  # (B, T / 2^(level + 1), bins / 2^(level + 1), out)
            x = self._activated_down(skips[-1], norm)
        phases = _transposed(_convolved(x, self._down[-1], stride=2)[:, : heights.pop()], self._back)
        for kernels, border in self._up:
            height = heights.pop()
            skip = skips.pop()[:, :height]
            x = _frame(skip, 1, 1, border, -height % ROWS)
            as_it_was, upsampled = x[:, 1 : 1 + height, 1:-1].chunk(2, -1)
            as_it_was[:] = skip
            del skip  # before the convolutions, which `phases` only computes when asked
            self._activate_up(phases, upsampled)
            phases = _upsampled(x, height, kernels)
        x = _frame(seen[:, : heights.pop()], REACH, REACH, self._border)
        self._activate_up(phases, x[:, REACH:-REACH, REACH:-REACH])
        y = F.conv2d(x.permute(0, 3, 1, 2), *self._output, dilation=2)[:, :, :wanted]
        return y.float().contiguous()

    def _heights(self, wanted: int) -> tuple[int, list[int]]:
        """Spectra to read, whole steps of the deepest level, so that the first `wanted` come out as of a whole block,
        and the rows that this takes of each level on the way up, the deepest last.
        """
        levels = len(self._down)
        heights = [min(self._spectra, wanted + REACH)]
        for level in range(1, levels + 1):
            heights.append(min(self._spectra >> level, (heights[-1] + 1) // 2 + 1))
        read, step = heights[-1], 2**levels
        for _ in range(levels):
            read = 2 * read + 2
        return min(self._spectra, -(-read // step) * step), heights

    def _activated_down(self, x: Tensor, norm: Kernel) -> Tensor:
        """The activation of the norm of (B, H, W, C), in a buffer for the next convolution."""
        size, height, width, channels = x.shape
        y = _frame(x, 1, 2, x.new_zeros(channels))
        inner = y.flatten(2)[:, 1:-2, channels : (width + 1) * channels]
        rows = x.reshape(size, height, width * channels)  # channel by channel a norm takes three times as long
        torch.addcmul(norm.bias.repeat(width), rows, norm.weight.repeat(width), out=inner)
        if self._is_elu:
            F.elu_(inner)
        else:
            F.leaky_relu_(inner, SLOPE)
        return y

    def _activate_up(self, phases: Iterator[tuple[Place, Tensor]], inner: Tensor) -> None:
        """The activation of parts of a buffer, (B, H, W, C), in their places. A part may be longer than its place."""
        for at, phase in phases:
            place = inner[at]
            phase = phase[:, : place.shape[1]]
            if self._is_elu:
                torch.ops.aten.elu.out(phase, out=place)
            else:
                torch.clamp_min(phase, 0, out=place)


def _parameters(conv: nn.Conv2d | nn.ConvTranspose2d, dtype: torch.dtype = torch.float32) -> Kernel:
    return Kernel(conv.weight.detach().to(dtype), cast(Tensor, conv.bias).detach().to(dtype))


def _kernel(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Kernel:
    """Channels-last in memory, or as it is if it is large: then that is no slower."""
    form = torch.channels_last if weight.numel() < LARGE else torch.contiguous_format
    return Kernel(weight.to(dtype).contiguous(memory_format=form), bias.to(dtype))


def _folded_up(conv: nn.ConvTranspose2d, norm: Norm, dtype: torch.dtype) -> tuple[list[Kernel] | TiledKernel, Tensor]:
    """The convolutions that make up a transposed one (in, out, 5, 5), and what is to lie around their input.

    The latter half of the input has a norm that they take over.
    """
    factor, summand = _affine(norm, torch.float32)
    zeros = torch.zeros_like(factor)  # around the skip, and added to it
    scale, shift = torch.cat([zeros + 1, factor]), torch.cat([zeros, summand])
    weight, bias = _parameters(conv)
    weight = F.pad(weight, (1, 0, 1, 0))  # w[−1], which is 0, w[0], w[1] …
    taps = weight.reshape(*weight.shape[:2], 3, 2, 3, 2).flip(2, 4).permute(3, 5, 1, 0, 2, 4)  # (2, 2, out, in, 3, 3)
    bias = bias + (taps.sum((-1, -2)) * shift).sum(-1)  # (2, 2, out)
    taps = taps * scale[:, None, None]
    border = (-shift / scale).to(dtype)
    if conv.in_channels >= MANY and dtype == torch.float32 and weight.device.type == "cpu":
        return tile_kernel(taps, bias), border
    if conv.out_channels <= FEW:
        kernels = [_kernel(taps.flatten(0, 2), bias.flatten(), dtype)]
    else:
        kernels = [
            _kernel(taps[row, column, ..., : 2 + row, : 2 + column], bias[row, column], dtype) for row, column in PHASES
        ]
    return kernels, border


def _folded_output(conv: nn.Conv2d, norm: Norm, dtype: torch.dtype) -> tuple[Kernel, Tensor]:
    """The last convolution, which takes over the norm of what it reads, and what is to lie around that."""
    factor, summand = _affine(norm, torch.float32)
    weight, bias = _parameters(conv)
    bias = bias + (weight.sum((-1, -2)) * summand).sum(-1)
    return _kernel(weight * factor, bias, dtype), (-summand / factor).to(dtype)


def _affine(norm: Norm, dtype: torch.dtype) -> Kernel:
    factor = norm.weight.detach()
    factor = torch.where(factor.abs() < LEAST_FACTOR, LEAST_FACTOR, factor)
    return Kernel(factor.to(dtype), norm.bias.detach().to(dtype))


def _frame(x: Tensor, before: int, after: int, border: Tensor, rows_more: int = 0) -> Tensor:
    """A buffer for (B, H, W, ·) of which only the border is written: (B, H + both, W + both, C), C values around.

    With `rows_more` of them below.
    """
    size, height, width = x.shape[:3]
    y = border.new_empty(size, height + before + after + rows_more, width + before + after, len(border))
    for edge in (y[:, :before], y[:, before + height :], y[:, :, :before], y[:, :, -after:]):
        edge[:] = border
    return y


def _convolved(x: Tensor, kernel: Kernel, stride: int = 1) -> Tensor:
    """(B, H, W, in) → (B, H', W', out), without padding."""
    x = x.permute(0, 3, 1, 2)
    if kernel.weight.is_contiguous():  # else torch would copy the kernel
        x = x.contiguous()
    return F.conv2d(x, *kernel, stride=stride).permute(0, 2, 3, 1)


def _upsampled(x: Tensor, height: int, kernels: list[Kernel] | TiledKernel) -> Iterator[tuple[Place, Tensor]]:
    """The transposed convolution of (B, H + 2 or more, W + 2, in) as parts of (B, 2H, 2W, out), and their places."""
    width = x.shape[2] - 2
    if isinstance(kernels, TiledKernel):
        yield from upsampled_in_tiles(x, height, kernels)
    elif len(kernels) == 1:
        yield from zip(map(_place, PHASES), _convolved(x, kernels[0]).chunk(4, -1), strict=True)
    else:
        for phase, kernel in zip(PHASES, kernels, strict=True):
            yield _place(phase), _convolved(x, kernel)[:, :, :width]


def _place(phase: tuple[int, int]) -> Place:
    row, column = phase
    return slice(None), slice(row, None, 2), slice(column, None, 2)


def _transposed(x: Tensor, kernel: Kernel) -> Iterator[tuple[Place, Tensor]]:
    """The transposed convolution of (B, H, W, in), with its kernel as it is, as four parts (B, H, W, out)."""
    height, width = x.shape[1:3]
    taps = kernel.weight.flatten(1).T @ x.permute(0, 3, 1, 2).flatten(2)  # (B, out·25, H·W)
    y = F.fold(taps.float(), (2 * height + 3, 2 * width + 3), 5, stride=2).to(x.dtype)  # (B, out, 2H + 3, 2W + 3)
    y = (y + kernel.bias[:, None, None]).permute(0, 2, 3, 1)
    for row, column in PHASES:
        yield _place((row, column)), y[:, 1 + row : -2 : 2, 1 + column : -2 : 2]
