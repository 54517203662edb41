"""`waveunet evaluate`: separations, or stems that are on disk, scored against the true ones."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from waveunet_cli.cli import EXIT_FAILED
from waveunet_cli.cli.options import device_option, name_option, precision_option
from waveunet_cli.events import Event, Note

if TYPE_CHECKING:
    from waveunet_cli.evaluate.evaluation import EvaluationEvent


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="TESTSET...")
@name_option
@click.option(
    "--estimates", type=click.Path(path_type=Path), metavar="FOLDER", help="Score the stems in there instead."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="evaluation",
    show_default=True,
    help="Folder of the scores and pictures.",
)
@click.option("--stems", metavar="A,B", help="Score only these stems.")
@click.option("--quick", is_flag=True, help="Only whole songs' SDR and SI-SDR: no BSSEval, no pictures, little memory.")
@device_option
@precision_option
@click.option("-q", "--quiet", is_flag=True, help="Only errors and the table.")
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
    """Score separations of a test set: TESTSET/<song>/<stem>.wav, TESTSET/test/<song>/<stem>.wav, or a song's folder.

    The mixture is the file mixture.wav or the sum of the stems. Measures are BSSEval v4's SDR, ISR, SIR and SAR in
    frames of a second, as museval computes them, and the SDR, its improvement over the mixture, and the SI-SDR of
    whole songs. The table goes to standard output; scores.json, statistics.csv, frames.csv and a picture of each stem
    to the output folder, which is up to date after every song. Exit codes: 0 all done, 1 some songs could not be
    scored, 2 usage.
    """
    from waveunet_cli.evaluate.evaluation import SongBegins, SongFailed, evaluate, require_installed  # imports torch
    from waveunet_cli.separator import Separator

    require_installed(quick)  # before a model is downloaded
    wanted = None if stems is None else tuple(stem.strip() for stem in stems.split(","))
    with tqdm(unit="song", disable=True if quiet else None, dynamic_ncols=True) as bar:

        def show(event: "Event | EvaluationEvent") -> None:
            if isinstance(event, Note) and not quiet:
                tqdm.write(event.text, file=sys.stderr)
            elif isinstance(event, SongFailed):
                click.echo(f"Error: {event.reason}", err=True)
            elif isinstance(event, SongBegins):
                bar.total = event.songs
                bar.set_postfix_str(event.song, refresh=False)
                bar.update(event.done - bar.n)

        if estimates is not None:
            found = evaluate(folders, estimates=estimates, stems=wanted, quick=quick, out=out, on_event=show)
        else:
            separator = Separator(name, device, precision, stems=wanted, on_event=show)
            found = evaluate(folders, separator, quick=quick, out=out, on_event=show)
        bar.update((bar.total or 0) - bar.n)
    if found.scores:
        click.echo(found.table)
    if found.failures:
        songs = len(found.failures) + len({score.song for score in found.scores})
        click.echo(f"{len(found.failures)} of {songs} songs could not be scored.", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)
