"""The network's forward pass for training on a CPU: the same numbers, with gradients several times faster.

What autograd makes of `WaveUNet.forward` on a CPU spends two thirds of a step in oneDNN's gradient of the kernels
(5 to 15 GFLOP/s where the convolution itself reaches 50) and a fifth in copies that slices leave behind. Here each
level is one autograd function. Its kernel's gradient

    dw[o, k, c] = Σ_t g[t, o] · x[t + k, c]

is, over the frames t = r + K·j of one phase r (K taps), a single matrix product without any copy: in channels-last
memory x[r + K·j + k, c] is the contiguous matrix (j; k, c), and g[r + K·j, o] one with a longer row stride.
"""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.networks.wave_u_net.network import SLOPE, WaveUNet, as_2d, crop


def kernel_gradient(x: Tensor, grad: Tensor, taps: int) -> Tensor:
    """Gradient (out, in, 1, taps) of the kernel that made (B, out, 1, t − taps + 1) from x (B, in, 1, t)."""
    inside, outside, frames = x.shape[1], grad.shape[1], grad.shape[-1]
    total = x.new_zeros(outside, taps * inside, dtype=torch.promote_types(x.dtype, torch.float32))
    for xs, gs in zip(x, grad, strict=True):
        rows = xs[:, 0].t().contiguous().view(-1)  # frame by frame; no copy in channels-last memory
        grads = gs[:, 0].t().contiguous()  # (t − taps + 1, out)
        for phase in range(min(taps, frames)):
            picked = grads[phase::taps]  # (j, out)
            block = rows[phase * inside :][: picked.shape[0] * taps * inside].view(-1, taps * inside)
            total += picked.t() @ block
    return total.to(x.dtype).view(outside, taps, 1, inside).permute(0, 3, 2, 1)


def input_gradient(x_shape: torch.Size, weight: Tensor, grad: Tensor, padding: int = 0) -> Tensor:
    """Gradient (B, in, 1, t) of what a convolution of stride 1 read."""
    empty = grad.new_empty(1).expand(x_shape)
    return cast(
        Tensor,
        torch.ops.aten.convolution_backward(
            grad, empty, weight, None, [1, 1], [0, padding], [1, 1], False, [0, 0], 1, [True, False, False]
        )[0],
    )


class Piece(NamedTuple):
    """Frames to compute of a convolution: `frames` of them, from frame `start` on, every `step`-th."""

    start: int
    frames: int
    step: int


def group(x: Tensor, step: int) -> Tensor:
    """`step` frames as one: (B, C, 1, step·n) → (B, step·C, 1, n), without a copy in channels-last memory."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], 1, x.shape[-1] // step, -1).permute(0, 3, 1, 2)


def ungroup(x: Tensor, step: int) -> Tensor:
    """What `group` made one apart again: (B, step·C, 1, n) → (B, C, 1, step·n)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], 1, x.shape[-1] * step, -1).permute(0, 3, 1, 2)


def group_kernel(weight: Tensor, step: int) -> Tensor:
    """A kernel (out, in, 1, taps) for every `step`-th frame of grouped ones: (out, step·in, 1, ⌈taps/step⌉)."""
    out, inside, _, taps = weight.shape
    padded = F.pad(weight, (0, -taps % step)).reshape(out, inside, -1, step)
    grouped = padded.permute(0, 3, 1, 2).reshape(out, step * inside, 1, -1)
    return grouped.contiguous(memory_format=torch.channels_last)


def ungroup_kernel(grouped: Tensor, step: int, taps: int) -> Tensor:
    """The kernel (out, in, 1, taps) that `group_kernel` made (out, step·in, 1, ⌈taps/step⌉) of."""
    out, inside, _, wide = grouped.shape
    apart = grouped.reshape(out, step, inside // step, wide).permute(0, 2, 3, 1)
    return apart.reshape(out, inside // step, 1, -1)[..., :taps]


def read_by(piece: Piece, x: Tensor, taps: int) -> Tensor:
    """The grouped frames of x (B, in, 1, t) that a piece is computed from, zeros beyond the end."""
    length = piece.step * (piece.frames - 1 + -(-taps // piece.step))
    part = x[..., piece.start : piece.start + length]
    return group(F.pad(part, (0, length - part.shape[-1])) if part.shape[-1] < length else part, piece.step)


class Down(torch.autograd.Function):
    """Convolve, LeakyReLU, part: (B, in, 1, t) → every other frame, to go on with, and the `keep` frames in the middle,
    the skip; (B, out, 1, ⌈t' / 2⌉) and (B, out, 1, keep) of t' = t − taps + 1.

    Beside the skip nobody asks for the frames between; they are not computed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        frames = x.shape[-1] - weight.shape[-1] + 1
        start = (frames - keep) // 2
        first, last = start // 2 * 2, -(-(start + keep) // 2) * 2  # whole pairs, which the skip lies in
        ctx.pieces = (
            Piece(0, first // 2, 2),
            Piece(first, last - first, 1),
            Piece(last, (frames - last + 1) // 2, 2),
        )
        ys = []
        for piece in ctx.pieces:
            if piece.frames:
                read = read_by(piece, x, weight.shape[-1])
                ys.append(F.leaky_relu_(F.conv2d(read, group_kernel(weight, piece.step), bias), SLOPE))
            else:
                ys.append(x.new_empty(x.shape[0], weight.shape[0], 1, 0))
        before, middle, after = ys
        ctx.save_for_backward(x, weight, *ys)
        ctx.skip = slice(start - first, start - first + keep)
        return torch.cat([before, middle[..., ::2], after], -1), middle[..., ctx.skip]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, before, middle, after = ctx.saved_tensors
        taps = weight.shape[-1]
        on = torch.split(grads[0], [before.shape[-1], middle.shape[-1] // 2, after.shape[-1]], -1)
        whole = F.pad(grads[1], (ctx.skip.start, middle.shape[-1] - ctx.skip.stop))
        whole[..., ::2] += on[1]
        dx = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        dw, db = torch.zeros_like(weight), weight.new_zeros(len(weight))
        for piece, y, grad in zip(ctx.pieces, (before, middle, after), (on[0], whole, on[2]), strict=True):
            if not piece.frames:
                continue
            grad = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)
            read, kernel = read_by(piece, x, taps), group_kernel(weight, piece.step)
            dw += ungroup_kernel(kernel_gradient(read, grad, kernel.shape[-1]), piece.step, taps)
            db += grad.sum((0, 2, 3))
            if dx is not None:
                to = dx[..., piece.start : piece.start + piece.step * read.shape[-1]]
                to += ungroup(input_gradient(read.shape, kernel, grad), piece.step)[..., : to.shape[-1]]
        return dx, dw, db, None


class Up(torch.autograd.Function):
    """Upsample, concatenate, convolve, LeakyReLU, with the folded kernels of `WaveUNet.up_kernel`.

    (B, in, 1, n), the skip (B, out, 1, 2n − 1) → (B, out, 1, 2n − taps)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, skip: Tensor, coarse: Tensor, bias: Tensor, fine: Tensor) -> Tensor:
        frames = 2 * x.shape[-1] - fine.shape[-1]
        skip = skip.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(skip, fine)
        rows = F.conv2d(x, coarse, bias, padding=(0, 1))  # (B, 2·out, 1, n'): frames 2i − 2 and 2i − 1
        y += ungroup(rows, 2)[..., 2 : 2 + frames]
        F.leaky_relu_(y, SLOPE)
        ctx.save_for_backward(x, skip, coarse, fine, y)
        ctx.rows = rows.shape[-1]
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        x, skip, coarse, fine, y = ctx.saved_tensors
        grad = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)
        frames = grad.shape[-1]
        padded = F.pad(grad, (2, 2 * ctx.rows - 2 - frames))
        rows = group(padded, 2).contiguous(memory_format=torch.channels_last)  # (B, 2·out, 1, n')
        return (
            input_gradient(x.shape, coarse, rows, padding=1),
            input_gradient(skip.shape, fine, grad),
            kernel_gradient(F.pad(x, (1, 1)), rows, coarse.shape[-1]),
            rows.sum((0, 2, 3)),
            kernel_gradient(skip, grad, fine.shape[-1]),
        )


def estimates(network: WaveUNet, mixture: Tensor, dtype: torch.dtype) -> Tensor:
    """`network.estimates(mixture)` of a valid network, (B, C, t) → (B, S, C, t − 2·context), for training on a CPU.

    All layers but the last compute in `dtype`, float32 or bfloat16, and so do their gradients.
    """
    features = _features(network, mixture, dtype)
    return network.sources_of(crop(mixture, features.shape[-1]), features)


def _features(network: WaveUNet, mixture: Tensor, dtype: torch.dtype) -> Tensor:
    """`network.features(mixture)`: (B, C, t) → (B, F_c, t − 2·context)."""
    x = mixture.to(dtype).unsqueeze(2).contiguous(memory_format=torch.channels_last)  # (B, C, 1, t)
    skips = []
    for conv, keep in zip([*network.down, network.bottleneck], _kept_frames(network, x.shape[-1]), strict=True):
        weight, bias = as_2d(cast(nn.Conv1d, conv).weight), cast(Tensor, conv.bias)
        x, skip = Down.apply(x, weight.to(dtype), bias.to(dtype), keep)  # type: ignore[no-untyped-call]
        skips.append(skip)
    x = skips.pop()  # the bottleneck's, whole
    for level in range(network.config.levels):
        kernel = (part.to(dtype) for part in network.up_kernel(level))
        x = Up.apply(x, skips.pop(), *kernel)  # type: ignore[no-untyped-call]
    features: Tensor = x.squeeze(2)
    return features


def _kept_frames(network: WaveUNet, frames: int) -> list[int]:
    """How many frames in the middle of each level of the way down, then of the bottleneck, the way up reads."""
    config = network.config
    for _ in range(config.levels):
        frames = -(-(frames - config.down_taps + 1) // 2)
    kept = [frames - config.down_taps + 1]  # the bottleneck's, all of them
    frames = kept[0]
    for _ in range(config.levels):
        kept.append(2 * frames - 1)
        frames = 2 * frames - config.up_taps
    return kept[::-1]
