"""Songs separated, or read as other programs separated them, and scored one after the other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import waveunet_cli
from waveunet_cli.errors import AudioReadError, AudioWriteError, WaveUNetError
from waveunet_cli.evaluate import report
from waveunet_cli.evaluate.measure import StemScore, estimates_of, measure, mixture_of, require_museval
from waveunet_cli.evaluate.testset import find_test_songs, stems_of, with_estimates
from waveunet_cli.events import FileFailed, FileStart, Note
from waveunet_cli.separator import Separator


@dataclass(frozen=True)
class SongScored:
    """A song is done; `scores` is empty if it failed. It is song `number` of `songs`."""

    number: int
    songs: int
    scores: tuple[StemScore, ...]


@dataclass(frozen=True)
class Scores:
    """What an evaluation found.

    songs     how many songs there were
    stems     the score of each stem of each song
    failures  a line for each song that could not be scored
    """

    songs: int
    stems: tuple[StemScore, ...]
    failures: tuple[str, ...]


EvaluationEvent = FileStart | FileFailed | SongScored | Note


def evaluate(
    testset: Path | Sequence[Path],
    judged: Separator | Path,
    *,
    stems: Sequence[str] | None = None,
    quick: bool = False,
    out: Path | None = None,
    on_event: Callable[[EvaluationEvent], None] = lambda event: None,
) -> Scores:
    """Score what a separator makes of the songs of a test set, or the stems that a folder has of them.

    testset  folders as `find_test_songs` takes them
    judged   a Separator, or a folder of estimates: <judged>/<song>/<stem>.wav or <judged>/test/<song>/<stem>.wav
    stems    the stems to score; by default those of the separator or of the folder
    quick    only the measures of whole songs: no BSSEval, no pictures, little memory
    out      a folder for scores.json, statistics.csv and frames.csv, which are written anew after each song, and for a
             picture of each stem

    A song that cannot be scored is passed over: it is a FileFailed event and one of the failures in the result. Raises
    ConfigError for folders that are no test set or hold no estimates and for programs that are not installed,
    AudioWriteError if `out` cannot be written.
    """
    folders = [testset] if isinstance(testset, Path) else list(testset)
    if not quick:
        require_museval()
        if out is not None:
            report.require_matplotlib()
    if stems is None:
        stems = judged.stems if isinstance(judged, Separator) else stems_of(judged)
    songs, failures = find_test_songs(folders, stems)
    total = len(songs) + len(failures)
    for failure in failures:
        on_event(FileFailed(None, None, AudioReadError.__name__, failure))
    about: dict[str, Any] = {
        "waveunet": waveunet_cli.__version__,
        "model": judged.model.name if isinstance(judged, Separator) else None,
        "estimates": None if isinstance(judged, Separator) else str(judged),
        "test set": [str(folder) for folder in folders],
        "left out": failures,
    }
    scores: list[StemScore] = []
    for number, song in enumerate(songs, total - len(songs) + 1):
        on_event(FileStart(song.truth.name, song.name))
        found: list[StemScore] = []
        try:
            if isinstance(judged, Separator):
                estimates = judged.stream(mixture_of(song), song.truth.sample_rate_hz)
            else:
                song = with_estimates(song, judged)
                if song.note:
                    on_event(Note(song.note))
                estimates = estimates_of(song, stems)
            found, problems = measure(song, stems, estimates, frames=not quick)
        except WaveUNetError as error:
            failures.append(str(error))
            on_event(FileFailed(song.truth.name, song.name, type(error).__name__, str(error)))
        else:
            for problem in problems:
                on_event(Note(problem))
            scores += found
            if out is not None:
                with _writing(out):
                    report.write(out, scores, about)
        on_event(SongScored(number, total, tuple(found)))
    if out is not None and not quick:
        with _writing(out):
            for stem in report.stems_in(scores):
                report.draw(out / f"{stem}.png", [score for score in scores if score.stem == stem])
    return Scores(total, tuple(scores), tuple(failures))


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AudioWriteError(f"{out}: scores cannot be written ({error}); choose another --out") from error
