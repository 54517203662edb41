import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training_songs import RATE_HZ, recipe_values, write_songs, write_stem
from waveunet_cli import Separator
from waveunet_cli.datasets.reader import Reader
from waveunet_cli.datasets.tracks import Data, find_tracks
from waveunet_cli.errors import CheckpointError, ConfigError, WaveUNetError
from waveunet_cli.events import Note
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.family import build_network
from waveunet_cli.training import loop, state
from waveunet_cli.training.events import Started, Stepped
from waveunet_cli.training.log import Log
from waveunet_cli.training.loop import MODEL, STATE, train
from waveunet_cli.training.loss import l1
from waveunet_cli.training.material import gather
from waveunet_cli.training.network import Trainable
from waveunet_cli.training.recipe import recipe_from
from waveunet_cli.training.schedule import Progress
from waveunet_cli.training.validate import Score, validate


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


@pytest.mark.parametrize(("stop_at", "optimizer"), [(1, "adam"), (3, "muon"), (4, "adam")])
def test_a_training_resumed_is_bit_for_bit_the_one_uninterrupted(
    songs: Path, tmp_path: Path, stop_at: int, optimizer: str
) -> None:
    values = recipe_values(songs, hold_out=1, augmentation={"remix": 0.5, "speed": 0.5, "reverb": 0.5})
    values["schedule"]["optimizer"] = optimizer
    values["architecture"]["filters"] = 9  # more than FEW_FILTERS
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


@pytest.mark.thorough
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
    with pytest.raises(CheckpointError, match="no training to go on with"):
        run(recipe_values(songs), tmp_path / "nothing", resume=True)
    save_checkpoint(tmp_path / "out" / STATE, *_model(tmp_path / "out" / MODEL))
    with pytest.raises(CheckpointError, match="holds no training state"):
        run(recipe_values(songs), tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("progress", "{"),
        ("progress", "[1]"),
        ("progress", '{"stage": 7}'),
        ("progress", '{"step": -1}'),
        ("progress", '{"step": "x\\n"}'),
        ("progress", '{"mean_loss": NaN}'),
        ("progress", '{"steps": 1}'),
        ("progress", "[" * 100_000),
        ("optimizer_steps", "x"),
        ("recipe", "[]"),
        ("config", "7"),
        ("config", ""),
        ("tensor", "best.x"),
        ("tensor", "first.x"),
        ("tensor", "x"),
    ],
    ids=lambda value: value[:20],
)
def test_a_state_that_nobody_saved_is_one_line(key: str, value: str, songs: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / STATE
    values = recipe_values(songs)
    values["schedule"] |= {"steps": 1}
    run(values, tmp_path / "out")
    metadata = safe_metadata(path)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if key == "tensor":
        tensors[value] = torch.zeros(1)
    else:
        metadata[key] = value
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=r"out/state.safetensors: .*; .*start in another folder") as caught:
        run(values, tmp_path / "out", resume=True)
    assert str(caught.value).isprintable()


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


def test_a_loss_that_is_not_finite_ends_the_training(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = recipe_values(songs)
    values["schedule"] = {"kind": "budget", "steps": 500, "batch": 1, "learning_rate": 1e-3}
    scripted(monkeypatch, lambda step: math.nan)
    with pytest.raises(WaveUNetError, match=r"nothing was saved yet: start again with a lower schedule\.learning_rate"):
        run(values, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    run(values, tmp_path / "out", stop_at=2)
    before = (tmp_path / "out" / STATE).read_bytes()
    scripted(monkeypatch, lambda step: math.nan)
    with pytest.raises(WaveUNetError, match=r"the state saved last is from before: resume it with a lower"):
        run(values, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / STATE).read_bytes() == before
    monkeypatch.undo()
    values["schedule"] |= {"learning_rate": 1e-4, "steps": 3}
    assert run(values, tmp_path / "out", resume=True).done  # as it says


def scripted(monkeypatch: pytest.MonkeyPatch, factor: Callable[[int], float]) -> None:
    """Let the loss of each step be that of the window, times a factor that depends on the step."""
    loss = loop._Training._loss
    monkeypatch.setattr(
        loop._Training, "_loss", lambda self, drawn: loss(self, drawn) * factor(self.state.progress.step)
    )


def test_a_step_whose_loss_is_out_of_proportion_changes_nothing_and_is_counted(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waveunet_cli.training.stability.MEAN_STEPS", 4)
    values = recipe_values(songs)
    values["schedule"] |= {"steps": 8}
    changed, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (changed.append("weights"), step(self))[1])
    update = state.update_average
    monkeypatch.setattr(loop, "update_average", lambda *a: (changed.append("average"), update(*a))[1])
    scripted(monkeypatch, lambda step: 1000.0 if step == 5 else 1.0)
    progress = run(values, tmp_path / "out")
    assert (progress.step, progress.skipped_steps, progress.windows) == (8, 1, 16)
    assert changed == ["weights", "average"] * 7
    assert max(entry.get("skipped_steps", 0) for entry in entries(tmp_path / "out")) == 1


def test_a_training_that_decides_is_resumed_bit_for_bit(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waveunet_cli.training.stability.MEAN_STEPS", 3)
    values = recipe_values(songs, augmentation={"mono": 0.5, "remix": 0.5})
    values["schedule"] |= {"steps": 9, "clip_factor": 1.0}
    scripted(monkeypatch, lambda step: 100.0 if step == 6 else 1.0 + step % 3)
    whole = run(values, tmp_path / "whole")
    run(values, tmp_path / "parts", stop_at=5)
    parts = run(values, tmp_path / "parts", resume=True)
    assert whole.skipped_steps == 1
    assert replace(whole, seconds=0, waited_seconds=0) == replace(parts, seconds=0, waited_seconds=0)
    assert_same(tmp_path / "whole" / STATE, tmp_path / "parts" / STATE)


def test_long_gradients_are_shortened_to_a_multiple_of_their_mean(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, clip = [], torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda weights, limit: (limits.append(limit), clip(weights, limit))[1]
    )
    values = recipe_values(songs)
    values["schedule"] |= {"steps": 3, "clip_factor": 1.5}
    progress = run(values, tmp_path / "out")
    assert limits[0] == float("inf")
    assert 0 < limits[1] < float("inf")
    assert 0 < progress.mean_norm < float("inf")
    (entry,) = [entry for entry in entries(tmp_path / "out") if "loss" in entry]
    assert entry["gradient_norm"] == progress.mean_norm


def test_a_loss_that_stays_doubled_stops_the_training_and_leaves_the_state_before(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waveunet_cli.training.stability.MEAN_STEPS", 3)
    monkeypatch.setattr("waveunet_cli.training.stability.BROKEN_STEPS", 12)
    values = recipe_values(songs, save_minutes=1e-6)  # after every step
    values["schedule"] |= {"steps": 100, "epoch_steps": 5}
    scripted(monkeypatch, lambda step: 4.0 if step >= 8 else 1.0)
    with pytest.raises(
        WaveUNetError, match=r"for 12 steps more than twice the .* the state saved last is from before"
    ) as error:
        run(values, tmp_path / "out")
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    values["schedule"]["learning_rate"] = 1e-4
    values["schedule"]["steps"] = 12
    log = [entry["step"] for entry in entries(tmp_path / "out")]
    assert run(values, tmp_path / "out", resume=True).done
    resumed = next(entry["step"] for entry in entries(tmp_path / "out")[len(log) :])
    assert resumed == 12
    assert json.loads(safe_metadata(tmp_path / "out" / STATE)["progress"])["broken_steps"] == 0


def test_an_interruption_while_the_loss_is_high_keeps_the_state_before(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waveunet_cli.training.stability.MEAN_STEPS", 3)
    values = recipe_values(songs)
    values["schedule"] |= {"steps": 100, "epoch_steps": 5}
    scripted(monkeypatch, lambda step: 4.0 if step >= 8 else 1.0)
    stopped = run(values, tmp_path / "out", stop_at=12)
    assert (stopped.step, stopped.broken_steps > 0) == (12, True)
    assert json.loads(safe_metadata(tmp_path / "out" / STATE)["progress"])["step"] == 5
    # where nothing was saved yet, this state is all there is
    scripted(monkeypatch, lambda step: 4.0 if step >= 4 else 1.0)
    values["schedule"]["epoch_steps"] = 100
    assert run(values, tmp_path / "other", stop_at=6).broken_steps > 0
    assert json.loads(safe_metadata(tmp_path / "other" / STATE)["progress"])["step"] == 6


def test_a_training_that_ends_while_the_loss_is_high_is_saved_and_says_so(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waveunet_cli.training.stability.MEAN_STEPS", 3)
    values = recipe_values(songs)
    values["schedule"] |= {"steps": 12, "epoch_steps": 5}
    scripted(monkeypatch, lambda step: 4.0 if step >= 8 else 1.0)
    events: list[object] = []
    monkeypatch.setattr(loop._Training, "_happened", lambda self, event: events.append(event))
    assert run(values, tmp_path / "out").done
    assert json.loads(safe_metadata(tmp_path / "out" / STATE)["progress"])["step"] == 12
    assert any("as the training ended; train again with a lower" in str(event) for event in events)


def safe_metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_a_budget_ends_with_the_weights_of_its_best_validation(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, kept = iter([3.0, 1.0, 2.0]), []
    score = loop._Training._score

    def given(training: Any) -> Score:
        kept.append(state.copy_of(training.state.current))
        return replace(score(training), loss=next(losses))

    monkeypatch.setattr(loop._Training, "_score", given)
    values = recipe_values(songs, hold_out=1)
    values["schedule"] |= {"steps": 6, "epoch_steps": 2}
    run(values, tmp_path / "out")
    weights = load_file(tmp_path / "out" / MODEL)
    assert all(torch.equal(weights[name], kept[1][name]) for name in weights)
    assert not torch.equal(weights["output.weight"], kept[2]["output.weight"])


def test_songs_that_know_a_sum_are_trained_on_and_validated_with(tmp_path: Path) -> None:
    for name in ("a", "b", "valid"):
        for j, stem in enumerate(("vocals", "accompaniment")):
            folder = tmp_path / ("valid" if name == "valid" else "split")
            write_stem(folder / name / f"{stem}.wav", seed=ord(name[0]) + j)
    for j, stem in enumerate(("vocals", "drums", "bass", "other")):
        write_stem(tmp_path / "whole" / "song" / f"{stem}.wav", seed=70 + j)
    values = recipe_values(tmp_path / "split", validation=[{"path": str(tmp_path / "valid")}])
    values["data"].append({"path": str(tmp_path / "whole")})
    values["architecture"] |= {"sources": ["vocals", "drums", "bass", "other"], "residual": "other"}
    assert run(values, tmp_path / "out").done
    scores = [entry for entry in entries(tmp_path / "out") if "validation_loss" in entry]
    assert {name for name in scores[0] if name.startswith("sdr")} == {"sdr_db/vocals", "sdr_db/accompaniment"}
    assert all(isinstance(value, float) for name, value in scores[0].items() if name.startswith("sdr"))
    model = load_checkpoint(tmp_path / "out" / MODEL)
    stems = Separator(model, "cpu").separate(write_stem(tmp_path / "x.wav", 3000), RATE_HZ)
    assert set(stems) == {"vocals", "drums", "bass", "other"}


def test_a_validation_judges_the_sum_where_only_the_sum_is_known(tmp_path: Path) -> None:
    known = [
        write_stem(tmp_path / "songs" / "a" / f"{s}.wav", seed=i) for i, s in enumerate(("vocals", "accompaniment"))
    ]
    values = recipe_values(tmp_path / "songs")
    values["architecture"] |= {"sources": ["vocals", "drums", "bass", "other"], "residual": "other"}
    recipe = recipe_from(values)
    config = recipe.config()
    tracks, _ = find_tracks(Data(tmp_path / "songs"), config.sources, sums=True)
    context = config.window(recipe.hop_frames).context
    shares = torch.tensor([0.5, 1.0, -1.0, 0.5])[:, None, None]  # of the mixture; the last three sum to half of it
    score = validate(
        Trainable(build_network(config)), lambda x: shares * x[:, None, :, context:-context], config,
        Reader(config.sample_rate, config.channels), tracks, l1, recipe.hop_frames, torch.device("cpu"),
    )  # fmt: skip
    for name, truth in zip(("vocals", "accompaniment"), known, strict=True):
        error = truth - sum(known) / 2
        expected = 10 * np.log10(np.square(truth).sum() / np.square(error).sum())
        assert score.sdr_db[name] == pytest.approx(expected, abs=1e-3)
    assert score.loss == pytest.approx(sum(np.abs(truth - sum(known) / 2).mean() for truth in known) / 4, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 5}, "seed 5 instead of 0"),
        ({"loss": "l1"}, r"loss 'l1' instead of 'l1\+rmse'"),
        ({"hop_frames": 400}, "hop_frames 400 instead of 200"),
        ({"augmentation": {"remix": 0.5}}, "augmentation.remix 0.5 instead of 0.0"),
        ({"schedule": {"batch": 4}}, "schedule.batch 4 instead of 2"),
        ({"hold_out": 1}, "hold_out 1 instead of 0"),
        ({"data": [{"weight": 2.0}]}, r"data\[0\].weight 2.0 instead of 1.0"),
        ({"data": [{}, {}]}, r"data\[1\] songs: \+ a \(4000 frames at 8000 Hz\), \+ b"),
        ({"data": [{"exclude": ["b"]}]}, r"data\[0\] songs: − b \(4000 frames at 8000 Hz\); data\[0\].exclude \['b'\]"),
    ],
)
def test_resumes_no_other_training(songs: Path, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    values = recipe_values(songs)
    run(values, tmp_path / "out", stop_at=1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    if "data" in change:
        change = {"data": [{"path": str(songs), **data} for data in change["data"]]}
    if "schedule" in change:
        change = {"schedule": values["schedule"] | change["schedule"]}
    with pytest.raises(CheckpointError, match=f"state of another training: .*{said}") as error:
        run(values | change, tmp_path / "out", resume=True)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_resumes_with_another_budget_and_says_so(songs: Path, tmp_path: Path) -> None:
    values = recipe_values(songs)
    run(values, tmp_path / "out", stop_at=1)
    values["schedule"] |= {"steps": 4, "learning_rate": 1e-4}
    values |= {"save_minutes": 3.0, "workers": 2, "in_memory": True}
    recipe, said = recipe_from(values), []
    material = gather(recipe, recipe.config())
    fabric = Fabric(accelerator="cpu", devices=1)
    assert train(recipe, tmp_path / "out", fabric, material, said.append, resume=True).step == 4
    texts = [event.text.partition("resumed with ")[2] for event in said if isinstance(event, Note)]
    assert texts == [
        "in_memory True instead of False",
        "save_minutes 3.0 instead of 10.0",
        "schedule.learning_rate 0.0001 instead of 0.001",
        "schedule.steps 4 instead of 6",
        "workers 2 instead of 1",
    ]


def test_a_training_resumes_where_its_songs_were_moved_to(songs: Path, tmp_path: Path) -> None:
    run(recipe_values(songs), tmp_path / "out", stop_at=1)
    shutil.copytree(songs, tmp_path / "moved")
    assert run(recipe_values(tmp_path / "moved"), tmp_path / "out", resume=True).done


def test_a_checkpoint_to_start_from_is_part_of_a_training(songs: Path, tmp_path: Path) -> None:
    run(recipe_values(songs), tmp_path / "first")
    values = recipe_values(songs, model=str(tmp_path / "first" / MODEL), architecture={})
    run(values, tmp_path / "second", stop_at=1)
    shutil.copy(tmp_path / "first" / MODEL, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"model 'other.safetensors' instead of 'model.safetensors'"):
        run(values | {"model": str(tmp_path / "other.safetensors")}, tmp_path / "second", resume=True)
    assert run(values, tmp_path / "second", resume=True).done


def test_states_of_older_versions_are_resumed_with_a_word(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "save_state", lambda *arguments: save_without_recipe(monkeypatch, *arguments))
    values = recipe_values(songs)
    run(values, tmp_path / "out", stop_at=2)
    recipe, said = recipe_from(values), []
    assert "recipe" not in safe_metadata(tmp_path / "out" / STATE)
    fabric, material = Fabric(accelerator="cpu", devices=1), gather(recipe, recipe.config())
    assert train(recipe, tmp_path / "out", fabric, material, said.append, resume=True).done
    assert "does not say which recipe" in said[0].text


def save_without_recipe(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    save = state.save_file
    with monkeypatch.context() as patch:
        patch.setattr(
            state,
            "save_file",
            lambda tensors, path, about: save(tensors, path, {k: v for k, v in about.items() if k != "recipe"}),
        )
        state.save_state(*arguments)


def test_the_speed_logged_after_a_resumption_is_that_of_its_own_steps(songs: Path, tmp_path: Path) -> None:
    values = recipe_values(songs)
    values["schedule"] |= {"steps": 20, "epoch_steps": 100}
    recipe = recipe_from(values)
    with Log(recipe, tmp_path, RATE_HZ, quiet=True, tensorboard=False) as log:
        log.on_event(Started(Progress(step=19, seconds=1e6)))
        assert (log._bar.initial, log._bar.n) == (19, 19)
        log.on_event(Stepped(Progress(step=20, seconds=1e6 + 2), 0.5, 1e-3, 4 * RATE_HZ, 2.0, 0.5, False))
    (entry,) = entries(tmp_path)
    assert (entry["audio_seconds_per_second"], entry["computing_share"]) == (2.0, 0.75)


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


def test_an_epoch_that_never_ends_takes_no_memory(songs: Path, tmp_path: Path) -> None:
    schedule = {"kind": "budget", "minutes": 1e-9, "batch": 2, "epoch_steps": 10**12}
    assert run(recipe_values(songs, schedule=schedule), tmp_path).step == 1
