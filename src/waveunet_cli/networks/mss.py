"""The network of MSS_WaveUNet: a zero-padded Wave-U-Net that keeps the odd frames and stretches its ends together.

Source: the public repository lijm1358/MSS_WaveUNet at ba0206a. What differs from the paper: LeakyReLU(0.01);
decimation keeps frames 1, 3, 5 …; upsampling n → 2n is linear between the first and the last frame (frame j reads
position j·(n − 1)/(2n − 1)), so samples depend on the window; upsampled features come before the skip.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.bounds import Filters, Levels, SampleRateHz, SourceNames, Taps, WindowFrames
from waveunet_cli.networks.family import check_config
from waveunet_cli.networks.geometry import Window, same_window

SLOPE = 0.01  # of the LeakyReLU below zero


@dataclass(frozen=True)
class MSSConfig:
    """Everything that defines such a network except its weights.

    sources          stem names in the order of the outputs
    sample_rate      Hz the network works at
    levels           down- and upsampling blocks (L)
    filters          filters of the first level (F_c); level i has F_c · i
    down_taps        taps of the convolutions on the way down, and of the bottleneck
    up_taps          taps of the convolutions on the way up
    window_frames    frames of a window, rounded up to a multiple of 2^levels
    residual         the source that receives what lies above the model's Nyquist frequency

    Raises ConfigError for a combination that cannot exist.
    """

    family: ClassVar[str] = "mss-wave-u-net"
    sources: SourceNames = ("drums", "bass", "other", "vocals")
    sample_rate: SampleRateHz = 22_050
    levels: Levels = 12
    filters: Filters = 24
    down_taps: Taps = 15
    up_taps: Taps = 5
    window_frames: WindowFrames = 16_384
    residual: str = "other"

    def __post_init__(self) -> None:
        check_config(self, least_sources=1)

    @property
    def channels(self) -> int:
        """These networks are mono."""
        return 1

    @property
    def additive(self) -> bool:
        """The sources are predicted independently: they need not sum to the mixture."""
        return False

    def window(self, min_hop_frames: int | None = None) -> Window:
        """The network's own window, whatever is asked for: its samples depend on it."""
        return same_window(self.levels, self.window_frames)


class MSSNetwork(nn.Module):
    """The network of an MSSConfig: (B, 1, t) → (B, S, 1, t), for t a multiple of 2^levels."""

    def __init__(self, config: MSSConfig) -> None:
        super().__init__()
        c = config
        widths = [c.filters * (i + 1) for i in range(c.levels + 1)]  # the last is the bottleneck's
        self.down = nn.ModuleList(
            nn.Conv1d(i, o, c.down_taps, padding=c.down_taps // 2)
            for i, o in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            nn.Conv1d(i + o, o, c.up_taps, padding=c.up_taps // 2)
            for i, o in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.output = nn.Conv1d(1 + c.filters, len(c.sources), 1)

    def forward(self, mixture: Tensor) -> Tensor:
        x = mixture
        skips = []
        for level, conv in enumerate(self.down):
            if level > 0:
                x = x[..., 1::2]
            x = F.leaky_relu(conv(x), SLOPE)  # (B, F_c·(level + 1), t / 2^level)
            skips.append(x)
        skips.pop()  # the bottleneck is no skip
        for conv in self.up:
            x = F.interpolate(x, scale_factor=2, mode="linear", align_corners=True)
            x = F.leaky_relu(conv(torch.cat([x, skips.pop()], 1)), SLOPE)
        x = torch.tanh(self.output(torch.cat([mixture, x], 1)))  # (B, S, t)
        return x.unsqueeze(2)
