"""The spectrogram U-Net, the paper's baseline: one U-Net a source masks the mixture's magnitudes, phases stay.

Sources: Jansson et al., "Singing voice separation with deep U-Net convolutional networks", ISMIR 2017, section 3; and
the settings of the Wave-U-Net paper's comparison (section 4.3): 8 192 Hz, windows of 128 spectrogram frames.

Convolutions are zero-padded, so samples depend on where a window starts and ends. The transform is in spectra.py.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from waveunet_cli.bounds import (
    AudioChannels,
    Filters,
    Levels,
    SampleRateHz,
    SourceNames,
    SpectrumFrames,
    WindowFrames,
)
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import check_config
from waveunet_cli.networks.geometry import Window, whole_steps
from waveunet_cli.networks.spectra import Spectra
from waveunet_cli.networks.wave_u_net.config import VOICE

SLOPE = 0.2  # of the LeakyReLU below zero


@dataclass(frozen=True)
class SpectrogramUNetConfig:
    """Everything that defines such a network except its weights.

    sources          stem names in the order of the outputs, each with a U-Net of its own
    sample_rate      Hz the network works at
    channels         audio channels
    fft_frames       samples of a spectrogram frame (Hann window)
    step_frames      samples from one spectrogram frame to the next
    levels           halvings of frequency and time
    filters          of the first level; every level has twice those of the one above
    taps             of the square kernels
    dropout          probability, in the `dropout_levels` deepest levels of the way up
    window_frames    output frames of a window, rounded up to what the halvings allow
    residual         the source that receives what lies above the model's Nyquist frequency

    Raises ConfigError for a combination that cannot exist.
    """

    family: ClassVar[str] = "spectrogram-u-net"
    sources: SourceNames = VOICE
    sample_rate: SampleRateHz = 8192
    channels: AudioChannels = 1
    fft_frames: SpectrumFrames = 1024
    step_frames: SpectrumFrames = 768
    levels: Levels = 6
    filters: Filters = 16
    taps: Annotated[int, Meta(ge=3, le=63)] = 5
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    dropout_levels: Annotated[int, Meta(ge=0)] = 3
    window_frames: WindowFrames = 98_048  # 128 spectrogram frames
    residual: str = "accompaniment"

    def __post_init__(self) -> None:
        check_config(self, least_sources=2)
        if self.fft_frames % 2 ** (self.levels + 1) or self.fft_frames < 2 ** (self.levels + 1):
            raise ConfigError(
                f"fft_frames must be a multiple of {2 ** (self.levels + 1)} for {self.levels} levels, "
                f"found {self.fft_frames}"
            )
        if self.step_frames >= self.fft_frames:
            raise ConfigError(f"step_frames must be less than fft_frames {self.fft_frames}, found {self.step_frames}")
        if self.dropout_levels >= self.levels:
            raise ConfigError(f"dropout_levels: found {self.dropout_levels}; expected fewer than levels, {self.levels}")

    @property
    def additive(self) -> bool:
        """The sources' masks are independent of each other."""
        return False

    @property
    def context(self) -> int:
        """Samples at a window's ends that some frames are missing for."""
        return self.fft_frames - self.step_frames

    def window(self, min_hop_frames: int | None = None) -> Window:
        """The network's own window, whatever is asked for: its samples depend on it."""
        step = 2**self.levels
        # A window of n spectrogram frames reads (n − 1)·step_frames + fft_frames samples.
        spectra = -(-(self.window_frames + 2 * self.context - self.fft_frames) // self.step_frames) + 1
        spectra = whole_steps(spectra, step)
        output = (spectra - 1) * self.step_frames + self.fft_frames - 2 * self.context
        return Window(context=self.context, output=output, hop=output)


U7 = SpectrogramUNetConfig()


class SpectrogramUNet(nn.Module):
    """The network of a SpectrogramUNetConfig: (B, C, t) → (B, S, C, t − 2·context), for the t of its window."""

    def __init__(self, config: SpectrogramUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.masks = nn.ModuleList(MaskUNet(config) for _ in config.sources)
        self._spectra = Spectra(config.fft_frames, config.step_frames)

    def forward(self, mixture: Tensor) -> Tensor:
        return self.resynthesise(self.magnitudes(mixture), mixture)

    def magnitudes(self, mixture: Tensor) -> Tensor:
        """The sources' estimated magnitudes, masked ones of the mixture: (B, C, t) → (B, S, C, bins, n)."""
        heard = self.spectrum(mixture).abs()  # (B, C, bins, n)
        seen = torch.log1p(heard)[:, :, :-1]  # without the highest bin there are 2^k
        masks = torch.stack([torch.sigmoid(unet(seen).float()) for unet in self.masks], 1)
        masks = F.pad(masks, (0, 0, 0, 1), value=1 / len(self.masks))  # (B, S, C, bins, n)
        return masks * heard.unsqueeze(1)

    def resynthesise(self, magnitudes: Tensor, mixture: Tensor) -> Tensor:
        """Magnitudes (B, S, C, bins, n) with the phases of the mixture (B, C, t): (B, S, C, t − 2·context)."""
        spectrum = self.spectrum(mixture).unsqueeze(1)
        phases = spectrum / spectrum.abs().clamp(min=1e-12)
        return self.signal(magnitudes * phases)

    def spectrum(self, x: Tensor) -> Tensor:
        """(…, t) → complex (…, bins, n)."""
        return self._spectra.of(x).transpose(-1, -2)

    def signal(self, spectrum: Tensor) -> Tensor:
        """Complex (…, bins, n) → (…, t − 2·context)."""
        x = self._spectra.signal(spectrum.transpose(-1, -2))
        return x[..., self.config.context : x.shape[-1] - self.config.context]


class MaskUNet(nn.Module):
    """From magnitudes to what becomes a mask: (B, C, F, T) → (B, C, F, T), both multiples of 2^levels."""

    def __init__(self, config: SpectrogramUNetConfig) -> None:
        super().__init__()
        widths = [config.filters * 2**level for level in range(config.levels)]
        pad = config.taps // 2
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, config.taps, 2, pad, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(SLOPE))
            for i, o in zip([config.channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(  # deepest first; all but the deepest also read the skip
            nn.Sequential(
                nn.ConvTranspose2d(i, o, config.taps, 2, pad, output_padding=1, bias=False),
                nn.BatchNorm2d(o),
                nn.ReLU(),
                nn.Dropout(config.dropout if level < config.dropout_levels else 0.0),
            )
            for level, (i, o) in enumerate(
                zip([widths[-1], *(2 * w for w in widths[-2:0:-1])], widths[-2::-1], strict=True)
            )
        )
        self.output = nn.ConvTranspose2d(2 * widths[0], config.channels, config.taps, 2, pad, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in self.down:
            x = level(x)  # (B, filters·2^level, F / 2^(level + 1), T / 2^(level + 1))
            skips.append(x)
        skips.pop()  # the deepest is no skip
        for level in self.up:
            x = torch.cat([level(x), skips.pop()], 1)
        return cast(Tensor, self.output(x))
