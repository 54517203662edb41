import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from waveunet_cli.datasets.tracks import Data
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.keras_port import KerasPortConfig
from waveunet_cli.networks.spectrogram_u_net import U7
from waveunet_cli.networks.wave_u_net.config import M4, M5_HIGHSR, M7
from waveunet_cli.training import recipe as module
from waveunet_cli.training.recipe import Augmentation, Recipe, Schedule, read_recipe, recipe_from

TOML = """
model = "M5-HighSR"
loss = "l1+rmse"
seed = 7
[architecture]
filters = 16
[[data]]
path = "songs"
weight = 2
exclude = ["b"]
[[data]]
path = "/far/away"
stem = "vocals"
[augmentation]
gain = [0.5, 2]
levels_db = { vocals = -20.0 }
[schedule]
kind = "budget"
minutes = 90
learning_rate = 2e-4
"""


def test_reads_a_toml_file(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(TOML)
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert recipe.data == (
        Data(tmp_path / "songs", 2, exclude=("b",)),
        Data(Path("/far/away"), stem="vocals"),
    )
    assert recipe.augmentation == Augmentation(gain=(0.5, 2), levels_db={"vocals": -20.0})
    assert recipe.schedule == Schedule("budget", 2e-4, minutes=90)
    assert recipe.config() == M5_HIGHSR.__class__(**{**vars(M5_HIGHSR), "filters": 16})


def test_checkpoints_are_found_beside_the_recipe(tmp_path: Path) -> None:
    for key in ("model", "transfer"):
        (tmp_path / "recipe.toml").write_text(f'{key} = "start.safetensors"\nhold_out = 1\n[[data]]\npath = "songs"\n')
        assert getattr(read_recipe(tmp_path / "recipe.toml"), key) == str(tmp_path / "start.safetensors")


def test_the_defaults_are_the_paper_s() -> None:
    recipe = Recipe((Data(Path("musdb")),), hold_out=25)
    assert (recipe.config(), recipe.loss_name, recipe.augmentation.gain) == (M4, "mse", (0.7, 1.0))
    assert recipe.schedule == Schedule("paper", 1e-4, batch=16, epoch_steps=2000, patience=20)


@pytest.mark.parametrize(
    ("model", "config", "loss"),
    [
        ("M7", M7, "mse"),
        ("U7", U7, "mse"),
        ("U7a", U7, "magnitude"),
        ("Keras-shallow", KerasPortConfig(batch_norm=True), "mse"),
    ],
)
def test_architectures_have_names(model: str, config: object, loss: str) -> None:
    recipe = recipe_from({"data": [{"path": "a"}], "hold_out": 1, "model": model})
    assert (recipe.config(), recipe.loss_name) == (config, loss)
    assert recipe == Recipe((Data(Path("a")),), model, hold_out=1)
    assert replace(Recipe((Data(Path("a")),), hold_out=1), model=model).loss_name == loss
    assert replace(recipe, loss="l1").loss_name == "l1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": []}, "data: no folder"),
        ({"data": "songs"}, "data: found 'songs'; expected a list whose items are each a table"),
        ({"learning_rate": 1}, "unknown: 'learning_rate'; known are data, model, "),
        ({"augmentation": {"remix": "yes"}}, "recipe: augmentation.remix: found 'yes'; expected a probability"),
        ({"augmentation": {"remix": 2.0}}, "a probability from 0 to 1"),
        ({"augmentation": {"gain": [1.0, 0.5]}}, "the least and the greatest"),
        ({"augmentation": 3}, "augmentation: found 3; expected a table"),
        ({"schedule": {"kind": "forever"}}, 'schedule.kind: found .forever.; expected "paper" or "budget"'),
        ({"schedule": {"kind": "budget"}}, "either steps or minutes"),
        ({"schedule": {"kind": "budget", "steps": 0}}, "schedule.steps: found 0"),
        ({"schedule": {"steps": 5}}, "the paper's schedule has neither"),
        ({"schedule": {"batch": True}}, "schedule.batch: found True"),
        (
            {"schedule": {"kind": "budget", "steps": 5, "average": 1.0}},
            "average: found 1.0; expected a number of at least 0 and below 1",
        ),
        ({"hold_out": 0}, "needs it; give folders, or hold_out"),
        ({"loss": "l3"}, 'loss: found .l3.; expected "auto" or "mse" or "l1" or '),
        ({"model": "a.safetensors", "transfer": "b.safetensors"}, "transfer: the model is a checkpoint"),
        ({"precision": "float8"}, "precision: found .float8."),
        ({"storage": "int8"}, "storage: found .int8."),
        ({"augmentation": {"stretch_factor": 0.5}}, "stretch_factor: found 0.5; expected a number from 1 to 4"),
        ({"workers": 0}, "workers: found 0"),
        ({"data": [{"path": "a", "weight": -1.0}]}, r"data\[0\].weight: found -1.0; expected a number above 0"),
        ({"data": [{"path": "a", "weights": {"song": -1.0}}]}, r"data\[0\].weights"),
        ({"data": [{"path": "a", "reverb": 2.0}]}, r"data\[0\].reverb: found 2.0; expected a probability"),
        (
            {"data": [{"path": "a", "weights": {"song": "much"}}]},
            r"data\[0\].weights: found .*a table whose values are each a number",
        ),
        ({"data": [{"stem": "vocals"}]}, r"data\[0\]: missing: path"),
        ({"data": [{"path": 3}]}, r"data\[0\].path: found 3; expected a path"),
        ({"data": [{"path": "a", "weights": 3}]}, r"data\[0\].weights: found 3"),
        ({"data": [{"path": "a", "stem": 3}]}, r"data\[0\].stem: found 3; expected a text"),
        ({"augmentation": {"gain": 3}}, "augmentation.gain: found 3; expected a list of 2 items"),
        ({"augmentation": {"gain": [1.0, 2.0, 3.0]}}, "augmentation.gain"),
        ({"schedule": {"kind": "budget", "steps": "many"}}, "schedule.steps: found 'many'; expected a whole number"),
        ({"schedule": {"kind": "budget", "steps": 1.5}}, "schedule.steps: found 1.5"),
        ({"hop_frames": False}, "hop_frames: found False"),
        ({"in_memory": 1}, "in_memory: found 1; expected true or false"),
        ({"architecture": 3}, "architecture: found 3"),
        ({"augmentation": {"limit": 2.0}}, "augmentation.limit: found 2.0"),
        ({"schedule": {"betas": [0.9, 1.0]}}, "schedule.betas"),
        ({"schedule": {"clip_norm": -1.0}}, "clip_norm"),
        *(
            ({table: {name: value}}, f"{table}.{name}: found ")
            for table, names in (
                ("schedule", ("learning_rate", "minutes", "average", "weight_decay", "clip_norm", "clip_factor")),
                ("augmentation", ("remix", "spread_db", "speed_semitones", "stretch_factor", "equaliser_db")),
            )
            for name in names
            for value in (-1.0, math.nan, math.inf, 1e300)
        ),
        *(
            ({"schedule": {name: value}}, f"schedule.{name}: found ")
            for name in ("batch", "epoch_steps", "warmup_steps")
            for value in (-1, 10**40)
        ),
        *(
            ({name: value}, f"{name}: found ")
            for name in ("seed", "workers", "micro_batch", "hop_frames", "hold_out")
            for value in (-1, 10**40)
        ),
        ({"augmentation": {"levels_db": {"vocals": math.nan}}}, "augmentation.levels_db: found "),
        ({"augmentation": {"gain": [0.5, math.inf]}}, "augmentation.gain: found "),
        ({"save_minutes": math.nan}, "save_minutes: found nan"),
    ],
)
def test_refuses_what_makes_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        recipe_from({"data": [{"path": "a"}], "hold_out": 1, **values})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "M9"}, "'M9' is no architecture; choose M1"),
        ({"architecture": {"filtres": 3}}, "architecture: unknown: 'filtres'"),
        ({"architecture": {"filters": "many"}}, "architecture.filters: found 'many'; expected a whole number"),
        (
            {"architecture": {"sources": ["vocals", 3]}},
            "architecture.sources: found .*a list whose items are each a name",
        ),
        ({"model": "Keras-shallow", "architecture": {"pooling": [1, 2.5]}}, "architecture.pooling"),
    ],
)
def test_refuses_an_unknown_architecture(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_from({"data": [{"path": "a"}], "hold_out": 1, **values}).config()


def test_names_the_file_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    with pytest.raises(ConfigError, match=r"recipe\.toml: no such file; correct the path"):
        read_recipe(path)
    for text in ("model = ", "volume = 11"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"recipe\.toml"):
            read_recipe(path)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_our_own_recipes_can_be_read(path: Path) -> None:
    recipe = read_recipe(path)
    assert all(data.path.is_relative_to(path.parent) for data in recipe.data)
    if path.stem == "paper":
        assert (recipe.config(), recipe.loss_name, recipe.schedule, recipe.augmentation) == (
            M4, "mse", Schedule(), Augmentation(),
        )  # fmt: skip


def test_every_setting_is_read_somewhere() -> None:
    package = Path(module.__file__).parent
    code = "".join(path.read_text() for path in package.glob("*.py") if path.name != "recipe.py")
    code += (package.parent / "datasets" / "tracks.py").read_text()
    code += (package / "recipe.py").read_text().split("def config", 1)[1]
    for kind in (Recipe, Data, Augmentation, Schedule):
        for field in fields(kind):
            assert f".{field.name}" in code, field.name
