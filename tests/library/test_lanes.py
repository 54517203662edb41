"""Batches: killed at any moment and run again, side by side, and with faults."""

import errno
import multiprocessing
import os
import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from batch_process import separate_in_a_process
from batch_songs import Failing, contents, song
from small_models import TINY, model_of
from waveunet_cli import events
from waveunet_cli.audio import read, sinks, span
from waveunet_cli.errors import AudioWriteError
from waveunet_cli.library import lanes
from waveunet_cli.library.lanes import Lanes
from waveunet_cli.library.ledger import Ledger
from waveunet_cli.library.song import Separated, Song, separate_song
from waveunet_cli.library.storage import HERE, BusyError, located
from waveunet_cli.library.target import Target
from waveunet_cli.separator import Separator

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


@pytest.mark.thorough
def test_killed_at_ten_moments_and_run_again(here, processes):
    killed_at_random(here, processes, 10, seed=1)


@pytest.mark.slow
def test_killed_at_a_hundred_moments_and_run_again(here, processes):
    assert {".lock", ".part"} <= killed_at_random(here, processes, 100, seed=2)


# --- side by side


def test_two_at_once_in_one_folder(here):
    """Both are told to do everything; each song is done once, by one of them, and nothing is trampled."""
    songs = [Song(located(song(here / "m" / f"{index}.wav", seed=index)), str(index)) for index in range(8)]
    done = []

    def work():
        separator = Separator(model_of(replace(TINY, output="difference")))
        ledger = Ledger(songs, [], done.append)

        def separate(one, on_event):
            return separate_song(separator, one, Target(located(here / "out")), wait=False, on_event=on_event)

        Lanes(separate, ledger, HERE, jobs=2).run(songs)

    both = [threading.Thread(target=work) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    finished = [event for event in done if isinstance(event, events.FileDone)]
    assert len(finished) == 16
    assert sorted(event.track for event in finished if not event.skipped) == [str(index) for index in range(8)]
    assert len(contents(here / "out")) == 8 * 3


def test_busy_songs_are_looked_at_again(monkeypatch):
    monkeypatch.setattr(lanes, "BUSY_SECONDS", 0.0)
    asked = []

    def separate(one, on_event):
        asked.append(one.track)
        if asked.count(one.track) < 3 and one.track == "a":
            raise BusyError
        return Separated(one.file.path, {})

    told = []
    songs = [Song(located(name), name) for name in "ab"]
    ledger = Ledger(songs, [], told.append)
    Lanes(separate, ledger, HERE, jobs=1).run(songs)
    assert sorted(asked) == ["a", "a", "a", "b"]
    assert ledger.summary().done == 2


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
    songs = [Song(located(here / f"{index}.wav"), str(index)) for index in range(6)]
    small_are_done = threading.Event()
    order = []

    def separate(one, on_event):
        if one.track in "012":
            assert small_are_done.wait(60)  # a long song ends only after all small ones
        order.append(one.track)
        if set("345") <= set(order):
            small_are_done.set()
        return Separated(one.file.path, {})

    ledger = Ledger(songs, [], lambda event: None)
    Lanes(separate, ledger, HERE, jobs=2).run(songs)
    assert order[:3] == ["3", "4", "5"]
    assert ledger.summary().done == 6


def test_a_bug_in_one_song_ends_the_batch(here):
    def separate(one, on_event):
        raise ZeroDivisionError

    songs = [Song(located(here / name), name) for name in "abc"]
    with pytest.raises(ZeroDivisionError):
        Lanes(separate, Ledger(songs, [], lambda event: None), HERE, jobs=2).run(songs)


# --- faults


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_read_errors_that_pass(run, here, monkeypatch, number):
    song(here / "song.wav")
    monkeypatch.setattr(lanes, "RETRY_SECONDS", (0.0, 0.0))
    error = OSError(number, os.strerror(number))
    monkeypatch.setattr(read, "_opened", Failing(read._opened, error, 2))
    ran = run("song.wav")
    assert ran.code == 0
    assert ran.err.count("trying again in 0 s") == 2
    monkeypatch.setattr(read, "_opened", Failing(read._opened, error, 4))
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
