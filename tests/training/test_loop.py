import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from training_songs import RATE_HZ, recipe_values, write_songs
from waveunet_cli import Separator
from waveunet_cli.datasets.reader import Reader
from waveunet_cli.errors import CheckpointError, ConfigError, WaveUNetError
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.family import build_network
from waveunet_cli.training import loop, state
from waveunet_cli.training.log import Log
from waveunet_cli.training.loop import MODEL, STATE, train
from waveunet_cli.training.loss import l1
from waveunet_cli.training.material import gather
from waveunet_cli.training.network import Trainable
from waveunet_cli.training.recipe import recipe_from
from waveunet_cli.training.schedule import Progress
from waveunet_cli.training.validate import validate


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_songs(tmp_path_factory.mktemp("data"))


def run(values: dict[str, Any], out: Path, resume: bool = False, stop_at: int | None = None) -> Progress:
    recipe = recipe_from(values)
    out.mkdir(exist_ok=True)
    steps = iter(range(1, 10_000))
    with Log(recipe, out, RATE_HZ, quiet=True, tensorboard=False) as log:
        return train(
            recipe,
            out,
            Fabric(accelerator="cpu", devices=1),
            gather(recipe, recipe.config()),
            log.on_event,
            resume,
            lambda: next(steps) == stop_at,
        )


def entries(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_same(a: Path, b: Path) -> None:
    one, two = load_file(a), load_file(b)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_training_resumed_is_bit_for_bit_the_one_uninterrupted(songs: Path, tmp_path: Path, stop_at: int) -> None:
    values = recipe_values(songs, hold_out=1, augmentation={"remix": 0.5, "speed": 0.5, "reverb": 0.5})
    assert run(values, tmp_path / "whole").step == 6
    stopped = run(values, tmp_path / "parts", stop_at=stop_at)
    assert (stopped.step, stopped.done) == (stop_at, False)
    assert run(values, tmp_path / "parts", resume=True).done
    for file in (STATE, MODEL):
        assert_same(tmp_path / "whole" / file, tmp_path / "parts" / file)


def test_accumulated_gradients_are_those_of_the_batch(songs: Path, tmp_path: Path) -> None:
    schedule = {"kind": "budget", "steps": 1, "batch": 4}
    for micro in (4, 2):
        run(recipe_values(songs, schedule=schedule, micro_batch=micro), tmp_path / str(micro))
    one, two = (load_file(tmp_path / str(micro) / STATE) for micro in (4, 2))
    for name in one:
        if name.startswith("first."):  # after one step, a tenth of the gradient
            scale = float(one[name].abs().max())
            torch.testing.assert_close(two[name] / scale, one[name] / scale, rtol=0, atol=1e-5)


def test_gradients_are_clipped(songs: Path, tmp_path: Path) -> None:
    schedule = {"kind": "budget", "steps": 1, "batch": 2, "clip_norm": 1e-3, "betas": [0.5, 0.9]}
    run(recipe_values(songs, schedule=schedule), tmp_path / "out")
    first = [moment for name, moment in load_file(tmp_path / "out" / STATE).items() if name.startswith("first.")]
    norm = torch.cat([2 * moment.flatten() for moment in first]).norm()  # after one step, half of the gradient
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_weights_are_stored_as_the_recipe_says(songs: Path, tmp_path: Path) -> None:
    for storage, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        run(recipe_values(songs, storage=storage), tmp_path / storage)
        assert {weight.dtype for weight in load_file(tmp_path / storage / MODEL).values()} == {dtype}


def test_the_loss_falls(songs: Path, tmp_path: Path) -> None:
    schedule = {"kind": "budget", "steps": 80, "batch": 2, "learning_rate": 3e-3, "epoch_steps": 1000}
    run(recipe_values(songs, schedule=schedule), tmp_path / "out")
    losses = [entry["loss"] for entry in entries(tmp_path / "out")]
    assert len(losses) == 4
    assert losses[-1] < 0.9 * losses[0]


SMALL_U7 = {"fft_frames": 64, "step_frames": 48, "levels": 2, "filters": 4, "window_frames": 300, "dropout_levels": 1}
SMALL_KERAS = {"filters": [4, 4, 6], "pooling": [1, 4], "down_taps": 5, "up_taps": 3, "window_frames": 300}


@pytest.mark.parametrize(
    ("model", "architecture"),
    [("U7", SMALL_U7), ("U7a", SMALL_U7), ("Keras-shallow", SMALL_KERAS)],
)
def test_other_architectures_learn_resume_and_separate(
    songs: Path, tmp_path: Path, model: str, architecture: dict[str, Any]
) -> None:
    schedule = {"kind": "budget", "steps": 40, "batch": 2, "learning_rate": 3e-3, "epoch_steps": 20, "average": 0.9}
    values = recipe_values(
        songs, model=model, architecture={**architecture, "sample_rate": RATE_HZ}, schedule=schedule, hold_out=1
    )
    del values["loss"]
    assert run(values, tmp_path / "out").done
    losses = [entry["loss"] for entry in entries(tmp_path / "out") if "loss" in entry]
    assert losses[-1] < 0.98 * losses[0]  # of noise there is little to learn
    scores = [entry for entry in entries(tmp_path / "out") if "validation_loss" in entry]
    assert all(isinstance(entry["sdr_db/vocals"], float) for entry in scores)
    run(values, tmp_path / "parts", stop_at=25)
    run(values, tmp_path / "parts", resume=True)
    assert_same(tmp_path / "out" / STATE, tmp_path / "parts" / STATE)
    trained = load_checkpoint(tmp_path / "parts" / MODEL)
    x = np.random.default_rng(0).normal(0, 0.1, (500, 2)).astype(np.float32)
    assert Separator(trained, "cpu").separate(x, RATE_HZ)["vocals"].shape == x.shape


def test_only_spectrograms_have_magnitudes(songs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'magnitude' is for U7a"):
        run(recipe_values(songs, loss="magnitude"), tmp_path / "out")


def test_the_paper_s_schedule_keeps_the_best_and_ends(songs: Path, tmp_path: Path, monkeypatch: Any) -> None:
    values = recipe_values(songs, loss="mse", hold_out=1)
    values["schedule"] = {"batch": 1, "epoch_steps": 1, "patience": 2, "learning_rate": 1e-3}
    losses = iter([3.0, 1.0, 2.0, 2.0, 0.5, 0.7, 0.6, 9.9])
    kept: list[dict[str, torch.Tensor]] = []
    score = loop._Training._score

    def scripted(training: Any) -> Any:
        kept.append(state.copy_of(training.state.current))
        return score(training).__class__(next(losses), {})

    monkeypatch.setattr(loop._Training, "_score", scripted)
    progress = run(values, tmp_path / "out")
    assert (progress.epoch, progress.stage, progress.best_loss) == (7, 1, 0.5)
    weights = load_file(tmp_path / "out" / MODEL)
    for name, best in kept[4].items():
        assert torch.equal(weights[name], best)
    assert not torch.equal(kept[-1]["output.weight"], kept[4]["output.weight"])


def test_validation_is_on_whole_songs_held_out(songs: Path, tmp_path: Path) -> None:
    recipe = recipe_from(recipe_values(songs, hold_out=1))
    material = gather(recipe, recipe.config())
    trained_on = {track.name for pool in material.pools for track in pool.tracks}
    (held,) = (track.name for track in material.validation)
    assert held not in trained_on
    assert len(trained_on) == 2
    run(recipe_values(songs, hold_out=1), tmp_path / "out")
    scores = [entry for entry in entries(tmp_path / "out") if "validation_loss" in entry]
    assert [entry["step"] for entry in scores] == [3, 6]
    assert {"sdr_db/accompaniment", "sdr_db/vocals"} <= scores[0].keys()


def test_songs_are_held_out_of_the_first_folder(songs: Path, tmp_path: Path) -> None:
    more = write_songs(tmp_path / "more", ["d", "e"], seed=100)
    recipe = recipe_from(recipe_values(songs, hold_out=2, data=[{"path": str(songs)}, {"path": str(more)}]))
    material = gather(recipe, recipe.config())
    assert all(Path(track.name).parent == songs for track in material.validation)
    assert [len(pool.tracks) for pool in material.pools] == [1, 2]
    with pytest.raises(ConfigError, match="found 3 of 3 songs"):
        gather(replace(recipe, hold_out=3), recipe.config())


def test_the_excerpt_is_from_the_middle_of_the_first_song(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_from(recipe_values(songs, hold_out=1))
    config = recipe.config()
    material = gather(recipe, config)
    (track,) = material.validation
    trainable = Trainable(build_network(config))
    monkeypatch.setattr("waveunet_cli.training.validate.EXCERPT_SECONDS", 0.1)
    with torch.no_grad():
        score = validate(
            trainable, trainable, config, material.reader, [track], l1, recipe.hop_frames, torch.device("cpu")
        )
    assert score.excerpt is not None
    frames = score.excerpt.truth.shape[-1]
    assert 0.1 * RATE_HZ <= frames < track.frames // 2
    whole = Reader(RATE_HZ, 2).read(track, config.sources, 0, track.frames)
    start = next(s for s in range(0, track.frames, 8) if torch.equal(whole[..., s : s + frames], score.excerpt.truth))
    assert abs(start + frames // 2 - track.frames // 2) <= config.window(recipe.hop_frames).hop
    assert score.excerpt.estimate.shape == score.excerpt.truth.shape


def test_goes_on_from_a_checkpoint(songs: Path, tmp_path: Path) -> None:
    run(recipe_values(songs), tmp_path / "first")
    start = load_file(tmp_path / "first" / MODEL)
    values = recipe_values(songs, model=str(tmp_path / "first" / MODEL), architecture={})
    values["schedule"] = {"kind": "budget", "steps": 1, "batch": 1, "learning_rate": 1e-9}
    run(values, tmp_path / "second")
    for name, weight in load_checkpoint(tmp_path / "second" / MODEL).network.state_dict().items():
        torch.testing.assert_close(weight, start[name], rtol=0, atol=1e-6)


def test_weights_that_fit_are_transferred_and_the_others_start_anew(songs: Path, tmp_path: Path) -> None:
    run(recipe_values(songs), tmp_path / "two")
    start = load_file(tmp_path / "two" / MODEL)
    values = recipe_values(songs, transfer=str(tmp_path / "two" / MODEL))
    values["architecture"] |= {"sources": ["vocals", "drums", "other"], "residual": "other"}
    values["schedule"] = {"kind": "budget", "steps": 1, "batch": 1, "learning_rate": 1e-9}
    run(values, tmp_path / "three")
    for name, weight in load_checkpoint(tmp_path / "three" / MODEL).network.state_dict().items():
        if name.startswith("output."):
            assert weight.shape != start[name].shape
        else:
            torch.testing.assert_close(weight, start[name], rtol=0, atol=1e-6)
    values["architecture"] |= {"filters": 5}  # the biases of the last layer would fit
    with pytest.raises(ConfigError, match="has no weight of this architecture"):
        run(values, tmp_path / "unlike")


def test_refuses_to_overwrite_and_to_resume_another_model(songs: Path, tmp_path: Path) -> None:
    run(recipe_values(songs), tmp_path / "out")
    with pytest.raises(CheckpointError, match="add --resume"):
        run(recipe_values(songs), tmp_path / "out")
    other = recipe_values(songs)
    other["architecture"]["filters"] = 5
    with pytest.raises(CheckpointError, match="filters 4 instead of 5"):
        run(other, tmp_path / "out", resume=True)
    with pytest.raises(CheckpointError, match="no readable training state"):
        run(recipe_values(songs), tmp_path / "nothing", resume=True)
    save_checkpoint(tmp_path / "out" / STATE, *_model(tmp_path / "out" / MODEL))
    with pytest.raises(CheckpointError, match="holds no training state"):
        run(recipe_values(songs), tmp_path / "out", resume=True)


def _model(path: Path) -> Any:
    model = load_checkpoint(path)
    return model.config, model.network.state_dict()


def test_a_full_disk_leaves_the_state_before(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(recipe_values(songs), tmp_path / "out", stop_at=2)
    before = (tmp_path / "out" / STATE).read_bytes()

    def half(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save_file", half)
    with pytest.raises(CheckpointError, match=r"No space left.*intact"):
        run(recipe_values(songs), tmp_path / "out", resume=True)
    assert (tmp_path / "out" / STATE).read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MODEL, STATE]


def test_a_loss_that_is_not_finite_ends_the_training(songs: Path, tmp_path: Path) -> None:
    values = recipe_values(songs)
    values["schedule"] = {"kind": "budget", "steps": 500, "batch": 1, "learning_rate": 1e30}
    with pytest.raises(WaveUNetError, match="lower learning rate"):
        run(values, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hold_out": 3}, "leave some to train on"),
        ({"micro_batch": 3, "schedule": {"kind": "budget", "steps": 1, "batch": 4}}, "no multiple of 3"),
    ],
)
def test_refuses_what_does_not_divide(songs: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(recipe_values(songs, **changes), tmp_path / "out")
