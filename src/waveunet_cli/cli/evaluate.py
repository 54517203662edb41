"""`waveunet evaluate`: separations, or other people's stems, scored against the true ones."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

import waveunet_cli
from waveunet_cli.cli import EXIT_FAILED
from waveunet_cli.cli.options import device_option, name_option, precision_option
from waveunet_cli.errors import AudioWriteError, WaveUNetError
from waveunet_cli.events import Event, Note

if TYPE_CHECKING:
    from waveunet_cli.evaluate.measure import StemScore
    from waveunet_cli.separator import Separator


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="TESTSET...")
@name_option
@click.option(
    "--estimates",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Separate nothing; score the stems in FOLDER.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="evaluation",
    show_default=True,
    help="Folder to write the scores and pictures to.",
)
@click.option("--stems", metavar="A,B", help="Score only these stems.")
@click.option(
    "--quick",
    is_flag=True,
    help="Compute only the SDR and SI-SDR of whole songs. This needs neither museval nor ffmpeg, and little memory.",
)
@device_option
@precision_option
@click.option("-q", "--quiet", is_flag=True, help="Print only errors and the table.")
def command(
    folders: Sequence[Path],
    name: str,
    estimates: Path | None,
    out: Path,
    stems: str | None,
    quick: bool,
    device: str,
    precision: str,
    quiet: bool,
) -> None:
    """Separate the songs of a test set and score the stems.

    A TESTSET holds files <song>/<stem>.wav or test/<song>/<stem>.wav, or is the folder of one song. The mixture is the
    file mixture.wav, or the sum of the stems.

    The measures are SDR, ISR, SIR and SAR of BSSEval v4 in frames of a second, as museval computes them, and for whole
    songs the SDR, its improvement over the mixture's, and the SI-SDR. The command prints a table on standard output. It
    writes scores.json, statistics.csv, frames.csv and a picture of each stem to the folder --out, anew after every
    song. Exit codes: 0, every song is scored; 1, some songs could not be scored; 2, the command or an option is wrong.
    """
    from waveunet_cli import separator as separate  # imports torch
    from waveunet_cli.evaluate import measure, report, testset

    if not quick:
        measure.require_museval()
        report.require_matplotlib()
    wanted = None if stems is None else tuple(stem.strip() for stem in stems.split(","))
    separator: Separator | None = None

    def say(event: Event) -> None:
        if isinstance(event, Note):
            _say(event.text, quiet)

    if estimates is not None:
        wanted = wanted or testset.stems_of(estimates)
    else:
        separator = separate.Separator(name, device, precision, stems=wanted, on_event=say)
        wanted = separator.stems
    songs, failures = testset.find_songs(folders, wanted)
    all_songs = len(songs) + len(failures)
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    about: dict[str, Any] = {
        "waveunet": waveunet_cli.__version__,
        "model": separator.model.name if separator else None,
        "estimates": str(estimates) if estimates else None,
        "test set": [str(folder) for folder in folders],
        "left out": failures,
    }
    scores: list[StemScore] = []
    with _bar(len(songs), quiet) as bar:
        for song in songs:
            bar.set_postfix_str(song.name)
            try:
                if separator is not None:
                    blocks = separator.stream(measure.mixture_of(song), song.truth.sample_rate_hz)
                else:
                    assert estimates is not None
                    song = testset.with_estimates(song, estimates)
                    if song.note:
                        _say(song.note, quiet)
                    blocks = measure.estimates_of(song, wanted)
                found, problems = measure.measure(song, wanted, blocks, frames=not quick)
            except WaveUNetError as error:
                click.echo(f"Error: {error}", err=True)
                failures.append(str(error))
            else:
                for problem in problems:
                    _say(problem, quiet)
                scores += found
                _write(out, scores, about)
            bar.update()
    if scores:
        click.echo(report.table(scores))
        if not quick:
            for stem in report.stems_in(scores):
                report.draw(out / f"{stem}.png", [score for score in scores if score.stem == stem])
    if failures:
        click.echo(f"{len(failures)} of {all_songs} songs could not be scored.", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


def _write(out: Path, scores: "list[StemScore]", about: dict[str, Any]) -> None:
    from waveunet_cli.evaluate import report

    try:
        report.write(out, scores, about)
    except OSError as error:
        raise AudioWriteError(f"{out}: scores cannot be written ({error}); choose another --out") from error


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        tqdm.write(text, file=sys.stderr)


@contextmanager
def _bar(songs: int, quiet: bool) -> Iterator[Any]:
    with tqdm(total=songs, unit="song", disable=True if quiet else None, dynamic_ncols=True) as bar:
        yield bar
