"""Batches from Python and from the command: their events, their summary, and their end."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from batch_songs import Failing, lines, of, song
from small_models import TINY, model_of
from waveunet_cli import events
from waveunet_cli.cli import voice
from waveunet_cli.errors import ConfigError
from waveunet_cli.library import lanes
from waveunet_cli.library.batch import plan_songs, separate_songs
from waveunet_cli.separator import Separator


def test_a_batch_from_python(here):
    song(here / "m/a.wav")
    song(here / "m/b.wav", seed=1)
    told = []
    separator = Separator(model_of(TINY), "cpu", "float32")
    summary = separate_songs(["m"], "stems", separator, jobs=1, on_event=told.append)
    assert (summary.songs, summary.done, summary.failed) == (2, 2, ())
    assert told[-1] == summary
    again = separate_songs("m", Path("stems"), lambda: separator)  # one input; a function that makes the separator
    assert again.skipped == 2
    planned = plan_songs(["m"], "stems", separator, overwrite="always")
    assert planned.to_do == 2
    nothing = separate_songs(["nowhere.wav"], "stems", lambda: pytest.fail("a model is loaded for nothing"))
    assert (nothing.songs, len(nothing.failed)) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"overwrite": "x"}, "overwrite: found 'x'; choose one of always, never, changed"),
        ({"clip": "x"}, 'clip: found \'x\'; expected "rescale" or "clamp" or "none"'),
        ({"jobs": 0}, "jobs: found 0; give a whole number from 1 to 64"),
        ({"jobs": True}, "jobs: found True; give a whole number"),
        ({"container": "x"}, "wav"),
        ({"subtype": "x"}, "choose one of PCM_U8"),
        ({"filename": "{x}"}, "must hold {stem}"),
    ],
)
def test_settings_are_checked_before_a_model_is_loaded(here, settings, words):
    song(here / "m/a.wav")
    for function in (separate_songs, plan_songs):
        if function is plan_songs and "jobs" in settings:
            continue
        with pytest.raises(ConfigError) as caught:
            function(["m"], "stems", lambda: pytest.fail("a model is loaded"), **settings)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_batch_from_python_is_interrupted(here):
    for name in "ab":
        song(here / "m" / f"{name}.wav")
    told = []

    def on_event(event):
        told.append(event)
        if isinstance(event, events.FileDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        separate_songs(["m"], "stems", Separator(model_of(TINY), "cpu"), jobs=1, on_event=on_event)
    assert isinstance(told[-1], events.Summary)
    assert (told[-1].stopped, told[-1].done, told[-1].remaining) == ("interrupted", 1, ("m/b.wav",))
    assert not list(here.rglob("*.part"))


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
        progress = of("progress", mine)
        seconds = [event["done_seconds"] for event in progress]
        assert len(seconds) > 3
        assert seconds == sorted(seconds)
        assert seconds[-1] == mine[-1]["seconds"] == 1.0
        assert {(event["total_seconds"], event["songs"]) for event in progress} == {(1.0, 4)}
        assert 1 <= progress[-1]["songs_finished"] < 4
        assert progress[-1]["batch_speed"] > 0
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


def test_an_interrupted_batch_says_what_remains(run, here, monkeypatch):
    for name in "ab":
        song(here / "m" / f"{name}.wav")

    monkeypatch.setattr(lanes, "wait", Failing(None, KeyboardInterrupt(), 1))
    monkeypatch.setattr(
        "waveunet_cli.library.batch.separate_song", lambda *_, on_event, **__: progress_for_ever(on_event)
    )
    ran = run("m", "--progress", "json", "--report", "report.json")
    assert ran.code == 130
    *told, last = ran.err.splitlines()
    assert last == "Interrupted; no half-written file is left."
    (summary,) = of("summary", [json.loads(line) for line in told if line])
    assert (summary["stopped"], summary["remaining"]) == ("interrupted", ["m/a.wav", "m/b.wav"])
    assert json.loads((here / "report.json").read_text())["remaining"] == ["m/a.wav", "m/b.wav"]


def progress_for_ever(on_event):
    while True:
        on_event(events.Note("still at work"))


def test_a_report_that_cannot_be_written(run, here):
    song(here / "a.wav")
    ran = run("a.wav", "--report", "x" * 300)
    assert (ran.code, ran.stems) == (2, [])
    assert "xxx: cannot be looked at (File name too long)" in ran.err
