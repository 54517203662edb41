import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training_songs import RATE_HZ, STEMS, write_songs, write_stem
from waveunet_cli.datasets.check import Heard, listen, require_apart
from waveunet_cli.datasets.reader import Reader
from waveunet_cli.datasets.tracks import Data, Track, find_tracks
from waveunet_cli.errors import ConfigError

VOICE = ("accompaniment", "vocals")


def heard(root: Path, in_memory: bool = False, sources: tuple[str, ...] = VOICE) -> dict[str, Heard]:
    tracks, _ = find_tracks(Data(root), sources, sums=True)
    found = listen(tracks, Reader(RATE_HZ, 2, in_memory), workers=2)
    return {Path(track.name).name: one for track, one in zip(tracks, found, strict=True)}


def write_mixture(song: Path, gain: float = 1.0, channels: int = 2) -> None:
    x = sum(soundfile.read(song / f"{stem}.wav", always_2d=True)[0] for stem in STEMS)
    soundfile.write(song / "mixture.wav", gain * x[:, :channels], RATE_HZ, subtype="FLOAT")


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_number_that_is_none_is_found_with_its_file(tmp_path: Path, in_memory: bool) -> None:
    write_songs(tmp_path, ["good", "bad"])
    x = np.zeros((4000, 2))
    x[3999, 1] = np.nan
    soundfile.write(tmp_path / "bad" / "drums.wav", x, RATE_HZ, subtype="FLOAT")
    found = heard(tmp_path, in_memory)
    assert found["good"].problem is None
    assert found["bad"].problem is not None
    assert f"{tmp_path / 'bad' / 'drums.wav'}: a sample is NaN" in found["bad"].problem


def test_stems_that_do_not_sum_to_their_mixture_are_found(tmp_path: Path) -> None:
    write_songs(tmp_path, ["good", "rounded", "late", "loud", "short", "silent", "alone"])
    for name, gain in (("good", 1.0), ("rounded", 1.01), ("late", 1.0), ("loud", 1.3), ("short", 1.0), ("silent", 0.0)):
        write_mixture(tmp_path / name, gain)
    vocals, _ = soundfile.read(tmp_path / "late" / "vocals.wav")
    soundfile.write(tmp_path / "late" / "vocals.wav", np.roll(vocals, 50, 0), RATE_HZ, subtype="PCM_16")
    write_stem(tmp_path / "short" / "mixture.wav", frames=3999)
    problems = {name: one.problem for name, one in heard(tmp_path).items()}
    assert {name for name, problem in problems.items() if problem is None} == {"good", "rounded", "alone"}
    for name, said in (
        ("late", "difference: -2 dB"),
        ("loud", "-13 dB"),
        ("short", "3999 frames"),
        ("silent", "silent"),
    ):
        assert problems[name] is not None
        assert f"{tmp_path / name / 'mixture.wav'}: " in str(problems[name])
        assert said in str(problems[name])


def test_a_mixture_is_compared_with_all_stems_and_only_where_all_are_used(tmp_path: Path) -> None:
    write_songs(tmp_path, ["song"])
    write_mixture(tmp_path / "song")
    assert heard(tmp_path, sources=("vocals", "drums"))["song"].problem is None  # they need not sum to it
    write_stem(tmp_path / "song" / "accompaniment.wav", seed=77)  # not what the stems sum to
    assert heard(tmp_path, sources=STEMS)["song"].problem is None
    assert "do not sum" in str(heard(tmp_path)["song"].problem)


def test_a_mono_mixture_may_stand_beside_stereo_stems(tmp_path: Path) -> None:
    for stem in STEMS:
        x = write_stem(tmp_path / "song" / f"{stem}.wav", channels=1, seed=len(stem))
        soundfile.write(tmp_path / "song" / f"{stem}.wav", x.repeat(2, 1), RATE_HZ)
    write_mixture(tmp_path / "song", channels=1)
    assert heard(tmp_path)["song"].problem is None


def test_what_sounds(tmp_path: Path) -> None:
    write_songs(tmp_path, ["song"])
    soundfile.write(tmp_path / "song" / "vocals.wav", np.zeros((4000, 2)), RATE_HZ)
    assert heard(tmp_path)["song"] == Heard(None, frozenset({"accompaniment"}))


def tracks_in(root: Path, stem: str | None = None) -> list[Track]:
    return find_tracks(Data(root, stem=stem), VOICE)[0]


def test_a_song_is_not_both_trained_on_and_validated_with(tmp_path: Path) -> None:
    valid = write_songs(tmp_path / "valid", ["a", "b"])
    train = write_songs(tmp_path / "train", ["c", "d"], seed=100)
    require_apart(tracks_in(train), tracks_in(valid))
    with pytest.raises(ConfigError, match="the same song, is to validate with"):
        require_apart(tracks_in(valid), tracks_in(valid))
    shutil.copytree(valid / "a", train / "renamed")
    with pytest.raises(ConfigError, match=r"renamed: is to be trained on, but .*valid/a"):
        require_apart(tracks_in(train), tracks_in(valid))
    shutil.rmtree(train / "renamed")
    (tmp_path / "loose").mkdir()
    shutil.copy(valid / "b" / "vocals.wav", tmp_path / "loose" / "hum.wav")
    with pytest.raises(ConfigError, match=r"hum: is to be trained on, but .*valid/b"):
        require_apart(tracks_in(tmp_path / "loose", "vocals"), tracks_in(valid))
    write_songs(train, ["a"], seed=500)  # encoded again: other bytes, the same name and length
    with pytest.raises(ConfigError, match=r"train/a: is to be trained on"):
        require_apart(tracks_in(train), tracks_in(valid))


def test_silence_is_not_a_song_that_two_have_in_common(tmp_path: Path) -> None:
    valid, train = write_songs(tmp_path / "valid", ["a"]), write_songs(tmp_path / "train", ["b"], seed=100)
    for folder in (valid / "a", train / "b"):
        soundfile.write(folder / "vocals.wav", np.zeros((4000, 2)), RATE_HZ)
    require_apart(tracks_in(train), tracks_in(valid))
