import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import Ran
from training_songs import recipe_values, write_songs
from waveunet_cli.networks.checkpoint import load_checkpoint
from waveunet_cli.training.loop import MODEL, STATE

Command = Callable[..., Ran]
WAVEUNET = str(Path(sys.executable).with_name("waveunet"))


def write_recipe(folder: Path, **changes: Any) -> Path:
    values = recipe_values(write_songs(folder / "songs"), **changes)
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            continue
        lines.append(f"{name} = {value if isinstance(value, list) else json.dumps(value)}")
    lines[[line.startswith("data") for line in lines].index(True)] = f'data = [{{ path = "{folder / "songs"}" }}]'
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(item)}" for key, item in value.items())]
    (folder / "recipe.toml").write_text("\n".join(lines))
    return folder / "recipe.toml"


def test_trains_a_checkpoint_that_separates(tmp_path: Path, waveunet: Command) -> None:
    ran = waveunet("train", write_recipe(tmp_path), "-o", tmp_path / "out", "-q", "-d", "cpu")
    assert (ran.code, ran.stems) == (0, [tmp_path / "out" / MODEL])
    assert load_checkpoint(tmp_path / "out" / MODEL).config.sources == ("accompaniment", "vocals")
    song = tmp_path / "songs" / "a" / "other.wav"
    assert waveunet("separate", song, "-n", tmp_path / "out" / MODEL, "-o", tmp_path / "sep", "-q").code == 0
    again = waveunet("train", write_recipe(tmp_path), "-o", tmp_path / "out", "-q")
    assert again.code == 1
    assert "add --resume" in again.err


def test_check_says_what_would_be_done(tmp_path: Path, waveunet: Command) -> None:
    recipe = write_recipe(tmp_path, hold_out=1)
    (tmp_path / "songs" / "a" / "vocals.wav").unlink()
    ran = waveunet("train", recipe, "-o", tmp_path / "out", "--check")
    assert ran.code == 0
    assert "left out" in ran.err
    assert "stem missing: vocals" in ran.err
    assert "1 tracks" in ran.out
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA")
@pytest.mark.parametrize("options", [("-d", "cuda"), ("-d", "cuda", "--devices", "3"), ("-d", "mps")])
def test_a_device_that_is_not_there_is_a_matter_of_usage(
    tmp_path: Path, waveunet: Command, options: tuple[str, ...]
) -> None:
    ran = waveunet("train", write_recipe(tmp_path), "-o", tmp_path / "out", *options)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "no such device" in ran.err


def test_says_how_much_of_the_time_was_computing(tmp_path: Path, waveunet: Command) -> None:
    ran = waveunet("train", write_recipe(tmp_path), "-o", tmp_path / "out", "-d", "cpu")
    assert ran.code == 0
    said = r"^\d+% of the steps' time was computing, the rest waiting for windows; 0 steps skipped$"
    assert re.search(said, ran.err, re.MULTILINE)
    (entry,) = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert 0 <= entry["computing_share"] <= 1


def test_another_seed_is_no_resumption(tmp_path: Path, waveunet: Command) -> None:
    recipe = write_recipe(tmp_path)
    assert waveunet("train", recipe, "-o", tmp_path / "out", "-d", "cpu", "-q", "--seed", 3).code == 0
    ran = waveunet("train", recipe, "-o", tmp_path / "out", "-d", "cpu", "-q", "--resume")
    assert ran.code == 1
    assert "seed 0 instead of 3" in ran.err
    assert ran.err.count("\n") == 1


def test_a_bad_recipe_is_a_matter_of_usage(tmp_path: Path, waveunet: Command) -> None:
    ran = waveunet("train", write_recipe(tmp_path, loss="l3"), "-o", tmp_path / "out")
    assert ran.code == 2
    assert ran.err.count("\n") == 1


def test_a_folder_that_cannot_be_written(tmp_path: Path, waveunet: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    ran = waveunet("train", write_recipe(tmp_path), "-o", tmp_path / "file", "-q", "-d", "cpu")
    assert (ran.code, ran.err) == (2, f"Error: {tmp_path / 'file'}: is no folder, so nothing can be written there; "
                                      "choose another --out\n")  # fmt: skip

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("waveunet_cli.training.loop.save_checkpoint", full)
    ran = waveunet("train", write_recipe(tmp_path), "-o", tmp_path / "out", "-q", "-d", "cpu")
    assert ran.code == 1
    assert "No space left" in ran.err
    assert ran.err.count("\n") == 1
    monkeypatch.undo()
    ran = waveunet("train", write_recipe(tmp_path), "-o", tmp_path / "out", "-q", "-d", "cpu", "--resume")
    assert ran.code == 0


@pytest.mark.slow
def test_two_processes_give_the_gradients_of_one(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, schedule={"kind": "budget", "steps": 1, "batch": 4})
    for devices in (1, 2):
        arguments = ["train", str(recipe), "-o", str(tmp_path / str(devices)), "-d", "cpu", "-q"]
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={devices}",
             "--no-python", WAVEUNET, *arguments, "--devices", str(devices)],
            check=True, capture_output=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    one, two = (load_file(tmp_path / str(devices) / STATE) for devices in (1, 2))
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        if name.startswith("first."):  # after one step, a tenth of the gradient
            torch.testing.assert_close(two[name], gradient, rtol=0, atol=1e-6 * float(gradient.abs().max()))


@pytest.mark.slow
def test_an_interrupted_training_saves_itself(tmp_path: Path, waveunet: Command) -> None:
    schedule = {"kind": "budget", "steps": 100_000, "batch": 1, "epoch_steps": 1000}
    recipe = write_recipe(tmp_path, schedule=schedule)
    arguments = ["train", str(recipe), "-o", str(tmp_path / "out"), "-d", "cpu", "-q"]
    process = subprocess.Popen([WAVEUNET, *arguments], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / "out" / "log.jsonl").exists():
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "go on with --resume" in said
    assert {MODEL, STATE} <= {path.name for path in (tmp_path / "out").iterdir()}
