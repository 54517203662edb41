"""The Keras port's networks: zero-padded, with pooling by 4 (shallow) or keeping every other frame (deep).

Source: the public Keras port that the project grew from. Upsampling repeats each frame `p` times and averages p
neighbours (of which (p − 1) // 2 lie before); upsampled features come before the skip, features before the mixture.

Zero padding is felt at most `reach` frames from a window's ends, so that context makes windows of any hop agree.
With R_i = p_0 ⋯ p_(i−1) the decimation at level i, R_L that of the bottleneck, and h = (taps − 1)/2:

    reach = Σ_i R_i·(h_down + (p_i − 1) + (p_i − 1) + p_i // 2 + h_up) + R_L·h_bottleneck
                     conv     pooling     repeating   averaging  conv
"""

from dataclasses import dataclass
from itertools import accumulate
from math import prod
from operator import mul
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from waveunet_cli.bounds import AudioChannels, Channels, Pooling, SampleRateHz, SourceNames, Taps, WindowFrames
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import check_config
from waveunet_cli.networks.geometry import Window, whole_steps

SLOPE = 0.2  # of the LeakyReLU below zero
KERAS_EPSILON, KERAS_MOMENTUM = 1e-3, 0.99  # of batch norm, by default


@dataclass(frozen=True)
class KerasPortConfig:
    """Everything that defines such a network except its weights.

    sources            stem names in the order of the outputs; the last is the mixture minus the others
    sample_rate        Hz the network works at
    channels           audio channels
    filters            of each level, the bottleneck's last
    pooling            factor between each level and the next; 1 is no pooling
    pool               "max": the greatest of the frames; "first": every p-th frame
    down_taps, up_taps, bottleneck_taps    of the convolutions
    window_frames      output frames of a window, rounded up to a multiple of all pooling together
    residual           the source that receives what lies above the model's Nyquist frequency
    batch_norm         after every convolution but the last, to train with; a converted network has it folded into them

    Raises ConfigError for a combination that cannot exist.
    """

    family: ClassVar[str] = "keras-port"
    sources: SourceNames = ("vocals", "accompaniment")
    sample_rate: SampleRateHz = 16_000
    channels: AudioChannels = 2
    filters: Annotated[tuple[Channels, ...], Meta(min_length=2, max_length=17)] = (48, 48, 144, 240, 336, 432, 528, 624)
    pooling: Annotated[tuple[Pooling, ...], Meta(max_length=16)] = (1, 4, 4, 4, 4, 4, 4)
    pool: Literal["max", "first"] = "max"
    down_taps: Taps = 31
    up_taps: Taps = 15
    bottleneck_taps: Taps = 15
    window_frames: WindowFrames = 64_000  # of the 14-second excerpts in training, what was not cropped
    residual: str = "accompaniment"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        check_config(self, least_sources=2)
        if len(self.filters) != len(self.pooling) + 1:
            raise ConfigError(
                f"filters {self.filters} and pooling {self.pooling} must be one a level, and a bottleneck's"
            )

    @property
    def additive(self) -> bool:
        """The last source is what the others leave of the mixture."""
        return True

    def window(self, min_hop_frames: int | None = None) -> Window:
        """The window that keeps at least `min_hop_frames` frames; by default what training kept."""
        step = prod(self.pooling)
        context = -(-self.reach() // step) * step
        hop = whole_steps(min_hop_frames or self.window_frames, step)
        return Window(context=context, output=hop, hop=hop, alignment=step)

    def reach(self) -> int:
        """How far from a window's ends zero padding is felt, in frames (derived above)."""
        *rates, bottleneck = accumulate(self.pooling, mul, initial=1)
        around = self.down_taps // 2 + self.up_taps // 2
        levels = sum(r * (around + 2 * (p - 1) + p // 2) for r, p in zip(rates, self.pooling, strict=True))
        return levels + bottleneck * (self.bottleneck_taps // 2)


class KerasPort(nn.Module):
    """The network of a KerasPortConfig: (B, C, t) → (B, S, C, t − 2·context), for t a multiple of all pooling."""

    def __init__(self, config: KerasPortConfig) -> None:
        super().__init__()
        self.config = c = config
        self.context = c.window().context
        self.down = nn.ModuleList(
            self._convolution(i, o, c.down_taps)
            for i, o in zip((c.channels, *c.filters[:-2]), c.filters[:-1], strict=True)
        )
        self.bottleneck = self._convolution(c.filters[-2], c.filters[-1], c.bottleneck_taps)
        self.up = nn.ModuleList(  # deepest first
            self._convolution(i + o, o, c.up_taps) for i, o in zip(c.filters[:0:-1], c.filters[-2::-1], strict=True)
        )
        self.output = nn.Conv1d(c.filters[0] + c.channels, (len(c.sources) - 1) * c.channels, 1)

    def _convolution(self, inputs: int, outputs: int, taps: int) -> nn.Module:
        if not self.config.batch_norm:
            return nn.Conv1d(inputs, outputs, taps, padding=taps // 2)
        conv = nn.Conv1d(inputs, outputs, taps, padding=taps // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm1d(outputs, eps=KERAS_EPSILON, momentum=1 - KERAS_MOMENTUM))

    def forward(self, mixture: Tensor) -> Tensor:
        return self.whole(mixture)[..., self.context : mixture.shape[-1] - self.context]

    def whole(self, mixture: Tensor) -> Tensor:
        """Separate what has nothing before and after it, as the port does: (B, C, t) → (B, S, C, t)."""
        x = mixture
        skips = []
        for conv, p in zip(self.down, self.config.pooling, strict=True):
            x = F.leaky_relu(conv(x), SLOPE)
            skips.append(x)
            x = F.max_pool1d(x, p) if self.config.pool == "max" else x[..., ::p]
        x = F.leaky_relu(self.bottleneck(x), SLOPE)
        for conv, p in zip(self.up, self.config.pooling[::-1], strict=True):
            x = torch.cat([stretch(x, p), skips.pop()], 1)
            x = F.leaky_relu(conv(x), SLOPE)
        x = torch.tanh(self.output(torch.cat([x, mixture], 1)))
        x = x.reshape(x.shape[0], -1, *mixture.shape[1:])  # (B, S − 1, C, t)
        return torch.cat([x, mixture.unsqueeze(1) - x.sum(1, keepdim=True)], 1)


def stretch(x: Tensor, factor: int) -> Tensor:
    """Repeat each frame and average neighbours, those beyond the ends left out: (…, n) → (…, n·factor).

    Beyond the ends lie fewer frames than repetitions of the last, so to repeat it is to leave them out.
    """
    x = x.repeat_interleave(factor, -1)
    before = (factor - 1) // 2
    return F.avg_pool1d(F.pad(x, (before, factor - 1 - before), mode="replicate"), factor, 1)
