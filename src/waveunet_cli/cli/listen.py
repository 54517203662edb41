"""`waveunet listen`: pages on which separated songs are heard."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from waveunet_cli.cli import EXIT_FAILED
from waveunet_cli.cli.terminal import say, say_failed
from waveunet_cli.errors import WaveUNetError
from waveunet_cli.events import Note

if TYPE_CHECKING:
    from waveunet_cli.listen import Page, StemSet

T = TypeVar("T")

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

    A SONG is an audio file that was separated, or a .stem.mp4, which holds its stems. A FOLDER is one that waveunet
    separate wrote to, or any folder with stems of the same length. If it holds several songs it gets a page index.html
    with links to theirs.

    The page listen.html lies beside the stems, together with a folder listen that holds the sound. It needs no network
    and no program but a browser. The command prints the path of each page. Exit codes: 0, every page is written; 1,
    some could not be written; 2, the command or an option is wrong.
    """
    from waveunet_cli.listen import find_stems

    written: list[Path] = []
    try:
        is_done = all_done(lambda place: write_pages(find_stems(place, out), place, written), places)
    finally:
        if show and written:
            click.launch(str(written[-1]))
    if not is_done:
        raise click.exceptions.Exit(EXIT_FAILED)


def all_done(work: Callable[[T], bool | None], items: Iterable[T]) -> bool:
    """Do the work for every item. What fails is said, and the rest is done; returns whether nothing failed."""
    failed = False
    for item in items:
        try:
            failed |= work(item) is False
        except WaveUNetError as error:
            say_failed(error)
            failed = True
    return not failed


def write_pages(found: "Iterable[StemSet]", folder: Path, written: list[Path]) -> bool:
    """Write the page of every song, and the index of a folder of several songs; print and append their paths.

    Returns whether all of them could be written.
    """
    from waveunet_cli.listen import made, write_index, write_page

    pages: list[Page] = []

    def add(path: Path) -> None:
        written.append(path)
        say(str(path))

    def note(event: Note) -> None:
        say(event.text, err=True)

    def page(stems: "StemSet") -> None:
        pages.append(write_page(stems, note))
        add(pages[-1].path)

    is_done = all_done(page, found)
    is_done &= remove_stale_pages((page.path.parent for page in pages), note)
    if folder.is_dir() and (len(pages) > 1 or (pages and made(folder / "index.html"))):
        is_done &= all_done(lambda folder: add(write_index(folder, pages)), [folder])
    return is_done


def remove_stale_pages(folders: Iterable[Path], on_event: Callable[[Note], None]) -> bool:
    """Remove pages whose stems have changed since. Gives `on_event` a Note for each.

    Returns whether all of them could be removed.
    """
    from waveunet_cli.listen import remove_misleading

    def remove(folder: Path) -> None:
        for path in remove_misleading(folder):
            on_event(Note(f"{path}: was of other stems, and is removed; waveunet listen writes a new one"))

    return all_done(remove, dict.fromkeys(folders))
