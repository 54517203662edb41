"""The network's forward pass for training on a CPU: the same numbers, with gradients several times faster.

What autograd makes of `WaveUNet.forward` on a CPU spends two thirds of a step in oneDNN's gradient of the kernels
(5 to 15 GFLOP/s where the convolution itself reaches 50) and a fifth in copies that slices leave behind. Here each
level is one autograd function. Its kernel's gradient

    dw[o, k, c] = Σ_t g[t, o] · x[t + k, c]

is, over the frames t = r + K·j of one phase r (K taps), a single matrix product without any copy: in channels-last
memory x[r + K·j + k, c] is the contiguous matrix (j; k, c), and g[r + K·j, o] one with a longer row stride.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.network import SLOPE, WaveUNet, as_2d, crop


def kernel_gradient(x: Tensor, grad: Tensor, taps: int) -> Tensor:
    """Gradient (out, in, 1, taps) of the kernel that made (B, out, 1, t − taps + 1) from x (B, in, 1, t)."""
    inside, outside, frames = x.shape[1], grad.shape[1], grad.shape[-1]
    total = x.new_zeros(outside, taps * inside)
    for xs, gs in zip(x, grad, strict=True):
        rows = xs[:, 0].t().contiguous().view(-1)  # frame by frame; no copy in channels-last memory
        grads = gs[:, 0].t().contiguous()  # (t − taps + 1, out)
        for phase in range(min(taps, frames)):
            picked = grads[phase::taps]  # (j, out)
            block = rows[phase * inside :][: picked.shape[0] * taps * inside].view(-1, taps * inside)
            total.addmm_(picked.t(), block)
    return total.view(outside, taps, 1, inside).permute(0, 3, 2, 1)


def input_gradient(x_shape: torch.Size, weight: Tensor, grad: Tensor, padding: int = 0) -> Tensor:
    """Gradient (B, in, 1, t) of what a convolution of stride 1 read."""
    empty = grad.new_empty(1).expand(x_shape)
    return cast(
        Tensor,
        torch.ops.aten.convolution_backward(
            grad, empty, weight, None, [1, 1], [0, padding], [1, 1], False, [0, 0], 1, [True, False, False]
        )[0],
    )


class Down(torch.autograd.Function):
    """Keep every `step`-th frame, convolve, LeakyReLU: (B, in, 1, t) → (B, out, 1, ⌈t / step⌉ − taps + 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, step: int) -> Tensor:
        kept = x[..., ::step].contiguous(memory_format=torch.channels_last)
        y = F.leaky_relu_(F.conv2d(kept, weight, bias), SLOPE)
        ctx.save_for_backward(kept, weight, y)
        ctx.step, ctx.shape = step, x.shape
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        kept, weight, y = ctx.saved_tensors
        grad = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = grad.new_zeros(ctx.shape).contiguous(memory_format=torch.channels_last)
            dx[..., :: ctx.step] = input_gradient(kept.shape, weight, grad)
        return dx, kernel_gradient(kept, grad, weight.shape[-1]), grad.sum((0, 2, 3)), None


class Up(torch.autograd.Function):
    """Upsample, concatenate, convolve, LeakyReLU, with the folded kernels of `WaveUNet.up_kernel`.

    (B, in, 1, n), (B, out, 1, s) → (B, out, 1, 2n − taps)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, skip: Tensor, coarse: Tensor, bias: Tensor, fine: Tensor) -> Tensor:
        frames = 2 * x.shape[-1] - fine.shape[-1]
        near = crop(skip, frames + fine.shape[-1] - 1).contiguous(memory_format=torch.channels_last)
        y = F.conv2d(near, fine)
        rows = F.conv2d(x, coarse, bias, padding=(0, 1))  # (B, 2·out, 1, n'): frames 2i − 2 and 2i − 1
        y += interleave(rows)[..., 2 : 2 + frames]
        F.leaky_relu_(y, SLOPE)
        ctx.save_for_backward(x, near, coarse, fine, y)
        ctx.rows, ctx.skip_shape = rows.shape[-1], skip.shape
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        x, near, coarse, fine, y = ctx.saved_tensors
        grad = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)
        frames = grad.shape[-1]
        padded = F.pad(grad, (2, 2 * ctx.rows - 2 - frames))
        rows = padded.permute(0, 2, 3, 1).reshape(grad.shape[0], 1, ctx.rows, -1).permute(0, 3, 1, 2)
        rows = rows.contiguous(memory_format=torch.channels_last)  # (B, 2·out, 1, n')
        before = (ctx.skip_shape[-1] - near.shape[-1]) // 2
        skip = F.pad(input_gradient(near.shape, fine, grad), (before, ctx.skip_shape[-1] - near.shape[-1] - before))
        return (
            input_gradient(x.shape, coarse, rows, padding=1),
            skip,
            kernel_gradient(F.pad(x, (1, 1)), rows, coarse.shape[-1]),
            rows.sum((0, 2, 3)),
            kernel_gradient(near, grad, fine.shape[-1]),
        )


def interleave(rows: Tensor) -> Tensor:
    """(B, 2·out, 1, n), rows (even | odd), as the signal (B, out, 1, 2n)."""
    y = rows.permute(0, 2, 3, 1)  # (B, 1, n, 2·out)
    return y.reshape(y.shape[0], 1, 2 * y.shape[2], -1).permute(0, 3, 1, 2)


def forward(network: WaveUNet, mixture: Tensor) -> Tensor:
    """`network(mixture)` of a valid network, (B, C, t) → (B, S, C, t − 2·context), for training on a CPU."""
    x = mixture.unsqueeze(2).contiguous(memory_format=torch.channels_last)  # (B, C, 1, t)
    skips = []
    for level, conv in enumerate([*network.down, network.bottleneck]):
        weight = as_2d(cast(nn.Conv1d, conv).weight)
        x = Down.apply(x, weight, conv.bias, 1 if level == 0 else 2)  # type: ignore[no-untyped-call]
        skips.append(x)
    skips.pop()
    for level in range(network.config.levels):
        kernel = network.up_kernel(level)
        x = Up.apply(x, skips.pop(), *kernel)  # type: ignore[no-untyped-call]
    features = x.squeeze(2)  # (B, F_c, t − 2·context)
    return network.sources_of(crop(mixture, features.shape[-1]), features)
