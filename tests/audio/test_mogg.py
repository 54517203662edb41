"""Multitrack songs of music games."""

import re

import numpy as np
import pytest
import soundfile

from audio_files import mogg_header, music
from waveunet_cli.audio import AudioReader, probe
from waveunet_cli.errors import AudioReadError

RATE, FRAMES = 44_100, 9000


@pytest.fixture
def song(tmp_path):
    """Makes a song of so many channels, and gives their sound without the header, as another program reads it."""

    def make(channels):
        ogg = tmp_path / "song.ogg"
        soundfile.write(ogg, music(FRAMES, channels), RATE, "VORBIS", format="OGG")
        path = tmp_path / "song.mogg"
        path.write_bytes(mogg_header() + ogg.read_bytes())
        return path, soundfile.read(ogg, dtype="float32", always_2d=True)[0]

    return make


def read(path, track=None):
    notes = []
    with AudioReader(path, notes.append, track) as reader:
        return np.concatenate(list(reader.blocks(1000))), reader.info, [note.text for note in notes]


@pytest.mark.parametrize("channels", [1, 2, 6, 10, 14])
def test_all_channels_stand_as_they_are_stored(song, channels):
    path, stored = song(channels)
    found, info, said = read(path)
    assert np.array_equal(found, stored)
    assert (info.frames, info.channels, info.channel_mask, info.lossy) == (FRAMES, channels, 0, True)
    text = f"{path}: holds {channels} channels, of instruments that it does not name; all are read, see --track"
    assert said == ([text] if channels > 1 else [])
    assert probe(path).frames == FRAMES


def test_a_track_is_a_channel(song):
    path, stored = song(10)
    for track in (1, 4, 10):
        found, info, said = read(path, track)
        assert np.array_equal(found, stored[:, track - 1 : track])
        assert (info.channels, said) == (1, [])
    with pytest.raises(AudioReadError, match="holds 10 channels, not 11; choose another --track"):
        read(path, 11)


def test_a_mogg_is_separated(song, run, here):
    path, stored = song(4)
    ran = run(path, "--subtype", "FLOAT")
    assert ran.code == 0, ran.err
    assert "holds 4 channels, of instruments" in ran.err
    stems = [soundfile.read(stem, dtype="float32")[0] for stem in ran.stems]
    assert np.abs(sum(stems) - stored).max() < 1e-5
    ran = run(here, "--track", "2", "--overwrite", "always", "--subtype", "FLOAT", "-o", "out")  # found in a folder
    stems = [soundfile.read(stem, dtype="float32")[0] for stem in ran.stems if "song.mogg" in str(stem)]
    assert np.abs(sum(stems) - stored[:, 1]).max() < 1e-5


@pytest.mark.parametrize("version", [11, 12, 17])
def test_an_encrypted_one_says_so(tmp_path, version):
    path = tmp_path / "song.mogg"
    path.write_bytes(mogg_header(version) + bytes(1000))
    with pytest.raises(AudioReadError, match=re.escape(f"{path}: is a multitrack song (.mogg) that is encrypted")):
        read(path)


def test_a_damaged_one_is_one_line(song):
    path, _ = song(2)
    whole = path.read_bytes()
    start = len(mogg_header())
    for data in (whole[: start + 4], whole[:start], whole[:3], mogg_header() + b"OggS" + bytes(400)):
        path.write_bytes(data)
        with pytest.raises(AudioReadError) as caught:
            read(path)
        assert "\n" not in str(caught.value)
