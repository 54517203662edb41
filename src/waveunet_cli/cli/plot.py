"""`waveunet plot`: separated songs as pictures."""

from collections.abc import Sequence
from pathlib import Path

import click

from waveunet_cli.cli.listen import for_each_song, out_option, places_argument


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

    A SONG is an audio file that was separated. A FOLDER is one that waveunet separate wrote to, or any folder with
    stems of the same length. The axes are in seconds and Hz, and a colour means the same level in all of them.

    The picture spectrograms.png lies beside the stems. The command prints the path of each picture. Exit codes: 0,
    every picture is drawn; 1, some could not be drawn; 2, the command or an option is wrong.
    """
    from waveunet_cli.listen.plot import draw, require_matplotlib
    from waveunet_cli.listen.stemset import StemSet

    require_matplotlib()

    def picture(stems: StemSet) -> Path:
        path = stems.beside(f"spectrograms.{kind}")
        draw(stems, path)
        return path

    for_each_song(places, out, picture)
