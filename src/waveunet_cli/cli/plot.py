"""`waveunet plot`: separated songs as pictures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waveunet_cli.cli import EXIT_FAILED
from waveunet_cli.cli.listen import all_done, out_option, places_argument
from waveunet_cli.cli.terminal import say

if TYPE_CHECKING:
    from waveunet_cli.listen import StemSet


@click.command()
@places_argument
@out_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(["png", "svg"]),
    default="png",
    show_default=True,
    help="Format of the pictures.",
)
def command(places: Sequence[Path], out: Path, kind: str) -> None:
    """Draw the mixture and the stems of a separated song as spectrograms on one page.

    A SONG is an audio file that was separated, or a .stem.mp4, which holds its stems. A FOLDER is one that waveunet
    separate wrote to, or any folder with stems of the same length. The axes are in seconds and Hz, and a colour means
    the same level in all of them.

    The picture spectrograms.png lies beside the stems. The command prints the path of each picture. Exit codes: 0,
    every picture is drawn; 1, some could not be drawn; 2, the command or an option is wrong.
    """
    from waveunet_cli.listen import find_stems
    from waveunet_cli.listen.plot import require_matplotlib

    require_matplotlib()
    if not all_done(lambda place: draw_pictures(find_stems(place, out), kind), places):
        raise click.exceptions.Exit(EXIT_FAILED)


def draw_pictures(found: "Iterable[StemSet]", kind: str) -> bool:
    """Draw the picture of every song and print its path. Returns whether all of them could be drawn."""
    from waveunet_cli.listen.plot import draw

    def picture(stems: "StemSet") -> None:
        path = stems.beside(f"spectrograms.{kind}")
        draw(stems, path)
        say(str(path))

    return all_done(picture, found)
