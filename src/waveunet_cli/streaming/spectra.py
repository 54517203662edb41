"""A song as blocks of spectra, for Spleeter: the blocks stand side by side, and only the transform overlaps.

With spectra of n frames, one every h frames, and T of them in a block, spectrum i covers the frames [i·h − n, i·h) of
the song: the first lies before it. Block b has the spectra b·T … (b + 1)·T − 1. What it adds to the frames before
(b + 1)·T·h − n is all that these lack; to the n − h frames after them the next block adds its part, so they wait.
Before the song and after it are zeros. All this is what the published program computes of a song as a whole.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from waveunet_cli.devices import Placement
from waveunet_cli.networks.folded_u_net import FoldedSpleeter
from waveunet_cli.networks.spectra import Spectra
from waveunet_cli.networks.spleeter import (
    MaskExtension,
    Spleeter,
    SpleeterConfig,
    apply_share_,
    magnitudes,
    shares_of,
)
from waveunet_cli.streaming.frugal import FrugalNetwork

TOGETHER = 32  # spectra transformed at once: few enough to stay in the processor's cache


class FoldedMasks:
    """How a FrugalNetwork calls a Spleeter: with kernels folded once, and anew if another device takes over."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._network: nn.Module | None = None
        self._folded: FoldedSpleeter | None = None

    def __call__(self, network: nn.Module, seen: Tensor) -> Tensor:
        """Magnitudes (B, C, T, bins) → masks (B, S, C, T, bins)."""
        if self._folded is None or network is not self._network:
            as_planned = seen.device.type == self._placement.device.type
            dtype = self._placement.dtype if as_planned else torch.float32
            self._network, self._folded = network, FoldedSpleeter(cast(Spleeter, network), dtype)
        masks: Tensor = self._folded(seen)
        return masks


@dataclass(frozen=True)
class SpectraNetwork:
    """A network that divides spectra among sources: magnitudes (B, C, T, bins) → masks (B, S, C, T, bins)."""

    masks: FrugalNetwork
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
        self._pending: list[Tensor] = []  # (B, C, t) each: all from the first frame of the next block on
        self._waiting: Tensor | None = None  # (B, S, C, n − h): what the last block adds to the next
        self._early = config.fft_frames  # frames before the song, yet to come out
        self._owed = 0  # frames received and not yet returned

    def push(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t'): what all whole blocks give; t' may be 0."""
        self._owed += x.shape[-1]
        if not self._pending:
            self._pending = [x.new_zeros(*x.shape[:-1], self._early)]
        self._pending.append(x)
        outputs = []
        while self._pending_frames() >= self._block_frames:
            outputs.append(self._advance(self._config.spectra))
        return self._joined(outputs)

    def flush(self) -> Tensor:
        """The rest, (B, S, C, t')."""
        assert self._pending, "push at least once before flush"
        owed, outputs = self._owed, []
        while self._owed > 0:
            missing = max(0, self._block_frames - self._pending_frames())
            self._pending.append(self._pending[-1].new_zeros(*self._pending[-1].shape[:-1], missing))
            left = -(-(self._early + self._owed) // self._config.step_frames)  # spectra that hear something
            outputs.append(self._advance(min(left, self._config.spectra)))
        return self._joined(outputs)[..., :owed]

    def _pending_frames(self) -> int:
        return sum(x.shape[-1] for x in self._pending)

    def _advance(self, spectra: int) -> Tensor:
        """What one more block gives, of which all spectra but the first so many are silence."""
        pending = torch.cat(self._pending, -1)
        self._pending = [pending[..., self._hop_frames :].clone()]
        # (B, S, C, hop + n − h), nothing for the residual
        y = self._signals(pending[..., : self._block_frames], spectra)
        if self._waiting is not None:
            y[..., : self._config.context] += self._waiting
        self._waiting = y[..., self._hop_frames :].clone()
        y = y[..., : self._hop_frames]
        torch.sub(pending[..., : self._hop_frames], y.sum(1), out=y[:, self._residual])
        y = y[..., self._early :]
        self._early = 0
        self._owed -= y.shape[-1]
        return y

    def _signals(self, block: Tensor, heard: int) -> Tensor:
        """(B, C, t) → what its first `heard` spectra add to each source, (B, S, C, t); the residual is left out.

        Spectra are computed twice, since to keep them would take as much memory as a U-Net.
        """
        config, step = self._config, self._config.step_frames
        cuts = [slice(start, min(start + TOGETHER, heard)) for start in range(0, heard, TOGETHER)]
        frames = [slice(cut.start * step, cut.stop * step + config.context) for cut in cuts]
        seen = block.new_empty(*block.shape[:2], heard, config.bins)  # (B, C, T, bins)
        for cut, place in zip(cuts, frames, strict=True):
            seen[:, :, cut] = magnitudes(self._spectra.of(block[..., place]), config.bins)
        masks = self._network.masks(seen)  # (B, S, C, T, bins)
        del seen
        y = block.new_zeros(block.shape[0], len(config.sources), *block.shape[1:])
        for cut, place in zip(cuts, frames, strict=True):
            spectra = self._spectra.of(block[..., place])  # (B, C, TOGETHER, all bins)
            shares = shares_of(masks[..., cut, :], magnitudes(spectra, config.bins))
            for source in range(len(config.sources)):
                if source != self._residual:
                    masked = apply_share_(spectra.clone(), shares[:, source], self._network.extension)
                    y[:, source, :, place] += self._spectra.signal(masked)
        return y

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        if len(outputs) == 1:
            return outputs[0]
        size, channels, _ = self._pending[0].shape
        return torch.cat([self._pending[0].new_zeros(size, len(self._config.sources), channels, 0), *outputs], -1)
