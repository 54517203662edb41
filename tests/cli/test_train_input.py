"""What `waveunet train` does with recipes and songs it cannot use, and with trainings it cannot go on with."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from conftest import Ran
from training_songs import RATE_HZ, STEMS, recipe_values, write_songs, write_stem
from waveunet_cli.datasets.tracks import Data
from waveunet_cli.training.recipe import Recipe, read_recipe, recipe_from

Command = Callable[..., Ran]


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    return write_songs(tmp_path / "songs")


@pytest.fixture
def recipe(tmp_path: Path, songs: Path) -> Callable[..., Path]:
    """Writes a recipe on the songs; keyword arguments change its tables."""

    def write(schedule: dict[str, Any] | None = None, **changes: Any) -> Path:
        values = recipe_values(songs, **changes)
        values["schedule"] = values["schedule"] | (schedule or {})
        (tmp_path / "recipe.toml").write_text("".join(f"{key} = {toml(value)}\n" for key, value in values.items()))
        return tmp_path / "recipe.toml"

    return write


def toml(value: Any) -> str:
    """A value as TOML, tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def refused(ran: Ran, *parts: str) -> str:
    """The one line in which a command was refused, which has all the parts."""
    assert ran.code in (1, 2), ran.err
    line = without_folder(ran.err.splitlines()[-1])
    assert line.startswith("Error: "), ran.err
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in line
    return line


def said(ran: Ran) -> str:
    """Everything a successful command said."""
    assert ran.code == 0, ran.err
    return without_folder(ran.out + ran.err)


def without_folder(text: str) -> str:
    """A text without the test's own folder, whose name has the test's words in it."""
    return re.sub(r"/\S*/pytest-of-[^/]+/[^/]+/[^/]+/", "", text)


# Going on


def start(waveunet: Command, recipe: Path, out: Path) -> None:
    said(waveunet("train", recipe, "-o", out, "-q", "-d", "cpu"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 7}, ["seed", "7"]),
        ({"loss": "l1"}, ["loss", "l1+rmse", "l1"]),
        ({"model": "M5"}, ["model", "M5"]),
        ({"hop_frames": 100}, ["hop_frames"]),
        ({"augmentation": {"remix": 0.5}}, ["remix"]),
        ({"schedule": {"batch": 1}}, ["batch"]),
        ({"schedule": {"weight_decay": 0.1}}, ["weight_decay"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_another_training_is_not_gone_on_with(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], named: list[str]
) -> None:
    start(waveunet, recipe(), tmp_path / "out")
    before = (tmp_path / "out" / "state.safetensors").read_bytes()
    changes = {"schedule": {}, **changes}
    changed = recipe(schedule={"steps": 8, **changes.pop("schedule")}, **changes)
    refused(waveunet("train", changed, "-o", tmp_path / "out", "-q", "-d", "cpu", "--resume"), *named)
    assert (tmp_path / "out" / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize("change", ["one song less", "one song more", "another length"])
def test_other_songs_are_not_gone_on_with(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path, change: str
) -> None:
    start(waveunet, recipe(), tmp_path / "out")
    if change == "one song less":
        shutil.rmtree(songs / "c")
    elif change == "one song more":
        write_songs(songs, ["c2"])
    else:
        write_songs(songs, ["c"], frames=5000)
    changed = recipe(schedule={"steps": 8})
    refused(waveunet("train", changed, "-o", tmp_path / "out", "-q", "-d", "cpu", "--resume"), "data", "c")


@pytest.mark.parametrize("changes", [{}, {"save_minutes": 3.0}, {"storage": "float16"}], ids=lambda c: "-".join(c))
def test_a_finished_training_goes_on_with_a_larger_budget_and_other_save_settings(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    start(waveunet, recipe(), tmp_path / "out")
    changed = recipe(schedule={"steps": 8}, **changes)
    said(waveunet("train", changed, "-o", tmp_path / "out", "-q", "-d", "cpu", "--resume"))
    assert progress(tmp_path / "out")["step"] == 8


def progress(out: Path) -> dict[str, Any]:
    """How far the training in a folder had come when it was saved."""
    with safe_open(out / "state.safetensors", "pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["progress"])
    return found


def test_a_training_whose_folders_moved_goes_on(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path
) -> None:
    start(waveunet, recipe(), tmp_path / "out")
    songs.rename(tmp_path / "moved")
    moved = recipe(data=[{"path": str(tmp_path / "moved")}], schedule={"steps": 8})
    said(waveunet("train", moved, "-o", tmp_path / "out", "-q", "-d", "cpu", "--resume"))
    assert progress(tmp_path / "out")["step"] == 8


def test_the_first_speed_after_going_on_counts_only_what_came_after(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    start(waveunet, recipe(), tmp_path / "out")  # 6 steps
    before = progress(tmp_path / "out")["seconds"]
    path = recipe(schedule={"steps": 12})
    said(waveunet("train", path, "-o", tmp_path / "out", "-q", "-d", "cpu", "--resume"))
    took = progress(tmp_path / "out")["seconds"] - before
    frames = 6 * 2 * read_recipe(path).config().window(200).output
    (*_, logged) = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert logged["audio_seconds_per_second"] == pytest.approx(frames / RATE_HZ / took)


# What is refused before any song is read, which may take hours


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"loss": "magnitude"}, [], ["loss: 'magnitude' is for U7a"]),
        ({"micro_batch": 3, "schedule": {"batch": 4}}, [], ["micro_batch: 4 windows a step", "no multiple of 3"]),
        ({"transfer": "start.safetensors"}, [], ["start.safetensors: no such checkpoint"]),
        ({"model": "start.safetensors"}, [], ["start.safetensors: no such checkpoint"]),
        ({"augmentation": {"heard_sources": ["vocal"]}}, [], ["augmentation.heard_sources: 'vocal' is none of the"]),
        ({"augmentation": {"levels_db": {"kazoo": -9}}}, [], ["augmentation.levels_db: 'kazoo' is none of the"]),
        ({}, ["--resume"], ["out/state.safetensors: no such file, so there is no training to go on with"]),
        ({}, ["--devices", "9999"], ["9999 processes on the CPU: this machine has", "choose fewer --devices"]),
        ({}, ["-o", "{file}"], ["file: is no folder", "choose another --out"]),
    ],
)
def test_what_needs_no_song_is_refused_before_songs_are_read(
    waveunet: Command,
    recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    options: list[str],
    words: list[str],
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a song is read")

    monkeypatch.setattr("waveunet_cli.training.material.listen", read)
    (tmp_path / "file").touch()
    options = [option.format(file=tmp_path / "file") for option in options]
    refused(waveunet("train", recipe(**changes), "-o", tmp_path / "out", "-q", "-d", "cpu", *options), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("exclude", "words"),
    [(["b", "bb"], ["has no song 'bb', which data.exclude names"]), (["a", "b", "c"], ["data.exclude names all"])],
)
def test_a_song_to_leave_out_that_is_not_there(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path, exclude: list[str], words: list[str]
) -> None:
    path = recipe(data=[{"path": str(songs), "exclude": exclude}])
    refused(waveunet("train", path, "-o", tmp_path / "out", "-q", "-d", "cpu"), *words)


def test_quiet_or_not_the_error_says_why_no_song_is_left(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path
) -> None:
    for song in songs.iterdir():
        break_song(song, "NaN")
    ran = waveunet("train", recipe(), "-o", tmp_path / "out", "-q", "-d", "cpu")
    refused(ran, "no usable song is left", "the first of 3 left out: ", "songs/a/vocals.wav: a sample is NaN")


# Samples and losses


def test_files_of_float_samples_are_the_same_from_memory(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path
) -> None:
    for path in songs.rglob("*.wav"):
        x, rate_hz = soundfile.read(path, always_2d=True)
        soundfile.write(path, 8 * x, rate_hz, subtype="FLOAT")  # far above 1
    for in_memory in (False, True):
        start(waveunet, recipe(in_memory=in_memory), tmp_path / str(in_memory))
    from_disk, from_memory = (load_file(tmp_path / name / "model.safetensors") for name in ("False", "True"))
    for name, weight in from_disk.items():
        assert torch.equal(weight, from_memory[name]), name


@pytest.mark.parametrize("model", ["U7a", "U7", "M4"])
def test_a_recipe_is_the_same_from_python_and_from_tables(model: str) -> None:
    tables = {"data": [{"path": "songs"}], "hold_out": 1, "model": model}
    assert Recipe((Data(Path("songs")),), hold_out=1, model=model) == recipe_from(tables)


# A loss that is no number


def test_nothing_is_called_saved_that_is_not(waveunet: Command, recipe: Callable[..., Path], tmp_path: Path) -> None:
    wild = recipe(schedule={"learning_rate": 1e30, "steps": 500, "epoch_steps": 500, "batch": 1})
    line = refused(waveunet("train", wild, "-o", tmp_path / "out", "-q", "-d", "cpu"), "rate")
    assert not (tmp_path / "out" / "state.safetensors").exists()
    assert "intact" not in line
    assert "resume" not in line


# Songs


def test_a_song_to_validate_with_is_not_trained_on(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path
) -> None:
    validation = [{"path": str(tmp_path / "valid")}]
    shutil.copytree(songs / "b", tmp_path / "valid" / "b")
    refused(waveunet("train", recipe(validation=validation), "-o", tmp_path / "out", "-q", "-d", "cpu"), "b", "valid")
    (tmp_path / "valid" / "b").rename(tmp_path / "valid" / "renamed")  # the files are the same still
    refused(waveunet("train", recipe(validation=validation), "-o", tmp_path / "out", "-q", "-d", "cpu"), "renamed")
    assert not (tmp_path / "out" / "state.safetensors").exists()
    shutil.rmtree(tmp_path / "valid")
    write_stem(write_songs(tmp_path / "valid", ["b"]) / "b" / "vocals.wav", seed=99)
    for stem in STEMS:  # only the name is the same
        write_stem(tmp_path / "valid" / "b" / f"{stem}.wav", seed=99)
    refused(waveunet("train", recipe(validation=validation), "-o", tmp_path / "out", "-q", "-d", "cpu"), "b", "valid")
    excluded = recipe(validation=validation, data=[{"path": str(songs), "exclude": ["b"]}])
    said(waveunet("train", excluded, "-o", tmp_path / "out", "-d", "cpu"))


def break_song(song: Path, how: str) -> None:
    """Make one of a song's stems unusable."""
    vocals, rate_hz = soundfile.read(song / "vocals.wav", dtype="float32", always_2d=True)
    if how == "a stem is missing":
        (song / "vocals.wav").unlink()
    elif how == "NaN":
        vocals[1234] = np.nan
        soundfile.write(song / "vocals.wav", vocals, rate_hz, subtype="FLOAT")
    elif how == "two files hold the vocals":
        soundfile.write(song / "vocals.flac", vocals, rate_hz)
    elif how == "the stems do not sum to the mixture":
        soundfile.write(song / "mixture.wav", vocals, rate_hz)


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("a stem is missing", "vocals"),
        ("NaN", "vocals.wav"),
        ("two files hold the vocals", "vocals.flac"),
        ("the stems do not sum to the mixture", "mixture.wav"),
    ],
)
@pytest.mark.parametrize("in_memory", [False, True])
def test_a_song_that_cannot_be_trained_on_is_named_before_the_training(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path, how: str, named: str, in_memory: bool
) -> None:
    break_song(songs / "b", how)
    ran = waveunet("train", recipe(in_memory=in_memory), "-o", tmp_path / "out", "-d", "cpu", "--check")
    lines = [line for line in (ran.out + ran.err).splitlines() if str(songs / "b") in line and named in line]
    assert len(lines) == 1, ran.err
    if ran.code == 0:  # left out; the others are trained on
        assert "2 tracks" in ran.out
    assert not (tmp_path / "out").exists()


def test_stems_that_sum_to_the_mixture_but_for_its_rounding_are_welcome(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path
) -> None:
    stems = [soundfile.read(songs / "b" / f"{stem}.wav", dtype="float32", always_2d=True)[0] for stem in STEMS]
    soundfile.write(songs / "b" / "mixture.wav", sum(stems), RATE_HZ, subtype="PCM_16")
    found = said(waveunet("train", recipe(), "-o", tmp_path / "out", "--check"))
    assert "3 tracks" in found
    assert "mixture.wav" not in found


def test_what_macos_leaves_beside_a_stem_is_no_stem(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path
) -> None:
    for song in songs.iterdir():
        (song / "._vocals.wav").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    found = said(waveunet("train", recipe(), "-o", tmp_path / "out", "--check"))
    assert "3 tracks" in found
    assert "._" not in found


def test_songs_that_are_silent_throughout_are_worth_a_word(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path
) -> None:
    for song in songs.iterdir():
        for stem in STEMS:
            soundfile.write(song / f"{stem}.wav", np.zeros((4000, 2)), RATE_HZ, subtype="PCM_16")
    assert "silent" in said(waveunet("train", recipe(), "-o", tmp_path / "out", "-d", "cpu"))


def test_two_songs_are_not_the_same_because_both_have_no_vocals(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path
) -> None:
    write_songs(tmp_path / "valid", ["instrumental"])
    for stem in STEMS:
        write_stem(tmp_path / "valid" / "instrumental" / f"{stem}.wav", seed=77)
    for song in (songs / "a", tmp_path / "valid" / "instrumental"):
        soundfile.write(song / "vocals.wav", np.zeros((4000, 2)), RATE_HZ, subtype="PCM_16")
    validation = recipe(validation=[{"path": str(tmp_path / "valid")}])
    said(waveunet("train", validation, "-o", tmp_path / "out", "-d", "cpu"))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_mixture_may_have_other_channels_than_the_stems(
    waveunet: Command, recipe: Callable[..., Path], tmp_path: Path, songs: Path, channels: int
) -> None:
    stems = [soundfile.read(songs / "b" / f"{stem}.wav", dtype="float32", always_2d=True)[0] for stem in STEMS]
    if channels == 2:
        stems = [x.mean(1, keepdims=True) for x in stems]
        for stem, x in zip(STEMS, stems, strict=True):
            soundfile.write(songs / "b" / f"{stem}.wav", x, RATE_HZ, subtype="FLOAT")
        mixture = np.repeat(sum(stems), 2, 1)
    else:
        mixture = sum(stems).mean(1)
    soundfile.write(songs / "b" / "mixture.wav", mixture, RATE_HZ, subtype="FLOAT")
    assert "3 tracks" in said(waveunet("train", recipe(), "-o", tmp_path / "out", "--check"))
