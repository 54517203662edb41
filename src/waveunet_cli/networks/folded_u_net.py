"""A U-Net of Spleeter as processors like it: the function of a SpleeterUNet in less time and memory, without gradients.

Tensors lie in memory as (B, H, W, C). What a convolution reads lies in a buffer that already has the border which the
convolution's padding would add; each step writes into the next one's buffer, so nothing is padded or concatenated.

A transposed convolution of stride 2, with 1 cut off before and 2 after, is per dimension, of the input x and taps w,

    y[2j]     = w[1]·x[j] + w[3]·x[j − 1]
    y[2j + 1] = w[0]·x[j + 1] + w[2]·x[j] + w[4]·x[j − 1],

so four convolutions of 2 or 3 × 2 or 3 taps give even and odd rows and columns; where outputs are few, one of 3 × 3
taps gives all four. The deepest is one matrix product instead, whose products are added where they belong, so that its
kernel serves as it is: with it and the large kernels of the way down, which do as well, three quarters of all weights
lie in memory only once.

A norm that follows an activation a, z = f·a + s, is left to the convolution that reads z. With the kernel w·f and the
bias b + Σ w·s it may read a instead, if the zeros around z become −s/f around a.
"""

from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.networks.spleeter import SLOPE, Norm, SpleeterUNet

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # even and odd rows, even and odd columns
LARGE = 3 << 18  # weights of a kernel, three megabytes
FEW = 4  # outputs, for which four convolutions would take longer than one
STRIP = 1 << 18  # values of a strip, a megabyte
LEAST_FACTOR = 1e-20  # stands for a norm's factor of 0, by which nothing can be divided

Phases = Iterable[tuple[slice, Iterator[Tensor]]]  # rows, and of each of PHASES (B, rows, W, C)


class Kernel(NamedTuple):
    """Weights (out, in, h, w) and biases (out) of a convolution."""

    weight: Tensor
    bias: Tensor


class Up(NamedTuple):
    """A transposed convolution of a skip and of what comes up.

    kernels  the four or one convolutions that make it up, which took over the norm of what comes up; or, if it is
             large, its own kernel (in, out, 5, 5)
    norm     is left to be computed, before a large kernel
    border   what is to lie around the input, (in)
    """

    kernels: list[Kernel]
    norm: Kernel | None
    border: Tensor


class Workspace:
    """Memory that calls of FoldedUNets write to, one after the other: fresh pages cost time."""

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}

    def frame(self, name: str, size: tuple[int, int, int], before: int, after: int, border: Tensor) -> Tensor:
        """Room for (B, H, W, C) in a border: (B, H + before + after, W + before + after, C), C values of it around.

        Only the border is written. What had the same name is overwritten.
        """
        around = before + after
        shape = (size[0], size[1] + around, size[2] + around, len(border))
        values = self._values.get(name)
        fits = values is not None and values.dtype == border.dtype and values.device == border.device
        if values is None or not fits or values.numel() < prod(shape):
            values = self._values[name] = border.new_empty(prod(shape))
        y = values[: prod(shape)].view(shape)
        for edge in (y[:, :before], y[:, -after:], y[:, :, :before], y[:, :, -after:]):
            edge[:] = border
        return y


class FoldedUNet:
    """From magnitudes to what becomes a mask, (B, C, T, bins) → (B, C, T, bins), computed in `dtype`."""

    def __init__(self, unet: SpleeterUNet, dtype: torch.dtype) -> None:
        self._is_elu = unet.is_elu
        back, *up = (cast(nn.ConvTranspose2d, conv) for conv in unet.up)
        *norms, last_norm = (cast(Norm, norm) for norm in unet.up_norms)
        self._down = [_kernel(*_parameters(cast(nn.Conv2d, conv)), dtype) for conv in unet.down]
        self._norms = [_affine(cast(Norm, norm), dtype) for norm in unet.down_norms]
        self._back = _parameters(back, dtype)
        self._up = [_up(conv, norm, dtype) for conv, norm in zip(up, norms, strict=True)]
        self._output, self._border = _folded_output(unet.output, last_norm, dtype)

    @torch.no_grad()
    def __call__(self, seen: Tensor, workspace: Workspace) -> Tensor:
        size, channels, height, width = seen.shape
        x = workspace.frame("down", (size, height, width), 1, 2, self._border.new_zeros(channels))
        x[:, 1:-2, 1:-2] = seen.permute(0, 2, 3, 1)
        joined: list[Tensor] = []  # (B, T / 2^(level + 1) + 2, bins / 2^(level + 1) + 2, 2 · out) each
        for level, (kernel, norm) in enumerate(zip(self._down[:-1], self._norms, strict=True)):
            height, width, out = height // 2, width // 2, len(norm.bias)
            joined.append(workspace.frame(f"up {level}", (size, height, width), 1, 1, self._up[-1 - level].border))
            y = workspace.frame(f"down {level % 2}", (size, height, width), 1, 2, norm.bias.new_zeros(out))
            for rows in _strips(height, width * out):
                skip = _convolved(x[:, 2 * rows.start : 2 * rows.stop + 3], kernel, stride=2)  # (B, rows, W, out)
                joined[-1][:, 1:-1, 1:-1, :out][:, rows] = skip
                self._activate_down(skip, norm, y[:, 1:-2][:, rows])
            x = y
        phases = _transposed(_convolved(x, self._down[-1], stride=2), self._back)
        for up in self._up:
            x = joined.pop()
            inner = x[:, 1:-1, 1:-1]
            risen = inner[..., x.shape[-1] // 2 :]
            self._activate_up(phases, [risen[:, row::2, column::2] for row, column in PHASES])
            if up.norm is None:
                phases = _upsampled(x, up.kernels)
            else:
                torch.addcmul(up.norm.bias, risen, up.norm.weight, out=risen)
                phases = _transposed(inner, up.kernels[0])
        height, width = seen.shape[2] // 2, seen.shape[3] // 2
        # Even rows and columns lie at 1 …, odd ones at 2 …: so the same taps serve for both.
        x = workspace.frame("down 0", (size, height - 1, width - 1), 2, 2, self._border.repeat(4))
        places = [
            x[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width, i : i + 1]
            for i, (row, column) in enumerate(PHASES)
        ]
        self._activate_up(phases, places)
        y = _convolved(x, self._output)  # (B, T / 2, bins / 2, 4 · C)
        y = y.float().view(size, height, width, 2, 2, channels).permute(0, 5, 1, 3, 2, 4)
        return y.reshape(seen.shape)

    def _activate_down(self, x: Tensor, norm: Kernel, place: Tensor) -> None:
        """The activation of the norm of (B, H, W, C), to rows (B, H, W + 3, C) with a border of 1 before, 2 after."""
        width, channels = x.shape[2:]
        inner = place.flatten(2)[..., channels : (width + 1) * channels]
        # channel by channel a norm takes three times as long
        torch.addcmul(norm.bias.repeat(width), x.flatten(2), norm.weight.repeat(width), out=inner)
        if self._is_elu:
            F.elu_(inner)
        else:
            F.leaky_relu_(inner, SLOPE)

    def _activate_up(self, phases: Phases, places: list[Tensor]) -> None:
        """The activation of each phase, (B, rows, W, C), at its place."""
        for rows, parts in phases:
            for part, place in zip(parts, places, strict=True):
                if self._is_elu:
                    torch.ops.aten.elu.out(part, out=place[:, rows])
                else:
                    torch.clamp_min(part, 0, out=place[:, rows])


def _parameters(conv: nn.Conv2d | nn.ConvTranspose2d, dtype: torch.dtype = torch.float32) -> Kernel:
    return Kernel(conv.weight.detach().to(dtype), cast(Tensor, conv.bias).detach().to(dtype))


def _kernel(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Kernel:
    """Channels-last in memory, or as it is if it is large: then that is no slower."""
    form = torch.channels_last if weight.numel() < LARGE else torch.contiguous_format
    return Kernel(weight.to(dtype).contiguous(memory_format=form), bias.to(dtype))


def _up(conv: nn.ConvTranspose2d, norm: Norm, dtype: torch.dtype) -> Up:
    """A transposed convolution (in, out, 5, 5), the latter half of whose input has a norm."""
    if conv.weight.numel() >= LARGE:
        kernel = _parameters(conv, dtype)
        return Up([kernel], _affine(norm, dtype), kernel.weight.new_zeros(conv.in_channels))
    factor, summand = _affine(norm, torch.float32)
    zeros = torch.zeros_like(factor)  # around the skip, and added to it
    scale, shift = torch.cat([zeros + 1, factor]), torch.cat([zeros, summand])
    weight, bias = _parameters(conv)
    weight = F.pad(weight, (1, 0, 1, 0))  # w[−1], which is 0, w[0], w[1] …
    taps = weight.reshape(*weight.shape[:2], 3, 2, 3, 2).flip(2, 4).permute(3, 5, 1, 0, 2, 4)  # (2, 2, out, in, 3, 3)
    bias = bias + (taps.sum((-1, -2)) * shift).sum(-1)  # (2, 2, out)
    taps = taps * scale[:, None, None]
    if conv.out_channels <= FEW:
        kernels = [_kernel(taps.flatten(0, 2), bias.flatten(), dtype)]
    else:
        kernels = [
            _kernel(taps[row, column, ..., : 2 + row, : 2 + column], bias[row, column], dtype) for row, column in PHASES
        ]
    return Up(kernels, None, (-shift / scale).to(dtype))


def _folded_output(conv: nn.Conv2d, norm: Norm, dtype: torch.dtype) -> tuple[Kernel, Tensor]:
    """The last convolution, which takes over the norm of what it reads, and what is to lie around that.

    It reads the four phases as channels, and gives them so.
    """
    factor, summand = _affine(norm, torch.float32)
    weight, bias = _parameters(conv)  # (C, 1, 4, 4), (C)
    bias = bias + (weight.sum((-1, -2)) * summand).sum(-1)
    phases = weight.new_zeros(4, len(bias), 4, *weight.shape[2:])
    for phase in range(4):
        phases[phase, :, 3 - phase] = weight[:, 0] * factor
    return _kernel(phases.flatten(0, 1), bias.repeat(4), dtype), (-summand / factor).to(dtype)


def _affine(norm: Norm, dtype: torch.dtype) -> Kernel:
    factor = norm.weight.detach()
    factor = torch.where(factor.abs() < LEAST_FACTOR, LEAST_FACTOR, factor)
    return Kernel(factor.to(dtype), norm.bias.detach().to(dtype))


def _strips(height: int, row: int) -> Iterator[slice]:
    """Rows of `row` values each, as many at once as stay in the processor's cache."""
    rows = max(1, STRIP // row)
    return (slice(start, min(start + rows, height)) for start in range(0, height, rows))


def _convolved(x: Tensor, kernel: Kernel, stride: int = 1) -> Tensor:
    """(B, H, W, in) → (B, H', W', out), without padding."""
    x = x.permute(0, 3, 1, 2)
    if kernel.weight.is_contiguous():  # else torch would copy the kernel
        x = x.contiguous()
    return F.conv2d(x, *kernel, stride=stride).permute(0, 2, 3, 1)


def _upsampled(x: Tensor, kernels: list[Kernel]) -> Phases:
    """The transposed convolution of (B, H + 2, W + 2, in) as four (B, H, W, out), in the order of PHASES."""
    height, width = x.shape[1] - 2, x.shape[2] - 2
    for rows in _strips(height, width * len(kernels[0].bias)):
        strip = x[:, rows.start : rows.stop + 2]
        if len(kernels) == 1:
            yield rows, iter(_convolved(strip, kernels[0]).chunk(4, -1))
        else:
            yield rows, (_convolved(strip, kernel)[:, : rows.stop - rows.start, :width] for kernel in kernels)


def _transposed(x: Tensor, kernel: Kernel) -> Phases:
    """The transposed convolution of (B, H, W, in), with its kernel as it is, as four (B, H, W, out)."""
    height, width = x.shape[1:3]
    taps = kernel.weight.flatten(1).T @ x.permute(0, 3, 1, 2).flatten(2)  # (B, out·25, H·W)
    y = F.fold(taps.float(), (2 * height + 3, 2 * width + 3), 5, stride=2).to(x.dtype)  # (B, out, 2H + 3, 2W + 3)
    y = (y + kernel.bias[:, None, None]).permute(0, 2, 3, 1)
    parts = (y[:, 1 + row : -2 : 2, 1 + column : -2 : 2] for row, column in PHASES)
    return [(slice(None), parts)]
