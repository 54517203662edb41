"""Windows to train on. Window number n is a function of the recipe, its seed and n alone, whoever draws it and when:
so workers and processes share the work freely, and a resumed training sees what it would have seen.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from waveunet_cli.checkpoint import Config
from waveunet_cli.errors import ConfigError
from waveunet_cli.training import augment
from waveunet_cli.training.dataset import Reader, Track
from waveunet_cli.training.recipe import Augmentation


@dataclass(frozen=True)
class Pool:
    """The tracks of one folder, and how often to draw from them."""

    tracks: Sequence[Track]
    weight: float


class Mixer:
    """Draws windows from pools of tracks. A folder counts by its weight, a track within it by its length.

    Raises ConfigError if a source is nowhere to be found, or if no song has all of them and not everything is remixed.
    """

    def __init__(
        self,
        config: Config,
        pools: Sequence[Pool],
        settings: Augmentation,
        frames: int,
        context: int,
        seed: int,
        in_memory: bool = False,
    ) -> None:
        self._config = config
        self._settings = settings
        self._frames = frames  # of a window, context included
        self._context = context
        self._seed = seed
        self._reader = Reader(config.sample_rate, config.channels, in_memory)
        self._songs = _with(pools, config.sources)
        self._single = {source: _with(pools, (source,)) for source in config.sources}
        for source, found in self._single.items():
            if not found:
                raise ConfigError(f"data: no folder has the source {source}; add one with it")
        if not self._songs and settings.remix < 1:
            raise ConfigError("data: no folder has songs with all sources; add one, or set augmentation.remix = 1")

    def draw(self, number: int) -> Tensor:
        """Window `number`: its sources (S, C, frames), which sum to the mixture. Raises AudioReadError."""
        rng = np.random.default_rng((self._seed, number))
        settings, sources = self._settings, self._config.sources
        if augment.happens(rng, settings.remix) or not self._songs:
            drawn = [self._take(rng, self._single[source], (source,))[0] for source in sources]
            drawn = [self._levelled(rng, source, x) for source, x in zip(sources, drawn, strict=True)]
            swaps = [augment.happens(rng, settings.swap) for _ in sources]
        else:
            drawn = list(self._take(rng, self._songs, sources))
            swaps = [augment.happens(rng, settings.swap)] * len(sources)
        silent = int(rng.integers(len(sources))) if augment.happens(rng, settings.silence) else None
        for i, swap in enumerate(swaps):
            gain = rng.uniform(*settings.gain) * (-1 if augment.happens(rng, settings.polarity) else 1)
            drawn[i] = (drawn[i].flip(0) if swap else drawn[i]) * (0.0 if i == silent else gain)
        return torch.stack(drawn)

    def _take(self, rng: np.random.Generator, pools: Sequence[Pool], sources: Sequence[str]) -> Tensor:
        """A random stretch (S, frames) of a random track."""
        pool = pools[_choose(rng, [pool.weight for pool in pools])]
        track = pool.tracks[_choose(rng, [track.frames / track.sample_rate_hz for track in pool.tracks])]
        factor = augment.speed(rng, self._settings)
        frames = augment.fast_length(self._frames)
        read = augment.fast_length(frames * factor) if factor != 1 else frames
        # What the window returns lies within the track; the context may reach beyond its ends, as in separation.
        latest = max(0, track.frames_at(self._config.sample_rate) - (read - 2 * self._context))
        x = self._reader.read(track, sources, int(rng.integers(latest + 1)) - self._context, read)
        shaped = [
            augment.shape(
                one, frames, rng, self._settings, self._config.sample_rate, source in self._settings.reverb_sources
            )
            for source, one in zip(sources, x, strict=True)
        ]
        return torch.stack(shaped)[..., : self._frames]

    def _levelled(self, rng: np.random.Generator, source: str, x: Tensor) -> Tensor:
        level_db = self._settings.levels_db.get(source)
        spread_db = rng.normal(0, self._settings.spread_db)
        loudness = augment.loudness(x)
        if level_db is None or loudness == 0:
            return x
        return x * (10 ** ((level_db + spread_db) / 20) / loudness)


def windows(mixer: Mixer, numbers: Iterable[int], size: int, workers: int) -> Iterator[Tensor]:
    """The windows of `numbers`, `size` at a time (B, S, C, t), drawn ahead by threads in the background."""
    waiting = iter(numbers)
    with ThreadPoolExecutor(workers) as pool:
        ahead = deque(pool.submit(mixer.draw, number) for number in islice(waiting, size + workers))
        try:
            while ahead:
                yield torch.stack([ahead.popleft().result() for _ in range(min(size, len(ahead)))])
                ahead.extend(pool.submit(mixer.draw, number) for number in islice(waiting, size + workers - len(ahead)))
        finally:
            for future in ahead:
                future.cancel()


def _with(pools: Sequence[Pool], sources: Sequence[str]) -> list[Pool]:
    """The pools' tracks that have all `sources`."""
    kept = [
        Pool([track for track in pool.tracks if set(sources) <= track.sources.keys()], pool.weight) for pool in pools
    ]
    return [pool for pool in kept if pool.tracks]


def _choose(rng: np.random.Generator, weights: Sequence[float]) -> int:
    p = np.array(weights)
    return int(rng.choice(len(p), p=p / p.sum()))
