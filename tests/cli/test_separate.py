"""`waveunet separate` as a user meets it: what it writes, what it says, and what bad input gets."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from safetensors.torch import save_file

from audio_files import dsd_bits, dsf, encode, music, patched
from small_models import FOUR, TINY, network_of
from waveunet_cli import separator as separate
from waveunet_cli.networks.checkpoint import save_checkpoint

WAVEUNET = [sys.executable, "-m", "waveunet_cli"]
RATE = 8000
STEMS = ("accompaniment", "vocals")


def noise(frames=4000, channels=2, gain=0.1, seed=0):
    return (np.random.default_rng(seed).standard_normal((frames, channels)) * gain).astype(np.float32)


def write(path, samples=None, subtype="PCM_16", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise() if samples is None else samples, RATE, subtype, **options)
    return path


def save(path, config, **options):
    save_checkpoint(path, config, network_of(config).state_dict(), **options)
    return path


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder with a small model, nowhere near the user's cache or the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVEUNET_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / f"{tmp_path.name}-cache"))
    save(tmp_path / "tiny.safetensors", replace(TINY, output="difference"))
    return tmp_path


@pytest.fixture
def run(waveunet):
    return lambda *arguments: waveunet("separate", "-n", "tiny.safetensors", "-d", "cpu", "-j", "1", *arguments)


@pytest.fixture
def fails(run, here):
    """Run, and require one line that holds the words, a code, and nothing new on the disk."""

    def check(*arguments, words, code=1):
        before = tree(here)
        ran = run(*arguments)
        assert ran.code == code, ran.err
        assert ran.out == ""
        (line,) = ran.err.splitlines()
        assert line.startswith("Error: ")
        for word in words:
            assert word in line
        assert tree(here) == before
        return line

    return check


def stems_of(*tracks, model="tiny", stems=STEMS, ext="wav", out="separated"):
    return [f"{out}/{model}/{track}/{stem}.{ext}" for track in tracks for stem in stems]


# --- what it writes


def test_the_embedded_model_separates_by_default(waveunet, here):
    soundfile.write("song.wav", noise(88_200), 44_100)
    ran = waveunet("separate", "song.wav")
    assert ran.code == 0
    assert ran.out.splitlines() == stems_of("song", model="vocals")
    assert ran.err == ""  # no bar: this is no terminal
    mixture = soundfile.read("song.wav", dtype="int16")[0].astype(int)
    total = sum(soundfile.read(path, dtype="int16")[0].astype(int) for path in ran.stems)
    assert np.abs(total - mixture).max() <= 2
    assert tree(here / "separated")[-1] == "vocals/song/vocals.wav"


def test_folders_are_searched_through_and_through(run, here):
    for name in ("one.wav", "cd/TWO.WAV", "cd/three.FLAC", "cd/deep/four.AIFF", ".hidden/no.wav", "._one.wav"):
        write(here / "music" / name)
    for name in ("cover.jpg", "cd/BACK.JPG", "cd/notes", ".hidden/x.jpg"):
        (here / "music" / name).touch()
    left_out = (
        "not taken for songs because of their extensions: 2 .jpg, 1 without one; name such a file itself to have it "
        "separated\n"
    )
    expected = stems_of("cd/TWO", "cd/deep/four", "cd/three", "one", out="music/separated")
    for _ in range(2):  # the second time, its own output lies in the folder
        ran = run("music", "-o", "music/separated", "--overwrite", "always")
        assert (ran.code, ran.out.splitlines(), ran.err) == (0, expected, left_out)
    assert run("music", "-o", "music/separated", "--overwrite", "always", "-q").err == ""


def test_every_format_libsndfile_reads(run, here):
    for extension, subtype in (
        *(("wav", "FLOAT"), ("flac", "PCM_24"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III"), ("aiff", "PCM_16")),
        *(("caf", "PCM_16"), ("w64", "PCM_16"), ("rf64", "PCM_24")),
    ):
        write(here / "music" / f"{extension}.{extension}", subtype=subtype)
    write(here / "music" / "opus.opus", subtype="OPUS", format="OGG")
    ran = run("music")
    assert ran.code == 0
    names = sorted(["aiff", "caf", "flac", "mp3", "ogg", "opus", "rf64", "w64", "wav"])
    assert ran.out.splitlines() == stems_of(*names)
    subtypes = {path.parent.name: soundfile.info(path).subtype for path in ran.stems}
    assert subtypes == dict.fromkeys(names, "PCM_16") | {"wav": "FLOAT", "flac": "PCM_24", "rf64": "PCM_24"}


def test_what_libsndfile_does_not_know_needs_no_program(run, here, monkeypatch):
    with av.open("song.m4a", "w") as file:
        stream = file.add_stream("alac", rate=44100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4000), np.int16), format="s16p", layout="stereo")
        frame.sample_rate = 44100
        file.mux([*stream.encode(frame), *stream.encode(None)])
    monkeypatch.setenv("PATH", "")
    assert run("song.m4a").out.splitlines() == stems_of("song")


def test_what_a_file_has_lost_is_an_event(run, here):
    path = encode("a.mp3", noise(60_000), "libmp3lame")
    data = Path(path).read_bytes()
    frames = [at for at in range(2000, len(data)) if data[at : at + 2] == b"\xff\xfb"]
    Path(path).write_bytes(patched(data, (frames[20] + 4, b"\xff" * 60)))
    said = [json.loads(line) for line in run("a.mp3", "--progress", "json").err.splitlines()]
    assert "a.mp3: 0.026 s could not be decoded and are silent" in [line.get("text") for line in said]


def test_dsd_is_said_to_be_24_bit_at_a_rate_that_people_use(run, here):
    Path("a.dsf").write_bytes(dsf(dsd_bits(music(500, 1, 88_200), 32)))
    ran = run("a.dsf")
    assert (ran.code, ran.err) == (0, "a.dsf: DSD is read as 24 bit at 88200 Hz\n")
    found = {(file.samplerate, file.subtype, file.frames) for file in map(soundfile.info, ran.stems)}
    assert found == {(88_200, "PCM_24", 500)}


def test_a_song_of_unknown_length_has_ordinary_stems(run, here):
    """Many readers refuse RF64."""
    encode("a.aac", noise(30_000), "aac", "adts")
    ran = run("a.aac", "--progress", "json")
    (progress, *_) = [json.loads(line) for line in ran.err.splitlines() if '"progress"' in line]
    assert progress["total_seconds"] is None
    assert {path.read_bytes()[:4] for path in ran.stems} == {b"RIFF"}


def test_two_inputs_never_meet(run, here):
    for name in ("x/01.wav", "x/01.flac", "y/01.wav"):
        write(here / name)
    expected = stems_of("x/01.flac", "x/01.wav", "y/01")
    assert run("x", "y").out.splitlines() == expected
    assert run("y", "x", "-o", "other").out.splitlines() == [path.replace("separated", "other") for path in expected]


@pytest.mark.parametrize("name", ["song..wav", "song .wav", "ü 日本.wav", "[1] {x} 50%.wav", "a b'c\"d.wav"])
def test_odd_names(run, here, name):
    write(here / name)
    ran = run(name)
    assert ran.code == 0
    assert len(ran.stems) == 2
    assert all(path.is_file() for path in ran.stems)


def test_names_that_are_no_text(here):
    name = os.fsdecode(b"caf\xe9.wav")
    write(here / "song.wav").rename(here / name)
    done = subprocess.run(
        [*WAVEUNET, "separate", "-n", "tiny.safetensors", "-v", name],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    paths = [Path(os.fsdecode(line)) for line in done.stdout.splitlines()]
    assert len(paths) == 2
    assert all(path.is_file() for path in paths)


def test_names_that_start_with_a_dash(run, here):
    write(here / "-n.wav")
    assert run("--", "-n.wav").out.splitlines() == stems_of("-n")


# --- stems


def test_some_stems(run, here):
    save(here / "four.safetensors", replace(TINY, sources=FOUR, residual="other", output="difference"))
    write(here / "song.wav")
    ran = run("song.wav", "-n", "four.safetensors", "--stems", "other, vocals")
    assert ran.out.splitlines() == stems_of("song", model="four", stems=["other", "vocals"])
    assert len(list(here.glob("separated/**/*.wav"))) == 2


def test_two_stems(run, here):
    write(here / "song.wav")
    ran = run("song.wav", "--two-stems", "vocals", "--subtype", "FLOAT")
    assert ran.out.splitlines() == stems_of("song", stems=["vocals", "no_vocals"])
    total = sum(soundfile.read(path)[0] for path in ran.stems)
    np.testing.assert_allclose(total, soundfile.read("song.wav")[0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stems", "vocals", "--two-stems", "vocals"], "exclude each other"),
        (["--stems", "drums"], "accompaniment, vocals"),
        (["--stems", ""], "is empty; give it a value, or leave it out"),
        (["--stems", "vocals,,"], "'vocals,,' holds an empty name; write one name or several, as in vocals,drums"),
        (["--stems", "vocals,vocals"], "once each"),
        (["--two-stems", "drums"], "accompaniment, vocals"),
        (["--format", "aac"], "'wav', 'flac', 'ogg', 'mp3'"),
        (["--clip", "limit"], "'rescale', 'clamp', 'none'"),
        (["--overwrite", "maybe"], "'always', 'never', 'changed'"),
        (["--precision", "int8"], "'bfloat16'"),
        (["--precision", "float16"], "bfloat16"),
        (["--device", "gpu"], "cuda:N"),
        (["--device", "cuda:99999"], "cuda:N"),
        (["--segment", "0"], "longer than 0"),
        (["--segment", "nan"], "longer than 0"),
        (["--segment", "inf"], "at most 600 s"),
        (["--segment", "soon"], "not a valid float"),
        (["--subtype", "PCM_12"], "choose one of PCM_U8, PCM_16"),
        (["--format", "flac", "--subtype", "FLOAT"], "choose one of PCM_S8, PCM_16, PCM_24"),
        (["--format", "mp3", "--subtype", "PCM_16"], "MPEG_LAYER_III"),
        (["--filename", "{track}.{ext}"], "must hold {stem}"),
        (["--filename", "../{stem}"], "leads out of the output folder"),
        (["--filename", "{stem:.1}{track"], "expected '}'"),
        (["--report", "none/report.json"], "none is no folder to write to"),
        (["--tempo", "3"], "Error: waveunet separate: No such option"),
        (["-o"], "waveunet separate: Option '-o' requires an argument; see 'waveunet separate --help'"),
        (["--quiet=1"], "waveunet separate: Option '--quiet' does not take a value; see 'waveunet separate --help'"),
        (["--jobs", "0"], "is not in the range 1<=x<=64; see 'waveunet separate --help'"),
        (["--start", "x"], "'x' is no time; write 62.5, 1:02.5 or 0:01:02.5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors(run, here, options, words):
    write(here / "song.wav")
    before = tree(here)
    ran = run("song.wav", *options)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert ran.err.startswith("Error: ")
    assert ran.err.count("\n") == 1
    assert "; " in ran.err  # the remedy
    assert tree(here) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("separate",), "waveunet separate: Missing argument 'INPUT...'; see 'waveunet separate --help'"),
        (("--stems",), "waveunet: No such option"),
        (("sep",), "waveunet: No such command 'sep'; see 'waveunet --help'"),
        (("models", "lst"), "waveunet models: No such command 'lst'"),
        (("models", "info", "a", "b"), "waveunet models info: Got unexpected extra argument (b); see 'waveunet models"),
    ],
)
def test_a_command_that_is_wrong_is_one_line(arguments, said, waveunet):
    ran = waveunet(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"Error: {said}")
    assert " --help'" in ran.err
    assert ran.err.count("\n") == 1


def test_an_illegal_subtype_is_refused_before_anything_is_computed(run, here, monkeypatch):
    write(here / "song.wav", noise(channels=3))
    monkeypatch.setattr(separate.Separator, "song", lambda *_: pytest.fail("computed"))
    ran = run("song.wav", "--format", "mp3")
    assert ran.code == 1
    assert "mp3 holds at most 2 channels, this file has 3; choose wav" in ran.err


# --- templates, formats, overwriting


def test_a_template(run, here):
    for name in ("x/a.wav", "x/b.wav"):
        write(here / name)
    ran = run("x", "--filename", "{track} ({model}) {stem}.{ext}", "--format", "flac")
    assert ran.out.splitlines() == [f"separated/{track} (tiny) {stem}.flac" for track in "ab" for stem in STEMS]
    assert {soundfile.info(path).format for path in ran.stems} == {"FLAC"}


def test_a_template_that_makes_songs_meet(fails, here):
    for name in ("x/a.wav", "x/a_no.wav"):
        write(here / name)
    for template in ("{stem}.{ext}", "{model}/{stem}"):
        fails("x", "--filename", template, words=["two stems would be written here"], code=2)
    template = ["--two-stems", "vocals", "--filename", "{track}_{stem}.{ext}"]  # a + no_vocals, a_no + vocals
    fails("x", *template, words=["a_no_vocals.wav: two stems would be written here"], code=2)


def test_stems_never_replace_songs(fails, here):
    for name in ("vocals.wav", "song.wav"):
        write(here / name)
    always = ["-o", ".", "--overwrite", "always"]
    fails("song.wav", "vocals.wav", *always, "--filename", "{stem}.wav", words=["is a song to be separated"], code=2)
    before = (here / "vocals.wav").read_bytes()
    fails("vocals.wav", *always, "--filename", "{stem}.wav", words=["vocals.wav: is a song"], code=2)
    assert (here / "vocals.wav").read_bytes() == before


@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "mp3"])
def test_formats(run, here, container):
    write(here / "song.wav", subtype="PCM_24")
    ran = run("song.wav", "--format", container)
    assert ran.out.splitlines() == stems_of("song", ext=container)
    for path in ran.stems:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (RATE, 2)
        assert abs(info.frames - 4000) <= (0 if container != "mp3" else 2304)
        assert info.subtype == {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(container, "PCM_24")


def test_existing_songs_are_skipped(run, here):
    write(here / "a.wav")
    write(here / "b.wav")
    assert run("a.wav").out.splitlines() == stems_of("a")
    ran = run("a.wav", "b.wav")
    assert ran.code == 0
    assert ran.out.splitlines() == stems_of("b")
    summary = "1 of 2 songs skipped, their stems are there; separate them again with --overwrite always\n"
    assert ran.err == summary
    assert "a.wav: skipped, its stems are there" in run("a.wav", "b.wav", "--verbose").err
    Path("separated/tiny/a/vocals.wav").write_bytes(b"mine")
    ran = run("a.wav", "--overwrite", "never")
    assert ran.err == "a.wav: skipped, its stems are there; separate it again with --overwrite always\n"
    assert Path("separated/tiny/a/vocals.wav").read_bytes() == b"mine"
    ran = run("a.wav", "--overwrite", "always")
    assert (ran.out.splitlines(), ran.err) == (stems_of("a"), "")
    assert soundfile.info("separated/tiny/a/vocals.wav").frames == 4000


def test_quiet_and_verbose(run, here):
    write(here / "song.wav")
    ran = run("song.wav", "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    ran = run("song.wav", "-v", "--overwrite", "always")
    assert "model tiny on cpu, " in ran.err
    assert "song.wav: 0.5 s in " in ran.err
    assert ran.out.splitlines() == stems_of("song")


def test_mono_and_stereo(run, here):
    write(here / "song.wav", noise(channels=1))
    assert {soundfile.info(path).channels for path in run("song.wav").stems} == {1}
    assert {soundfile.info(path).channels for path in run("song.wav", "--stereo", "-o", "two").stems} == {2}
    write(here / "six.wav", noise(channels=6))
    assert {soundfile.info(path).channels for path in run("six.wav").stems} == {6}


def test_segments_do_not_change_the_samples(run, here):
    write(here / "song.wav")
    whole = [soundfile.read(path)[0] for path in run("song.wav", "--subtype", "FLOAT").stems]
    for path, expected in zip(
        run("song.wav", "--subtype", "FLOAT", "--segment", "0.01", "-o", "x").stems, whole, strict=True
    ):
        np.testing.assert_allclose(soundfile.read(path)[0], expected, atol=1e-5)


# --- clipping


@pytest.fixture
def loud(here):
    """A song at full scale, and a network that answers with its opposite: the difference goes beyond."""
    config = replace(TINY, output="difference")
    weights = network_of(config).state_dict()
    weights["output.weight"] = -3 * weights["output.weight"].abs()
    save_checkpoint(here / "tiny.safetensors", config, weights)
    return write(here / "loud.wav", np.clip(noise(gain=0.6), -1, 1 - 2**-15), subtype="PCM_16")


def test_clipping_is_answered_by_one_gain_for_all(run, loud):
    exact = [soundfile.read(path)[0] for path in run("loud.wav", "--subtype", "FLOAT", "-o", "exact").stems]
    assert max(np.abs(stem).max() for stem in exact) > 1.1
    ran = run("loud.wav")
    gain = 1 / max(np.abs(stem).max() for stem in exact)
    assert ran.err == f"loud.wav: stems lowered by {-20 * np.log10(gain):.1f} dB, all alike, to stay below full scale\n"
    for path, expected in zip(ran.stems, exact, strict=True):
        np.testing.assert_allclose(soundfile.read(path)[0], gain * expected, atol=1.6 / 32_768)


def test_clamp_cuts_and_float_is_never_touched(run, loud):
    exact = [soundfile.read(path)[0] for path in run("loud.wav", "--subtype", "FLOAT", "-o", "exact").stems]
    cut = sum(int((np.abs(stem) > 1).sum()) for stem in exact)
    for mode in ("clamp", "none"):
        ran = run("loud.wav", "--clip", mode, "-o", mode)
        said = re.fullmatch(r"loud\.wav: (\d+) samples cut at full scale, as --clip asked for\n", ran.err)
        assert said
        assert int(said[1]) == pytest.approx(cut, abs=5)  # some lie within half a step of full scale
        for path, expected in zip(ran.stems, exact, strict=True):
            np.testing.assert_allclose(soundfile.read(path)[0], np.clip(expected, -1, 1), atol=1.1 / 32_768)


# --- bad input


def test_a_missing_file(fails):
    fails("none.wav", words=["none.wav: no such file or folder; check the path"])


def test_a_folder_without_audio(fails, here):
    (here / "empty").mkdir()
    fails("empty", words=["empty: no audio files in this folder"])


def test_the_output_folder_as_input(fails, here):
    write(here / "separated" / "song.wav")
    fails("separated", words=["separated: is the output folder", "--out"])
    fails(".", "-o", ".", words=["is the output folder", "--out"])


def test_stems_beside_the_folder_of_songs(run, fails, here):
    write(here / "album" / "song.wav")
    ran = run("album", "-o", ".")
    assert (ran.code, ran.out.splitlines()) == (0, [f"tiny/song/{stem}.wav" for stem in STEMS])
    fails("album", "-o", ".", "--filename", "album/{track}/{stem}.wav", words=["written among the songs"], code=2)
    fails("tiny", "-o", ".", words=["tiny: no audio files in this folder"])


def test_models_come_from_the_registry_given(run, here):
    write(here / "song.wav")
    ran = run("song.wav", "-n", "nowhere", "--registry", "cards")
    assert ran.code == 2
    assert "cards: the model registry is neither a folder nor an http address" in ran.err


@pytest.mark.parametrize("extension", ["wav", "flac", "mp3", "ogg", "m4a"])
def test_text_with_an_audio_name(fails, here, extension):
    (here / f"song.{extension}").write_text("not a song\n" * 100)
    fails(f"song.{extension}", words=[f"song.{extension}: no audio that libsndfile or ffmpeg can read", "; "])


def test_an_empty_file(fails, here):
    (here / "song.wav").touch()
    fails("song.wav", words=["song.wav: is empty (0 bytes); copy the file again"])


@pytest.mark.parametrize("name", ["song.wav", "song.flac", "song.aiff", "song.caf"])
@pytest.mark.parametrize("keep", [0.9, 0.5])
def test_a_truncated_file(fails, here, name, keep):
    data = write(here / name, noise(200_000)).read_bytes()
    (here / name).write_bytes(data[: int(len(data) * keep)])
    fails(name, words=[name, "truncated", "copy the file again"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers(fails, here, bad):
    samples = noise(200_000)
    samples[150_000, 1] = bad
    write(here / "song.wav", samples, subtype="FLOAT")
    fails("song.wav", words=["song.wav: a sample is NaN or infinite at 18.750 s (frame 150000); repair"])


def test_links_to_nowhere(fails, here):
    (here / "self.wav").symlink_to("self.wav")
    fails("self.wav", words=["self.wav: cannot be opened", "check the path"])
    (here / "gone.wav").symlink_to("nothing")
    fails("gone.wav", words=["gone.wav: no such file; check the path"])


def test_a_pipe(fails, here):
    os.mkfifo(here / "song.wav")
    fails("song.wav", words=["song.wav: is no regular file; save the stream to a file first"])


def test_a_link_to_itself(fails, here):
    (here / "song.wav").symlink_to("song.wav")
    fails("song.wav", words=["song.wav: cannot be opened (Too many levels of symbolic links); check the path"])


def test_a_song_without_samples(run, here):
    write(here / "song.wav", noise(0))
    ran = run("song.wav")
    assert (ran.code, ran.out.splitlines(), ran.err) == (0, stems_of("song"), "")
    assert {soundfile.info(path).frames for path in ran.stems} == {0}


def test_an_unwritable_output(fails, here):
    write(here / "song.wav")
    (here / "file").touch()
    (here / "loop").symlink_to("loop")
    for out, place in (("file", "file"), ("file/deeper", "file"), ("loop", "loop")):
        for model in ("tiny.safetensors", "missing.safetensors"):  # no model is loaded, or downloaded, for nothing
            line = fails("song.wav", "-o", out, "-n", model, words=["is no folder", "choose another --out"], code=2)
            assert line.startswith((f"Error: {here / place}: ", f"Error: {place}: "))
    fails("song.wav", "-o", "/proc/nowhere", words=["/proc/nowhere", "No such file or directory; choose another"])
    fails("song.wav", "--filename", "x" * 300 + "{stem}", words=["the name is too long; shorten it with --filename"])
    fails("song.wav", "-o", "x" * 300, words=["the name is too long"])


@contextlib.contextmanager
def ordinary_user():
    """Permissions do not hold for root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_permissions(run, here):
    write(here / "song.wav")
    write(here / "secret.wav").chmod(0)
    (here / "closed").mkdir(mode=0o555)
    (here / "private").mkdir(mode=0o000)
    here.chmod(0o755)
    run("song.wav", "-q", "-o", "warm-up")  # whatever is imported late
    before = tree(here)
    for arguments, words in (
        (["secret.wav"], "secret.wav: may not be read; check the permissions"),
        (["song.wav", "-o", "closed"], "may not be written; check the folder's permissions"),
        (["song.wav", "-o", "private/deeper"], "may not be written; check the folder's permissions"),
        (
            ["private/song.wav"],
            "private/song.wav: cannot be looked for (Permission denied); check the permissions of the folders above",
        ),
        (["private"], "private: cannot be searched (Permission denied)"),
        (
            ["song.wav", "-n", "private/tiny.safetensors"],
            "private/tiny.safetensors: cannot be used (Permission denied)",
        ),
        (["song.wav", "--report", "private/x/report.json"], "private/x: cannot be used (Permission denied)"),
    ):
        with ordinary_user():
            ran = run(*arguments)
        assert ran.code == 1
        (line,) = ran.err.splitlines()
        assert line.startswith("Error: ")
        assert words in line
    assert tree(here) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "private/recipe.toml"],
        ["evaluate", "private/songs", "--quick", "-n", "tiny.safetensors"],
        ["evaluate", "m", "--estimates", "private/stems", "--quick"],
    ],
    ids=" ".join,
)
def test_what_lies_in_a_folder_that_may_not_be_entered(waveunet, here, arguments):
    write(here / "m" / "song" / "vocals.wav")
    (here / "private").mkdir(mode=0o000)
    here.chmod(0o755)
    with ordinary_user():
        ran = waveunet(*arguments)
    assert ran.code == 1
    (line,) = ran.err.splitlines()
    assert line.startswith("Error: ")
    assert "private" in line
    assert "Permission denied" in line


def test_an_unknown_model(fails, here):
    write(here / "song.wav")
    fails("song.wav", "-n", "vocal", words=["vocal: no such model; did you mean vocals?"], code=2)
    fails("song.wav", "-n", "x/vocals", words=["x/vocals: no such checkpoint"])
    (here / "training").mkdir()
    fails("song.wav", "-n", "training", words=["training: is a folder; give the path of a .safetensors file"], code=2)
    fails("song.wav", "-n", "./training", words=["training: is a folder, not a checkpoint; give"])


def test_bad_checkpoints(fails, here):
    write(here / "song.wav")
    good = (here / "tiny.safetensors").read_bytes()
    for name, data in {
        "cut": good[: len(good) // 2],
        "head": good[:20],
        "text": b"not a checkpoint" * 10,
        "empty": b"",
    }.items():
        (here / f"{name}.safetensors").write_bytes(data)
        fails("song.wav", "-n", f"{name}.safetensors", words=[f"{name}.safetensors: not a readable safetensors"])
    other = network_of(replace(TINY, levels=3)).state_dict()
    save_checkpoint(here / "other.safetensors", TINY, other)
    fails("song.wav", "-n", "other.safetensors", words=["weights do not fit the configuration", "another architecture"])
    save_file(other, here / "bare.safetensors")
    fails("song.wav", "-n", "bare.safetensors", words=["no configuration", "waveunet models import"])


# --- several songs, some of them bad


def test_one_bad_file_does_not_stop_the_rest(run, here):
    for name in ("m/a.wav", "m/c.wav"):
        write(here / name)
    (here / "m/b.wav").write_text("no song")
    ran = run("m", "none.wav")
    assert ran.code == 1
    assert ran.out.splitlines() == stems_of("a", "c")
    said = ran.err.splitlines()
    assert said[0] == "Error: none.wav: no such file or folder; check the path"
    assert said[1].startswith("Error: m/b.wav: no audio")
    assert said[2:] == ["2 of 4 inputs failed:", *(f"  {line.removeprefix('Error: ')}" for line in said[:2])]


# --- interrupted, or out of space


LONG = 30 * 60  # seconds


@pytest.fixture
def long_song(here):
    """Half an hour of silence in a file of some kilobytes: it is still being separated when it is interrupted."""
    write(here / "song.flac", np.zeros((LONG * RATE, 1), np.int16))
    return ["separate", "-n", "tiny.safetensors", "-d", "cpu", "song.flac"]


def in_a_terminal(arguments, on_output):
    """Run with standard error on a pseudo-terminal; `on_output` sees all that came so far, and the process."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen([*WAVEUNET, *arguments], stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    seen = b""
    while True:
        try:
            part = os.read(controller, 4096)
        except OSError:  # on Linux: the other end was closed
            part = b""
        if not part:
            break
        seen += part
        on_output(seen.decode(errors="replace"), process)
    os.close(controller)
    out, _ = process.communicate()
    return process.returncode, out.decode(), seen.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing(long_song, here, number):
    before = tree(here)
    interrupted = []

    def interrupt(seen, process):
        if re.search(r" [1-9]\d*/1800 s \[", seen) and not interrupted:  # in the middle of the song
            assert list(here.rglob(".waveunet-*.part"))
            process.send_signal(number)
            interrupted.append(seen)

    code, out, seen = in_a_terminal(long_song, interrupt)
    assert interrupted, seen
    assert (code, out) == (130, "")
    assert "Interrupted; no half-written file is left." in seen
    assert "Traceback" not in seen
    assert tree(here) == before


def test_a_terminal_shows_the_bar(here):
    write(here / "song.wav", noise(40_000))
    songs = {"song.wav": "\rsong: 100%|█"}
    if shutil.which("ffmpeg"):  # a song whose length nobody knows before its end
        subprocess.run(["ffmpeg", "-v", "error", "-i", "song.wav", "film.m4a"], check=True)
        songs["film.m4a"] = "\rfilm: 5 s ["
    for song, words in songs.items():
        code, out, seen = in_a_terminal(["separate", "-n", "tiny.safetensors", song], lambda *_: None)
        assert (code, out.splitlines()) == (0, stems_of(Path(song).stem))
        assert words in seen
        assert "× real time]" in seen
        assert "| 5/5 s [" in seen or song != "song.wav"  # the song's time


@pytest.mark.thorough
def test_a_terminal_shows_the_bar_of_a_batch(here):
    for name in "ab":
        write(here / "m" / f"{name}.wav", noise(40_000))
    write(here / "m" / "c.wav", noise(0))
    code, out, seen = in_a_terminal(["separate", "-n", "tiny.safetensors", "m"], lambda *_: None)
    assert (code, sorted(out.splitlines())) == (0, stems_of("a", "b", "c"))
    assert "/3 songs [" in seen
    assert " hours of music per hour] " in seen
    assert re.search(r"\] [ab] \d/5 s", seen)  # the current song and its time


@pytest.mark.thorough
def test_a_quiet_run_shows_no_bar(here):
    write(here / "song.wav")
    assert in_a_terminal(["separate", "-q", "-n", "tiny.safetensors", "song.wav"], lambda *_: None) == (0, "", "")


FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
from waveunet_cli.cli import main
main()
"""


@pytest.mark.thorough
@pytest.mark.parametrize("clip", ["rescale", "none"])
def test_a_full_disk_leaves_nothing(here, clip):
    write(here / "song.wav", noise(40_000))
    before = tree(here)
    command = [sys.executable, "-c", FULL_DISK, "separate", "-n", "tiny.safetensors", "--clip", clip, "song.wav"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: separated/tiny/song/")
    assert "cannot be written: the file would be larger than is allowed here" in line
    assert tree(here) == before
