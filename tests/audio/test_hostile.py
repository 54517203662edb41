"""Songs that are cut off, lie about themselves, or are nothing that a song is."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_files import LAYOUTS, encode, music, ogg, ogg_pages, patched
from waveunet_cli.audio import AudioReader, libav, probe
from waveunet_cli.audio.read import frames_of
from waveunet_cli.errors import AudioReadError

FRAMES = 6000
COUNTED = {"wav": "PCM_16", "w64": "PCM_16", "caf": "PCM_16", "aiff": "PCM_16", "au": "PCM_16", "flac": "PCM_16"}


def heard(path):
    """The frames that are read, and the notes."""
    notes = []
    with AudioReader(path, notes.append) as reader:
        return sum(map(len, reader.blocks())), [note.text for note in notes]


def heard_or_refused(path):
    """The same; None instead of the frames if the file is refused, on one line."""
    notes = []
    try:
        with AudioReader(path, notes.append) as reader:
            return sum(map(len, reader.blocks())), notes
    except AudioReadError as refused:
        message = str(refused)
    assert message.isprintable()
    return None, notes


def written(path, rate=44_100, channels=2, frames=FRAMES):
    kind = path.suffix[1:]
    subtype = COUNTED.get(kind) or {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}[kind]
    soundfile.write(path, music(frames, channels), rate, subtype, format=kind)
    return path


@pytest.mark.parametrize("kind", [*COUNTED, "ogg", "mp3"])
def test_a_song_that_was_cut_anywhere_is_never_silently_shorter(kind, tmp_path):
    whole = written(tmp_path / f"whole.{kind}")
    frames, _ = heard(whole)
    data, tolerance = whole.read_bytes(), 2 * 1152 if kind == "mp3" else 0
    path = tmp_path / f"cut.{kind}"
    for end in [*range(1, 140), *np.linspace(140, len(data) - 1, 60).astype(int)]:
        path.write_bytes(data[:end])
        found, notes = heard_or_refused(path)
        if found is not None:
            assert notes or found >= frames - tolerance, f"{found} of {frames} frames from {end} of {len(data)} bytes"


@pytest.mark.parametrize("kind", ["vorbis", "opus"])
def test_ogg_that_lacks_its_end_is_read_with_a_note(kind, tmp_path):
    if kind == "opus":
        path = encode(tmp_path / "a.ogg", music(60_000), "libopus", "ogg", 48_000)
    else:
        path = written(tmp_path / "a.ogg", frames=60_000)
    frames, notes = heard(path)
    assert (frames, notes) == (60_000, [])
    pages = ogg_pages(path.read_bytes())
    path.write_bytes(ogg(pages[:-1]))
    found, notes = heard(path)
    assert found < frames
    assert notes == [f"{path}: lacks the mark of its end; compare its length, it may be cut"]
    path.write_bytes(ogg(pages) + b"TAG" + bytes(125))  # a tag of MP3 behind it does no harm
    assert heard(path)[1] == []


@pytest.mark.parametrize(("rate", "most"), [(44_100, 2 * 1152), (16_000, 2 * 576), (8000, 2 * 576)])
def test_mp3_may_lack_two_of_its_own_frames_and_no_more(rate, most, tmp_path):
    """Below 32 kHz a frame has half as many samples."""
    whole = written(tmp_path / "whole.mp3", rate, frames=40_000)
    frames, _ = heard(whole)
    data, least = whole.read_bytes(), frames
    for end in range(len(data) - 3000, len(data), 40):
        (tmp_path / "cut.mp3").write_bytes(data[:end])
        try:
            least = min(least, heard(tmp_path / "cut.mp3")[0])
        except AudioReadError:
            continue
    assert frames - most <= least < frames


@pytest.mark.thorough
@pytest.mark.parametrize("kind", sorted(COUNTED.keys() - {"flac"}))
@pytest.mark.parametrize("number", [2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_sizes_that_lead_nowhere_are_refused_or_taken_for_unknown(kind, number, tmp_path):
    data = written(tmp_path / f"a.{kind}").read_bytes()
    for order, width in (("<", 4), (">", 4), ("<", 8), (">", 8)):
        size = struct.pack(order + "Q", number)
        size = size[:4] if (order, width) == ("<", 4) else size[4:] if width == 4 else size
        for at in range(4, min(len(data), 120), 2):
            path = tmp_path / f"b.{kind}"
            path.write_bytes(patched(data, (at, size)))
            heard_or_refused(path)


@pytest.mark.parametrize(
    ("rate", "channels", "words"),
    [
        (1, 2, "has 1 Hz; songs have 1000 to 768000"),
        (999, 1, "has 999 Hz"),
        (800_000, 1, "has 800000 Hz"),
        (44_100, 33, "has 33 channels; songs have 1 to 32"),
        (44_100, 1024, "has 1024 channels"),
    ],
)
def test_what_no_song_has_is_refused_before_it_is_read(rate, channels, words, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((10, channels), np.float32), rate)
    with pytest.raises(AudioReadError) as caught:
        probe(path)
    assert str(caught.value).startswith(f"{path}: {words}")
    assert frames_of(path) == 10  # what we wrote ourselves is counted whatever it is


@pytest.mark.parametrize(("rate", "channels"), [(1000, 1), (768_000, 2), (44_100, 32)])
def test_what_some_song_may_have_is_read(rate, channels, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((10, channels), np.float32), rate)
    assert heard(path) == (10, [])


def test_a_packet_that_claims_to_last_for_days_becomes_a_short_silence(tmp_path):
    """MP3 in MP4: the table of durations is the container's word."""
    path = encode(tmp_path / "a.mp4", music(60_000), "libmp3lame", "mp4", 44_100, LAYOUTS[2])
    data = path.read_bytes()
    at = data.index(b"stts") + 8
    (entries,) = struct.unpack(">I", data[at : at + 4])
    assert entries >= 1
    longest = data[: at + 8] + struct.pack(">I", 2**31 - 1) + data[at + 12 :]
    middle = data.index(b"mdat") + 4 + 5000
    path.write_bytes(patched(longest, (middle, b"\xff" * 3000)))
    frames, _ = heard_or_refused(path)
    assert frames is None or frames < 60_000 * 8


def test_integers_of_64_bits_are_read(tmp_path):
    """Which PyAV decodes and makes no array of."""
    samples = (music(FRAMES) * 2.0**63).astype("<i8")
    kind = struct.pack("<HHIIHH", 1, 2, 44_100, 44_100 * 16, 16, 64)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + kind + b"data" + struct.pack("<I", samples.nbytes)
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + samples.nbytes) + chunks + samples.tobytes())
    with AudioReader(path) as reader:
        assert np.array_equal(np.concatenate(list(reader.blocks())), music(FRAMES))
        assert reader.info.subtype == "PCM_32"


@pytest.mark.parametrize("error", [ValueError("no such format"), RuntimeError("no"), OverflowError("far too large")])
@pytest.mark.parametrize("first", [0, 1])
def test_whatever_a_decoder_raises_is_one_line(first, error, tmp_path, monkeypatch):
    path = encode(tmp_path / "a.m4a", music(FRAMES), "aac", None, 44_100, LAYOUTS[2])
    converted = libav._as_float
    calls = iter(range(10))

    def fails(frame):
        if next(calls) == first:
            raise error
        return converted(frame)

    monkeypatch.setattr(libav, "_as_float", fails)
    with pytest.raises(AudioReadError, match=f"a.m4a: damaged or truncated after .* s .{error}.; copy the file again"):
        heard(path)


def test_names_that_are_no_utf8_are_read(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    folder.mkdir()
    for kind in ("wav", "ogg", "mp3", "flac"):
        whole = written(tmp_path / f"a.{kind}")
        whole.rename(folder / f"a.{kind}")
        assert heard(folder / f"a.{kind}")[0] >= FRAMES
    m4a = encode(tmp_path / "a.m4a", music(FRAMES), "aac", None, 44_100, LAYOUTS[2])
    m4a.rename(folder / "a.m4a")
    assert heard(folder / "a.m4a")[0] >= FRAMES
