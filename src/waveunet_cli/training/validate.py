"""The loss and the signal-to-distortion ratio over whole songs, window after window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10, nan
from statistics import median

import torch
from torch import Tensor

from waveunet_cli.datasets.reader import Reader
from waveunet_cli.datasets.tracks import Track
from waveunet_cli.networks.family import Config
from waveunet_cli.training.loss import Loss
from waveunet_cli.training.network import Trainable
from waveunet_cli.training.sums import placed, summed, sums_of

EXCERPT_SECONDS = 10  # at least a window


@dataclass(frozen=True)
class Excerpt:
    """The middle of a song to look at and listen to: true and estimated sources, (S, C, t) each."""

    truth: Tensor
    estimate: Tensor


@dataclass(frozen=True)
class Score:
    """What a validation found.

    loss     mean over all windows of all songs
    sdr_db   for each source or known sum of sources: median over the songs of the SDR of the whole song, which is
             10·log10 of reference energy over error energy. Songs where it is silent do not count.
    excerpt  of the first song
    """

    loss: float
    sdr_db: dict[str, float]
    excerpt: Excerpt | None = None


@torch.no_grad()
def validate(
    trainable: Trainable,
    compute: Callable[[Tensor], Tensor],
    config: Config,
    reader: Reader,
    tracks: Sequence[Track],
    loss: Loss,
    hop_frames: int | None,
    device: torch.device,
) -> Score:
    """Score a network; `compute` is its `trainable` with the weights to judge. Raises AudioReadError."""
    window = config.window(hop_frames)
    total, frames = 0.0, 0
    ratios: dict[str, list[float]] = {name: [] for track in tracks for name in track.parts(config.sources)}
    excerpt: list[tuple[Tensor, Tensor]] = []
    reach = max(window.hop, EXCERPT_SECONDS * config.sample_rate) // 2
    for track in tracks:
        length = track.frames_at(config.sample_rate)
        parts = track.parts(config.sources)
        sums = sums_of(parts, config.sources)
        sums = None if sums is None else sums[None]  # (1, S, S)
        energy, error = torch.zeros(2, len(config.sources), dtype=torch.float64)
        for start in range(0, length, window.hop):
            known = reader.read(track, parts, start - window.context, window.input)  # (K, C, t)
            x = placed(known, parts, config.sources).to(device)  # (S, C, t)
            kept = min(window.hop, length - start)
            mixture = x.sum(0)[None]
            given = summed(trainable.result(compute(mixture)), sums)  # samples or magnitudes
            wanted = trainable.wanted(x[None], given)
            if not trainable.magnitudes:  # beyond the end there is nothing to judge
                given, wanted = given[..., :kept], wanted[..., :kept]
            total += float(loss(given, wanted)) * kept
            truth = x[None, ..., window.context : window.context + kept]  # (1, S, C, kept)
            estimate = trainable.samples(given, mixture)[..., :kept]
            frames += kept
            if track is tracks[0] and abs(start + window.hop // 2 - length // 2) <= reach:
                excerpt.append((truth[0].cpu(), estimate[0].cpu()))
            energy += truth.double().square().sum((0, 2, 3)).cpu()
            error += (estimate - truth).double().square().sum((0, 2, 3)).cpu()
        for name, (first, *_) in parts.items():
            at = config.sources.index(first)
            signal, noise = float(energy[at]), float(error[at])
            if signal > 0:
                ratios[name].append(10 * log10(signal / max(noise, 1e-12 * signal)))
    sdr_db = {name: median(found) if found else nan for name, found in ratios.items()}
    return Score(total / frames, sdr_db, Excerpt(*(torch.cat(parts, -1) for parts in zip(*excerpt, strict=True))))
