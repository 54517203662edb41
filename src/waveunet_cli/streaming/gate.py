"""A gate: a source of which the network is nowhere sure for a long while is turned down.

    m    = |Ŷ| / |X|                               share of the mixture's spectrum that went to the source, at most 1
    c(n) = Σ_f m · |Ŷ|² / Σ_f |Ŷ|²                 both sums weighted by a Hann window, 1 s before and after spectrum n
    C(n) = (mean of c⁴)^(1/4)                      weighted by a Hann window, 20 s before and after, inside the song
    g(n) = C⁶ / (C⁶ + threshold⁶)                  gain of the source; between two spectra it fades as they do

c is the mean share of the mixture where the source is strong. A voice stands out at its partials, c is 0.5 to 0.9;
where a song has none, scraps of other instruments are a small share of the mixture each. By the high power a few sure
seconds among 20 leave the gate nearly open: songs with a voice keep it, pauses included. What a gate takes from the
sources the residual one receives, which has no gate of its own: all still sum to the mixture.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from waveunet_cli.networks.geometry import MASK_HOP_FRAMES as HOP
from waveunet_cli.networks.masks import TINY, power, short_time_spectra
from waveunet_cli.streaming.windows import Stream

MOMENT_SECONDS = 1.0
AROUND_SECONDS = 20.0


class _Kept(NamedTuple):
    """What a gate keeps of a song between two blocks."""

    unmeasured: Tensor  # (B, S, C, t) of which no spectrum was taken yet, HOP before the next spectrum's middle
    sources: tuple[Tensor, ...]  # (B, S, C, t) each, not yet returned
    measures: Tensor  # (B, S − 1, 3, n) of spectra, the first moment + around before that of the next output


class GatedStream:
    """A stream whose sources, which sum to the mixture, pass a gate; they come about 21 s later.

    What it holds does not depend on the song's length, what it returns not on how the song was cut.
    """

    def __init__(self, stream: Stream, threshold: float, sample_rate: int, residual: int) -> None:
        """`threshold` (above 0, below 1) is the confidence at which a source is halved; `sample_rate` is in Hz.

        `residual` is the number of the source that receives what the others lose.
        """
        self._stream = stream
        self._residual = residual
        self._threshold = threshold
        self._moment = round(MOMENT_SECONDS * sample_rate / HOP)  # in spectra, before and after
        self._around = round(AROUND_SECONDS * sample_rate / HOP)
        self._kept: _Kept | None = None

    def push(self, x: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t'); t' may be 0."""
        self._take(self._stream.push(x))
        return self._release()

    def flush(self) -> Tensor:
        """The rest, (B, S, C, t')."""
        self._take(self._stream.flush())
        assert self._kept is not None
        sources = self._kept.sources
        owed = sum(block.shape[-1] for block in sources)
        # Zeros for the spectrum at the end; its second half never leaves.
        self._take(sources[0].new_zeros(*sources[0].shape[:-1], -owed % HOP + HOP))
        after = F.pad(self._kept.measures, (0, self._moment + self._around))
        self._kept = self._kept._replace(measures=after)
        return self._release()[..., :owed]

    def _take(self, sources: Tensor) -> None:
        """Keep more sources (B, S, C, t), and measure them."""
        if self._kept is not None and not sources.shape[-1]:
            return
        if self._kept is None:
            before = sources.new_zeros(sources.shape[0], sources.shape[1] - 1, 3, self._moment + self._around)
            self._kept = _Kept(F.pad(sources, (HOP, 0)), (sources,), before)
        else:
            unmeasured, kept, measures = self._kept
            self._kept = _Kept(torch.cat([unmeasured, sources], -1), (*kept, sources), measures)
        self._measure()

    def _measure(self) -> None:
        """Of every new spectrum and predicted source: Σ m·|Ŷ|², Σ |Ŷ|², and 1 for being inside the song."""
        assert self._kept is not None
        unmeasured, _, measures = self._kept
        n = unmeasured.shape[-1] // HOP - 1
        if n < 1:
            return
        signals = unmeasured[..., : (n + 1) * HOP]
        parts = [signals.sum(1, keepdim=True), signals[:, : self._residual], signals[:, self._residual + 1 :]]
        signals = torch.cat(parts, 1)  # the mixture, and all sources but the residual
        powers = power(short_time_spectra(signals)).squeeze(2)  # (B, S, n, bins)
        mixture, predicted = powers[:, :1], powers[:, 1:]
        share = (predicted / (mixture + TINY)).sqrt().clamp(max=1)
        energy = predicted.sum(-1)  # (B, S − 1, n)
        new = torch.stack([(share * predicted).sum(-1), energy, torch.ones_like(energy)], 2)
        self._kept = self._kept._replace(unmeasured=unmeasured[..., n * HOP :], measures=torch.cat([measures, new], -1))

    def _release(self) -> Tensor:
        """Return the sources that two neighbouring gains are known for, and forget what no later gain needs."""
        assert self._kept is not None
        _, sources, measures = self._kept
        hops = max(0, measures.shape[-1] - 2 * (self._moment + self._around) - 1)
        if not hops:
            return sources[0][..., :0]
        ready, waiting = _split(sources, hops * HOP)
        self._kept = self._kept._replace(sources=waiting, measures=measures[..., hops:])
        gains = self._gains(measures)  # (B, S − 1, hops + 1)
        fade = torch.hann_window(2 * HOP, device=gains.device)[:HOP]
        gain = torch.lerp(gains[..., :-1, None], gains[..., 1:, None], fade).flatten(-2)  # (B, S − 1, hops · HOP)
        others = [source for source in range(ready.shape[1]) if source != self._residual]
        for source, closed in zip(others, (1 - gain).unbind(1), strict=True):
            taken = ready[:, source] * closed[:, None]  # (B, C, t)
            ready[:, source] -= taken
            ready[:, self._residual] += taken
        return ready

    def _gains(self, measures: Tensor) -> Tensor:
        """(B, S − 1, 3, n) → (B, S − 1, n − 2·moment − 2·around)."""
        sure, energy = _hann_sums(measures[:, :, :2], self._moment).unbind(2)
        inside = measures[:, :, 2, self._moment : measures.shape[-1] - self._moment]
        sure = (sure / (energy + TINY)) ** 4 * inside
        mean = _hann_sums(sure, self._around) / _hann_sums(inside, self._around)  # C⁴
        return mean**1.5 / (mean**1.5 + self._threshold**6)


def _split(blocks: tuple[Tensor, ...], frames: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A copy of the first frames of blocks (…, t), and the blocks that remain, at least one."""
    first: list[Tensor] = []
    for i, block in enumerate(blocks):
        first.append(block[..., :frames])
        frames -= first[-1].shape[-1]
        if not frames:
            return torch.cat(first, -1), (block[..., first[-1].shape[-1] :], *blocks[i + 1 :])
    raise AssertionError("fewer frames than asked for")


def _hann_sums(x: Tensor, radius: int) -> Tensor:
    """(…, n) → (…, n − 2·radius): sums of 2·radius + 1 neighbours, the more distant the less."""
    weights = torch.hann_window(2 * radius + 3, periodic=False, device=x.device)[1:-1]
    return F.conv1d(x.reshape(-1, 1, x.shape[-1]), weights[None, None]).reshape(*x.shape[:-1], -1)
