"""The Wave-U-Net:  (B, C, t) → (B, S, C, t − 2·context).

Convolutions run as 2-D ones over tensors (B, C, 1, t) in channels-last memory, where CPUs are several times
faster than with plain 1-D ones. Two more steps of the paper's figure 1 cost nothing this way:

Decimation. "Keep every other frame, then convolve" is one convolution of stride 2 and dilation 2.

Upsampling. u[2i] = f[i] and u[2i+1] = a·f[i] + b·f[i+1] (a + b = 1; one half each if linear), then taps w:

    even outputs  Σ_k w[k]·u[2i+k]    = Σ_q (w[2q]   + a·w[2q+1] + b·w[2q−1]) · f[i+q]
    odd outputs   Σ_k w[k]·u[2i+1+k]  = Σ_q (w[2q−1] + a·w[2q]   + b·w[2q−2]) · f[i+q]

so upsampling and convolving is one convolution at the lower rate with twice the filters: its rows
(even | odd) already are the upsampled signal in memory, 2 frames after each other. For 5 taps it has 4.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.networks.masks import apply_masks
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig

SLOPE = 0.2  # of the LeakyReLU below zero


class UpKernel(NamedTuple):
    """One level of the way up, with its upsampling folded in."""

    coarse: Tensor  # (2·out, in, 1, q): even filters, then odd, at the lower rate
    coarse_bias: Tensor  # (2·out,)
    skip: Tensor  # (out, skip, 1, up_taps), at the higher rate


def as_2d(weight: Tensor) -> Tensor:
    """A 1-D kernel [out, in, tap] as the 2-D kernel (out, in, 1, tap) in channels-last memory."""
    return weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def fold_upsampling(weight: Tensor, bias: Tensor, skip_channels: int, earlier: Tensor) -> UpKernel:
    """Fold the upsampling into the kernel [out, skip + in, tap] that follows it (see above).

    `earlier` (in,) is a, the weight of the earlier of the two neighbours.
    """
    w = weight[:, skip_channels:]  # (out, in, tap)
    a = earlier[:, None]
    taps = w.shape[-1]
    q = (taps + 3) // 2
    w = F.pad(w, (2, 2 * q + 1 - taps))  # (out, in, 2q + 3): w[k] now stands at k + 2
    even = w[..., 2 : 2 * q + 2 : 2] + a * w[..., 3 : 2 * q + 3 : 2] + (1 - a) * w[..., 1 : 2 * q + 1 : 2]
    odd = w[..., 1 : 2 * q + 1 : 2] + a * w[..., 2 : 2 * q + 2 : 2] + (1 - a) * w[..., 0 : 2 * q : 2]
    return UpKernel(
        coarse=as_2d(torch.cat([even, odd])),
        coarse_bias=torch.cat([bias, bias]),
        skip=as_2d(weight[:, :skip_channels]),
    )


class WaveUNet(nn.Module):
    """The network of a WaveUNetConfig (paper, section 3).

    Parameters, kernels as [out, in, tap]: `down.0 … L−1`, `bottleneck`, `up.0 … L−1` (deepest first; input
    channels: skip, then upsampled), `upsample.0 … L−1` (learned upsampling only, deepest first, before the
    sigmoid that weighs the earlier frame), `output` (input channels: mixture, then features; output channels by
    source, then by audio channel).
    """

    def __init__(self, config: WaveUNetConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        widths = [c.filters * (i + 1) for i in range(c.levels + 1)]  # the last is the bottleneck's
        self.down = nn.ModuleList(
            nn.Conv1d(i, o, c.down_taps) for i, o in zip([c.channels, *widths], widths[:-1], strict=False)
        )
        self.bottleneck = nn.Conv1d(widths[-2], widths[-1], c.down_taps)
        self.up = nn.ModuleList(
            nn.Conv1d(o + i, o, c.up_taps) for o, i in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.upsample = nn.ParameterList(
            nn.Parameter(torch.zeros(i)) for i in widths[:0:-1] if c.upsampling == "learned"
        )
        predicted = len(c.sources) - c.additive
        self.output = nn.Conv1d(c.channels + c.filters, predicted * c.channels, 1)
        for conv in self.modules():
            if isinstance(conv, nn.Conv1d):
                nn.init.xavier_uniform_(conv.weight)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate windows: (B, C, t) → (B, S, C, t − 2·context), for the t that `config.window()` allows."""
        estimates = self.estimates(mixture)
        return apply_masks(estimates) if self.config.output == "masked" else estimates

    def estimates(self, mixture: Tensor) -> Tensor:
        """What leaves the layers, before masks: (B, C, t) → (B, S, C, t − 2·the layers' own context)."""
        features = self.features(mixture)
        return sources_of(self.config, self.output, crop(mixture, features.shape[-1]), features)

    def features(self, mixture: Tensor) -> Tensor:
        """What the last layer reads: (B, C, t) → (B, F_c, t − 2·context); masks' share of the context stays."""
        x = mixture.unsqueeze(2).contiguous(memory_format=torch.channels_last)  # (B, C, 1, t)
        skips = []
        for level, conv in enumerate([*self.down, self.bottleneck]):
            step = 1 if level == 0 else 2  # reads every other frame of the level above
            pad = conv.kernel_size[0] // 2 * step if self.config.padding == "same" else 0
            x = F.conv2d(x, as_2d(conv.weight), conv.bias, stride=step, dilation=step, padding=(0, pad))
            x = F.leaky_relu_(x, SLOPE)  # (B, F_c·(level + 1), 1, t / step)
            skips.append(x)
        skips.pop()  # the bottleneck is no skip

        for level in range(self.config.levels):
            up = self._up_same if self.config.padding == "same" else self._up_valid
            x = F.leaky_relu_(up(level, x, skips.pop()), SLOPE)

        return x.squeeze(2)  # (B, F_c, t − 2·context)

    def up_kernel(self, level: int) -> UpKernel:
        """The kernels of level `level` of the way up (0 is the deepest) of a valid network."""
        conv = cast(nn.Conv1d, self.up[level])
        skip = conv.out_channels  # a level's skip has as many channels as its output
        if self.config.upsampling == "learned":
            earlier = torch.sigmoid(self.upsample[level])
        else:
            earlier = conv.weight.new_full((conv.in_channels - skip,), 0.5)
        return fold_upsampling(conv.weight, cast(Tensor, conv.bias), skip, earlier)

    def _up_valid(self, level: int, x: Tensor, skip: Tensor) -> Tensor:
        # (B, in, 1, n), (B, out, 1, s) → (B, out, 1, 2n − up_taps)
        kernel = self.up_kernel(level)
        frames = 2 * x.shape[-1] - self.config.up_taps
        # One zero at each end, not to lose the last even frame; the row that the first zero adds is skipped.
        y = F.conv2d(x, kernel.coarse, kernel.coarse_bias, padding=(0, 1))[..., 1:]
        y = y.permute(0, 3, 2, 1)  # (B, n', 1, 2·out): row i holds frames 2i and 2i + 1
        y = y.reshape(y.shape[0], 1, -1, y.shape[-1] // 2).permute(0, 3, 1, 2)  # (B, out, 1, 2n')
        skip = crop(skip, frames + self.config.up_taps - 1)
        return y[..., :frames] + F.conv2d(skip, kernel.skip)

    def _up_same(self, level: int, x: Tensor, skip: Tensor) -> Tensor:
        # (B, in, 1, n), (B, out, 1, 2n) → (B, out, 1, 2n); the last frame is repeated, the ends are padded
        conv = cast(nn.Conv1d, self.up[level])
        after = torch.cat([x[..., 1:], x[..., -1:]], -1)
        earlier = torch.sigmoid(self.upsample[level])[:, None, None] if len(self.upsample) else 0.5
        x = torch.stack([x, earlier * x + (1 - earlier) * after], -1).flatten(-2)  # (B, in, 1, 2n)
        return F.conv2d(torch.cat([skip, x], 1), as_2d(conv.weight), conv.bias, padding=(0, self.config.up_taps // 2))


def sources_of(config: WaveUNetConfig, output: nn.Conv1d, mixture: Tensor, features: Tensor) -> Tensor:
    """The layer `output`, the last: (B, C, t) and (B, F_c, t) → (B, S, C, t). Always in float32: it is cheap."""
    mixture, c = mixture.float(), config.channels
    of_mixture, of_features = torch.split(output.weight[..., 0], [c, config.filters], 1)
    with torch.autocast(mixture.device.type, enabled=False):
        # Memory is channels-last here, so (B, t, F_c) is the contiguous view.
        x = F.linear(features.transpose(1, 2).float(), of_features, output.bias)
        x = x + F.linear(mixture.transpose(1, 2), of_mixture)  # (B, t, (S or S − 1)·C)
    x = torch.tanh(x) if config.activation == "tanh" else x
    x = x.transpose(1, 2).reshape(x.shape[0], -1, c, x.shape[1])  # (B, S or S − 1, C, t)
    if config.additive:
        rest = mixture.unsqueeze(1) - x.sum(1, keepdim=True)
        x = torch.cat([x, rest], 1)
    return x


def crop(x: Tensor, frames: int) -> Tensor:
    """The `frames` frames in the middle of x (…, t)."""
    start = (x.shape[-1] - frames) // 2
    return x[..., start : start + frames]
