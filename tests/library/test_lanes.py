"""Batches: killed at any moment and run again, side by side, with faults; and what they tell."""

import errno
import json
import multiprocessing
import os
import random
import re
import threading
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

from batch_process import separate_in_a_process
from small_models import TINY, model_of, network_of
from waveunet_cli import events
from waveunet_cli.audio import read, sinks, span
from waveunet_cli.cli import voice
from waveunet_cli.errors import AudioReadError, AudioWriteError, ConfigError
from waveunet_cli.library import lanes
from waveunet_cli.library.batch import plan_songs, separate_songs
from waveunet_cli.library.lanes import Lanes
from waveunet_cli.library.ledger import Ledger
from waveunet_cli.library.manifest import BusyError, SongOutputs
from waveunet_cli.library.plan import steady_speed
from waveunet_cli.library.song import Separated, Song, Target, separate_song
from waveunet_cli.networks.checkpoint import save_checkpoint
from waveunet_cli.separator import Separator

RATE = 8000


def song(path, frames=8000, seed=0, channels=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).standard_normal((frames, channels)) * 0.3
    soundfile.write(path, samples, RATE, "PCM_16")
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVEUNET_OFFLINE", "1")
    config = replace(TINY, output="difference")
    save_checkpoint(tmp_path / "tiny.safetensors", config, network_of(config).state_dict())
    return tmp_path


@pytest.fixture
def run(waveunet, here):
    return lambda *arguments: waveunet("separate", "-n", "tiny.safetensors", "-d", "cpu", *arguments)


def contents(out):
    """Every file below a folder: stems byte for byte, manifests without their times."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.suffix == ".json":
            text = re.sub(r'"modified_ns": \d+', "", path.read_text())
            found[path.relative_to(out).as_posix()] = text
        elif path.is_file():
            found[path.relative_to(out).as_posix()] = path.read_bytes()
    return found


def lines(ran):
    return [json.loads(line) for line in ran.err.splitlines()]


def of(kind, told):
    return [event for event in told if event["event"] == kind]


# --- killed and run again


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have torch loaded already, and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["waveunet_cli.separator", "waveunet_cli.library.batch", "batch_process"])
    return context


def killed_at_random(here, processes, moments, seed):
    rng = random.Random(seed)
    for index in range(4):
        song(here / "m" / f"{index}.wav", frames=20_000 if index == 2 else 6000, seed=index)
    seconds, undisturbed = {}, {}
    for container in ("wav", "flac"):
        process = processes.Process(target=separate_in_a_process, args=(here, container, container))
        begun = time.monotonic()
        process.start()
        process.join()
        seconds[container] = time.monotonic() - begun
        assert process.exitcode == 0
        undisturbed[container] = contents(here / container)
        assert len(undisturbed[container]) == 4 * 3
    left = set()
    for moment in range(moments):
        container = ("wav", "flac")[moment % 2]
        out = f"killed-{moment}"
        process = processes.Process(target=separate_in_a_process, args=(here, out, container))
        process.start()
        time.sleep(rng.uniform(0, seconds[container]))
        process.kill()
        process.join()
        left |= {path.suffix for path in (here / out).rglob(".*")}
        again = processes.Process(target=separate_in_a_process, args=(here, out, container))
        again.start()
        again.join()
        assert again.exitcode == 0
        assert contents(here / out) == undisturbed[container]
    return left


def test_killed_at_ten_moments_and_run_again(here, processes):
    killed_at_random(here, processes, 10, seed=1)


@pytest.mark.slow
def test_killed_at_a_hundred_moments_and_run_again(here, processes):
    assert {".lock", ".part"} <= killed_at_random(here, processes, 100, seed=2)


def test_what_a_killed_process_left_is_removed(run, here):
    song(here / "song.wav")
    assert run("song.wav").code == 0
    whole = contents(here / "separated")
    folder = here / "separated/tiny/song"
    (manifest,) = folder.glob(".waveunet-*.json")
    key = manifest.stem.removeprefix(".waveunet-")
    for suffix in (".lock", "-123.part"):
        (folder / f".waveunet-{key}{suffix}").touch()
    (folder / ".waveunet-0123456789ab-1.part").touch()  # another song's, whose lock nobody here holds
    assert "skipped" in run("song.wav").err
    assert contents(here / "separated") == whole | {"tiny/song/.waveunet-0123456789ab-1.part": b""}


# --- done again only if something changed


def test_what_changed_is_done_again(run, here):
    path = song(here / "song.wav")
    stems = here / "separated/tiny/song"

    def why(*options):
        (line, _) = run("song.wav", "--dry-run", *options).out.splitlines()
        skipped = "skipped" in run("song.wav", *options).err
        reason = line.removeprefix("song.wav: ").partition(",")[0]
        assert skipped == (reason == "stems are there")
        return reason

    assert why() == "new"
    assert why() == "stems are there"
    os.utime(path)
    os.utime(stems / "vocals.wav", (1, 1))
    before = next(stems.glob("*.json")).read_text()
    assert why() == "stems are there"  # the same bytes
    assert next(stems.glob("*.json")).read_text() != before  # next time, without reading them
    song(path, seed=1)
    assert why() == "input changed"
    (stems / "vocals.wav").write_bytes((stems / "vocals.wav").read_bytes()[:-1] + b"x")
    assert why() == "stems changed"
    (stems / "vocals.wav").unlink()
    assert why() == "stems missing"
    assert why("--clip", "clamp") == "settings changed"
    assert why("--clip", "clamp", "--segment", "0.1") == "stems are there"
    assert why("--two-stems", "vocals") == "new"
    for damage in ("{}", '{"format": 2}'):  # of another version, which still names the song
        values = json.loads(damage) | {"input": str(path.absolute())}
        for manifest in stems.glob("*.json"):
            manifest.write_text(json.dumps(values))
        assert why() == "manifest unreadable"
    save_checkpoint(here / "tiny.safetensors", TINY, network_of(TINY, seed=1).state_dict())
    assert why() == "model changed"
    assert why("--overwrite", "always") == "asked for"


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"format": 2, "input": "/another/song.wav"}', "\0"])
def test_stems_whose_manifest_names_nobody_are_not_replaced(run, here, damage):
    song(here / "song.wav")
    assert run("song.wav").code == 0
    stems = here / "separated/tiny/song"
    next(stems.glob("*.json")).write_text(damage)
    before = (stems / "vocals.wav").read_bytes()
    song(here / "song.wav", seed=1)
    for more in ((), ("--dry-run",)):
        ran = run("song.wav", *more)
        assert ran.code == 1
        assert "is there, and is no stem of song.wav; choose another --out or --filename" in ran.err
    assert (stems / "vocals.wav").read_bytes() == before
    for path in stems.glob("*.wav"):
        path.unlink()
    assert run("song.wav").code == 0


def test_a_manifest_tells_the_precision_that_was_used(run, here):
    song(here / "song.wav")
    run("song.wav", "--precision", "float32")
    manifest = next(here.rglob(".waveunet-*.json"))
    assert json.loads(manifest.read_text())["settings"]["precision"] == "float32"
    assert "skipped" in run("song.wav", "--precision", "float32").err
    assert run("song.wav", "--precision", "bfloat16", "--dry-run").out.startswith("song.wav: settings changed")
    before = manifest.read_bytes()
    os.utime(here / "song.wav")
    assert run("song.wav", "--precision", "float32", "--dry-run").out.startswith("song.wav: stems are there")
    assert manifest.read_bytes() == before  # a dry run changes nothing


def test_the_estimate_of_a_dry_run_leaves_out_the_filling_of_the_stream():
    class Slow:
        """Takes 10 s of a clock before the first stems come, then a second for two seconds of music."""

        stems = ("vocals",)
        model = model_of(TINY)

        def __init__(self):
            self.now, self.pushed = 0.0, 0

        def song(self, rate_hz, channels):
            return self

        def push(self, block):
            self.pushed += 1
            self.now += 10.0 if self.pushed < 5 else 0.5
            return {"vocals": block if self.pushed > 4 else block[:0]}

    slow = Slow()
    assert steady_speed(slow, lambda: slow.now) == pytest.approx(2.0)


def test_a_batch_from_python(here):
    song(here / "m/a.wav")
    song(here / "m/b.wav", seed=1)
    told = []
    separator = Separator(model_of(TINY), "cpu", "float32")
    summary = separate_songs(["m"], "stems", separator, jobs=1, on_event=told.append)
    assert (summary.songs, summary.done, summary.failed) == (2, 2, ())
    assert told[-1] == summary
    again = separate_songs(["m"], "stems", lambda: separator)
    assert again.skipped == 2
    planned = plan_songs(["m"], "stems", separator, overwrite="always")
    assert planned.to_do == 2
    nothing = separate_songs(["nowhere.wav"], "stems", lambda: pytest.fail("a model is loaded for nothing"))
    assert (nothing.songs, len(nothing.failed)) == (1, 1)
    for settings in ({"overwrite": "x"}, {"clip": "x"}, {"jobs": 0}, {"container": "x"}, {"filename": "{x}"}):
        with pytest.raises(ConfigError):
            separate_songs(["m"], "stems", separator, **settings)


def test_files_that_are_not_the_songs_stems_are_never_replaced(run, here):
    stems = here / "out/tiny/song"
    stems.mkdir(parents=True)
    (stems / "vocals.wav").write_text("mine")
    song(here / "one/song.wav")
    song(here / "two/song.wav", seed=1)
    ran = run("one/song.wav", "-o", "out")
    assert ran.code == 1
    assert "vocals.wav: is there, and is no stem of one/song.wav; choose another --out" in ran.err
    assert [path.name for path in stems.iterdir()] == ["vocals.wav"]
    assert run("one/song.wav", "-o", "out", "--overwrite", "always").code == 0
    before = contents(here / "out")
    for more in ([], ["--two-stems", "vocals"]):
        ran = run("two/song.wav", "-o", "out", *more)
        assert ran.code == 1
        assert "one/song.wav, not of two/song.wav; choose another --out" in ran.err
        assert contents(here / "out") == before
    (here / "one").rename(here / "moved")
    assert "skipped" in run("moved/song.wav", "-o", "out").err


def test_a_song_that_changes_while_it_is_read(here, monkeypatch):
    path = song(here / "song.wav", frames=20_000)
    monkeypatch.setattr("waveunet_cli.library.song.READ_FRAMES", 1000)
    with pytest.raises(AudioReadError, match=r"song\.wav: was changed while it was read; separate it again"):
        Separator(model_of(TINY)).separate_file(
            path, on_event=lambda event: os.utime(path, (1, 1)) if event.event == "progress" else None
        )
    assert not Path("separated").exists()


def test_manifests_of_stems_in_one_folder_differ(here):
    places = [SongOutputs({stem: here / f"{track}_{stem}.wav" for stem in ("a", "b")}) for track in "xy"]
    assert places[0].manifest != places[1].manifest
    assert SongOutputs({stem: Path(f"x_{stem}.wav") for stem in ("a", "b")}).key == places[0].key


# --- locks


def test_two_at_once_in_one_folder(here):
    """Both are told to do everything; each song is done once, by one of them, and nothing is trampled."""
    songs = [Song(song(here / "m" / f"{index}.wav", seed=index), str(index)) for index in range(8)]
    done = []

    def work():
        separator = Separator(model_of(replace(TINY, output="difference")))
        ledger = Ledger(songs, [], done.append)

        def separate(one, progress):
            return separate_song(separator, one, Target(here / "out"), wait=False, progress=progress)

        Lanes(separate, ledger, here / "out", jobs=2).run(songs)

    both = [threading.Thread(target=work) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    finished = [event for event in done if isinstance(event, events.FileDone)]
    assert len(finished) == 16
    assert sorted(event.track for event in finished if not event.skipped) == [str(index) for index in range(8)]
    assert len(contents(here / "out")) == 8 * 3


def test_a_song_that_another_process_has(here):
    place = SongOutputs({"vocals": here / "out" / "vocals.wav"})
    with place.claim(), pytest.raises(BusyError), place.claim(wait=False):
        pass
    assert not (here / "out").exists()


def test_busy_songs_are_looked_at_again(monkeypatch):
    monkeypatch.setattr(lanes, "BUSY_SECONDS", 0.0)
    asked = []

    def separate(one, progress):
        asked.append(one.track)
        if asked.count(one.track) < 3 and one.track == "a":
            raise BusyError
        return Separated(one.path, {})

    told = []
    songs = [Song(Path(name), name) for name in "ab"]
    ledger = Ledger(songs, [], told.append)
    Lanes(separate, ledger, Path(), jobs=1).run(songs)
    assert sorted(asked) == ["a", "a", "a", "b"]
    assert ledger.summary().done == 2


# --- side by side


def test_jobs_do_not_change_the_bytes(run, here):
    for index in range(6):
        song(here / "m" / f"{index}.wav", frames=30_000 - 4000 * index, seed=index)
    expected = None
    for jobs in (1, 2, 5):
        ran = run("m", "-j", jobs, "-o", f"out-{jobs}")
        assert ran.code == 0
        assert len(ran.stems) == 12
        expected = expected or contents(here / "out-1")
        assert contents(here / f"out-{jobs}") == expected


def test_small_songs_do_not_wait_for_long_ones(here):
    for index in range(6):
        song(here / f"{index}.wav", frames=10_000 if index < 3 else 1000)
    songs = [Song(here / f"{index}.wav", str(index)) for index in range(6)]
    small_are_done = threading.Event()
    order = []

    def separate(one, progress):
        if one.track in "012":
            assert small_are_done.wait(60)  # a long song ends only after all small ones
        order.append(one.track)
        if set("345") <= set(order):
            small_are_done.set()
        return Separated(one.path, {})

    ledger = Ledger(songs, [], lambda event: None)
    Lanes(separate, ledger, here, jobs=2).run(songs)
    assert order[:3] == ["3", "4", "5"]
    assert ledger.summary().done == 6


def test_a_bug_in_one_song_ends_the_batch(here):
    def separate(one, progress):
        raise ZeroDivisionError

    songs = [Song(here / name, name) for name in "abc"]
    with pytest.raises(ZeroDivisionError):
        Lanes(separate, Ledger(songs, [], lambda event: None), here, jobs=2).run(songs)


# --- faults


class Failing:
    """Raises the error for its first calls, then lets them through."""

    def __init__(self, function, error, times):
        self.function, self.error, self.left = function, error, times

    def __call__(self, *arguments, **options):
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return self.function(*arguments, **options)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_read_errors_that_pass(run, here, monkeypatch, number):
    song(here / "song.wav")
    monkeypatch.setattr(lanes, "RETRY_SECONDS", (0.0, 0.0))
    error = OSError(number, os.strerror(number))
    monkeypatch.setattr(read, "_check_file", Failing(read._check_file, error, 2))
    ran = run("song.wav")
    assert ran.code == 0
    assert ran.err.count("trying again in 0 s") == 2
    monkeypatch.setattr(read, "_check_file", Failing(read._check_file, error, 4))
    ran = run("song.wav", "--overwrite", "always")
    assert ran.code == 1
    assert f"Error: song.wav: cannot be read ({os.strerror(number)})" in ran.err


def test_a_read_error_in_the_middle_is_no_truncation(run, here, monkeypatch):
    """libsndfile only says that it got too little; what the disk says is asked for."""
    song(here / "song.wav")
    monkeypatch.setattr(lanes, "RETRY_SECONDS", ())
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, *_, **__: np.zeros((10, 2), np.float32))
    assert "truncated" in run("song.wav").err
    monkeypatch.setattr(span.Span, "raise_error", Failing(None, OSError(errno.EIO, "Input/output error"), 1))
    assert "song.wav: cannot be read (Input/output error); check the disk or the mount" in run("song.wav").err


def test_strict_stops_at_the_first_failure(run, here):
    for name in "acd":
        song(here / "m" / f"{name}.wav")
    (here / "m/b.wav").write_text("no song")
    ran = run("m", "--strict", "-j", "1", "--report", "report.json")
    assert ran.code == 1
    assert len(ran.stems) == 2
    assert ran.err.splitlines()[-3:] == [
        "Error: stopped at the first failure, as --strict asks; 2 songs remain:",
        "  m/c.wav",
        "  m/d.wav",
    ]
    report = json.loads((here / "report.json").read_text())
    assert report["remaining"] == ["m/c.wav", "m/d.wav"]
    assert [failure["path"] for failure in report["failed"]] == ["m/b.wav"]
    ran = run("m", "none.wav", "--strict", "--overwrite", "always")
    assert (ran.code, ran.out) == (1, "")
    assert "5 songs remain" not in ran.err
    assert "4 songs remain" in ran.err


def test_a_full_disk_stops_the_batch(run, here, monkeypatch):
    for index in range(6):
        song(here / "m" / f"{index}.wav", seed=index)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(sinks, "write_all", Failing(None, full, 1000))
    ran = run("m", "-j", "1")  # there is space, but a quota may be used up: three times is enough
    assert ran.code == 1
    assert ran.err.count("the disk is full; free some space or choose another folder with --out") == 6
    assert "Error: the disk is full; free some space and run the same command again; 3 songs remain:" in ran.err
    assert not (here / "separated").exists()
    monkeypatch.setattr(lanes, "SPARE_BYTES", 1 << 60)
    ran = run("m", "-j", "1")
    assert "again; 5 songs remain:" in ran.err
    monkeypatch.undo()
    os.chdir(here)
    assert run("m").code == 0


def test_a_disk_too_small_for_one_song(run, here, monkeypatch):
    song(here / "m/a.wav", frames=100_000)
    song(here / "m/b.wav")
    free = type("Usage", (), {"free": 500_000, "total": 10**9})
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    ran = run("m")
    assert ran.code == 1
    assert [path.parent.name for path in ran.stems] == ["b", "b"]
    assert "1.6 MB needed for the stems of m/a.wav, 0.5 MB free" in ran.err


def test_errno_is_found_in_what_caused_an_error():
    error = AudioWriteError("x")
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert lanes.errno_of(error) == errno.ENOSPC
    assert lanes.errno_of(AudioWriteError("x")) is None


# --- what is told


def test_progress_as_json(run, here, monkeypatch):
    monkeypatch.setattr(voice, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr("waveunet_cli.library.song.READ_FRAMES", 1000)
    for name in "ab":
        song(here / "m" / f"{name}.wav")
    (here / "m/c.wav").write_text("no song")
    ran = run("m", "none.wav", "--progress", "json", "--report", "report.json", "--subtype", "FLOAT")
    told = lines(ran)
    assert ran.code == 1
    (start,), (summary,) = of("batch_start", told), of("summary", told)
    assert (told[0], told[-1]) == (start, summary)
    assert (start["songs"], start["model"], start["stems"]) == (4, "tiny", ["accompaniment", "vocals"])
    assert [event["path"] for event in of("file_failed", told)] == [None, "m/c.wav"]
    assert summary == {"event": "summary", **json.loads((here / "report.json").read_text())}
    assert (summary["done"], summary["seconds"], summary["remaining"]) == (2, 2.0, [])
    assert summary["failed"] == [{k: v for k, v in e.items() if k != "event"} for e in of("file_failed", told)]
    for name in "ab":
        mine = [event for event in told if event.get("path") == f"m/{name}.wav"]
        assert [event["event"] for event in mine if event["event"] != "progress"] == ["file_start", "file_done"]
        seconds = [event["done_seconds"] for event in of("progress", mine)]
        assert len(seconds) > 3
        assert seconds == sorted(seconds)
        assert seconds[-1] == mine[-1]["seconds"] == 1.0
        assert sorted(mine[-1]["stems"].values()) == sorted(line for line in ran.out.split() if f"/{name}/" in line)
    told = lines(run("m", "--progress", "json", "-q", "--subtype", "FLOAT"))
    assert [event["skipped"] for event in of("file_done", told)] == [True, True]


def test_the_documentation_names_every_field():
    text = (Path(__file__).parents[2] / "docs/progress.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    documented = {
        section.split()[0].strip("`"): re.findall(r"^\| `(\w+)` ", section, re.MULTILINE) for section in sections
    }
    assert documented == {event.event: [field.name for field in fields(event)] for event in get_args(events.Event)}


def test_a_dry_run(run, here):
    song(here / "m/a.wav")
    run("m")
    song(here / "m/b.wav", frames=16_000)
    (here / "m/c.wav").write_text("no song")
    before = contents(here)
    ran = run("m", "--dry-run", "--subtype", "PCM_16", "--report", "plan.json")
    (here / "plan.json").unlink()
    assert contents(here) == before
    assert ran.code == 1
    assert ran.out.splitlines()[:2] == ["m/a.wav: settings changed, 1.0 s", "m/b.wav: new, 2.0 s"]
    assert ran.out.splitlines()[2].startswith("2 of 3 songs to separate: 3 s, about 0.2 MB of stems (")
    told = lines(run("m", "--dry-run", "--progress", "json"))
    assert [event["why"] for event in of("planned", told)] == [None, "new"]
    (plan,) = of("plan", told)
    assert (plan["to_do"], plan["seconds"], plan["needed_bytes"]) == (1, 2.0, 16_000 * 2 * 2 * 2)
    assert plan["estimated_seconds"] > 0


def test_an_interrupted_batch_says_what_remains(run, here, monkeypatch):
    for name in "ab":
        song(here / "m" / f"{name}.wav")

    monkeypatch.setattr(lanes, "wait", Failing(None, KeyboardInterrupt(), 1))
    monkeypatch.setattr(
        "waveunet_cli.library.batch.separate_song", lambda *_, progress, **__: progress_for_ever(progress)
    )
    ran = run("m", "--progress", "json", "--report", "report.json")
    assert ran.code == 130
    *told, last = ran.err.splitlines()
    assert last == "Interrupted; no half-written file is left."
    (summary,) = of("summary", [json.loads(line) for line in told if line])
    assert (summary["stopped"], summary["remaining"]) == ("interrupted", ["m/a.wav", "m/b.wav"])
    assert json.loads((here / "report.json").read_text())["remaining"] == ["m/a.wav", "m/b.wav"]


def progress_for_ever(progress):
    while True:
        progress(0.0, 1.0)


def test_a_report_that_cannot_be_written(run, here):
    song(here / "a.wav")
    ran = run("a.wav", "--report", "x" * 300)
    assert ran.code == 1
    assert "xxx: cannot be written: the name is too long" in ran.err
    assert len(ran.stems) == 2
