"""`waveunet evaluate`: separations, or stems that are on disk, scored against the true ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from waveunet_cli.cli import EXIT_FAILED
from waveunet_cli.cli.options import device_option, name_option, names, precision_option
from waveunet_cli.cli.terminal import say, say_above_bar
from waveunet_cli.events import Event, Note
from waveunet_cli.files import require_folder
from waveunet_cli.text import in_line

if TYPE_CHECKING:
    from waveunet_cli.evaluate.evaluation import EvaluationEvent


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
@click.option("--stems", callback=names, metavar="A,B", help="Score only these stems.")
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
    stems: tuple[str, ...] | None,
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
    from waveunet_cli.datasets.tracks import require_songs
    from waveunet_cli.evaluate.evaluation import SongBegins, SongFailed, evaluate, require_installed  # imports torch
    from waveunet_cli.separator import Separator

    require_installed(quick)  # all this before a model is downloaded
    require_folder(out)
    for folder in folders:
        require_songs(folder)
    with tqdm(unit="song", disable=True if quiet else None, dynamic_ncols=True) as bar:

        def show(event: "Event | EvaluationEvent") -> None:
            if isinstance(event, Note) and not quiet:
                say_above_bar(event.text)
            elif isinstance(event, SongFailed):
                say_above_bar(f"Error: {event.reason}")
            elif isinstance(event, SongBegins):
                bar.total = event.songs
                bar.set_postfix_str(in_line(event.song), refresh=False)
                bar.update(event.done - bar.n)

        if estimates is not None:
            found = evaluate(folders, estimates=estimates, stems=stems, quick=quick, out=out, on_event=show)
        else:
            separator = Separator(name, device, precision, stems=stems, on_event=show)
            found = evaluate(folders, separator, quick=quick, out=out, on_event=show)
        bar.update((bar.total or 0) - bar.n)
    if found.scores:
        say(found.table)
    if found.failures:
        songs = len(found.failures) + len({score.song for score in found.scores})
        say(f"{len(found.failures)} of {songs} songs could not be scored.", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)
