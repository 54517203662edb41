"""Spleeter: one U-Net a source sees the mixture's magnitudes; what they find divides its spectrum among the sources.

    X      spectra of the mixture, (B, C, T, all bins): T of them make a block; the lowest `bins` are seen, as |X|
    m_s    = sigmoid(U_s(|X|)) · |X|           estimate of the magnitudes of source s
    r_s    = (m_s² + ε/S) / (Σ_q m_q² + ε)     its share; the shares of all S sources sum to 1
    ŷ_s    = the signal whose spectra are r_s · X, by overlap and addition

Above the band that is seen, the share of a source is the mean of its shares in the band, channel by channel and
spectrum by spectrum ("average"), or 0 ("zeros", the published program's own default, which drops the treble).

This is another U-Net than U7 in nearly every layer: padding, biases, what is skipped to, the order of norm and
activation, the end. They share the transform. Convolutions are zero-padded, so samples depend on where a block begins:
the published program begins its first block `fft_frames` before the song.

Source: Hennequin, Khlif, Voituret & Moussallam, "Spleeter: a fast and efficient music source separation tool with
pre-trained models", JOSS 2020; and the published configurations.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from waveunet_cli.bounds import AudioChannels, Filters, SampleRateHz, SourceNames, SpectrumFrames
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import check_config
from waveunet_cli.networks.geometry import Window
from waveunet_cli.networks.spectra import Spectra

SLOPE = 0.2  # of the LeakyReLU below zero
TINY = 1e-10  # of a power, the ε above: where nothing sounds all shares are equal

MaskExtension = Literal["average", "zeros"]


@dataclass(frozen=True)
class SpleeterConfig:
    """Everything that defines such a network except its weights.

    sources          stem names in the order of the U-Nets
    sample_rate      Hz the network works at
    channels         audio channels
    fft_frames       samples of a spectrum (Hann window)
    step_frames      samples from one spectrum to the next, a whole part of fft_frames
    bins             the lowest frequencies of each spectrum, which the U-Nets see
    spectra          spectra of a block
    filters          of each level of the way down
    activation       "leaky_relu" (on the way up ReLU) or "elu"
    residual         the source that receives what the others leave of the mixture

    Raises ConfigError for a combination that cannot exist.
    """

    family: ClassVar[str] = "spleeter"
    sources: SourceNames = ("vocals", "accompaniment")
    sample_rate: SampleRateHz = 44_100
    channels: AudioChannels = 2
    fft_frames: SpectrumFrames = 4096
    step_frames: SpectrumFrames = 1024
    bins: SpectrumFrames = 1024
    spectra: Annotated[int, Meta(ge=1, le=1 << 13)] = 512
    filters: Annotated[tuple[Filters, ...], Meta(min_length=1, max_length=12)] = (16, 32, 64, 128, 256, 512)
    activation: Literal["leaky_relu", "elu"] = "leaky_relu"
    residual: str = "accompaniment"

    def __post_init__(self) -> None:
        check_config(self, least_sources=2)
        if self.step_frames >= self.fft_frames or self.fft_frames % self.step_frames:
            raise ConfigError(f"step_frames: found {self.step_frames}; expected a whole part of {self.fft_frames}")
        if self.bins > self.fft_frames // 2:
            raise ConfigError(f"bins: found {self.bins}; expected at most half of fft_frames, {self.fft_frames // 2}")
        for name in ("bins", "spectra"):
            if getattr(self, name) % 2 ** len(self.filters):
                raise ConfigError(
                    f"{name}: found {getattr(self, name)}; expected a multiple of {2 ** len(self.filters)}, "
                    f"for {len(self.filters)} levels"
                )

    @property
    def additive(self) -> bool:
        """The shares sum to 1."""
        return True

    @property
    def context(self) -> int:
        """Samples at a block's ends that some spectra are missing for."""
        return self.fft_frames - self.step_frames

    def window(self, min_hop_frames: int | None = None) -> Window:
        """The samples of one block, whatever is asked for: they depend on where it begins."""
        output = (self.spectra - 1) * self.step_frames + self.fft_frames - 2 * self.context
        return Window(context=self.context, output=output, hop=output)


class Spleeter(nn.Module):
    """The network of a SpleeterConfig: (B, C, t) → (B, S, C, t − 2·context), for the t of its window."""

    def __init__(self, config: SpleeterConfig) -> None:
        super().__init__()
        self.config = config
        self.spectra = Spectra(config.fft_frames, config.step_frames)
        self.unets = nn.ModuleList(SpleeterUNet(config) for _ in config.sources)

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate one block by itself; streams of blocks overlap their ends instead (streaming/spectra.py)."""
        spectra = self.spectra.of(mixture)  # (B, C, T, all bins)
        seen = magnitudes(spectra, self.config.bins)
        shares = shares_of(self.masks(seen), seen)
        masked = [apply_share_(spectra.clone(), share, "average") for share in shares.unbind(1)]
        context = self.config.context
        return self.spectra.signal(torch.stack(masked, 1))[..., context : mixture.shape[-1] - context]

    def masks(self, magnitudes: Tensor) -> Tensor:
        """What each source keeps of a block's magnitudes, from 0 to 1: (B, C, T, bins) → (B, S, C, T, bins)."""
        return torch.sigmoid(torch.stack([unet(magnitudes) for unet in self.unets], 1))


def shares_of(masks: Tensor, magnitudes: Tensor) -> Tensor:
    """The sources' shares of magnitudes (B, C, T, bins), of which they keep what masks (B, S, C, T, bins) say."""
    powers = (masks * magnitudes.unsqueeze(1)).square() + TINY / masks.shape[1]
    return powers / powers.sum(1, keepdim=True)


def magnitudes(spectra: Tensor, bins: int) -> Tensor:
    """The lowest bins of spectra, (…, T, all bins) → (…, T, bins). torch.abs takes three times as long."""
    seen = spectra[..., :bins]
    return torch.addcmul(seen.real.square(), seen.imag, seen.imag).sqrt()


def apply_share_(spectra: Tensor, share: Tensor, extension: MaskExtension) -> Tensor:
    """Multiply complex (…, T, all bins), in place, by a share (…, T, bins), which is extended to the bins above."""
    parts = torch.view_as_real(spectra)  # (…, T, all bins, 2)
    bins = share.shape[-1]
    parts[..., :bins, :] *= share.unsqueeze(-1)
    if extension == "average":
        parts[..., bins:, :] *= share.mean(-1)[..., None, None]
    else:
        parts[..., bins:, :] = 0
    return spectra


class SpleeterUNet(nn.Module):
    """From magnitudes to what becomes a mask: (B, C, T, bins) → (B, C, T, bins), both multiples of 2^levels.

    On the way down a level's skip is taken before norm and activation, which the deepest level does not have. The last
    convolution reads one channel. This is the plain form, for training; to separate, folded_u_net.py computes the same.
    """

    def __init__(self, config: SpleeterConfig) -> None:
        super().__init__()
        self.is_elu = config.activation == "elu"
        down = [config.channels, *config.filters]
        up = [*config.filters[-2::-1], 1]  # outputs; all but the deepest level also read the skip, which is as wide
        read = [config.filters[-1], *(2 * width for width in up[:-1])]
        self.down = nn.ModuleList(nn.Conv2d(i, o, 5, stride=2) for i, o in pairwise(down))
        self.down_norms = nn.ModuleList(Norm(width) for width in config.filters[:-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 5, stride=2) for i, o in zip(read, up, strict=True))
        self.up_norms = nn.ModuleList(Norm(width) for width in up)
        self.output = nn.Conv2d(1, config.channels, 4, padding=3, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for conv, norm in zip(self.down, [*self.down_norms, None], strict=True):
            x = conv(F.pad(x, (1, 2, 1, 2)))  # (B, filters[level], T / 2^(level + 1), bins / 2^(level + 1))
            if norm is not None:
                skips.append(x)
                x = F.elu(norm(x)) if self.is_elu else F.leaky_relu(norm(x), SLOPE)
        for conv, norm in zip(self.up, self.up_norms, strict=True):
            x = conv(x)[..., 1:-2, 1:-2]  # (B, filters[level − 1], T / 2^level, bins / 2^level)
            x = norm(F.elu(x) if self.is_elu else F.relu(x))
            x = torch.cat([skips.pop(), x], 1) if skips else x
        y: Tensor = self.output(x)
        return y


class Norm(nn.Module):
    """A factor and a summand for each channel, (B, C, H, W) → (B, C, H, W): batch norm whose statistics are folded."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (parameter.to(x.dtype) for parameter in (self.weight, self.bias))
        return F.batch_norm(x, torch.zeros_like(bias), torch.ones_like(bias), weight, bias, eps=0.0)
