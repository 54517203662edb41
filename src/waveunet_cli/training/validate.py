"""The loss and the signal-to-distortion ratio over whole songs, window after window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10, nan
from statistics import median

import torch
from torch import Tensor

from waveunet_cli.datasets.tracks import Reader, Track
from waveunet_cli.networks.family import Config
from waveunet_cli.training.loss import Loss
from waveunet_cli.training.network import Trainable

EXCERPT_SECONDS = 10  # at least a window


@dataclass(frozen=True)
class Excerpt:
    """The middle of a song to look at and listen to: true and estimated sources, (S, C, t) each."""

    truth: Tensor
    estimate: Tensor


@dataclass(frozen=True)
class Score:
    """A validation: the mean loss over all windows of all songs, and per source the median over the songs of the SDR
    of the whole song (10·log10 of reference energy over error energy, in dB; songs where it is silent don't count).
    The excerpt is of the first song."""

    loss: float
    sdr_db: dict[str, float]
    excerpt: Excerpt | None = None


@torch.no_grad()
def validate(
    trainable: Trainable,
    compute: Callable[[Tensor], Tensor],
    config: Config,
    tracks: Sequence[Track],
    loss: Loss,
    hop_frames: int | None,
    device: torch.device,
) -> Score:
    """Score a network; `compute` is its `trainable` with the weights to judge. Raises AudioReadError."""
    reader = Reader(config.sample_rate, config.channels)
    window = config.window(hop_frames)
    total, frames = 0.0, 0
    ratios: dict[str, list[float]] = {source: [] for source in config.sources}
    excerpt: list[tuple[Tensor, Tensor]] = []
    reach = max(window.hop, EXCERPT_SECONDS * config.sample_rate) // 2
    for track in tracks:
        length = track.frames_at(config.sample_rate)
        energy, error = torch.zeros(2, len(config.sources), dtype=torch.float64)
        for start in range(0, length, window.hop):
            x = reader.read(track, config.sources, start - window.context, window.input).to(device)  # (S, C, t)
            kept = min(window.hop, length - start)
            mixture = x.sum(0)[None]
            given = trainable.result(compute(mixture))  # samples or magnitudes
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
        for source, signal, noise in zip(config.sources, energy.tolist(), error.tolist(), strict=True):
            if signal > 0:
                ratios[source].append(10 * log10(signal / max(noise, 1e-12 * signal)))
    sdr_db = {source: median(found) if found else nan for source, found in ratios.items()}
    return Score(total / frames, sdr_db, Excerpt(*(torch.cat(parts, -1) for parts in zip(*excerpt, strict=True))))
