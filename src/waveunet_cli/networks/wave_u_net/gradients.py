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

from waveunet_cli.networks.wave_u_net.network import SLOPE, WaveUNet, as_2d, crop, sources_of
from waveunet_cli.networks.wave_u_net.tiles import frames_of, points_for, spectra_of, tile_kernel, tiling, transform


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


def group(x: Tensor, step: int) -> Tensor:
    """`step` frames as one: (B, C, 1, step·n) → (B, step·C, 1, n), without a copy in channels-last memory."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], 1, x.shape[-1] // step, -1).permute(0, 3, 1, 2)


def ungroup(x: Tensor, step: int) -> Tensor:
    """What `group` made one apart again: (B, step·C, 1, n) → (B, C, 1, step·n)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], 1, x.shape[-1] * step, -1).permute(0, 3, 1, 2)


def rows_of(x: Tensor) -> list[Tensor]:
    """Each signal of x (B, C, 1, t) frame by frame, (t, C); no copy in channels-last memory."""
    return [signal[:, 0].t().contiguous() for signal in x]


def images_of(rows: list[Tensor]) -> Tensor:
    """What `rows_of` gave as one tensor (B, C, 1, t) again; one signal is not copied."""
    return (rows[0][None] if len(rows) == 1 else torch.stack(rows)).transpose(1, 2).unsqueeze(2)


class Down(torch.autograd.Function):
    """Convolve, LeakyReLU, part: (B, in, 1, t) → every other frame, to go on with, and the `keep` frames in the middle,
    the skip; (B, out, 1, ⌈t' / 2⌉) and (B, out, 1, keep) of t' = t − taps + 1.

    In tiles where tiles.py says so. As y = A·((G·w) ⊙ (B·x)) is linear in x and in w, the gradients are

        dx = Bᵀ·((G·w) ⊙ (Aᵀ·dy)),   added up where tiles overlap;   dw = Gᵀ·((B·x) ⊙ (Aᵀ·dy)),   added over the tiles.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        out, inside, _, taps = weight.shape
        frames = x.shape[-1] - taps + 1
        ctx.points = points_for(taps, inside, out, frames) if x.dtype == torch.float32 else None
        if ctx.points is None:
            y = F.conv2d(x, weight, bias)
            saved = [x, weight]
        else:
            matrices = tiling(ctx.points, taps)
            kernel = tile_kernel(weight[:, :, 0], ctx.points)  # (P, in, out)
            spectra = [spectra_of(rows, matrices, frames) for rows in rows_of(x)]
            y = images_of([frames_of(torch.bmm(each, kernel), matrices, frames) + bias for each in spectra])
            saved = [kernel, *spectra]
        F.leaky_relu_(y, SLOPE)
        start = (frames - keep) // 2
        ctx.skip, ctx.shapes = slice(start, start + keep), (x.shape, weight.shape)
        ctx.save_for_backward(y, *saved)
        return y[..., ::2], y[..., ctx.skip]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        y, *saved = ctx.saved_tensors
        shape, (out, inside, _, taps) = ctx.shapes
        grad = torch.zeros_like(y)
        grad[..., ctx.skip] = grads[1]
        grad[..., ::2] += grads[0]
        grad = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)
        bias = grad.sum((0, 2, 3))
        if ctx.points is None:
            x, weight = saved
            dx = input_gradient(shape, weight, grad) if ctx.needs_input_grad[0] else None
            return dx, kernel_gradient(x, grad, taps), bias, None
        kernel, *spectra = saved
        matrices = tiling(ctx.points, taps)
        each = len(matrices.after)  # new frames of a tile
        number = spectra[0].shape[1]
        dk, dxs = torch.zeros_like(kernel), []
        for rows, spectrum in zip(rows_of(grad), spectra, strict=True):
            rows = F.pad(rows, (0, 0, 0, number * each - len(rows))).view(number, each, out)
            products = transform(matrices.after.t(), rows)  # (P, n, out)
            dk += torch.bmm(spectrum.transpose(1, 2), products)
            if ctx.needs_input_grad[0]:
                tiles = transform(matrices.before.t(), torch.bmm(products, kernel.transpose(1, 2)).transpose(0, 1))
                dxs.append(add_up(tiles.transpose(0, 1), each, shape[-1]))
        dw = (matrices.kernel.t() @ dk.flatten(1)).view(taps, inside, out).permute(2, 1, 0).unsqueeze(2)
        return images_of(dxs) if dxs else None, dw, bias, None


def add_up(tiles: Tensor, each: int, frames: int) -> Tensor:
    """Rows (frames, C) of tiles (n, N, C) that lie `each` ≥ N/2 frames after each other and overlap."""
    number, points, channels = tiles.shape
    total = tiles.new_empty(number + 1, each, channels)
    total[:-1] = tiles[:, :each]
    total[-1] = 0
    total[1:, : points - each] += tiles[:, each:]
    rows = total.flatten(0, 1)[:frames]
    return F.pad(rows, (0, 0, 0, frames - len(rows)))


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
    return sources_of(network.config, network.output, crop(mixture, features.shape[-1]), features)


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
