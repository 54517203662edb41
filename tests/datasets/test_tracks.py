from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training_songs import RATE_HZ, write_songs, write_stem
from waveunet_cli.datasets.tracks import Data, Reader, Track, find_tracks
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.streaming.resample import resample

VOICE = ("accompaniment", "vocals")


@pytest.mark.parametrize("folder", ["", "train"])
def test_finds_songs_and_sums_the_accompaniment(tmp_path: Path, folder: str) -> None:
    write_songs(tmp_path / folder)
    (tmp_path / folder / "a" / "mixture.wav").write_bytes((tmp_path / folder / "a" / "other.wav").read_bytes())
    tracks, left_out = find_tracks(Data(tmp_path), VOICE)
    assert [Path(track.name).name for track in tracks] == ["a", "b", "c"]
    assert left_out == []
    assert [path.name for path in tracks[0].sources["accompaniment"]] == ["drums.wav", "other.wav"]
    x = Reader(RATE_HZ, 2).read(tracks[0], VOICE, 0, 100)
    stems = Reader(RATE_HZ, 2).read(
        Track("", {p.stem: (p,) for p in (tmp_path / folder / "a").iterdir()}, 4000, RATE_HZ),
        ("drums", "other", "vocals"), 0, 100,
    )  # fmt: skip
    torch.testing.assert_close(x, torch.stack([stems[0] + stems[1], stems[2]]))


def test_reads_the_ccmixter_layout(tmp_path: Path) -> None:
    for name, seed in (("mix", 0), ("source-01", 1), ("source-02", 2)):
        write_stem(tmp_path / "song" / f"{name}.wav", seed=seed)
    (track,), _ = find_tracks(Data(tmp_path), VOICE)
    assert {source: [path.name for path in paths] for source, paths in track.sources.items()} == {
        "accompaniment": ["source-01.wav"],
        "vocals": ["source-02.wav"],
    }


def test_takes_loose_files_as_one_source(tmp_path: Path) -> None:
    write_stem(tmp_path / "hum.wav")
    write_stem(tmp_path / "choir.flac", frames=77)
    tracks, _ = find_tracks(Data(tmp_path, stem="vocals"), VOICE)
    assert [(list(track.sources), track.frames) for track in tracks] == [(["vocals"], 77), (["vocals"], 4000)]
    with pytest.raises(ConfigError, match="'kazoo' is none of the model's sources"):
        find_tracks(Data(tmp_path, stem="kazoo"), VOICE)


def test_names_and_leaves_out_what_cannot_be_used(tmp_path: Path) -> None:
    write_songs(tmp_path, ["good", "excluded"])
    (write_songs(tmp_path, ["mute"]) / "mute" / "vocals.wav").unlink()
    write_stem(write_songs(tmp_path, ["short"]) / "short" / "drums.wav", frames=3999)
    write_stem(write_songs(tmp_path, ["fast"]) / "fast" / "drums.wav", rate_hz=16_000)
    (write_songs(tmp_path, ["torn"]) / "torn" / "drums.wav").write_bytes(b"RIFF")
    write_stem(write_songs(tmp_path, ["empty"]) / "empty" / "drums.wav", frames=0)
    tracks, left_out = find_tracks(Data(tmp_path, exclude=("excluded",)), VOICE)
    assert [Path(track.name).name for track in tracks] == ["good"]
    for line, said in zip(
        left_out,
        ["header counts no frames", "8000 Hz, drums.wav|16000 Hz", "stem missing: vocals", "3999 frames", "torn"],
        strict=True,
    ):
        assert any(part in line for part in said.split("|"))
        assert "\n" not in line


def test_refuses_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        find_tracks(Data(tmp_path / "nowhere"), VOICE)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ConfigError, match="no song with the stems accompaniment, vocals"):
        find_tracks(Data(tmp_path), VOICE)


@given(start=st.integers(-300, 1200), frames=st.integers(1, 900))
@settings(deadline=None, max_examples=25)
def test_a_stretch_is_the_file_with_zeros_around(
    tmp_path_factory: pytest.TempPathFactory, start: int, frames: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "stretch.wav"
    x = write_stem(path, frames=1000)
    padded = np.pad(x, ((300, 2200), (0, 0)))[start + 300 : start + 300 + frames].T
    track = Track("t", {"vocals": (path,)}, 1000, RATE_HZ)
    for in_memory in (False, True):
        found = Reader(RATE_HZ, 2, in_memory).read(track, ("vocals",), start, frames)
        np.testing.assert_array_equal(found[0].numpy(), padded)


@pytest.mark.parametrize("own", [11_025, 4000, 8192])
def test_stretches_of_a_file_at_another_rate_are_cut_from_the_resampled_file(tmp_path: Path, own: int) -> None:
    x = write_stem(tmp_path / "x.wav", frames=3000, rate_hz=own, channels=1)
    track = Track("t", {"vocals": (tmp_path / "x.wav",)}, 3000, own)
    whole = resample(torch.from_numpy(x.T.copy()), own, RATE_HZ)
    assert track.frames_at(RATE_HZ) == whole.shape[-1]
    reader = Reader(RATE_HZ, 1)
    for start, frames in ((0, 700), (333, 512), (whole.shape[-1] - 100, 100)):
        found = reader.read(track, ("vocals",), start, frames)
        torch.testing.assert_close(found[0], whole[:, start : start + frames], rtol=0, atol=1e-5)


def test_channels_become_the_model_s(tmp_path: Path) -> None:
    mono = write_stem(tmp_path / "mono.wav", frames=50, channels=1)
    stereo = write_stem(tmp_path / "stereo.wav", frames=50)
    track = Track("t", {"vocals": (tmp_path / "mono.wav",), "other": (tmp_path / "stereo.wav",)}, 50, RATE_HZ)
    x = Reader(RATE_HZ, 2).read(track, ("vocals", "other"), 0, 50).numpy()
    np.testing.assert_array_equal(x, [np.repeat(mono.T, 2, 0), stereo.T])
    x = Reader(RATE_HZ, 1).read(track, ("vocals", "other"), 0, 50).numpy()
    np.testing.assert_allclose(x, [mono.T, stereo.T.mean(0, keepdims=True)], atol=1e-7)


def test_samples_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    x = np.zeros((50, 2), np.float32)
    x[40] = np.nan
    soundfile.write(tmp_path / "x.wav", x, RATE_HZ, subtype="FLOAT")
    track = Track("t", {"vocals": (tmp_path / "x.wav",)}, 50, RATE_HZ)
    with pytest.raises(AudioReadError, match=r"x\.wav: a sample is NaN or infinite after frame 10"):
        Reader(RATE_HZ, 2).read(track, ("vocals",), 10, 40)


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    write_stem(tmp_path / "x.wav", frames=50)
    track = Track("t", {"vocals": (tmp_path / "x.wav",)}, 60, RATE_HZ)
    for in_memory in (False, True):
        with pytest.raises(AudioReadError, match=r"x\.wav"):
            Reader(RATE_HZ, 2, in_memory).read(track, ("vocals",), 0, 60)
