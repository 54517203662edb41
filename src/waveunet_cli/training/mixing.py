"""Windows to train on.

Window number n is a function of the recipe, its seed and n alone. So threads and processes share the drawing freely,
and a resumed training sees the windows that it would have seen.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from waveunet_cli.datasets.reader import Reader
from waveunet_cli.datasets.tracks import Track
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Config
from waveunet_cli.training import augment
from waveunet_cli.training.recipe import Augmentation
from waveunet_cli.training.sums import placed, sums_of

SONG = "song"  # the use in which all sources are drawn from one song together
OF_SOURCES = ("levels_db", "lead_sources")  # settings that name sources
PLACES = 8  # how many places are tried to find one where a source sounds
MIDDLE_SECONDS = 0.5  # length of the part of a stretch in which the source is to sound


class Drawn(NamedTuple):
    """One window (S, C, t) or several (B, S, C, t), as sources that sum to the mixture.

    `sums` (S, S) or (B, S, S) says which sources are known as a sum only (see sums.py); None if all are known.
    """

    sources: Tensor
    sums: Tensor | None


@dataclass(frozen=True)
class Pool:
    """The tracks of one folder, and how often to draw from them. For a use that `weights` names, `weight` is void."""

    tracks: Sequence[Track]
    weight: float
    weights: Mapping[str, float] = field(default_factory=dict)
    reverb: float | None = None


class Mixer:
    """Draws windows from pools of tracks: a pool as often as its weight says, a track within it by its length.

    Raises ConfigError if no pool has a source, if no song has all of them and not everything is remixed, or if settings
    name a source that the model does not have.
    """

    def __init__(
        self,
        config: Config,
        pools: Sequence[Pool],
        reader: Reader,
        settings: Augmentation,
        frames: int,
        context: int,
        seed: int,
    ) -> None:
        self._config = config
        self._settings = settings
        self._frames = frames  # length of a window, with its context
        self._context = context
        self._seed = seed
        self._reader = reader
        self._songs = _for_use(pools, SONG, config.sources)
        self._single = {source: _for_use(pools, source, config.sources) for source in config.sources}
        _require_known(config.sources, pools, settings)
        for source, found in self._single.items():
            if not found:
                raise ConfigError(f"data: no folder of a weight above 0 has the source {source}; add one with it")
        if not self._songs and settings.remix < 1:
            raise ConfigError("data: no folder has songs with all sources; add one, or set augmentation.remix = 1")

    def draw(self, number: int) -> Drawn:
        """Draw window `number`. Raises AudioReadError."""
        rng = np.random.default_rng((self._seed, number))
        settings, sources = self._settings, self._config.sources
        remixed = augment.happens(rng, settings.remix) or not self._songs
        parts: dict[str, tuple[str, ...]] = {source: (source,) for source in sources}
        if remixed:
            drawn = [self._one(rng, source) for source in sources]
        else:
            pool, track = _pick(rng, self._songs)
            parts = track.parts(sources)
            drawn = list(self._take(rng, pool, track, tuple(parts)))
        for i, name in enumerate(parts):
            if augment.happens(rng, settings.doubled) and name in settings.lead_sources:
                drawn[i] = self._doubled(rng, name, drawn[i])
            if remixed:
                drawn[i] = drawn[i] * self._level(rng, name, drawn[i])
        swaps = [augment.happens(rng, settings.swap) for _ in parts]
        swaps = swaps if remixed else swaps[:1] * len(parts)  # the stereo image of a song stays whole
        silent = int(rng.integers(len(parts))) if augment.happens(rng, settings.silence) else None
        for i, swap in enumerate(swaps):
            gain = rng.uniform(*settings.gain) * (-1 if augment.happens(rng, settings.polarity) else 1)
            drawn[i] = (drawn[i].flip(0) if swap else drawn[i]) * (0.0 if i == silent else gain)
        x = placed(torch.stack(drawn), parts, sources)  # (S, C, frames)
        if augment.happens(rng, settings.mono):
            x = augment.mono(x)
        if augment.happens(rng, settings.limit):
            x = x * augment.limiter(rng, x.sum(0))
        if settings.full_scale:
            x = x / max(1.0, float(x.sum(0).abs().max()))
        return Drawn(x, sums_of(parts, sources))

    def _one(self, rng: np.random.Generator, source: str) -> Tensor:
        """A source (C, frames) by itself."""
        return self._take(rng, *_pick(rng, self._single[source]), (source,))[0]

    def _take(self, rng: np.random.Generator, pool: Pool, track: Track, sources: Sequence[str]) -> Tensor:
        """A random stretch (S, C, frames) of a track of a pool."""
        settings = self._settings
        factor = augment.speed(rng, settings)
        frames = augment.fast_length(self._frames)
        played = augment.fast_length(frames * factor) if factor != 1 else frames
        x = self._reader.read(track, sources, self._place(rng, track, sources, played), played)
        if pool.reverb is not None:
            settings = replace(settings, reverb=pool.reverb)
        rate_hz = self._config.sample_rate
        shaped = [
            augment.shape(one, frames, rng, settings, rate_hz, source in settings.lead_sources)
            for source, one in zip(sources, x, strict=True)
        ]
        return torch.stack(shaped)[..., : self._frames]

    def _place(self, rng: np.random.Generator, track: Track, sources: Sequence[str], frames: int) -> int:
        """The frame to start at. What the loss sees lies within the track. The context may reach beyond its ends, as it
        does when a song is separated."""
        latest = max(0, track.frames_at(self._config.sample_rate) - (frames - 2 * self._context))
        wanted = [source for source in self._settings.lead_sources if source in sources]
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
        """A source (C, frames) with a second, quieter stretch of the same source added."""
        second = self._one(rng, source)
        loud, second_loud = augment.loudness(x), augment.loudness(second)
        level = 10 ** (rng.uniform(-12, 0) / 20)
        return x + second * (level * loud / second_loud) if second_loud else x

    def _level(self, rng: np.random.Generator, source: str, x: Tensor) -> float:
        """The factor that brings a source (C, frames) to its level in a remix."""
        level_db, loudness = self._settings.levels_db.get(source), augment.loudness(x)
        if level_db is None or not loudness:
            return 1.0
        return float(10 ** (rng.normal(level_db, self._settings.spread_db) / 20) / loudness)


def _require_known(sources: Sequence[str], pools: Sequence[Pool], settings: Augmentation) -> None:
    """Raise ConfigError if a setting names a source that the model lacks. Defaults may: they are for any model."""
    named: dict[str, set[str]] = {"data.weights": {use for pool in pools for use in pool.weights if use != SONG}}
    for name in OF_SOURCES:
        value = getattr(settings, name)
        named[f"augmentation.{name}"] = set() if value == getattr(Augmentation(), name) else set(value)
    for place, names in named.items():
        for unknown in sorted(names - set(sources)):
            raise ConfigError(f"{place}: {unknown!r} is none of the model's sources {', '.join(sources)}; name these")


def windows(mixer: Mixer, numbers: Iterable[int], size: int, workers: int) -> Iterator[Drawn]:
    """The windows of `numbers`, `size` at a time. Threads draw the next ones while the caller works on these.

    Each thread computes alone: with a team of threads of its own, each would wait for cores that train, and sums would
    depend on how large the team is.
    """
    waiting = iter(numbers)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        ahead = deque(pool.submit(mixer.draw, number) for number in islice(waiting, size + workers))
        try:
            while ahead:
                drawn = [ahead.popleft().result() for _ in range(min(size, len(ahead)))]
                ahead.extend(pool.submit(mixer.draw, number) for number in islice(waiting, size + workers - len(ahead)))
                yield _stack(drawn)
        finally:
            for future in ahead:
                future.cancel()


def _stack(drawn: Sequence[Drawn]) -> Drawn:
    sources = torch.stack([one.sources for one in drawn])  # (B, S, C, t)
    if all(one.sums is None for one in drawn):
        return Drawn(sources, None)
    all_known = torch.eye(sources.shape[1])
    return Drawn(sources, torch.stack([all_known if one.sums is None else one.sums for one in drawn]))


def _for_use(pools: Sequence[Pool], use: str, sources: Sequence[str]) -> list[Pool]:
    """The pools with those of their tracks that a use (SONG, or one of the sources) can take, weighted for that use."""
    found = []
    for pool in pools:
        tracks = [track for track in pool.tracks if (track.covers(sources) if use == SONG else use in track.sources)]
        weight = pool.weights.get(use, pool.weight)
        if tracks and weight:
            found.append(replace(pool, tracks=tracks, weight=weight))
    return found


def _pick(rng: np.random.Generator, pools: Sequence[Pool]) -> tuple[Pool, Track]:
    """A random pool, and a random track of it."""
    pool = pools[_choose(rng, [pool.weight for pool in pools])]
    return pool, pool.tracks[_choose(rng, [track.seconds for track in pool.tracks])]


def _choose(rng: np.random.Generator, weights: Sequence[float]) -> int:
    p = np.array(weights)
    return int(rng.choice(len(p), p=p / p.sum()))
