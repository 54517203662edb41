"""A training that has spent its budget goes on with a larger one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from conftest import Ran
from training_songs import recipe_values, write_songs

Command = Callable[..., Ran]


def train(waveunet: Command, folder: Path, steps: int, *options: str, **changes: Any) -> dict[str, Any]:
    """Train on the songs in a folder for so many steps in all, and return the progress that was saved."""
    values = recipe_values(folder / "songs", **changes)
    values["schedule"] = values["schedule"] | {"steps": steps}
    text = "".join(f"{key} = {inline(value)}\n" for key, value in values.items())
    (folder / "recipe.toml").write_text(text)
    ran = waveunet("train", folder / "recipe.toml", "-o", folder / "out", "-q", "-d", "cpu", *options)
    assert ran.code == 0, ran.err
    with safe_open(folder / "out" / "state.safetensors", "pt") as file:
        progress: dict[str, Any] = json.loads(file.metadata()["progress"])
    return progress


def inline(value: Any) -> str:
    """A value as TOML."""
    return re.sub(r'("\w+"): ', r"\1 = ", json.dumps(value))


@pytest.mark.parametrize("changes", [{}, {"save_minutes": 3.0}, {"storage": "float16"}], ids=lambda c: "-".join(c))
def test_with_save_settings_of_its_own(waveunet: Command, tmp_path: Path, changes: dict[str, Any]) -> None:
    write_songs(tmp_path / "songs")
    assert train(waveunet, tmp_path, 6)["step"] == 6
    went_on = train(waveunet, tmp_path, 8, "--resume", **changes)
    assert (went_on["step"], went_on["done"]) == (8, True)


def test_and_not_with_the_same(waveunet: Command, tmp_path: Path) -> None:
    write_songs(tmp_path / "songs")
    assert train(waveunet, tmp_path, 6) == train(waveunet, tmp_path, 6, "--resume")
