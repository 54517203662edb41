"""`waveunet listen`: pages on which separated songs are heard."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waveunet_cli.cli import EXIT_FAILED
from waveunet_cli.cli.terminal import say, say_failed
from waveunet_cli.errors import WaveUNetError

if TYPE_CHECKING:
    from waveunet_cli.listen import Page, StemSet

places_argument = click.argument(
    "places", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SONG|FOLDER..."
)
out_option = click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="separated",
    show_default=True,
    metavar="FOLDER",
    help="Folder in which the stems of a SONG are looked for.",
)


@click.command()
@places_argument
@out_option
@click.option("--open", "show", is_flag=True, help="Open the last page in the browser.")
def command(places: Sequence[Path], out: Path, show: bool) -> None:
    """Write a page on which a separated song is heard: all stems in time, each alone, or the song without it.

    A SONG is an audio file that was separated. A FOLDER is one that waveunet separate wrote to, or any folder with
    stems of the same length. If it holds several songs it gets a page index.html with links to theirs.

    The page listen.html lies beside the stems, together with a folder listen that holds the sound. It needs no network
    and no program but a browser. The command prints the path of each page. Exit codes: 0, every page is written; 1,
    some could not be written; 2, the command or an option is wrong.
    """
    from waveunet_cli.listen import write_index, write_page

    pages: list[Page] = []
    written: list[Path] = []

    def page(stems: "StemSet") -> Path:
        pages.append(write_page(stems, lambda note: say(note.text, err=True)))
        written.append(pages[-1].path)
        return pages[-1].path

    def index(place: Path) -> None:
        if place.is_dir() and len(pages) > 1:
            written.append(write_index(place, pages))
            say(str(written[-1]))
        pages.clear()

    try:
        for_each_song(places, out, page, index)
    finally:
        if show and written:
            click.launch(str(written[-1]))


def for_each_song(
    places: Sequence[Path],
    out: Path,
    work: "Callable[[StemSet], Path]",
    place_done: Callable[[Path], None] = lambda place: None,
) -> None:
    """Find the stems of every place, do the work for each song, and print the path it returns.

    What fails is said, and the rest is done all the same; the command then ends with the code for that.
    """
    from waveunet_cli.listen import find_stems

    failed = False
    for place in places:
        try:
            found = find_stems(place, out)
        except WaveUNetError as error:
            say_failed(error)
            failed = True
            continue
        for stems in found:
            try:
                say(str(work(stems)))
            except WaveUNetError as error:
                say_failed(error)
                failed = True
        place_done(place)
    if failed:
        raise click.exceptions.Exit(EXIT_FAILED)
