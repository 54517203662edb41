"""Windows to train on. Window number n is a function of the recipe, its seed and n alone, whoever draws it and when:
so workers and processes share the work freely, and a resumed training sees what it would have seen.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from waveunet_cli.datasets.tracks import Reader, Track, sum_of
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Config
from waveunet_cli.training import augment
from waveunet_cli.training.recipe import Augmentation

SONG = "song"  # the use of all sources of a song together
MOST_PARTS = 4  # of a patchwork
PLACES = 8  # tried to find one where a source sounds
MIDDLE_SECONDS = 0.5  # of a stretch, where it is to sound


@dataclass(frozen=True)
class Pool:
    """The tracks of one folder, and how often to draw from them: for a use, `weights` go before `weight`."""

    tracks: Sequence[Track]
    weight: float
    weights: Mapping[str, float] = field(default_factory=dict)
    reverb: float | None = None


class Mixer:
    """Draws windows from pools of tracks. A folder counts by its weight, a track within it by its length.

    Raises ConfigError if a source is nowhere to be found, if no song has all of them and not everything is remixed, or
    if settings name a source that the model does not have.
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
        self._songs = _with(pools, config.sources, SONG)
        self._single = {source: _with(pools, (source,), source) for source in config.sources}
        self._sums = {  # sources that are the sum of several files somewhere
            source
            for source, found in self._single.items()
            if any(len(track.sources[source]) > 1 for pool in found for track in pool.tracks)
        }
        named = {*settings.levels_db, *settings.song_gains_db, *settings.silence_sources}
        unknown = sorted(named.union(*(pool.weights for pool in pools)) - {SONG, *config.sources})
        if unknown:
            raise ConfigError(f"recipe: {unknown[0]!r} is none of the model's sources {', '.join(config.sources)}")
        for source, found in self._single.items():
            if not found:
                raise ConfigError(f"data: no folder has the source {source}; add one with it")
        if not self._songs and settings.remix < 1:
            raise ConfigError("data: no folder has songs with all sources; add one, or set augmentation.remix = 1")

    def draw(self, number: int) -> Tensor:
        """Window `number`: its sources (S, C, frames), which sum to the mixture. Raises AudioReadError."""
        rng = np.random.default_rng((self._seed, number))
        settings, sources = self._settings, self._config.sources
        remixed = augment.happens(rng, settings.remix) or not self._songs
        if remixed:
            drawn = [self._one(rng, source) for source in sources]
        else:
            drawn = list(self._take(rng, self._songs, sources))
        for i, source in enumerate(sources):
            if augment.happens(rng, settings.doubled) and source in settings.doubled_sources:
                drawn[i] = self._doubled(rng, source, drawn[i])
            drawn[i] = drawn[i] * self._level(rng, source, drawn[i], remixed)
        swaps = [augment.happens(rng, settings.swap) for _ in sources]
        swaps = swaps if remixed else swaps[:1] * len(sources)  # the stereo image of a song stays whole
        may_be_silent = [i for i, s in enumerate(sources) if s in (settings.silence_sources or sources)]
        silent = int(rng.choice(may_be_silent)) if augment.happens(rng, settings.silence) else None
        for i, swap in enumerate(swaps):
            gain = rng.uniform(*settings.gain) * (-1 if augment.happens(rng, settings.polarity) else 1)
            drawn[i] = (drawn[i].flip(0) if swap else drawn[i]) * (0.0 if i == silent else gain)
        x = torch.stack(drawn)  # (S, C, frames)
        if augment.happens(rng, settings.limit):
            x = x * augment.limiter(rng, x.sum(0))
        return x / max(1.0, float(x.sum(0).abs().max())) if settings.full_scale else x

    def _one(self, rng: np.random.Generator, source: str) -> Tensor:
        """A source (C, frames) by itself, of one track or put together from files of several."""
        pools, parts = self._single[source], int(rng.integers(2, MOST_PARTS + 1))
        patched = augment.happens(rng, self._settings.patchwork)
        if patched and source in self._sums:
            return sum_of([self._take(rng, pools, (source,), whole=False)[0] for _ in range(parts)])
        return self._take(rng, pools, (source,))[0]

    def _take(
        self, rng: np.random.Generator, pools: Sequence[Pool], sources: Sequence[str], whole: bool = True
    ) -> Tensor:
        """A random stretch (S, C, frames) of a random track; if not `whole`, of one file for each source."""
        settings = self._settings
        pool = pools[_choose(rng, [pool.weight for pool in pools])]
        track = pool.tracks[_choose(rng, [track.frames / track.sample_rate_hz for track in pool.tracks])]
        if not whole:
            track = replace(
                track, sources={name: (paths[rng.integers(len(paths))],) for name, paths in track.sources.items()}
            )
        factor = augment.speed(rng, settings)
        frames = augment.fast_length(self._frames)
        lasting = augment.stretch_factor(rng, settings)
        played = augment.fast_length(frames * factor) if factor != 1 else frames
        read = augment.fast_length(played / lasting) if lasting != 1 else played
        gains = {path: rng.normal(0, settings.files_spread_db) for source in sources for path in track.sources[source]}
        several = {
            path for source in sources for path in track.sources[source] if len(track.sources[source]) > 1 or not whole
        }
        x = self._reader.read(
            track,
            sources,
            self._place(rng, track, sources, read),
            read,
            lambda path: float(10 ** (gains[path] / 20)) if path in several else 1.0,
        )
        if lasting != 1:
            x = torch.stack([augment.stretch(one, played) for one in x])
        if pool.reverb is not None:
            settings = replace(settings, reverb=pool.reverb)
        rate_hz = self._config.sample_rate
        shaped = [
            augment.shape(one, frames, rng, settings, rate_hz, source in settings.effect_sources)
            for source, one in zip(sources, x, strict=True)
        ]
        return torch.stack(shaped)[..., : self._frames]

    def _place(self, rng: np.random.Generator, track: Track, sources: Sequence[str], frames: int) -> int:
        """The frame to start at. What the window returns lies within the track; the context may reach beyond its ends,
        as in separation."""
        latest = max(0, track.frames_at(self._config.sample_rate) - (frames - 2 * self._context))
        wanted = [source for source in self._settings.heard_sources if source in sources]
        tries = PLACES if augment.happens(rng, self._settings.heard) and wanted else 1
        middle = min(frames, round(MIDDLE_SECONDS * self._config.sample_rate))
        for _ in range(tries):
            start = int(rng.integers(latest + 1)) - self._context
            if tries > 1:
                x = self._reader.read(track, wanted[:1], start + (frames - middle) // 2, middle)
                if float(x.square().mean().sqrt()) > augment.HEARD:
                    break
        return start

    def _doubled(self, rng: np.random.Generator, source: str, x: Tensor) -> Tensor:
        second = self._take(rng, self._single[source], (source,))[0]
        loud, second_loud = augment.loudness(x), augment.loudness(second)
        level = 10 ** (rng.uniform(-12, 0) / 20)
        return x + second * (level * loud / second_loud) if second_loud else x

    def _level(self, rng: np.random.Generator, source: str, x: Tensor, remixed: bool) -> float:
        """The factor that brings a source to its level, or changes its place in its song."""
        settings = self._settings
        spread_db = rng.normal(0, settings.spread_db)
        wanted_db = (settings.levels_db if remixed else settings.song_gains_db).get(source)
        loudness = augment.loudness(x) if remixed else 1.0
        return float(10 ** ((wanted_db + spread_db) / 20) / loudness) if wanted_db is not None and loudness else 1.0


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


def _with(pools: Sequence[Pool], sources: Sequence[str], use: str) -> list[Pool]:
    """The pools' tracks that have all `sources`, with their weights for that use."""
    found = []
    for pool in pools:
        tracks = [track for track in pool.tracks if set(sources) <= track.sources.keys()]
        weight = pool.weights.get(use, pool.weight)
        if tracks and weight:
            found.append(replace(pool, tracks=tracks, weight=weight))
    return found


def _choose(rng: np.random.Generator, weights: Sequence[float]) -> int:
    p = np.array(weights)
    return int(rng.choice(len(p), p=p / p.sum()))
