"""The songs of a recipe: found, listened to once, and checked before the training starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from waveunet_cli.datasets.check import Heard, listen, require_apart
from waveunet_cli.datasets.reader import Reader
from waveunet_cli.datasets.tracks import Data, Track, find_tracks
from waveunet_cli.errors import ConfigError
from waveunet_cli.events import Note
from waveunet_cli.networks.family import Config
from waveunet_cli.training.mixing import Mixer, Pool
from waveunet_cli.training.recipe import Recipe


@dataclass(frozen=True)
class Material:
    """What to train on (a pool for each folder of the recipe's data), what to validate with, and the reader of both."""

    pools: list[Pool]
    validation: list[Track]
    reader: Reader


def gather(recipe: Recipe, config: Config, on_event: Callable[[Note], None] = lambda event: None) -> Material:
    """Find the songs of a recipe and read each of their files once. A Note names every song that is left out.

    Raises ConfigError for a folder without a usable song, and for a song to train on that is also to validate with.
    """
    pools, validation = [], []
    for data in recipe.data:
        tracks = _found(data, config, on_event)
        pools.append(Pool(tracks, data.weight, data.weights, data.reverb))
    for data in recipe.validation:
        validation += _found(data, config, on_event)
    if recipe.hold_out:
        songs = [track for track in pools[0].tracks if track.covers(config.sources)]
        if recipe.hold_out >= len(songs):
            raise ConfigError(f"hold_out: found {recipe.hold_out} of {len(songs)} songs; leave some to train on")
        chosen = np.random.default_rng(recipe.seed).choice(len(songs), recipe.hold_out, replace=False)
        held = {songs[i].name for i in chosen}
        validation += [track for track in songs if track.name in held]
        pools = [replace(pool, tracks=[t for t in pool.tracks if t.name not in held]) for pool in pools]
    require_apart([track for pool in pools for track in pool.tracks], validation)
    reader = Reader(config.sample_rate, config.channels, recipe.in_memory)
    # refuses what cannot be drawn, before all files are heard, which is slow
    Mixer(config, pools, reader, recipe.augmentation, 1, 0, recipe.seed)
    trained, sounding = [], set[str]()
    problems: list[str] = []
    for pool in pools:
        heard = list(zip(pool.tracks, listen(pool.tracks, reader, recipe.workers), strict=True))
        trained.append(replace(pool, tracks=_usable(heard, problems, on_event)))
        sounding |= {
            source for track, found in heard for part in found.sounding for source in track.sums.get(part, (part,))
        }
    heard = list(zip(validation, listen(validation, reader, recipe.workers), strict=True))
    usable = _usable(heard, problems, on_event)
    if not any(pool.tracks for pool in trained) or (validation and not usable):
        raise ConfigError(
            f"data: no usable song is left to train on, or to validate with; the first of {len(problems)} left out: "
            f"{problems[0]}"
        )
    silent = [source for source in config.sources if source not in sounding]
    if silent:
        on_event(Note(f"data: {', '.join(silent)}: silent in every song to train on; the network will learn silence"))
    return Material(trained, usable, reader)


def _found(data: Data, config: Config, on_event: Callable[[Note], None]) -> list[Track]:
    tracks, left_out = find_tracks(data, config.sources, sums=True)
    for problem in left_out:
        on_event(Note(f"left out: {problem}"))
    return tracks


def _usable(heard: Sequence[tuple[Track, Heard]], problems: list[str], on_event: Callable[[Note], None]) -> list[Track]:
    """The tracks without a problem; those of the others go to `problems`."""
    for _, found in heard:
        if found.problem is not None:
            problems.append(found.problem)
            on_event(Note(f"left out: {found.problem}"))
    return [track for track, found in heard if found.problem is None]
