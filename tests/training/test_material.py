from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from training_songs import RATE_HZ, recipe_values, write_songs, write_stem
from waveunet_cli.errors import ConfigError
from waveunet_cli.training.material import Material, gather
from waveunet_cli.training.recipe import recipe_from


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    return write_songs(tmp_path / "songs")


def gathered(songs: Path, notes: list[str] | None = None, **changes: Any) -> tuple[Material, list[str]]:
    recipe, notes = recipe_from(recipe_values(songs, **changes)), [] if notes is None else notes
    material = gather(recipe, recipe.config(), lambda note: notes.append(note.text))
    return material, notes


def silence(path: Path) -> None:
    soundfile.write(path, np.zeros((4000, 2)), RATE_HZ)


def test_songs_are_held_out_of_the_first_folder(songs: Path, tmp_path: Path) -> None:
    more = write_songs(tmp_path / "more", ["d", "e"], seed=100)
    recipe = recipe_from(recipe_values(songs, hold_out=2, data=[{"path": str(songs)}, {"path": str(more)}]))
    material = gather(recipe, recipe.config())
    assert all(Path(track.name).parent == songs for track in material.validation)
    assert [len(pool.tracks) for pool in material.pools] == [1, 2]
    with pytest.raises(ConfigError, match="found 3 of 3 songs"):
        gather(replace(recipe, hold_out=3), recipe.config())


def test_a_song_that_cannot_be_used_is_named_before_the_training_starts(songs: Path) -> None:
    x = np.full((4000, 2), 0.1)
    x[17] = np.nan
    soundfile.write(songs / "a" / "drums.wav", x, RATE_HZ, subtype="FLOAT")
    (songs / "b" / "vocals.wav").unlink()  # the teacher's file is missing
    (songs / "b" / "drums.wav").rename(songs / "b" / "accompaniment.wav")
    write_stem(songs / "d" / "vocals.wav")
    write_stem(songs / "d" / "accompaniment.wav", seed=1)
    write_stem(songs / "d" / "mixture.wav", seed=2)
    for in_memory in (False, True):
        material, notes = gathered(songs, in_memory=in_memory)
        assert [Path(track.name).name for track in material.pools[0].tracks] == ["c"]
        assert len(notes) == 3
        for said in (
            f"{songs / 'a' / 'drums.wav'}: a sample is NaN",
            f"{songs / 'b'}: stem missing: vocals",
            "do not sum",
        ):
            assert sum(said in note for note in notes) == 1
        assert all(note.startswith("left out: ") and "\n" not in note for note in notes)
    write_stem(songs / "c" / "mixture.wav", seed=9)
    notes.clear()
    with pytest.raises(ConfigError, match="no usable song is left"):
        gathered(songs, notes)
    assert all("silent" not in note for note in notes)  # without songs, that says nothing


def test_a_validation_song_is_not_trained_on(songs: Path, tmp_path: Path) -> None:
    valid = write_songs(tmp_path / "valid", ["d"], seed=100)
    material, _ = gathered(songs, validation=[{"path": str(valid)}])
    assert [Path(track.name).name for track in material.validation] == ["d"]
    with pytest.raises(ConfigError, match=r"valid/d: is to be trained on, but .*valid/d, the same song"):
        gathered(songs, data=[{"path": str(songs)}, {"path": str(valid)}], validation=[{"path": str(valid)}])
    loose = {"path": str(valid / "d"), "stem": "vocals"}
    with pytest.raises(ConfigError, match=r"valid/d/drums: is to be trained on, but .*valid/d"):
        gathered(songs, data=[{"path": str(songs)}, loose], validation=[{"path": str(valid)}])


def test_a_source_that_is_silent_everywhere_is_said(songs: Path, tmp_path: Path) -> None:
    for song in "abc":
        silence(songs / song / "vocals.wav")
    _, notes = gathered(songs)
    assert notes == ["data: vocals: silent in every song to train on; the network will learn silence"]
    more = write_songs(tmp_path / "more", ["d"], seed=100)
    assert gathered(songs, data=[{"path": str(songs)}, {"path": str(more)}])[1] == []
