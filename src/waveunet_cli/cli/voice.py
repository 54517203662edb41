"""What `waveunet separate` says: to people, with a bar where standard error is a terminal; or to programs, in JSON."""

import os
import sys
import time
from math import log10

from tqdm import tqdm

from waveunet_cli.cli.terminal import say, say_above_bar, say_path
from waveunet_cli.events import (
    INTERRUPTED,
    BatchStart,
    Event,
    FileDone,
    FileFailed,
    FileStart,
    Note,
    Plan,
    Planned,
    Progress,
    Summary,
    as_json,
)
from waveunet_cli.text import in_line

SONG_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]"
SONG_BAR_WITHOUT_TOTAL = "{desc}: {n:.0f} s [{elapsed}{postfix}]"  # tqdm cannot fill in the other one then
BATCH_BAR = "{percentage:3.0f}%|{bar:20}| {n:.1f}/{total:.0f} songs [{elapsed}<{remaining}{postfix}] {desc}"
LISTED = 20  # songs that remain, of those that do
LISTED_KINDS = 6
PROGRESS_SECONDS = 1.0  # at most so often a song


class JsonVoice:
    """One JSON object a line on standard error; the stems' paths on standard output, as ever."""

    def __init__(self, lists_stems: bool) -> None:
        self._lists_stems = lists_stems
        self._told: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            now = time.monotonic()
            if now - self._told.get(event.path, now - PROGRESS_SECONDS) < PROGRESS_SECONDS:
                return
            self._told[event.path] = now
        say(as_json(event), err=True)
        if isinstance(event, FileDone):
            self._told.pop(event.path, None)
            if self._lists_stems and not event.skipped:
                _print_stems(event)

    def close(self) -> None:
        pass


class HumanVoice:
    """Lines, and one bar: a song's seconds, or for several the songs and the hours of music per hour."""

    def __init__(self, quiet: bool, verbose: bool, lists_stems: bool) -> None:
        self._quiet = quiet
        self._lists_stems = lists_stems
        self._verbose = verbose
        self._songs = 0
        self._bar: tqdm | None = None
        self._fractions: dict[str, float] = {}  # of the songs at work

    def __call__(self, event: Event) -> None:
        match event:
            case BatchStart():
                self._songs = event.songs
                self._detail(f"model {event.model} on {event.device}: {', '.join(event.stems)}")
            case FileStart():
                self._open_bar(event)
            case Progress():
                self._advance(event)
            case FileDone():
                self._done(event)
            case FileFailed():
                self._step(event.path)
                say_above_bar(f"Error: {event.reason}")
            case Note():
                self._note(event.text)
            case Summary():
                self._sum_up(event)
            case Planned():
                length = "unknown length" if event.seconds is None else f"{event.seconds:.1f} s"
                say_path(f"{event.path}: {event.why or 'stems are there'}, {length}")
            case Plan():
                say(_described(event))
                self._name_left_out(event)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _open_bar(self, event: FileStart) -> None:
        self._fractions[event.path] = 0.0
        if self._bar is None:
            single = self._songs == 1
            self._bar = tqdm(
                total=None if single else self._songs,
                desc=in_line(event.track),
                disable=True if self._quiet else None,  # None: where standard error is no terminal
                leave=False,
                bar_format=SONG_BAR_WITHOUT_TOTAL if single else BATCH_BAR,
                smoothing=0,
                **_shape(),
            )

    def _advance(self, event: Progress) -> None:
        bar = self._bar
        assert bar is not None
        if event.songs == 1:
            if event.total_seconds:
                bar.total, bar.bar_format = event.total_seconds, SONG_BAR
            bar.set_postfix_str(f"{event.speed:.1f}× real time", refresh=False)
            bar.update(event.done_seconds - bar.n)
            if event.done_seconds == event.total_seconds:
                bar.refresh()
            return
        fraction = event.done_seconds / event.total_seconds if event.total_seconds else 0.0
        more, self._fractions[event.path] = fraction - self._fractions.get(event.path, 0.0), fraction
        total = f"/{event.total_seconds:.0f}" if event.total_seconds else ""
        bar.set_description_str(f"{in_line(event.track)} {event.done_seconds:.0f}{total} s", refresh=False)
        bar.set_postfix_str(f"{event.batch_speed:.1f} hours of music per hour", refresh=False)
        bar.update(more)

    def _step(self, path: str | None) -> None:
        """A song is over: it counts as one, however far it was."""
        more = 1.0 - self._fractions.pop(path or "", 0.0)
        if self._bar is not None and self._songs > 1:
            self._bar.update(more)

    def _done(self, event: FileDone) -> None:
        self._step(event.path)
        if event.skipped:
            say = self._note if self._songs == 1 else self._detail
            say(f"{event.path}: skipped, its stems are there; separate it again with --overwrite always")
            return
        if event.gain < 1:
            lowered = -20 * log10(event.gain)
            self._note(f"{event.path}: stems lowered by {lowered:.1f} dB, all alike, to stay below full scale")
        if event.clipped_samples:
            self._note(f"{event.path}: {event.clipped_samples} samples cut at full scale, as --clip asked for")
        self._detail(
            f"{event.path}: {event.seconds:.1f} s in {event.took_seconds:.1f} s, "
            f"{event.speed:.1f} times real time, peak {event.peak:.3f}"
        )
        if self._lists_stems:
            with tqdm.external_write_mode(file=sys.stderr):
                _print_stems(event)

    def _sum_up(self, event: Summary) -> None:
        self.close()
        self._name_left_out(event)
        if event.skipped and event.songs > 1:
            self._note(
                f"{event.skipped} of {event.songs} songs skipped, their stems are there; "
                "separate them again with --overwrite always"
            )
        if event.failed and event.songs > 1:
            say(f"{len(event.failed)} of {event.songs} inputs failed:", err=True)
            for failure in event.failed:
                say(f"  {in_line(failure.reason)}", err=True)
        if event.stopped is not None and event.stopped != INTERRUPTED:
            say(f"Error: {event.stopped}; {len(event.remaining)} songs remain:", err=True)
            for path in event.remaining[:LISTED]:
                say(f"  {in_line(path)}", err=True)
            if len(event.remaining) > LISTED:
                say(f"  and {len(event.remaining) - LISTED} more; --report FILE lists all of them", err=True)
        if event.songs > 1:
            self._detail(
                f"{event.done} songs done, {event.skipped} skipped, {len(event.failed)} failed: {event.speed:.1f} "
                f"hours of music per hour, {event.seconds / 3600:.2f} in {event.took_seconds / 3600:.2f}"
            )

    def _name_left_out(self, event: Summary | Plan) -> None:
        if event.left_out:
            kinds = sorted(event.left_out.items(), key=lambda kind: (-kind[1], kind[0]))
            texts = [f"{count} {extension or 'without one'}" for extension, count in kinds[:LISTED_KINDS]]
            more = ", …" if len(kinds) > LISTED_KINDS else ""
            self._note(
                f"not taken for songs because of their extensions: {', '.join(texts)}{more}; name such a file itself "
                "to have it separated"
            )

    def _note(self, text: str) -> None:
        if not self._quiet:
            say_above_bar(text)

    def _detail(self, text: str) -> None:
        if self._verbose:
            self._note(text)


def _described(plan: Plan) -> str:
    if not plan.to_do:
        return f"0 of {plan.songs} songs to separate"
    unknown = f" and {plan.unknown} songs of unknown length" if plan.unknown else ""
    return (
        f"{plan.to_do} of {plan.songs} songs to separate: {_duration(plan.seconds)}{unknown}, "
        f"about {_size(plan.needed_bytes)} of stems ({_size(plan.free_bytes)} free), "
        f"about {_duration(plan.estimated_seconds)} at {plan.speed:.1f}× real time"
    )


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _print_stems(event: FileDone) -> None:
    for path in event.stems.values():
        say_path(path)


def _shape() -> dict[str, int]:
    # A terminal that claims to have no columns and rows, as some pseudo-terminals do, would be shown no bar.
    try:
        return {} if os.get_terminal_size(sys.stderr.fileno()).columns else {"ncols": 100, "nrows": 24}
    except (OSError, AttributeError):  # no terminal at all, or no file at all
        return {}
