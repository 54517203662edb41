"""Scoring the songs of test sets: a model's separations, or stems that are on disk already."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import waveunet_cli
from waveunet_cli.errors import AudioWriteError, ConfigError, WaveUNetError
from waveunet_cli.evaluate import report
from waveunet_cli.evaluate.measure import Audio, StemScore, estimates_of, measure, mixture_of, require_museval
from waveunet_cli.evaluate.testset import ScoredSong, find_scored_songs, stems_of, with_estimates
from waveunet_cli.events import Note
from waveunet_cli.separator import Separator
from waveunet_cli.text import one_line


@dataclass(frozen=True)
class SongBegins:
    """A song is about to be scored, after `done` of `songs`."""

    song: str
    done: int
    songs: int


@dataclass(frozen=True)
class SongFailed:
    """A song is passed over; `reason` says in one line why."""

    reason: str


EvaluationEvent = Note | SongBegins | SongFailed


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    scores    one for each stem of each song that could be scored, song after song
    failures  a line for each song that could not be scored
    """

    scores: tuple[StemScore, ...]
    failures: tuple[str, ...]

    @property
    def table(self) -> str:
        """The scores and their statistics as text."""
        return report.table(self.scores)


def require_installed(quick: bool) -> None:
    """Raise ConfigError where a program is missing that an evaluation needs; one that is `quick` needs none."""
    if not quick:
        require_museval()
        report.require_matplotlib()


def evaluate(
    folders: Sequence[str | Path],
    separator: Separator | None = None,
    *,
    estimates: str | Path | None = None,
    stems: Sequence[str] | None = None,
    quick: bool = False,
    out: str | Path | None = None,
    on_event: Callable[[EvaluationEvent], None] = lambda event: None,
) -> Evaluation:
    """Score separations of test sets, or stems that are on disk, against the true stems.

    folders    test sets (<song>/<stem>.wav or test/<song>/<stem>.wav), or folders of one song each
    separator  separates the songs' mixtures. Its stems are scored
    estimates  instead of a separator: a folder with the stems to score
    stems      which stems of `estimates` to score, by default all that it has
    quick      measure whole songs only: no BSSEval, no pictures, little memory
    out        folder for scores.json, statistics.csv and frames.csv, which are complete after every song, and a
               picture of each stem. By default nothing is written
    on_event   called before each song, for each song that fails, and for what there is to note

    A song that cannot be scored is passed over. Raises ConfigError for a folder without songs, for a setting that does
    not apply, and where museval or matplotlib is not installed; AudioWriteError if `out` cannot be written.
    """
    if (separator is None) == (estimates is None):
        raise ConfigError("evaluate: needs either a separator or a folder of estimates; give one of them")
    if separator is not None and stems is not None:
        raise ConfigError("evaluate: a separator's own stems are scored; choose them with Separator(stems=…)")
    require_installed(quick)
    source = separator if separator is not None else Path(estimates or "")
    wanted = source.stems if isinstance(source, Separator) else tuple(stems or stems_of(source))
    songs, failures = find_scored_songs([Path(folder) for folder in folders], wanted)
    for reason in failures:
        on_event(SongFailed(reason))
    about: dict[str, Any] = {
        "waveunet": waveunet_cli.__version__,
        "model": separator.model.name if separator else None,
        "estimates": str(estimates) if estimates else None,
        "test set": [str(folder) for folder in folders],
        "left out": failures,
    }
    scores: list[StemScore] = []
    for done, song in enumerate(songs):
        on_event(SongBegins(song.name, done, len(songs)))
        try:
            song, blocks = _estimated(song, source, wanted)
            found, notes = measure(song, wanted, blocks, frames=not quick)
        except WaveUNetError as error:
            failures.append(str(error))
            on_event(SongFailed(str(error)))
            continue
        for text in [*([song.note] if song.note else []), *notes]:
            on_event(Note(text))
        scores += found
        if out is not None:
            _write(Path(out), scores, about)
    if out is not None and not quick:
        for stem in report.stems_in(scores):
            report.draw(Path(out) / f"{stem}.png", [score for score in scores if score.stem == stem])
    return Evaluation(tuple(scores), tuple(failures))


def _estimated(
    song: ScoredSong, source: Separator | Path, stems: Sequence[str]
) -> tuple[ScoredSong, Iterator[Mapping[str, Audio]]]:
    """A song and its estimates in blocks. Raises AudioReadError."""
    if isinstance(source, Separator):
        return song, source.stream(mixture_of(song), song.truth.sample_rate_hz)
    song = with_estimates(song, source)
    return song, estimates_of(song, stems)


def _write(out: Path, scores: Sequence[StemScore], about: dict[str, Any]) -> None:
    try:
        report.write(out, scores, about)
    except OSError as error:
        raise AudioWriteError(f"{out}: scores cannot be written ({one_line(error)}); choose another --out") from error
