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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Annotated, ClassVar, Literal, NamedTuple, cast

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
MOST_COPIED = 1 << 20  # weights of a kernel; of a larger one no second form is kept: four megabytes, and most of all
PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # even and odd rows, even and odd columns
FEW = 4  # outputs, for which four convolutions would take longer than one

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
        shares = self.shares(magnitudes(spectra, self.config.bins))
        masked = [apply_share_(spectra.clone(), share, "average") for share in shares.unbind(1)]
        context = self.config.context
        return self.spectra.signal(torch.stack(masked, 1))[..., context : mixture.shape[-1] - context]

    def shares(self, magnitudes: Tensor, folded: "Sequence[FoldedUNet] | None" = None) -> Tensor:
        """The sources' shares of a block's magnitudes: (B, C, T, bins) → (B, S, C, T, bins).

        `folded` is what `folded` gave, if it is known.
        """
        seen = magnitudes.contiguous(memory_format=torch.channels_last)
        masks = [torch.sigmoid(unet(seen).float()) for unet in folded or self.folded()]
        powers = torch.stack([(mask * magnitudes).square() for mask in masks], 1)
        return (powers + TINY / len(masks)) / (powers.sum(1, keepdim=True) + TINY)

    def folded(self, dtype: torch.dtype = torch.float32) -> "list[FoldedUNet]":
        """The U-Nets with their kernels as a processor likes them, in `dtype`."""
        return [cast(SpleeterUNet, unet).folded(dtype) for unet in self.unets]


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
    convolution reads one channel. Norms have no statistics: they are a factor and a summand for each channel.
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
        return self.folded(x.dtype)(x)

    def folded(self, dtype: torch.dtype) -> "FoldedUNet":
        return FoldedUNet(
            unet=self,
            down=[fold_down(cast(nn.Conv2d, conv), dtype) for conv in self.down],
            up=[fold_up(cast(nn.ConvTranspose2d, conv), dtype) for conv in self.up],
        )


class Norm(nn.Module):
    """A factor and a summand for each channel: (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (parameter.to(x.dtype)[:, None, None] for parameter in (self.weight, self.bias))
        return torch.addcmul(bias, x, weight)


class Kernel(NamedTuple):
    """The weights of a layer, as one of the ways to compute it wants them."""

    parts: tuple[Tensor, ...]
    bias: Tensor


class FoldedUNet(NamedTuple):
    """A SpleeterUNet ready to run."""

    unet: SpleeterUNet
    down: list[Kernel]
    up: list[Kernel]

    def __call__(self, x: Tensor) -> Tensor:
        unet, skips = self.unet, list[Tensor]()
        for kernel, norm in zip(self.down, [*unet.down_norms, None], strict=True):
            x = downsampled(x, kernel)  # (B, filters[level], T / 2^(level + 1), bins / 2^(level + 1))
            if norm is not None:
                skips.append(x)
                x = norm(x)
                x = F.elu_(x) if unet.is_elu else F.leaky_relu_(x, SLOPE)
        for kernel, norm in zip(self.up, unet.up_norms, strict=True):
            phases = (norm(F.elu_(y) if unet.is_elu else F.relu_(y)) for y in upsampled(x, kernel))
            x = interleaved(phases, skips.pop() if skips else None)
        return cast(Tensor, unet.output(x.float()))


def fold_down(conv: nn.Conv2d, dtype: torch.dtype) -> Kernel:
    """A kernel (out, in, 5, 5); in channels-last memory unless it is so large that two of them would take too much."""
    weight = conv.weight.to(dtype)
    if weight.numel() <= MOST_COPIED:
        weight = weight.contiguous(memory_format=torch.channels_last)
    return Kernel((weight,), cast(Tensor, conv.bias).to(dtype))


def downsampled(x: Tensor, kernel: Kernel) -> Tensor:
    """A convolution of stride 2, padded by 1 before and 2 after: (B, in, H, W) → (B, out, H / 2, W / 2)."""
    (weight,) = kernel.parts
    x = F.pad(x.to(weight.dtype), (1, 2, 1, 2))
    if weight.is_contiguous():  # else torch would copy the kernel
        x = x.contiguous()
    return F.conv2d(x, weight, kernel.bias, stride=2)


def fold_up(conv: nn.ConvTranspose2d, dtype: torch.dtype) -> Kernel:
    """The kernel (in, out, 5, 5) of a transposed convolution of stride 2, 1 cut off before and 2 after.

    Per dimension, with the input x and the taps w,

        y[2j]     = w[1]·x[j] + w[3]·x[j − 1]
        y[2j + 1] = w[0]·x[j + 1] + w[2]·x[j] + w[4]·x[j − 1].

    So it is four convolutions of 2 or 3 × 2 or 3 taps, whose outputs interleave; or, where outputs are few, one of 3×3
    taps with four times the outputs and some taps of zero. A large kernel is not kept in another form: all its taps are
    one matrix product, (out·25, in), and what they give is added where it belongs. On CPUs all three are faster than
    torch's own way.
    """
    weight, bias = conv.weight.to(dtype), cast(Tensor, conv.bias).to(dtype)
    if weight.numel() > MOST_COPIED:
        return Kernel((weight.flatten(1).T,), bias)
    taps = F.pad(weight, (1, 0, 1, 0)).reshape(*weight.shape[:2], 3, 2, 3, 2)  # w[−1], which is 0, w[0], w[1] …
    phases = taps.flip(2, 4).permute(3, 5, 1, 0, 2, 4)  # (2, 2, out, in, 3, 3)
    if weight.shape[1] <= FEW:
        parts, bias = [phases.flatten(0, 2)], bias.repeat(4)
    else:
        parts = [phases[row, column, ..., : 2 + row, : 2 + column] for row, column in PHASES]
    return Kernel(tuple(part.contiguous(memory_format=torch.channels_last) for part in parts), bias)


def upsampled(x: Tensor, kernel: Kernel) -> Iterator[Tensor]:
    """The transposed convolution of `fold_up`, (B, in, H, W) → (B, out, 2H, 2W), as its even and odd rows and columns.

    Yields four tensors (B, out, H, W): even rows' even columns, their odd ones, odd rows' even columns, their odd ones.
    """
    x = x.to(kernel.bias.dtype)
    height, width = x.shape[2:]
    if kernel.parts[0].dim() == 2:
        taps = kernel.parts[0] @ x.flatten(2)  # (B, out·25, H·W)
        y = F.fold(taps.float(), (2 * height + 3, 2 * width + 3), 5, stride=2)  # (B, out, 2H + 3, 2W + 3)
        for row, column in PHASES:
            yield y[..., 1 + row : -2 : 2, 1 + column : -2 : 2] + kernel.bias[:, None, None]
    elif len(kernel.parts) == 1:
        yield from F.conv2d(x, kernel.parts[0], kernel.bias, padding=1).chunk(4, 1)
    else:
        for part in kernel.parts:
            yield F.conv2d(x, part, kernel.bias, padding=1)[..., :height, :width]


def interleaved(phases: Iterator[Tensor], skip: Tensor | None) -> Tensor:
    """What `upsampled` yields, put together, behind the channels of a skip: (B, skip + out, 2H, 2W)."""
    first = next(phases)
    size, out, height, width = first.shape
    before = 0 if skip is None else skip.shape[1]
    y = first.new_empty(size, height, 2, width, 2, before + out)  # channels-last memory
    if skip is not None:
        y[..., :before] = skip.permute(0, 2, 3, 1).reshape(size, height, 2, width, 2, before)
    for (row, column), phase in zip(PHASES, chain([first], phases), strict=True):
        y[:, :, row, :, column, before:] = phase.permute(0, 2, 3, 1)
    return y.view(size, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)
