"""Parts of songs, mixes, standard input and output, and stems beside their songs, as `waveunet separate` has them."""

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from small_models import FOUR, MASKED, TINY, Windowed, model_of
from waveunet_cli import Separator, separate_songs
from waveunet_cli.errors import ConfigError
from waveunet_cli.listen import find_stems
from waveunet_cli.listen.stemset import Tracks
from waveunet_cli.networks.family import Model

pytestmark = pytest.mark.usefixtures("here")

RATE = 8000


def noise(frames, seed=0):
    return (np.random.default_rng(seed).standard_normal((frames, 2)) * 0.05).astype(np.float32)


def write(path, frames=4000, rate_hz=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(frames), rate_hz, **options)
    return path


def read(path):
    return soundfile.read(path, dtype="float32")[0]


# --- parts


@pytest.mark.parametrize("rate_hz", [8000, 11025])
@pytest.mark.parametrize("model", ["direct", "difference", "masked", "windowed", "same"])
def test_a_part_has_the_samples_of_the_whole(here, rate_hz, model):
    config = {
        "masked": MASKED[1],
        "same": replace(TINY, padding="same", window_frames=8192),
        "windowed": replace(TINY, window_frames=8192),
        "difference": replace(TINY, output="difference", sources=FOUR, residual="other"),
    }.get(model, TINY)
    made = model_of(config)
    if model == "windowed":
        made = Model(made.name, config, Windowed(made.network))
    separator = Separator(made, "cpu", "float32")
    song = write(here / "song.wav", 6 * rate_hz, rate_hz)
    whole = separator.separate_file(song, "whole", subtype="FLOAT")
    start, end = 4.0, 5.0 + 1 / rate_hz
    part = separator.separate_file(song, "part", subtype="FLOAT", start_seconds=start, end_seconds=end)
    assert part.seconds == pytest.approx(1.0 + 1 / rate_hz)
    if model != "same":
        assert separator.first_frame(rate_hz, round(start * rate_hz)) > rate_hz, "not all is computed again"
    for stem, path in part.stems.items():
        wanted = read(whole.stems[stem])[round(start * rate_hz) : round(end * rate_hz)]
        np.testing.assert_allclose(read(path), wanted, atol=2e-6)


def test_parts_from_the_start_and_to_the_end(run, here):
    write(here / "song.wav", 3 * RATE, subtype="FLOAT")
    for options, name, part in (
        (("--end", "0:01.5"), "song (0 s to 1.5 s)", slice(0, 12_000)),
        (("--start", "1.25"), "song (1.25 s to the end)", slice(10_000, None)),
        (("--start", "1", "--end", "0:00:09"), "song (1 s to the end)", slice(8_000, None)),
        (("--end", "3.5"), "song", slice(0, None)),
    ):
        ran = run("song.wav", "--page", *options)
        assert ran.code == 0, ran.err
        assert [path.parent.name for path in ran.stems] == [name] * 3
        assert ran.err == ""
        assert np.abs(sum(map(read, ran.stems[:2])) - noise(3 * RATE)[part]).max() < 1e-6
        (found,) = find_stems(ran.stems[0].parent, Path())
        assert found.title == name
        with Tracks(found) as tracks:
            assert tracks.mixture_said == ""
            assert np.array_equal(np.concatenate([mixture for _, mixture in tracks.blocks(777)]), noise(3 * RATE)[part])
        assert run("song.wav", *options).err.startswith("song.wav: skipped")
    assert run("song.wav").stems[0].parent.name == "song"


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


# Whose headers count frames, and not
@pytest.mark.parametrize("container", ["wav", pytest.param("mp3", marks=needs_ffmpeg)])
def test_a_part_that_is_not_there(run, here, container):
    if container == "mp3":
        quiet, source = ("ffmpeg", "-nostdin", "-v", "error"), write(here / "a.wav")
        subprocess.run([*quiet, "-i", source, "-write_xing", "0", "song.mp3"], check=True)
    else:
        write(here / "song.wav")
    ran = run(f"song.{container}", "--start", "2:00")
    assert (ran.code, ran.out) == (1, "")
    assert "s long, the part begins at 120 s; choose an earlier --start" in ran.err
    assert not list(here.rglob("separated/**/*.*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--start", "x"), "'x' is no time; write 62.5, 1:02.5 or 0:01:02.5"),
        (("--start", "-1"), "'-1' is no time"),
        (
            ("--start", "1:00", "--end", "60"),
            "a part from 60 s to 60 s: must begin at 0 s or later, and end after that",
        ),
        (("--beside", "--out", "x"), "--beside and --out exclude each other"),
        (("--beside", "--stdout", "vocals"), "--stdout takes one song, and neither --beside"),
        (("--stdout", "vocals", "song.wav"), "--stdout takes one song"),
        (("--stdout", "drums"), "drums"),
        (("--mix", "vocals"), "'vocals' is no stem with its level; write vocals=-12dB or drums=0"),
        (("--mix", "drums=1"), "mix: drums is none of the stems that are written: accompaniment, vocals"),
        (("--mix", "vocals=-1"), "mix: vocals times -1; give a factor from 0 to 1000, or at most 60dB"),
        (("--mix", "vocals=9999dB"), "mix: vocals times 1e+300; give a factor from 0 to 1000, or at most 60dB"),
        (("--mix", "vocals=600dB"), "mix: vocals times 1e+30; give"),
        (("--mix", "vocals=inf"), "mix: vocals times 1e+308; give"),
        (("--mix", "vocals=1e308"), "mix: vocals times 1e+308; give"),
        (("-n", "missing.safetensors", "--segment", "nan"), "segment of nan s: must be longer than 0"),
        (("-n", "missing.safetensors", "--device", "gpu"), "'gpu': no such device"),
        (("",), "waveunet: argument 7 is empty; give it a value, or leave it out"),
        (("-o", ""), "waveunet: argument 8 is empty"),
        (("--out=",), "waveunet: --out= is empty"),
        (("--mix", "vocals=0,vocals=1"), "vocals has two levels; give it one"),
        (("--stdout", "vocals", "--format", "mp3"), "--stdout writes a WAV file; leave --format, --filename and --out"),
        (("--stdout", "vocals", "--out", "x"), "--stdout writes a WAV file; leave --format, --filename and --out"),
    ],
)
def test_usage_errors(run, here, options, words):
    write(here / "song.wav")
    ran = run("song.wav", *options)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err.splitlines()[-1]
    assert sorted(path.name for path in here.iterdir()) == ["song.wav", "tiny.safetensors"]


@pytest.mark.parametrize(
    ("stem", "options", "choice"),
    [
        ("vocals", ("--stems", "accompaniment"), "accompaniment"),
        ("drums", ("--two-stems", "vocals"), "vocals, no_vocals"),
        ("mixed", ("--mix", "vocals=0"), "accompaniment, vocals, mix"),
    ],
)
def test_a_stem_that_is_not_written_is_refused_before_the_song_is_separated(run, here, stem, options, choice):
    write(here / "song.wav")
    ran = run("song.wav", "--verbose", "--stdout", stem, *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1] == f"Error: --stdout {stem}: no such stem; choose one of {choice}"
    assert "song.wav" not in ran.err  # whose speed --verbose tells once it is separated


# --- mixes


def test_a_mix_is_the_sum_of_its_stems(run, here):
    write(here / "song.wav", 3 * RATE, subtype="FLOAT")
    ran = run("song.wav", "--mix", "vocals=-12dB, accompaniment=.5")
    assert ran.code == 0, ran.err
    assert [path.stem for path in ran.stems] == ["accompaniment", "vocals", "mix"]
    rest, vocals, mix = map(read, ran.stems)
    assert np.abs(mix - (10 ** (-12 / 20) * vocals + 0.5 * rest)).max() < 1e-7
    assert run("song.wav", "--mix", "vocals=-12dB,accompaniment=0.5").err.startswith("song.wav: skipped")
    ran = run("song.wav", "--mix", "vocals=0", "--subtype", "PCM_16")
    rest, vocals, mix = map(read, ran.stems)
    assert np.array_equal(mix, rest)
    (found,) = find_stems(here / "separated", here)
    assert list(found.stems) == ["accompaniment", "vocals"], "a page adds up stems"
    assert len(run("song.wav").stems) == 2


def test_a_loud_mix_is_lowered_with_the_stems(run, here):
    soundfile.write("song.wav", np.clip(noise(RATE) * 12, -1, 1), RATE)
    ran = run("song.wav", "--mix", "vocals=+6dB")
    assert "stems lowered by" in ran.err
    rest, vocals, mix = map(read, ran.stems)
    assert np.abs(mix - (rest + 10 ** (6 / 20) * vocals)).max() < 1e-4
    assert np.abs(mix).max() > 0.99


# --- standard input and output


def piped(data, *arguments):
    command = [sys.executable, "-m", "waveunet_cli", "separate", "-n", "tiny.safetensors", "-d", "cpu", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=False)


@pytest.fixture
def within(waveunet, monkeypatch):
    """The same in this process: exit code, standard output, standard error."""

    def run(data, *arguments):
        out = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        monkeypatch.setattr(sys, "stdout", out)
        ran = waveunet("separate", "-n", "tiny.safetensors", "-d", "cpu", *arguments)
        out.flush()
        return ran.code, out.buffer.getvalue(), ran.err

    return run


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3"])
def test_a_song_through_pipes(here, within, container):
    song = io.BytesIO()
    soundfile.write(song, noise(4000), RATE, format=container)
    code, out, err = within(song.getvalue(), "-", "--stdout", "vocals")
    assert (code, err) == (0, "")
    if container == "WAV":
        assert piped(song.getvalue(), "-", "--stdout", "vocals").stdout == out
    write(here / "song", 4000, format=container)
    whole = Separator(str(here / "tiny.safetensors"), "cpu").separate_file(here / "song")
    assert np.array_equal(read(io.BytesIO(out)), read(whole.stems["vocals"]))
    assert sorted(path.name for path in here.iterdir()) == ["separated", "song", "tiny.safetensors"]


def test_nothing_on_standard_input_is_called_so(here, within):
    code, _, err = within(b"", "-")
    assert (code, err) == (1, "Error: standard input: is empty; send a song there, once\n")


def test_standard_input_as_a_song_of_a_folder(here, within):
    data = write(here / "song.wav").read_bytes()
    for number in range(2):
        code, out, err = within(data, "-", "-v")
        assert code == 0, err
        assert ("skipped" in err) == bool(number)
    code, out, err = within(write(here / "song.wav", 5000).read_bytes(), "-")
    assert out.decode().splitlines() == [f"separated/tiny/stdin/{stem}.wav" for stem in ("accompaniment", "vocals")]
    assert soundfile.info("separated/tiny/stdin/vocals.wav").frames == 5000
    code, out, err = within(b"no song", "-")
    assert (code, out) == (1, b"")
    assert err.startswith("Error: standard input: no audio that libsndfile or ffmpeg can read")
    assert within(data, "-", "--beside")[0] == 2
    code, out, err = within(data, "-", "--two-stems", "vocals", "--stdout", "no_vocals", "--start", "0.25")
    assert soundfile.info(io.BytesIO(out)).frames == 2000


def test_errors_and_notes_call_it_standard_input(here, within):
    """And not by the copy that is made of it."""
    data = write(here / "song.wav").read_bytes()
    ogg = io.BytesIO()
    soundfile.write(ogg, noise(30_000), RATE, format="OGG", subtype="VORBIS")
    for sent, options, words in (
        (data[:-100], (), "standard input: truncated: its header says"),
        (data, ("--start", "60"), "standard input: is 0.500 s long, the part begins at 60 s"),
        (data, ("--track", "3"), "standard input: holds one audio track, not 3"),
        (data, ("--format", "mp3", "--subtype", "VORBIS"), "mp3 cannot hold the subtype VORBIS"),
        (ogg.getvalue()[:-200], ("--end", "9"), "standard input: lacks the mark of its end"),
        (data, ("--overwrite", "never", "-v"), "standard input: "),
    ):
        _, _, err = within(sent, "-", *options)
        assert words in err
        assert "/waveunet-" not in err
        assert "-: " not in err


# --- beside


def test_stems_beside_their_songs(run, here):
    for name in ("one.wav", "cd/two.wav", "cd/two.flac", "cd/deep/three.wav"):
        write(here / "music" / name)
    names = ["music/cd/deep/three", "music/cd/two.flac", "music/cd/two.wav", "music/one"]
    expected = sorted(f"{name} ({stem}).wav" for name in names for stem in ("accompaniment", "vocals"))
    ran = run("music", "--beside")
    assert (ran.code, sorted(ran.out.splitlines()), ran.err) == (0, expected, "")
    ran = run("music", "--beside")
    assert (ran.code, ran.out) == (0, "")
    assert "4 of 4 songs skipped" in ran.err
    ran = run("music", "-o", "elsewhere")
    assert len(ran.stems) == 8, "stems of songs that are found are no songs"
    ran = run("music/cd/two.wav", "--beside", "--filename", "{track}/{stem}.{ext}")
    assert ran.out.splitlines() == [f"music/cd/two/{stem}.wav" for stem in ("accompaniment", "vocals")]
    assert "4 of 4 songs skipped" in run("music", "--beside").err
    (here / "music").rename(here / "moved")
    assert len(run("moved", "-o", "again").stems) == 8
    ran = run("elsewhere/tiny/one", "-o", "deeper")
    assert {path.parent.name for path in ran.stems} == {"accompaniment", "vocals"}, "stems named alone are songs"


def test_beside_in_python(here):
    song = write(here / "a" / "song.wav")
    separator = Separator(model_of(TINY), "cpu")
    done = separator.separate_file(song, None)
    assert done.stems["vocals"] == here / "a" / "song (vocals).wav"
    assert separate_songs([here / "a"], None, separator).skipped == 1
    with pytest.raises(ConfigError, match="a part from -1 s to inf s"):
        separator.separate_file(song, start_seconds=-1.0)
