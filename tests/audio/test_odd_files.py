"""Files that are damaged, cut or lie, and disks that fail: one line, nothing lost silently, a quiet standard error."""

import os
import struct
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

import waveunet_cli
from audio_files import dsd_bits, dsf, encode, music, ogg, ogg_pages, patched, wav_bytes
from waveunet_cli.audio import AudioReader, layout, links, probe, read_blocks
from waveunet_cli.errors import AudioReadError

FRAMES = 60_000


def read(path):
    notes = []
    with AudioReader(path, on_event=notes.append) as reader:
        blocks = [np.empty((0, reader.info.channels), np.float32), *reader.blocks()]
    return np.concatenate(blocks), [note.text for note in notes]


def error_of(path):
    with pytest.raises(AudioReadError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


KINDS = [
    ("wav", "pcm_s16le"),
    ("flac", "flac"),
    ("ogg", "libopus"),
    ("mp3", "libmp3lame"),
    ("mp4", "alac"),
    ("mp4", "aac"),
    ("matroska", "aac"),
    ("wv", "wavpack"),
    ("tta", "tta"),
    ("adts", "aac"),
]


@cache
def encoded(kind, codec, frames):
    rate = 48000 if codec == "libopus" else 44100
    with tempfile.TemporaryDirectory() as folder:
        return encode(Path(folder, f"a.{kind}"), music(frames, 2, rate), codec, kind, rate).read_bytes()


def made(folder, kind, codec, frames=FRAMES):
    """A copy of a file that is encoded once."""
    path = folder / f"a.{kind}"
    path.write_bytes(encoded(kind, codec, frames))
    return path


@pytest.mark.parametrize(("kind", "codec"), KINDS)
def test_public_blocks_are_one_sequential_read(tmp_path, kind, codec):
    """soundfile.blocks() seeks after each block, which loses the bit reservoir of MP3."""
    path = made(tmp_path, kind, codec)
    whole = np.concatenate([*waveunet_cli.read_blocks(path, 1 << 30)])
    for block_frames in (1000, 65_536):
        blocks = [*read_blocks(path, block_frames)]
        assert {len(block) for block in blocks[:-1]} <= {block_frames}
        assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
        assert all(block.flags.c_contiguous and block.flags.writeable for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize(("kind", "codec"), [pair for pair in KINDS if pair[0] not in ("ogg", "adts")])
@pytest.mark.parametrize("keep", [0.3, 0.6])
def test_a_file_cut_in_its_middle_is_an_error(tmp_path, kind, codec, keep):
    path = made(tmp_path, kind, codec)
    data = path.read_bytes()
    if kind == "mp4":  # the index first, as on the web
        path = encode(path, music(FRAMES), codec, kind, muxing={"movflags": "faststart"})
        data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert "copy the file again" in error_of(path)


@pytest.mark.parametrize(("kind", "codec"), [("wv", "wavpack"), ("ogg", "flac"), ("flac", "flac")])
def test_damage_that_check_sums_find_is_an_error(tmp_path, kind, codec):
    """(Where it hits the last page of Ogg, which would tell the length, the file looks shorter.)"""
    path = made(tmp_path, kind, codec)
    whole = path.read_bytes()
    for position in range(len(whole) // 3, len(whole) * 3 // 4, len(whole) // 9):
        path.write_bytes(patched(whole, (position, bytes([whole[position] ^ 0x10]))))
        error_of(path)


def frames_of_mp3(data):
    return [at for at in range(2000, len(data)) if data[at : at + 2] == b"\xff\xfb"]


def test_what_an_mp3_has_lost_is_silent_and_said(tmp_path):
    path = made(tmp_path, "mp3", "libmp3lame")
    whole, _ = read(path)
    data = path.read_bytes()
    frames = frames_of_mp3(data)
    path.write_bytes(patched(data, (frames[len(frames) // 2] + 4, b"\xff" * 60)))
    samples, notes = read(path)
    assert notes == [f"{path}: 0.026 s could not be decoded and are silent"]
    np.testing.assert_array_equal(samples[-10_000:], whole[-10_000:])  # nothing has moved


@pytest.mark.parametrize("junk", [bytes(45), b"\x55" * 400, b"TAG" + b"x" * 125])
def test_junk_among_the_frames_of_an_mp3_costs_nothing(tmp_path, junk):
    path = made(tmp_path, "mp3", "libmp3lame")
    whole, _ = read(path)
    data = path.read_bytes()
    middle = frames_of_mp3(data)[20]
    path.write_bytes(data[:middle] + junk + data[middle:])
    samples, notes = read(path)
    assert notes == []
    np.testing.assert_array_equal(samples, whole)


@pytest.mark.parametrize(("kind", "codec"), KINDS)
def test_a_disk_that_fails_is_not_the_files_fault(tmp_path, kind, codec):
    path = made(tmp_path, kind, codec, 120_000)

    class Failing:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def readinto(self, buffer):
            if self._file.tell() > path.stat().st_size // 2:
                raise OSError(5, "Input/output error")
            return self._file.readinto(buffer)

    def read_it():
        with AudioReader(path) as reader:
            span = reader._links._span
            span._file = Failing(span._file)
            for _ in reader.blocks(1000):
                pass

    with pytest.raises(AudioReadError, match=r"cannot be read \(Input/output error\); check the disk or the mount"):
        read_it()


def test_more_than_four_gigabytes_counted_in_32_bits(tmp_path):
    """The size in the header is what is left of the true one."""
    path = tmp_path / "a.wav"
    data = wav_bytes(music(100), folder=tmp_path)
    with path.open("wb") as file:
        file.write(patched(data, (40, struct.pack("<I", 4000))))
        file.truncate((1 << 32) + 44 + 4000)
    assert probe(path).frames == ((1 << 32) + 4000) // 4


@pytest.mark.parametrize(("subtype", "channels", "level"), [("ALAC_32", 1, 1.0), ("ALAC_24", 2, 0.01)])
@pytest.mark.parametrize("frames", [8192, 9000])  # of whole packets, libsndfile's header counts one less
def test_alac_in_caf_is_lossless_where_it_cannot_be_compressed(tmp_path, subtype, channels, level, frames):
    """libsndfile mixes up the bits of packets that are stored as they are: findings/alac-noise.sh."""
    path = tmp_path / "a.caf"
    samples = level * np.random.default_rng(0).uniform(-1, 1, (frames, channels))
    soundfile.write(path, samples, 44_100, format="CAF", subtype=subtype)
    found, notes = read(path)
    assert notes == []
    np.testing.assert_allclose(found, samples, rtol=0, atol=2.0**-22)


def test_a_picture_in_a_tag_is_no_second_song(tmp_path):
    """It may hold anything, such as the beginning of an MP3."""
    song = encode(tmp_path / "b.mp3", music(FRAMES), "libmp3lame", muxing={"id3v2_version": "0"}).read_bytes()
    size = len(song)
    tag = b"ID3\3\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    path = tmp_path / "a.mp3"
    path.write_bytes(tag + song + song)
    assert len(read(path)[0]) == FRAMES


def test_a_page_that_only_looks_like_one(tmp_path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, music(FRAMES), 44100, "VORBIS", format="OGG")
    pages = ogg_pages(path.read_bytes())
    body = pages[3]
    body[60:67] = b"OggS\0\x02\0"  # in the middle of the sound
    path.write_bytes(ogg(pages))
    with path.open("rb") as file:
        assert links.ogg_links(file) == [(0, True)]


def test_finds_at_the_borders_of_what_is_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "_SEARCH_BYTES", 16)
    data = bytearray(200)
    for at in (0, 12, 29, 60, 190):
        data[at : at + 4] = b"fLaC"
    path = tmp_path / "a"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert [*links._find_all(file, b"fLaC", 0)] == [0, 12, 29, 60, 190]
        assert [*links._find_all(file, b"fLaC", 1)] == [12, 29, 60, 190]


def test_dsd_is_24_bit_at_a_rate_that_people_use(tmp_path):
    path = tmp_path / "a.dsf"
    path.write_bytes(dsf(dsd_bits(music(500, 1, 88_200), 32)))
    assert (probe(path).sample_rate_hz, probe(path).subtype, probe(path).lossy) == (88_200, "PCM_24", False)
    samples, notes = read(path)
    assert len(samples) == 500
    assert notes == [f"{path}: DSD is read as 24 bit at 88200 Hz"]


def test_orders_of_channels_undo_each_other():
    for channels in range(1, 12):
        order = layout.from_vorbis(channels)
        assert [order[index] for index in layout.to_vorbis(channels)] == list(range(channels))
        assert layout.vorbis_mask(channels).bit_count() == (channels if channels <= 8 else 0)
    assert layout.from_vorbis(6) == [0, 2, 1, 5, 3, 4]
    assert layout.same_speakers(0x60F, 0x3F)
    assert not layout.same_speakers(0x63F, 0x3F)
    assert layout.wave_order(["FC", "FL", "FR", "BL", "BR", "LFE"]) == [1, 2, 0, 5, 3, 4]
    assert layout.wave_order(["FL", "?", "FR"]) == [0, 1, 2]


STDERR = """
import sys
from waveunet_cli.audio import AudioReader
from waveunet_cli.errors import AudioReadError
for path in sys.argv[1:]:
    try:
        with AudioReader(path) as reader:
            for block in reader.blocks():
                pass
    except AudioReadError:
        pass
"""


def test_no_decoder_writes_to_standard_error(tmp_path):
    """mpg123 says "Xing stream size off" and "Illegal Audio-MPEG-Header" there, among the lines of --progress json."""
    data = made(tmp_path, "mp3", "libmp3lame").read_bytes()
    files = {
        "wrong count.mp3": data + data[len(data) // 2 :],
        "cut.mp3": data[500:-500],
        "noise in it.mp3": data[: len(data) // 2] + os.urandom(3000) + data[len(data) // 2 :],
        "cut.ogg": made(tmp_path, "ogg", "libopus").read_bytes()[:-100],
        "cut.aac": made(tmp_path, "adts", "aac").read_bytes()[100:-100],
        "noise.m4a": os.urandom(5000),
        "cut.m4a": made(tmp_path, "mp4", "aac").read_bytes()[:-2000],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in files]
    done = subprocess.run([sys.executable, "-c", STDERR, *paths], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
