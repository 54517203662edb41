"""`waveunet separate`: songs and folders of songs become stems."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from waveunet_cli.audio import require_legal
from waveunet_cli.cli import EXIT_FAILED
from waveunet_cli.errors import WaveUNetError
from waveunet_cli.songs import TEMPLATE, find_songs, require_distinct, stem_paths

if TYPE_CHECKING:
    from waveunet_cli.separate import Separated

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]"
BAR_WITHOUT_TOTAL = "{desc}: {n:.0f} s [{elapsed}{postfix}]"  # tqdm cannot fill in the other one then


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT...")
@click.option("-n", "--name", default="vocals", show_default=True, help="A model's name or the path of a checkpoint.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default="separated", show_default=True, help="Output folder."
)
@click.option("--filename", default=TEMPLATE, show_default=True, help="Template below the output folder.")
@click.option("--stems", metavar="A,B", help="Write only these stems.")
@click.option("--two-stems", metavar="STEM", help="Write STEM and no_STEM, the mixture minus it.")
@click.option(
    "-d", "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]|mps", help="Where to compute."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Of the convolutions; auto is bfloat16 where the hardware has it.",
)
@click.option("--segment", type=float, metavar="SECONDS", help="How much to compute at once; less needs less memory.")
@click.option(
    "--format",
    "container",
    type=click.Choice(["wav", "flac", "ogg", "mp3"]),
    default="wav",
    show_default=True,
    help="Of the stems.",
)
@click.option("--subtype", help="Sample format, such as PCM_16, PCM_24 or FLOAT; default: like the input.")
@click.option(
    "--clip",
    type=click.Choice(["rescale", "clamp", "none"]),
    default="rescale",
    show_default=True,
    help="What to do where stems exceed full scale: one gain for all stems, cut, or nothing. Never in float.",
)
@click.option("--stereo", is_flag=True, help="Two channels also for mono songs.")
@click.option(
    "--overwrite",
    type=click.Choice(["always", "never"]),
    default="never",
    show_default=True,
    help="What to do with songs whose stems all exist.",
)
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def command(
    inputs: Sequence[Path],
    name: str,
    out: Path,
    filename: str,
    stems: str | None,
    two_stems: str | None,
    device: str,
    precision: str,
    segment: float | None,
    quiet: bool,
    verbose: bool,
    stereo: bool,
    **output: Any,
) -> None:
    """Separate songs into stems: files, and folders searched through and through.

    The paths of the stems go to standard output, everything else to standard error. Exit codes: 0 all done,
    1 some songs failed (named at the end), 2 usage.
    """
    if stems is not None and two_stems is not None:
        raise click.UsageError("--stems and --two-stems exclude each other; give one of them.")
    songs, problems = find_songs(inputs, out)
    stem_paths(out, filename, "model", "track", ["stem"], output["container"])  # refuses a bad template
    require_legal(output["container"], output["subtype"])
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    failures = [str(problem) for problem in problems]
    if songs:
        say = _Voice(quiet, verbose)
        from waveunet_cli.separate import Separator  # imports torch

        separator = Separator(
            name,
            device,
            precision,
            segment_seconds=segment,
            stems=None if stems is None else [stem.strip() for stem in stems.split(",")],
            two_stems=two_stems,
            stereo=stereo,
            report=say.note,
        )
        targets = [
            stem_paths(out, filename, separator.model.name, song.track, separator.stems, output["container"])
            for song in songs
        ]
        require_distinct(songs, (path for paths in targets for path in paths.values()))
        say.detail(f"model {separator.model.name} on {separator.placement}: {', '.join(separator.stems)}")
        for song in songs:
            started = time.perf_counter()
            try:
                with say.progress(song.track) as progress:
                    done = separator.separate_file(
                        song.path, out, track=song.track, filename=filename, progress=progress, **output
                    )
            except WaveUNetError as error:
                click.echo(f"Error: {error}", err=True)
                failures.append(str(error))
            else:
                say.done(done, time.perf_counter() - started)
    if failures:
        if len(songs) + len(problems) > 1:
            click.echo(f"{len(failures)} of {len(songs) + len(problems)} inputs failed:", err=True)
            for failure in failures:
                click.echo(f"  {failure}", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


class _Voice:
    """Everything that is said while songs are separated."""

    def __init__(self, quiet: bool, verbose: bool) -> None:
        self._quiet = quiet
        self._verbose = verbose

    def note(self, text: str) -> None:
        """What the user should know."""
        if not self._quiet:
            tqdm.write(text, file=sys.stderr)

    def detail(self, text: str) -> None:
        """What the user asked for with -v."""
        if self._verbose:
            self.note(text)

    @contextmanager
    def progress(self, track: str) -> Iterator[Callable[[float, float | None], None]]:
        """A bar on standard error if that is a terminal; gives the function to call with seconds done and in all."""
        disable = True if self._quiet else None  # None: where standard error is no terminal
        with tqdm(desc=track, disable=disable, leave=False, bar_format=BAR_WITHOUT_TOTAL, **_shape()) as bar:

            def advance(done_seconds: float, total_seconds: float | None) -> None:
                if total_seconds:
                    bar.total, bar.bar_format = total_seconds, BAR
                bar.set_postfix_str(
                    f"{done_seconds / max(bar.format_dict['elapsed'], 1e-3):.1f}× real time", refresh=False
                )
                bar.update(done_seconds - bar.n)

            yield advance

    def done(self, song: "Separated", took_seconds: float) -> None:
        """What became of a song."""
        if song.skipped:
            self.note(f"{song.path}: skipped, all stems exist; separate it again with --overwrite always")
            return
        if song.gain < 1:
            self.note(
                f"{song.path}: stems lowered by {-20 * log10(song.gain):.1f} dB, all alike, to stay below full scale"
            )
        self.detail(
            f"{song.path}: {song.seconds:.1f} s in {took_seconds:.1f} s, "
            f"{song.seconds / took_seconds:.1f} times real time, peak {song.peak:.3f}"
        )
        if not self._quiet:
            for path in song.stems.values():
                click.echo(os.fsencode(path))  # a name need not be text in the terminal's encoding


def _shape() -> dict[str, int]:
    # A terminal that claims to have no columns and rows, as some pseudo-terminals do, would be shown no bar.
    try:
        return {} if os.get_terminal_size(sys.stderr.fileno()).columns else {"ncols": 80, "nrows": 24}
    except OSError:  # no terminal at all
        return {}
