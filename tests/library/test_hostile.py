"""Batches among strangers: what one song brings along is no end of the others, nor of files that are not ours."""

import json
import os
import signal
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from filelock import FileLock

from batch_songs import Failing, lines, of, song
from small_models import TINY, model_of
from waveunet_cli import events
from waveunet_cli.audio import AudioReader, StemWriter
from waveunet_cli.cli.interrupts import interrupts
from waveunet_cli.errors import ConfigError, WaveUNetError
from waveunet_cli.library import lanes
from waveunet_cli.library.batch import separate_songs
from waveunet_cli.library.ledger import Ledger
from waveunet_cli.library.leftovers import remove_leftovers
from waveunet_cli.library.manifest import SongOutputs
from waveunet_cli.library.song import Song
from waveunet_cli.library.storage import HERE, BusyError, Located, located
from waveunet_cli.separator import Separator
from waveunet_cli.streaming.song import SongStream

KEY, TAG = "0123456789ab", "ba9876543210"


@pytest.fixture
def separator():
    return Separator(model_of(replace(TINY, output="difference")), "cpu", "float32")


# --- A song's failure is one song's


@pytest.mark.parametrize(
    ("where", "name"),
    [(AudioReader, "blocks"), (SongStream, "push"), (StemWriter, "write"), (StemWriter, "commit"),
     (SongOutputs, "why_again"), (SongOutputs, "finish"), (Located, "glance")],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
@pytest.mark.parametrize("error", [TypeError("odd\x1b[2J"), MemoryError(), AssertionError("no"), RecursionError()])
def test_whatever_is_raised_is_the_failure_of_its_song(where, name, error, here, separator, monkeypatch):
    for track in "abc":
        song(here / "m" / f"{track}.wav")
    once = Failing(getattr(where, name), error, 1)
    monkeypatch.setattr(where, name, lambda self, *arguments, **options: once(self, *arguments, **options))
    summary = separate_songs(["m"], "out", separator, jobs=1)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    (failed,) = summary.failed
    assert (summary.done, failed.kind in ("WaveUNetError", "DeviceError")) == (2, True)
    assert failed.reason.startswith(str(failed.path)) or failed.reason.startswith(str(here / str(failed.path)))
    assert failed.reason.isprintable()
    assert type(error).__name__ in failed.reason or "not enough memory" in failed.reason
    assert not list(here.rglob("*.part"))
    assert separate_songs(["m"], "out", separator, jobs=1).done == 1


def test_what_a_callback_raises_is_no_failure_of_a_song(here, separator):
    song(here / "m/a.wav")

    def on_event(event):
        if isinstance(event, events.Progress):
            raise LookupError("of the caller")

    with pytest.raises(LookupError, match="of the caller"):
        separate_songs(["m"], "out", separator, on_event=on_event)
    with pytest.raises(LookupError, match="of the caller"):
        separator.separate_file("m/a.wav", "out", on_event=on_event)
    assert not list(here.rglob("*.part"))


# --- Manifests of any content


def manifest_of(run, here):
    song(here / "a.wav")
    assert run("a.wav").code == 0
    (path,) = here.rglob(".waveunet-*.json")
    return path, json.loads(path.read_text())


@pytest.mark.parametrize("change", [{"stems": {}}, {"stems": {}, "paths": {}}, {"stems": {"vocals": {}}}])
def test_a_manifest_that_knows_no_stems_is_not_done(change, run, here):
    path, values = manifest_of(run, here)
    path.write_text(json.dumps(values | change))
    assert len(run("a.wav").stems) == 2


def test_a_manifest_speaks_of_another_song_on_one_line(run, here):
    path, values = manifest_of(run, here)
    path.write_text(json.dumps(values | {"input": "/x\x1b[2J\nEverything is fine", "input_mark": {
        "bytes": 1, "modified_ns": 1, "sha256": "x"}}))  # fmt: skip
    ran = run("a.wav")
    assert ran.code == 1
    assert "is a stem of /x?[2J?Everything is fine, not of a.wav" in ran.err
    assert "\x1b" not in ran.err


def test_a_manifest_is_never_waited_for_and_never_huge(run, here):
    path, _ = manifest_of(run, here)
    path.unlink()
    os.mkfifo(path)
    assert "does not tell of which song" in run("a.wav").err
    path.unlink()
    path.write_text(" " * 1_100_000)
    assert "does not tell of which song" in run("a.wav").err


# --- What a killed run left


def left_behind(folder, *others):
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f".waveunet-{KEY}.lock", f".waveunet-{KEY}-{TAG}.part", *others):
        (folder / name).write_bytes(b"x")
    return folder


def test_leftovers_go_whatever_the_format_or_the_names_of_the_next_run(run, here):
    song(here / "a.wav")
    left_behind(here / "separated/tiny/other")
    mine = left_behind(here / "separated/tiny/a")
    stems = left_behind(here / "separated/flat", "vocals.wav")
    assert run("a.wav", "--format", "flac").code == 0
    assert not (here / "separated/tiny/other").exists()
    assert not [path for path in mine.iterdir() if KEY in path.name]
    # which finished stems there are without a manifest, only the lock file tells
    assert sorted(path.name for path in stems.iterdir()) == [f".waveunet-{KEY}.lock", "vocals.wav"]


def test_leftovers_beside_songs_go(run, here):
    song(here / "a/a.wav")
    mine = left_behind(here / "a")
    other = left_behind(here / "a/b")
    assert run("a", "--beside").code == 0
    assert not list(mine.glob("*.part"))
    assert (mine / f".waveunet-{KEY}.lock").exists()  # there are files whose lock it may have been
    assert len(list(other.iterdir())) == 2  # no song is there


def test_leftovers_of_a_process_at_work_stay(here):
    folder = left_behind(here / "out/x")
    with FileLock(folder / f".waveunet-{KEY}.lock"):
        remove_leftovers(located("out"))
        assert len(list(folder.iterdir())) == 2
    remove_leftovers(located("out"))
    assert not folder.exists()
    assert (here / "out").is_dir()
    remove_leftovers(located("nowhere"))


# --- Who waits says so


def test_waiting_for_another_process_is_said(here, separator):
    song(here / "a.wav")
    outputs = SongOutputs({s: Path("out/tiny/a") / f"{s}.wav" for s in separator.stems})
    told, seen = [], threading.Event()

    def on_event(event):
        told.append(event)
        if isinstance(event, events.Note):
            seen.set()

    with outputs.claim():
        waiting = threading.Thread(target=lambda: separator.separate_file("a.wav", "out", on_event=on_event))
        waiting.start()
        assert seen.wait(60)
    waiting.join()
    assert [event.text for event in told if isinstance(event, events.Note)] == [
        "a.wav: another process is separating it; waiting for that"
    ]
    assert (here / "out/tiny/a/vocals.wav").exists()


def test_a_batch_says_once_that_another_process_has_a_song(monkeypatch):
    monkeypatch.setattr(lanes, "BUSY_SECONDS", 0.0)
    told, left = [], [3]

    def separate(one, on_event):
        left[0] -= 1
        if left[0] >= 0:
            raise BusyError
        raise WaveUNetError("over")

    ledger = Ledger([Song(located("a"), "a")], [], told.append)
    lanes.Lanes(separate, ledger, HERE).run([Song(located("a"), "a")])
    notes = [event.text for event in told if isinstance(event, events.Note)]
    assert notes == ["a: another process is separating it; looking again later"]


# --- --report


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_report_replaces_reports_only(options, run, here):
    song(here / "a.wav")
    for _ in range(2):  # also a report of the other kind
        assert run("a.wav", "--report", "report.json", *options).code == 0
        options = ()
    assert json.loads((here / "report.json").read_text())["songs"] == 1
    (here / "report.json").write_bytes(b"")
    assert run("a.wav", "--report", "report.json").code == 0


@pytest.mark.parametrize("content", [b"RIFF", b"{}", b'{"songs": 1}', b"[1]", b"\xff", b"{" * 5000])
def test_a_report_never_replaces_anything_else(content, run, here):
    other = song(here / "a.wav")
    (here / "b.json").write_bytes(content)
    (here / "link").symlink_to("b.json")
    (here / "nowhere").symlink_to("missing.json")
    os.mkfifo(here / "pipe")
    for name in ("b.json", "link", "nowhere", "pipe", "/dev/null", "/dev/stdout", ".", "a.wav"):
        before = other.read_bytes()
        ran = run("a.wav", "--report", name)
        assert (ran.code, ran.stems) == (2, [])
        assert f"Error: --report {name}: " in ran.err or "is a directory" in ran.err
        assert other.read_bytes() == before
    assert (here / "b.json").read_bytes() == content
    assert (here / "link").is_symlink()
    assert not (here / "missing.json").exists()


def test_what_became_of_the_place_of_a_report_while_the_batch_ran(run, here, monkeypatch):
    path = song(here / "a.wav")
    monkeypatch.setattr(
        "waveunet_cli.library.batch.remove_leftovers", lambda out: (here / "r.json").write_bytes(path.read_bytes())
    )
    ran = run("a.wav", "--report", "r.json")
    assert ran.code == 2
    assert "is there and is no report of waveunet" in ran.err
    assert (here / "r.json").read_bytes() == path.read_bytes()
    assert len(ran.stems) == 2


# --- Signals


@pytest.fixture
def heeded():
    """SIGHUP, whatever started the tests, such as nohup, did to it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_to_end_is_an_interruption(number, run, here, monkeypatch):
    song(here / "a.wav")
    monkeypatch.setattr(lanes, "wait", lambda running: signal.raise_signal(number))
    ran = run("a.wav", "--report", "report.json")
    assert ran.code == 130
    assert json.loads((here / "report.json").read_text())["stopped"] == "interrupted"
    assert not list(here.rglob("*.part"))


@pytest.mark.usefixtures("heeded")
def test_nohup_is_heeded():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts(print):
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is print
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with interrupts(print):
        assert signal.getsignal(signal.SIGHUP) is print


# --- Names that are no UTF-8, or that a terminal would obey


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\x1b[2Jgone", "e\u202efdp".encode(), b"two\nlines", b"tab\there"])
def test_odd_names_pass_through_everything_and_never_reach_the_terminal(name, run, here):
    folder = os.fsdecode(name)
    (here / folder).mkdir()
    song(here / "a.wav").rename(here / folder / "a.wav")
    (here / folder / "b.wav").write_text("no song")
    quiet = ("-q",) if b"\xff" in os.fsencode(folder) else ()  # stems would be printed as bytes that pytest cannot take
    ran = run(folder, "--progress", "json", "--report", "report.json", *quiet)
    assert ran.code == 1
    (done,), (failed,) = of("file_done", lines(ran)), of("file_failed", lines(ran))
    assert done["path"] == f"{folder}/a.wav"
    assert failed["path"] == f"{folder}/b.wav"
    assert json.loads((here / "report.json").read_text())["failed"][0]["path"] == f"{folder}/b.wav"
    assert of("file_done", lines(run(folder, "--progress", "json")))[0]["skipped"]
    again = [run(folder, "-v", "--overwrite", "always", *quiet), run(folder, *quiet, *([] if quiet else ["--dry-run"]))]
    for ran in again:
        assert ran.code == 1
        assert "b.wav: no audio" in ran.err
        assert not set(ran.err) & {"\x1b", "\u202e"}
        assert all(line.isprintable() for line in ran.err.splitlines())


# --- Options of the Python API


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overwrite": "x"}, "overwrite: found 'x'; choose one of always, never, changed"),
        ({"overwrite": None}, "overwrite: found None"),
        ({"clip": "x"}, "clip: found 'x'"),
        ({"container": "x"}, "unknown output format 'x'"),
        ({"container": 3}, "container: found 3; expected a text"),
        ({"subtype": "x"}, "wav cannot hold the subtype X"),
        ({"subtype": 16}, "subtype: found 16; expected a text"),
        ({"filename": "{x}"}, "must hold {stem}"),
        ({"filename": 5}, "filename: found 5; expected a text"),
        ({"track": 5}, "track: found 5; give a text"),
        ({"track": "../../x"}, "leads out of the output folder"),
    ],
)
def test_options_of_a_file_are_checked_before_it_is_opened(options, words, here, separator):
    with pytest.raises(ConfigError) as caught:
        separator.separate_file("missing.wav", "out", **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"segment_seconds": "x"}, "segment of x s"),
        ({"segment_seconds": float("nan")}, "segment of nan s"),
        ({"stems": "vocals"}, "stems: found 'vocals'; expected a list"),
        ({"stems": [1]}, "stems: found (1,)"),
        ({"two_stems": 1}, "two_stems: found 1; expected a text"),
        ({"stereo": "no"}, "stereo: found 'no'; expected true or false"),
        ({"device": 0}, "device: found 0; expected a text"),
        ({"precision": 16}, "precision: found 16; expected a text"),
    ],
)
def test_options_of_a_separator_are_checked(options, words):
    with pytest.raises(ConfigError) as caught:
        Separator(model_of(TINY), **options)
    assert words in str(caught.value)


def test_a_batch_refuses_a_strictness_that_is_none(here, separator):
    with pytest.raises(ConfigError, match="strict: found 'no'; give True or False"):
        separate_songs(["m"], "out", separator, strict="no")


def test_events_can_be_written_whatever_the_names():
    event = events.FileFailed(os.fsdecode(b"\xff"), "\x1b", "X", "y")
    assert json.loads(events.as_json(event)) == {"event": "file_failed", **asdict(event)}
