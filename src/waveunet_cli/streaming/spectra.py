"""A song as blocks of spectra, for Spleeter: the blocks stand side by side, and only the transform overlaps.

With spectra of n frames, one every h frames, and T of them in a block, spectrum i covers the frames [i·h − n, i·h) of
the song: the first lies before it. Block b has the spectra b·T … (b + 1)·T − 1. What it adds to the frames before
(b + 1)·T·h − n is all that these lack; to the n − h frames after them the next block adds its part, so they wait.
Before the song and after it are zeros. All this is what the published program computes of a song as a whole.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waveunet_cli.devices import Placement
from waveunet_cli.networks.folded_u_net import FoldedUNet
from waveunet_cli.networks.spectra import Spectra
from waveunet_cli.networks.spleeter import (
    MaskExtension,
    Spleeter,
    SpleeterConfig,
    SpleeterUNet,
    apply_share_,
    magnitudes,
    shares_of,
)
from waveunet_cli.streaming.frugal import FrugalNetwork


class FoldedShares:
    """How a FrugalNetwork calls a Spleeter: with kernels folded once, and anew if another device takes over."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._network: nn.Module | None = None
        self._folded: list[FoldedUNet] = []

    def __call__(self, network: nn.Module, seen: Tensor) -> Tensor:
        """Magnitudes (B, C, T, bins) → shares (B, S, C, T, bins)."""
        if network is not self._network:
            as_planned = seen.device.type == self._placement.device.type
            dtype = self._placement.dtype if as_planned else torch.float32
            self._folded = [FoldedUNet(cast(SpleeterUNet, unet), dtype) for unet in cast(Spleeter, network).unets]
            self._network = network
        return shares_of(self._folded, seen)


@dataclass(frozen=True)
class SpectraNetwork:
    """A network that divides spectra among sources: magnitudes (B, C, T, bins) → shares (B, S, C, T, bins)."""

    shares: FrugalNetwork
    config: SpleeterConfig
    extension: MaskExtension

    def stream(self, size: int = 1) -> "SpectraStream":
        """A stream of signals side by side, whose number the first block tells."""
        return SpectraStream(self)


class SpectraStream:
    """Frames in, separated frames out: (B, C, t) → (B, S, C, t'), as many in all as went in.

    The residual is what the other sources leave of the mixture.
    """

    def __init__(self, network: SpectraNetwork) -> None:
        config = network.config
        self._network = network
        self._config = config
        self._spectra = Spectra(config.fft_frames, config.step_frames)
        self._hop_frames = config.spectra * config.step_frames
        self._block_frames = self._hop_frames + config.context
        self._residual = config.sources.index(config.residual)
        self._pending: Tensor | None = None  # (B, C, t) from the first frame of the next block on
        self._waiting: Tensor | None = None  # (B, S − 1, C, n − h): what the last block adds to the next
        self._early = config.fft_frames  # frames before the song, yet to come out
        self._owed = 0  # frames received and not yet returned

    def push(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t'): what all whole blocks give; t' may be 0."""
        self._owed += x.shape[-1]
        before = x.new_zeros(*x.shape[:-1], self._early) if self._pending is None else self._pending
        self._pending = torch.cat([before, x], -1)
        outputs = [self._nothing()]
        while self._pending.shape[-1] >= self._block_frames:
            outputs.append(self._advance())
        return torch.cat(outputs, -1)

    def flush(self) -> Tensor:
        """The rest, (B, S, C, t')."""
        assert self._pending is not None, "push at least once before flush"
        owed, outputs = self._owed, [self._nothing()]
        while self._owed > 0:
            self._pending = F.pad(self._pending, (0, max(0, self._block_frames - self._pending.shape[-1])))
            outputs.append(self._advance())
        return torch.cat(outputs, -1)[..., :owed]

    def _advance(self) -> Tensor:
        """What one more block gives."""
        assert self._pending is not None
        block, mixture = self._pending[..., : self._block_frames], self._pending[..., : self._hop_frames]
        signals = self._signals(block)  # (B, S − 1, C, hop + n − h)
        if self._waiting is not None:
            signals[..., : self._config.context] += self._waiting
        sources, self._waiting = signals[..., : self._hop_frames], signals[..., self._hop_frames :].clone()
        rest = (mixture - sources.sum(1)).unsqueeze(1)  # (B, 1, C, hop)
        y = torch.cat([sources[:, : self._residual], rest, sources[:, self._residual :]], 1)[..., self._early :]
        self._pending, self._early = self._pending[..., self._hop_frames :], 0
        self._owed -= y.shape[-1]
        return y

    def _signals(self, block: Tensor) -> Tensor:
        """(B, C, t) → what its spectra add to each source but the residual, (B, S − 1, C, t)."""
        spectra = [self._spectra.of(channel) for channel in block.unbind(1)]  # C of (B, T, all bins)
        seen = torch.stack([magnitudes(each, self._config.bins) for each in spectra], 1)  # (B, C, T, bins)
        shares = self._network.shares(seen)  # (B, S, C, T, bins)
        sources = [index for index in range(shares.shape[1]) if index != self._residual]
        signals = block.new_empty(block.shape[0], len(sources), *block.shape[1:])
        for channel, each in enumerate(spectra):  # one at a time: spectra are large
            for place, source in enumerate(sources):
                masked = apply_share_(each.clone(), shares[:, source, channel], self._network.extension)
                signals[:, place, channel] = self._spectra.signal(masked)
        return signals

    def _nothing(self) -> Tensor:
        assert self._pending is not None
        size, channels, _ = self._pending.shape
        return self._pending.new_zeros(size, len(self._config.sources), channels, 0)
