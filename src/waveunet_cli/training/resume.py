"""Whether a training that is resumed is still the same: its settings and songs are compared with those of its state.

What decides which training it is may not change: seed, model, data, loss, augmentation … The budget, the speed of
learning, and what only concerns this machine may.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from waveunet_cli.errors import CheckpointError
from waveunet_cli.training.material import Material
from waveunet_cli.training.recipe import CHECKPOINT, Recipe

MAY_CHANGE = frozenset(
    {
        *(
            f"schedule.{name}"
            for name in ("steps", "minutes", "epoch_steps", "patience", "learning_rate", "clip_factor")
        ),
        *("save_minutes", "storage", "workers", "in_memory"),
    }
)
SONGS = " songs"  # the end of the name of what is no setting, but a list of songs
MOST_NAMED = 3


def description(recipe: Recipe, material: Material) -> dict[str, object]:
    """The settings of a recipe by their full names, and the songs of each folder.

    Folders are described by their songs, not by their paths: a training may move to another machine.
    """
    found = dict(_settings(recipe)) | {"model": _base(recipe.model), "loss": recipe.loss_name}
    if recipe.transfer is not None:
        found["transfer"] = _base(recipe.transfer)
    pools = {f"data[{i}]": pool.tracks for i, pool in enumerate(material.pools)} | {"validation": material.validation}
    for place, tracks in pools.items():
        found[place + SONGS] = [f"{Path(t.name).name} ({t.frames} frames at {t.sample_rate_hz} Hz)" for t in tracks]
    as_read_again: dict[str, object] = json.loads(json.dumps(found))
    return as_read_again


def changes(path: Path, before: Mapping[str, object] | None, now: Mapping[str, object]) -> list[str]:
    """A line for each setting that changed and may. Raises CheckpointError, naming what changed and may not."""
    if before is None:
        return [f"{path}: does not say which recipe it was made with; going on with this one"]
    # Settings are compared where both know them: a newer version may have more of them, or fewer.
    known = sorted({*(before.keys() & now.keys()), *(n for n in before.keys() | now.keys() if n.endswith(SONGS))})
    changed = [name for name in known if before.get(name) != now.get(name)]
    refused = [_change(name, before.get(name), now.get(name)) for name in changed if name not in MAY_CHANGE]
    if refused:
        raise CheckpointError(
            f"{path}: state of another training: {'; '.join(refused)}; resume with the recipe it was started with, or "
            "start in another folder"
        )
    return [f"{path}: resumed with {_change(name, before.get(name), now.get(name))}" for name in changed]


def _change(name: str, before: Any, now: Any) -> str:
    if name.endswith(SONGS):
        was, is_now = before or [], now or []
        added, gone = ([song for song in a if song not in b] for a, b in ((is_now, was), (was, is_now)))
        named = [*(f"+ {song}" for song in added), *(f"− {song}" for song in gone)]
        return f"{name}: {', '.join(named[:MOST_NAMED]) or 'in another order'}{' …' * (len(named) > MOST_NAMED)}"
    return f"{name} {now!r} instead of {before!r}"


def _settings(instance: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(instance):
        value, name = getattr(instance, field.name), place + field.name
        if is_dataclass(value):
            yield from _settings(value, f"{name}.")
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            for i, item in enumerate(value):
                yield from _settings(item, f"{name}[{i}].")
        elif not isinstance(value, Path):
            yield name, dict(value) if isinstance(value, Mapping) else value


def _base(model: str) -> str:
    """The name of a model to start from, without the folder that a checkpoint lies in."""
    return Path(model).name if model.endswith(CHECKPOINT) else model
