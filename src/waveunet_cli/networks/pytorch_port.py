"""The authors' PyTorch port: strided levels, group norm, resampling by a fixed or a learned filter.

Source: the public repository f90/Wave-U-Net-Pytorch. All convolutions are unpadded, but group norm and the
reflected edges of the fixed resampler depend on the window, so such a network runs at its own window only.

Frames, for `taps` k and `stride` s (the fixed resampler loses no frames at its edges, the learned one k − 1):

    up      n → (n − 1)·s + 1 [− (k − 1) if learned] − 2·(k − 1)
    down    read backwards, m → (m − 1)·s + 1 [+ (k − 1) if learned] + 2·(k − 1)

The bottleneck loses k − 1. The window is the smallest whose output has at least `window_frames` frames.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from waveunet_cli.bounds import AudioChannels, Channels, SampleRateHz, SourceNames, Stride, Taps, WindowFrames
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import check_config
from waveunet_cli.networks.geometry import Window
from waveunet_cli.networks.wave_u_net.config import FOUR_STEMS

GROUP_CHANNELS = 8
SINC_TAPS = 15


@dataclass(frozen=True)
class PyTorchPortConfig:
    """Everything that defines a network of the port except its weights.

    sources          stem names in the order of the outputs
    sample_rate      Hz the network works at
    channels         audio channels
    widths           channels of each level, the bottleneck's last
    taps             of all convolutions but the last
    stride           factor between two levels' rates
    norm             "group" (8 channels a group) or "batch", then ReLU; "none", then LeakyReLU(0.01)
    resampling       "fixed": sinc filter of 15 taps; "learned": strided convolutions
    separate         one network per source, or one for all
    window_frames    output frames of a window, rounded up to what the network can give
    residual         the source that receives what lies above the model's Nyquist frequency

    Raises ConfigError for a combination that cannot exist.
    """

    family: ClassVar[str] = "pytorch-port"
    sources: SourceNames = FOUR_STEMS
    sample_rate: SampleRateHz = 44_100
    channels: AudioChannels = 2
    widths: Annotated[tuple[Channels, ...], Meta(min_length=2, max_length=16)] = (32, 64, 128, 256, 512, 1024)
    taps: Taps = 5
    stride: Stride = 4
    norm: Literal["group", "batch", "none"] = "group"
    resampling: Literal["fixed", "learned"] = "fixed"
    separate: bool = True
    window_frames: WindowFrames = 88_200  # 2 s
    residual: str = "other"

    def __post_init__(self) -> None:
        check_config(self, least_sources=1)
        taken = [name for name in self.sources if self.separate and hasattr(nn.ModuleDict(), name)]
        if taken:  # each names a module of the network
            raise ConfigError(f"sources: {', '.join(taken)} cannot name a network of the port; choose another name")
        if self.norm == "group" and any(width % GROUP_CHANNELS for width in self.widths):
            raise ConfigError(f"group norm needs widths that are multiples of {GROUP_CHANNELS}, found {self.widths}")

    @property
    def additive(self) -> bool:
        """The sources are predicted independently: they need not sum to the mixture."""
        return False

    def window(self, min_hop_frames: int | None = None) -> Window:
        """The network's own window, whatever is asked for: its samples depend on it."""
        lost = self.taps - 1
        learned = lost if self.resampling == "learned" else 0

        def output_of(bottleneck: int) -> int:
            for _ in self.widths[1:]:
                bottleneck = max(0, (bottleneck - 1) * self.stride + 1 - learned - 2 * lost)
            return bottleneck

        enough = self.window_frames + 4 * self.taps  # here each level's stride outgrows what the level loses
        bottleneck = max(2, bisect_left(range(enough), self.window_frames, key=output_of))
        output = output_of(bottleneck)
        frames = bottleneck + lost
        for _ in self.widths[1:]:
            frames = (frames - 1) * self.stride + 1 + learned + 2 * lost
        return Window(context=(frames - output) // 2, output=output, hop=output)


class PyTorchPort(nn.Module):
    """The network of a PyTorchPortConfig: (B, C, t) → (B, S, C, t − 2·context). Parameters are named as there."""

    def __init__(self, config: PyTorchPortConfig) -> None:
        super().__init__()
        self.config = config
        names = config.sources if config.separate else ("ALL",)
        self.waveunets = nn.ModuleDict({name: _OneNetwork(config) for name in names})

    def forward(self, mixture: Tensor) -> Tensor:
        x = torch.cat([network(mixture) for network in self.waveunets.values()], 1)  # (B, S·C, t')
        if not self.training:
            x = x.clamp(-1, 1)
        return x.reshape(x.shape[0], len(self.config.sources), self.config.channels, -1)


class _OneNetwork(nn.Module):
    def __init__(self, config: PyTorchPortConfig) -> None:
        super().__init__()
        widths = config.widths
        outputs = config.channels * (1 if config.separate else len(config.sources))
        self.downsampling_blocks = nn.ModuleList(
            _Down(config, i, skip, o)
            for i, skip, o in zip((config.channels, *widths[1:-1]), widths[:-1], widths[1:], strict=True)
        )
        self.bottlenecks = nn.ModuleList([_Conv(config, widths[-1], widths[-1])])
        self.upsampling_blocks = nn.ModuleList(
            _Up(config, i, o) for i, o in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.output_conv = nn.Conv1d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downsampling_blocks:
            x, skip = down(x)
            skips.append(skip)
        x = self.bottlenecks[0](x)
        for up in self.upsampling_blocks:
            x = up(x, skips.pop())
        output: Tensor = self.output_conv(x)
        return output


class _Down(nn.Module):
    def __init__(self, config: PyTorchPortConfig, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.pre_shortcut_convs = nn.ModuleList([_Conv(config, inputs, skip)])
        self.post_shortcut_convs = nn.ModuleList([_Conv(config, skip, outputs)])
        self.downconv = (
            _Sinc(config, outputs) if config.resampling == "fixed" else _Conv(config, outputs, outputs, config.stride)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.pre_shortcut_convs[0](x)
        return self.downconv(self.post_shortcut_convs[0](skip)), skip


class _Up(nn.Module):
    def __init__(self, config: PyTorchPortConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.upconv = (
            _Sinc(config, inputs, up=True)
            if config.resampling == "fixed"
            else _Conv(config, inputs, inputs, config.stride, up=True)
        )
        self.pre_shortcut_convs = nn.ModuleList([_Conv(config, inputs, outputs)])
        self.post_shortcut_convs = nn.ModuleList([_Conv(config, 2 * outputs, outputs)])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.pre_shortcut_convs[0](self.upconv(x))
        start = (skip.shape[-1] - x.shape[-1]) // 2
        skip = skip[..., start : start + x.shape[-1]]
        combined: Tensor = self.post_shortcut_convs[0](torch.cat([skip, x], 1))
        return combined


class _Conv(nn.Module):
    """Convolution, norm and rectifier; `up` is the transposed one, without the frames that lack a neighbour."""

    def __init__(
        self, config: PyTorchPortConfig, inputs: int, outputs: int, stride: int = 1, *, up: bool = False
    ) -> None:
        super().__init__()
        self.filter = (
            nn.ConvTranspose1d(inputs, outputs, config.taps, stride, padding=config.taps - 1)
            if up
            else nn.Conv1d(inputs, outputs, config.taps, stride)
        )
        self.norm: nn.Module | None = None
        if config.norm == "group":
            self.norm = nn.GroupNorm(outputs // GROUP_CHANNELS, outputs)
        elif config.norm == "batch":
            self.norm = nn.BatchNorm1d(outputs, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.filter(x)
        return F.leaky_relu(x, 0.01) if self.norm is None else F.relu(self.norm(x))


class _Sinc(nn.Module):
    """Resampling by `stride` with a low-pass filter on reflected edges; `up` gives (n − 1)·stride + 1 frames."""

    def __init__(self, config: PyTorchPortConfig, channels: int, *, up: bool = False) -> None:
        super().__init__()
        self.up = up
        self.stride = config.stride
        self.filter = nn.Parameter(sinc_kernel(config.stride).repeat(channels, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        # (B, C, n)
        pad = SINC_TAPS // 2
        channels, frames = x.shape[1:]
        x = F.pad(x, (pad, pad), mode="reflect")
        if not self.up:
            return F.conv1d(x, self.filter, stride=self.stride, groups=channels)
        x = F.conv_transpose1d(x, self.filter, stride=self.stride, groups=channels)
        start = pad * self.stride + pad  # the padded frames, and half the filter
        return x[..., start : start + (frames - 1) * self.stride + 1]


def sinc_kernel(stride: int) -> Tensor:
    """The resampler's filter (tap,): a sinc with its cut-off at the lower Nyquist frequency, in a Hann window."""
    n = torch.arange(SINC_TAPS, dtype=torch.float64) - SINC_TAPS // 2
    kernel = torch.sinc(n / stride) * (0.5 + 0.5 * torch.cos(2 * torch.pi * n / (SINC_TAPS - 1)))
    return (kernel / kernel.sum()).float()
