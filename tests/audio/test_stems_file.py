"""Files of all stems, as other programs read them, and files of several tracks as input."""

import json
import shutil
import struct
from dataclasses import replace

import av
import numpy as np
import pytest
import soundfile

from small_models import FOUR, TINY, network_of
from waveunet_cli.audio import AudioReader, read_blocks
from waveunet_cli.audio.stems_file import in_slots, stems_in
from waveunet_cli.audio.tags import Cover, Tags, read_tags, write_tags
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.networks.checkpoint import save_checkpoint

RATE = 44_100
FRAMES = 20_011
MODELS = {
    "two": replace(TINY, output="difference"),
    "four": replace(TINY, output="difference", sources=FOUR, residual="other", channels=2),
    "five": replace(TINY, sources=(*FOUR, "piano"), residual="other"),
}


def noise(channels=2):
    times = np.arange(FRAMES)[:, None] / RATE
    sound = np.sin(2 * np.pi * np.array([[220, 330]]) * times) * 0.2
    return sound[:, :channels].astype(np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVEUNET_OFFLINE", "1")
    for name, config in MODELS.items():
        save_checkpoint(tmp_path / f"{name}.safetensors", config, network_of(config).state_dict())
    soundfile.write("song.wav", noise(), RATE, "PCM_16")
    return tmp_path


@pytest.fixture
def run(waveunet):
    return lambda model, *options: waveunet("separate", "-n", f"{model}.safetensors", "-d", "cpu", "song.wav", *options)


def track(path, number):
    with AudioReader(path, track=number) as reader:
        assert reader.info.frames in (FRAMES, None)
        return np.concatenate(list(reader.blocks()))


def boxes(data, *names):
    """The contents of the boxes of a path of names, by hand."""
    for name in names:
        at, found = 0, None
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if data[at + 4 : at + 8] == name:
                found = data[at + 8 : at + size]
            at += size
        assert at == len(data)
        data = found
    return data


@pytest.mark.parametrize("subtype", ["AAC", "ALAC_16", "ALAC_24"])
@pytest.mark.parametrize(("model", "stems"), [("two", ("accompaniment", "vocals")), ("four", FOUR)])
def test_all_stems_in_one_file(run, here, model, stems, subtype):
    write_tags(here / "song.wav", "wav", Tags({"title": "T", "artist": "A"}, Cover(b"\xff\xd8\xff", "image/jpeg")))
    ran = run(model, "--format", "stem", "--subtype", subtype)
    assert (ran.code, ran.err) == (0, "")
    (path,) = ran.stems
    assert str(path) == f"separated/{model}/song/song.stem.mp4"
    whole = run(model, "-o", "apart", "--subtype", "FLOAT")
    true = {each.stem: soundfile.read(each, dtype="float32")[0] for each in whole.stems}
    told = json.loads(boxes(path.read_bytes(), b"moov", b"udta", b"stem"))
    named = [stem["name"] for stem in told["stems"]]
    assert named[: len(stems)] == in_slots(stems)
    assert len(named) == 4
    tolerance = {"AAC": 0.1, "ALAC_16": 2**-15, "ALAC_24": 2**-15}[subtype]
    for number, name in enumerate(["master", *named], 1):
        wanted = true.get(name, sum(true.values()) if name == "master" else np.zeros((FRAMES, 2)))
        found = track(path, number)
        assert found.shape == (FRAMES, 2)
        assert np.abs(found - wanted)[:-2048].max() < tolerance
    assert read_tags(path).texts == {"title": "T (stems)", "artist": "A"}
    assert read_tags(path).cover.data == b"\xff\xd8\xff"
    assert sorted(each.name for each in path.parent.iterdir() if each.suffix != ".json") == ["song.stem.mp4"]
    assert run(model, "--format", "stem", "--subtype", subtype).err.startswith("song.wav: skipped")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_another_program_reads_the_stems(run):
    stempeg = pytest.importorskip("stempeg")
    (path,) = run("four", "--format", "stem", "--subtype", "ALAC_16").stems
    found, rate_hz = stempeg.read_stems(str(path))
    assert rate_hz == RATE
    assert found.shape[0] == 5
    assert found.shape[1] == FRAMES
    assert np.abs(found[0] - found[1:].sum(axis=0)).max() < 1e-3
    for number in range(5):
        assert np.abs(found[number] - track(path, number + 1)).max() < 1e-3
    info = stempeg.Info(str(path))
    assert info.nb_audio_streams == 5


def test_only_the_master_is_played_by_players_of_music(run):
    (path,) = run("two", "--format", "stem").stems
    with av.open(str(path)) as file:
        assert [bool(stream.disposition & 1) for stream in file.streams.audio] == [True, *[False] * 4]


def test_a_mono_song_has_tracks_of_two_channels(run):
    soundfile.write("song.wav", noise(1), RATE)
    (path,) = run("two", "--format", "stem").stems
    assert track(path, 1).shape == (FRAMES, 2)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("five", (), "a Stems file holds 4 stems, found bass, drums, other, vocals, piano; choose some with --stems"),
        ("two", ("--mix", "vocals=0"), "mix: a file of the format stem holds stems only"),
        ("two", ("--track", "0"), "--track"),
    ],
)
def test_what_a_stems_file_cannot_be(run, here, model, options, words):
    ran = run(model, "--format", "stem", *options)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert not (here / "separated").exists()


def test_a_track_of_many(run, waveunet, here):
    (path,) = run("two", "--format", "stem", "--subtype", "ALAC_16").stems
    heard = []
    with AudioReader(path, heard.append) as reader:
        first = np.concatenate(list(reader.blocks()))
    (note,) = heard
    assert note.text == (
        f"{path}: holds 5 audio tracks (1 master, 2 accompaniment, 3 vocals, 4 empty 3, 5 empty 4); "
        "the first is read, see --track"
    )
    assert np.array_equal(first, np.concatenate(list(read_blocks(path))))
    options = ("separate", "-n", "two.safetensors", path, "--subtype", "FLOAT")
    ran = waveunet(*options, "--track", "3")
    assert (ran.code, ran.err) == (0, "")
    parts = [soundfile.read(stem, dtype="float32")[0] for stem in ran.stems]
    assert np.abs(sum(parts) - track(path, 3)).max() < 1e-6
    with pytest.raises(AudioReadError, match="holds 5 audio tracks, not 6; choose another --track"):
        AudioReader(path, track=6)
    with pytest.raises(AudioReadError, match="holds one audio track, not 2; leave out --track"):
        AudioReader(here / "song.wav", track=2)


def test_too_many_stems_in_python():
    with pytest.raises(ConfigError, match="a Stems file holds 4 stems"):
        in_slots(("a", "b", "c", "d", "e"))


def with_names(path, told):
    """A copy of a Stems file that tells this in its box."""
    data, box = path.read_bytes(), path.read_bytes().index(b"stem{") - 4
    (size,) = struct.unpack_from(">I", data, box)
    assert box + size == len(data)
    made = bytearray(data[:box] + struct.pack(">I4s", 8 + len(told), b"stem") + told)
    for name in (b"moov", b"udta"):
        at = bytes(made).index(name) - 4
        struct.pack_into(">I", made, at, struct.unpack_from(">I", made, at)[0] + 8 + len(told) - size)
    copy = path.with_name("copy.stem.mp4")
    copy.write_bytes(made)
    return copy


def test_the_stems_that_a_file_names(run, here):
    (path,) = run("two", "--format", "stem").stems
    assert stems_in(path) == {"accompaniment": 2, "vocals": 3}
    told = [{"name": name} for name in ("Drums", " ", "<b>", "Drums", "fifth")]
    copy = with_names(path, json.dumps({"stems": told}).encode())
    assert stems_in(copy) == {"Drums 1": 2, "stem 2": 3, "<b>": 4, "Drums 4": 5}
    for damaged in (b"{}", b"[]", b"{", b"\xff", b'{"stems": 3}', b'{"stems": [{}]}', b"[" * 100_000):
        assert stems_in(with_names(path, damaged)) == {}
    assert stems_in(here / "song.wav") == {}


def test_damaged_stems_files_are_no_error(run):
    (path,) = run("two", "--format", "stem").stems
    good = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(good)
        for place in random.integers(len(good) - 3000, len(good), 20):
            data[place] = random.integers(256)
        path.write_bytes(data)
        assert isinstance(stems_in(path), dict)
        path.write_bytes(good[: random.integers(len(good))])
        assert isinstance(stems_in(path), dict)
