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

from waveunet_cli.datasets.reader import Reader, sum_of
from waveunet_cli.datasets.tracks import Track
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Config
from waveunet_cli.training import augment
from waveunet_cli.training.recipe import Augmentation
from waveunet_cli.training.sums import placed, sums_of

SONG = "song"  # the use in which all sources are drawn from one song together
OF_SOURCES = ("levels_db", "song_gains_db", "heard_sources", "doubled_sources", "silence_sources", "effect_sources")
MOST_PARTS = 4  # most files of a patchwork
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
        self._sums = {  # sources that are the sum of several files somewhere
            source
            for source, found in self._single.items()
            if any(len(track.sources[source]) > 1 for pool in found for track in pool.tracks)
        }
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
            if augment.happens(rng, settings.doubled) and name in settings.doubled_sources:
                drawn[i] = self._doubled(rng, name, drawn[i])
            drawn[i] = drawn[i] * self._level(rng, name, drawn[i], remixed)
        swaps = [augment.happens(rng, settings.swap) for _ in parts]
        swaps = swaps if remixed else swaps[:1] * len(parts)  # the stereo image of a song stays whole
        may_be_silent = [i for i, name in enumerate(parts) if name in (settings.silence_sources or parts)]
        silenced = augment.happens(rng, settings.silence) and may_be_silent
        silent = int(rng.choice(may_be_silent)) if silenced else None
        for i, swap in enumerate(swaps):
            gain = rng.uniform(*settings.gain) * (-1 if augment.happens(rng, settings.polarity) else 1)
            drawn[i] = (drawn[i].flip(0) if swap else drawn[i]) * (0.0 if i == silent else gain)
        x = placed(torch.stack(drawn), parts, sources)  # (S, C, frames)
        if augment.happens(augment.own_stream(self._seed, number, "mono"), settings.mono):
            x = augment.mono(x)
        if augment.happens(rng, settings.limit):
            x = x * augment.limiter(rng, x.sum(0))
        if settings.full_scale:
            x = x / max(1.0, float(x.sum(0).abs().max()))
        return Drawn(x, sums_of(parts, sources))

    def _one(self, rng: np.random.Generator, source: str) -> Tensor:
        """A source (C, frames) by itself: of one track, or put together from files of several tracks."""
        pools, parts = self._single[source], int(rng.integers(2, MOST_PARTS + 1))
        patched = augment.happens(rng, self._settings.patchwork)
        if patched and source in self._sums:
            return sum_of([self._take(rng, *_pick(rng, pools), (source,), whole=False)[0] for _ in range(parts)])
        return self._take(rng, *_pick(rng, pools), (source,))[0]

    def _take(
        self, rng: np.random.Generator, pool: Pool, track: Track, sources: Sequence[str], whole: bool = True
    ) -> Tensor:
        """A random stretch (S, C, frames) of a track of a pool. If not `whole`, it takes one file for each source."""
        settings = self._settings
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
        """The frame to start at. What the loss sees lies within the track. The context may reach beyond its ends, as it
        does when a song is separated."""
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
        """A source (C, frames) with a second, quieter stretch of the same source added."""
        second = self._take(rng, *_pick(rng, self._single[source]), (source,))[0]
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
