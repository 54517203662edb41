import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training_songs import RATE_HZ, write_stem
from waveunet_cli.audio import AudioInfo, StemWriter, choose_output, read_blocks
from waveunet_cli.datasets.reader import Reader
from waveunet_cli.datasets.tracks import Track
from waveunet_cli.errors import AudioReadError
from waveunet_cli.streaming.resample import resample


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


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "opus", "m4a"])
def test_a_stretch_of_a_lossy_file_is_what_the_whole_file_has_there(tmp_path: Path, suffix: str) -> None:
    """libsndfile seeks in Ogg and MP3, and gives frames of another place, or zeros (findings/vorbis-seek.sh)."""
    rate_hz = 48_000 if suffix == "opus" else 44_100
    t = np.arange(6 * rate_hz) / rate_hz
    rising = 0.3 * np.sin(2 * np.pi * (300 + 100 * t) * t)
    path = tmp_path / f"x.{suffix}"
    song = AudioInfo("song", rate_hz, 1, len(t), "WAV", "PCM_16", False)
    with StemWriter({"x": path}, rate_hz, 1, choose_output(song, suffix)) as writer:
        writer.write({"x": rising[:, None].astype(np.float32)})
        writer.commit()
    whole = np.concatenate(list(read_blocks(path)))
    track = Track("t", {"vocals": (path,)}, len(whole), rate_hz)
    reader = Reader(rate_hz, 1)
    for start in range(20_000, 250_000, 4001):
        found = reader.read(track, ("vocals",), start, 4096)[0].numpy()
        np.testing.assert_allclose(found, whole[start : start + 4096].T, atol=1e-4)


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


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_files_are_in_memory_as_they_are_on_disk(tmp_path: Path, subtype: str) -> None:
    x = np.random.default_rng(0).normal(0, 2, (500, 2))  # far beyond ±1
    x[100:200] *= 1e-6
    soundfile.write(tmp_path / "x.wav", x, RATE_HZ, subtype=subtype)
    track = Track("t", {"vocals": (tmp_path / "x.wav",)}, 500, RATE_HZ)
    disk, memory = (Reader(RATE_HZ, 2, held).read(track, ("vocals",), -10, 520) for held in (False, True))
    assert float(disk.abs().max()) > 2
    assert torch.equal(memory, disk)


@pytest.mark.parametrize(
    ("suffix", "subtype", "gain"),
    [("ogg", "VORBIS", 0.3), ("ogg", "VORBIS", 1.2), ("mp3", None, 1.2), ("flac", "PCM_24", 0.9)],
)
def test_other_files_are_in_memory_with_16_bits(tmp_path: Path, suffix: str, subtype: str | None, gain: float) -> None:
    """libsndfile decodes a loud Ogg file to ±1.3, and wraps it around when asked for 16 bits."""
    x = gain * np.sign(np.sin(2 * np.pi * 300 * np.arange(44_100) / 44_100))
    soundfile.write(tmp_path / f"x.{suffix}", x.clip(-1, 1), 44_100, subtype=subtype)
    frames = soundfile.info(tmp_path / f"x.{suffix}").frames
    track = Track("t", {"vocals": (tmp_path / f"x.{suffix}",)}, frames, 44_100)
    disk, memory = (Reader(44_100, 1, held).read(track, ("vocals",), 0, frames) for held in (False, True))
    torch.testing.assert_close(memory, disk, rtol=0, atol=0.6 * max(1.0, float(disk.abs().max())) / 32_768)
    if suffix != "flac" and gain > 1:
        assert float(disk.abs().max()) > 1.1


def test_samples_that_are_no_numbers_are_an_error_in_memory_too(tmp_path: Path) -> None:
    x = np.zeros((50, 2), np.float32)
    x[40] = np.inf
    soundfile.write(tmp_path / "x.wav", x, RATE_HZ, subtype="FLOAT")
    track = Track("t", {"vocals": (tmp_path / "x.wav",)}, 50, RATE_HZ)
    with pytest.raises(AudioReadError, match=r"x\.wav: a sample is NaN or infinite"):
        Reader(RATE_HZ, 2, True).read(track, ("vocals",), 10, 5)


def test_songs_whose_names_are_no_utf8_are_read(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    written = write_stem(tmp_path / "vocals.wav")
    (tmp_path / "vocals.wav").rename(folder / "vocals.wav")
    track = Track("a", {"vocals": (folder / "vocals.wav",)}, len(written), RATE_HZ)
    for in_memory in (False, True):
        x = Reader(RATE_HZ, 2, in_memory).read(track, ["vocals"], 0, 100)
        assert np.allclose(x[0].T, written[:100], atol=1e-4)
