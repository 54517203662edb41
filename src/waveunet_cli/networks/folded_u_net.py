"""A U-Net of Spleeter as processors like it: the function of a SpleeterUNet in less time and memory, without gradients.

Tensors lie in memory as (B, H, W, C). What a convolution reads lies in a buffer that already has the border which the
convolution's padding would add; each step writes into the next one's buffer, so nothing is padded or concatenated.

A transposed convolution of stride 2, with 1 cut off before and 2 after, is per dimension, of the input x and taps w,

    y[2j]     = w[1]·x[j] + w[3]·x[j − 1]
    y[2j + 1] = w[0]·x[j + 1] + w[2]·x[j] + w[4]·x[j − 1],

so four convolutions of 2 or 3 × 2 or 3 taps give even and odd rows and columns; at the top, with one output, one of
3 × 3 taps gives all four. The deepest, and the convolution before it, are one matrix product each.

At the top, where a skip is largest, its half of the convolution is computed on the way down and kept instead.

A norm that follows an activation a, z = f·a + s, is left to the convolution that reads z. With the kernel w·f and the
bias b + Σ w·s it may read a instead, if the zeros around z become −s/f around a.
"""

import threading
from collections.abc import Iterator
from math import prod
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.networks.spleeter import SLOPE, Norm, Spleeter, SpleeterUNet

Place = tuple[slice, slice, slice]

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # even and odd rows, even and odd columns
REACH = 3  # spectra that the last convolution reads before and after its own
STRIP = 32  # rows at once, where all of them would take much memory
LEAST_FACTOR = 1e-20  # stands for a norm's factor of 0, by which nothing can be divided


class Kernel(NamedTuple):
    """Weights (out, in, h, w) and biases (out) of a convolution."""

    weight: Tensor
    bias: Tensor


class Frames:
    """Buffers with a border for what convolutions read, in memory that is kept: fresh memory is slow to write.

    Two pieces of memory by turns are enough, since each buffer is read only while the next one is written.
    """

    def __init__(self, values: int, dtype: torch.dtype, device: torch.device) -> None:
        """Room for so many values from the start, and for more when needed.

        Memory that is taken early and never given back leaves no gaps between what comes and goes.
        """
        with torch.inference_mode(False):  # else none but inference could write there later
            self._memory = [torch.empty(values, dtype=dtype, device=device) for _ in range(2)]
        self._turn = 0

    def next(self, shape: tuple[int, int, int], before: int, after: int, border: Tensor, rows_more: int = 0) -> Tensor:
        """A buffer for (B, H, W, ·) of which only the border is written: (B, H + both, W + both, C), C values around.

        With `rows_more` of them below. It lasts until the next but one.
        """
        size, height, width = shape
        whole = (size, height + before + after + rows_more, width + before + after, len(border))
        self._turn = turn = 1 - self._turn
        if self._memory[turn].numel() < prod(whole):
            self._memory[turn] = self._memory[turn].new_empty(0)  # before there is more
            with torch.inference_mode(False):
                self._memory[turn] = self._memory[turn].new_empty(prod(whole))
        y = self._memory[turn][: prod(whole)].view(whole)
        for edge in (y[:, :before], y[:, before + height :], y[:, :, :before], y[:, :, -after:]):
            edge[:] = border
        return y


class FoldedSpleeter(nn.Module):
    """From magnitudes to masks, (B, C, T, bins) → (B, S, C, T, bins), as Spleeter.masks, in `dtype`; T as FoldedUNet's.

    It has no parameters: the kernels are its own. Threads take turns.
    """

    def __init__(self, network: Spleeter, dtype: torch.dtype) -> None:
        super().__init__()
        config = network.config
        widths = [config.channels, config.filters[0], *(2 * width for width in config.filters[1:])]
        values = max(
            width * ((config.spectra >> level) + 2 * REACH) * ((config.bins >> level) + 2 * REACH)
            for level, width in enumerate(widths)
        )  # of one signal
        frames = Frames(values, dtype, next(network.parameters()).device)
        self._unets = [FoldedUNet(cast(SpleeterUNet, unet), config.spectra, dtype, frames) for unet in network.unets]
        self._turn = threading.Lock()

    def forward(self, seen: Tensor) -> Tensor:
        masks = seen.new_empty(seen.shape[0], len(self._unets), *seen.shape[1:])
        with self._turn:
            for unet, mask in zip(self._unets, masks.unbind(1), strict=True):
                unet(seen, mask)
                mask.sigmoid_()
        return masks


class FoldedUNet:
    """From magnitudes to what becomes a mask, (B, C, T, bins) → (B, C, T, bins), computed in `dtype`.

    T is `spectra`, which make a block, or less: then the rest of the block is silence, and its masks are not computed.
    """

    def __init__(self, unet: SpleeterUNet, spectra: int, dtype: torch.dtype, frames: Frames) -> None:
        self._frames = frames
        self._spectra = spectra
        self._is_elu = unet.is_elu
        back, *up = (cast(nn.ConvTranspose2d, conv) for conv in unet.up)
        *norms, last_norm = (cast(Norm, norm) for norm in unet.up_norms)
        self._down = [_kernel(*_parameters(cast(nn.Conv2d, conv)), dtype) for conv in unet.down]
        self._norms = [_affine(cast(Norm, norm), dtype) for norm in unet.down_norms]
        self._back = _parameters(back, dtype)
        self._up = [_upsampling(conv, norm, dtype) for conv, norm in zip(up[:-1], norms, strict=False)]
        for conv in up[-1:]:  # the top, unless the deepest is
            scale, shift = _read_norm(norms[-1])
            taps, bias = _taps(*_parameters(conv), scale, shift)
            skip, upsampled = taps.flatten(0, 2).chunk(2, 1)  # (4, in / 2, 3, 3) each
            self._top_skip = _kernel(skip, bias.flatten(), dtype)
            self._top = _kernel(upsampled, torch.zeros_like(bias.flatten()), dtype)
            self._top_border = (-shift / scale).chunk(2)[1].to(dtype)
        self._output, self._border = _folded_output(unet.output, last_norm, dtype)

    @torch.no_grad()
    def __call__(self, seen: Tensor, out: Tensor) -> None:
        """Writes into `out`, which has the shape of `seen`."""
        wanted = seen.shape[2]
        read, heights = self._heights(wanted)
        size, channels, _, bins = seen.shape
        x = self._frames.next((size, wanted, bins), 1, 2, self._border.new_zeros(channels), read - wanted)
        x[:, 1 : 1 + wanted, 1:-2] = seen.permute(0, 2, 3, 1)
        skips: list[Tensor] = []
        for level, norm in enumerate(self._norms):
            if level:
                skip = _convolved(x, self._down[level], stride=2)  # (B, T / 2^(level + 1), bins / 2^(level + 1), out)
                x = self._frames.next(_size(skip), 1, 2, skip.new_zeros(skip.shape[-1]))
                self._activate_down(skip, norm, x[:, 1:-2])
            else:
                x, skip = self._first(x)
            skips.append(skip)
        phases = _transposed(_multiplied(x, self._down[-1])[:, : heights.pop()], self._back)
        for kernels, border in self._up:
            skip = skips.pop()[:, : heights.pop()]
            x = self._frames.next(_size(skip), 1, 1, border)
            as_it_was, upsampled = x[:, 1:-1, 1:-1].chunk(2, -1)
            as_it_was[:] = skip
            self._activate_up(phases, upsampled)
            phases = _upsampled(x, kernels)
        if skips:
            skip = skips.pop()[:, : heights.pop()]  # (B, T / 2, bins / 2, 4), as _first gives it
            x = self._frames.next(_size(skip), 1, 1, self._top_border)
            self._activate_up(phases, x[:, 1:-1, 1:-1])
            four = _convolved(x, self._top).add_(skip)
            phases = zip(map(_place, PHASES), four.chunk(4, -1), strict=True)
        x = self._frames.next((size, heights.pop(), bins), REACH, REACH, self._border)  # (B, T, bins, 1)
        self._activate_up(phases, x[:, REACH:-REACH, REACH:-REACH])
        x = x.squeeze(-1).unsqueeze(1)  # (B, 1, T, bins)
        for start in range(0, wanted, STRIP):
            end = min(start + STRIP, wanted)
            out[:, :, start:end] = F.conv2d(x[:, :, start : end + 2 * REACH], *self._output, dilation=2)

    def _first(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first level: a buffer for the second, and what the skip adds to even and odd outputs, (B, H, W, 4).

        It is computed in strips of rows, since the skip itself would be the largest of all layers.
        """
        kernel, norm = self._down[0], self._norms[0]
        size, height, width = x.shape[0], x.shape[1] // 2 - 1, x.shape[2] // 2 - 1
        y = self._frames.next((size, height, width), 1, 2, x.new_zeros(len(kernel.bias)))
        added = x.new_empty(size, height, width, len(PHASES))
        for start in range(0, height, STRIP):
            end = min(start + STRIP, height)
            first, last = max(0, start - 1), min(height, end + 1)  # with the rows that the top's convolution reads
            skip = _convolved(x[:, 2 * first : 2 * last + 3], kernel, stride=2)
            own = slice(start - first, end - first)
            added[:, start:end] = _convolved(skip, self._top_skip, padding=1)[:, own]
            self._activate_down(skip[:, own], norm, y[:, 1 + start : 1 + end])
        return y, added

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

    def _activate_down(self, x: Tensor, norm: Kernel, rows: Tensor) -> None:
        """The activation of the norm of (B, H, W, C), in rows of a buffer (B, H, W + 3, C)."""
        width, channels = x.shape[2:]
        inner = rows.flatten(2)[..., channels : (width + 1) * channels]
        x = x.flatten(2)  # (B, H, W·C): channel by channel a norm takes three times as long
        torch.addcmul(norm.bias.repeat(width), x, norm.weight.repeat(width), out=inner)
        if self._is_elu:
            F.elu_(inner)
        else:
            F.leaky_relu_(inner, SLOPE)

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
    """Channels-last in memory."""
    return Kernel(weight.to(dtype).contiguous(memory_format=torch.channels_last), bias.to(dtype))


def _upsampling(conv: nn.ConvTranspose2d, norm: Norm, dtype: torch.dtype) -> tuple[list[Kernel], Tensor]:
    """What computes a transposed convolution, and what is to lie around its input, (in).

    The latter half of the input has a norm that it takes over.
    """
    weight, bias = _parameters(conv)
    scale, shift = _read_norm(norm)
    kernels = []
    for row, column in PHASES:
        taps = weight[:, :, 1 - row :: 2, 1 - column :: 2].flip(2, 3).transpose(0, 1)  # (out, in, 2 or 3, 2 or 3)
        shifted = bias + (taps.sum((-1, -2)) * shift).sum(-1)
        kernels.append(_kernel(taps * scale[:, None, None], shifted, dtype))
    return kernels, (-shift / scale).to(dtype)


def _read_norm(norm: Norm) -> tuple[Tensor, Tensor]:
    """Factors and summands of a skip, which has no norm, and of what is upsampled beside it, (in) each."""
    factor, summand = _affine(norm, torch.float32)
    zeros = torch.zeros_like(factor)
    return torch.cat([zeros + 1, factor]), torch.cat([zeros, summand])


def _taps(weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """A transposed convolution (in, out, 5, 5) of a scaled and shifted input (in) as the taps (2, 2, out, in, 3, 3) and
    biases (2, 2, out) of even and odd rows, even and odd columns.
    """
    weight = F.pad(weight, (1, 0, 1, 0))  # w[−1], which is 0, w[0], w[1] …
    taps = weight.reshape(*weight.shape[:2], 3, 2, 3, 2).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
    return taps * scale[:, None, None], bias + (taps.sum((-1, -2)) * shift).sum(-1)


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


def _size(x: Tensor) -> tuple[int, int, int]:
    size, height, width, _ = x.shape
    return size, height, width


def _convolved(x: Tensor, kernel: Kernel, stride: int = 1, padding: int = 0) -> Tensor:
    """(B, H, W, in) → (B, H', W', out)."""
    return F.conv2d(x.permute(0, 3, 1, 2), *kernel, stride=stride, padding=padding).permute(0, 2, 3, 1)


def _multiplied(x: Tensor, kernel: Kernel) -> Tensor:
    """_convolved with stride 2, as a matrix product, for many channels and few rows and columns."""
    read = x.unfold(1, 5, 2).unfold(2, 5, 2).permute(0, 1, 2, 4, 5, 3)  # (B, H', W', 5, 5, in)
    weight = kernel.weight.permute(0, 2, 3, 1).flatten(1)  # (out, 25·in)
    return F.linear(read.flatten(3), weight, kernel.bias)


def _upsampled(x: Tensor, kernels: list[Kernel]) -> Iterator[tuple[Place, Tensor]]:
    """The transposed convolution of (B, H + 2, W + 2, in) as parts of (B, 2H, 2W, out), and their places."""
    for phase, kernel in zip(PHASES, kernels, strict=True):
        yield _place(phase), _convolved(x, kernel)[:, :, : x.shape[2] - 2]


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
