"""`waveunet separate`: songs and folders of songs become stems."""

import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from waveunet_cli.audio.sinks import explained
from waveunet_cli.cli import EXIT_FAILED, loading_torch
from waveunet_cli.cli.interrupts import INTERRUPTS, interrupts
from waveunet_cli.cli.listen import all_done, remove_stale_pages, write_pages
from waveunet_cli.cli.options import (
    device_option,
    name_option,
    names,
    offline_option,
    precision_option,
    registry_option,
)
from waveunet_cli.cli.plot import draw_pictures
from waveunet_cli.cli.report import require_replaceable, write_report
from waveunet_cli.cli.target_options import target_options
from waveunet_cli.cli.voice import HumanVoice, JsonVoice
from waveunet_cli.errors import ConfigError
from waveunet_cli.events import Event, FileDone, Plan, Summary
from waveunet_cli.hub import load_model
from waveunet_cli.library.batch import RayCluster, plan_songs, separate_songs
from waveunet_cli.library.target import MIX

if TYPE_CHECKING:
    from waveunet_cli.networks.spleeter import MaskExtension
    from waveunet_cli.separator import Separator

DEFAULT_JOBS = 2


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@name_option
@click.option(
    "-o",
    "--out",
    default="separated",
    show_default=True,
    metavar="FOLDER",
    help="Folder to write the stems to, or an address such as s3://bucket/folder.",
)
@click.option("--beside", is_flag=True, help="Write the stems of each song into its own folder.")
@click.option(
    "--stdout",
    "streamed",
    metavar="STEM",
    help="Write this stem of the one INPUT to standard output, as a WAV file, and no other file.",
)
@click.option("--stems", callback=names, metavar="A,B", help="Write only these stems, separated by commas.")
@click.option("--two-stems", metavar="STEM", help="Write STEM, and no_STEM, which is the song minus STEM.")
@target_options
@device_option
@precision_option
@click.option(
    "--segment",
    type=float,
    metavar="SECONDS",
    help="Length of music to compute at once; less needs less memory and more time.",
)
@click.option(
    "--page",
    is_flag=True,
    help="Write a page beside the stems that plays them in a browser, as waveunet listen does.",
)
@click.option(
    "--picture",
    is_flag=False,
    flag_value="png",  # of --picture without a value
    type=click.Choice(["png", "svg"]),
    help="Draw the song and its stems as spectrograms, as waveunet plot does; png if no format is named.",
)
@click.option("--stereo", is_flag=True, help="Write two channels for mono songs, too.")
@click.option(
    "--mask-extension",
    type=click.Choice(["average", "zeros"]),
    help="For Spleeter models, which hear nothing above 11 kHz: what their stems get of what is there. average is "
    "their mean share of what is below; zeros is nothing, as in Spleeter itself, and then all of it goes to "
    "accompaniment or other.  [default: average]",
)
@click.option(
    "--overwrite",
    type=click.Choice(["always", "never", "changed"]),
    default="changed",
    show_default=True,
    help="Which songs are separated again although their stems exist: all (always), none (never), or those whose "
    "input, model, settings or stems have changed (changed).",
)
@registry_option
@offline_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 64),
    default=DEFAULT_JOBS,
    show_default=True,
    help="Number of songs at work at once. While one is computed, others are read and written.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where songs are separated: in this process, or by workers of a Ray cluster that sees the same folders.",
)
@click.option(
    "--ray-address", metavar="auto|HOST:PORT", help="Address of the Ray cluster.  [default: a new one on this machine]"
)
@click.option(
    "--worker-cores",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Processor cores of each worker, if the cluster has no GPU. If it has GPUs, each GPU has one worker.",
)
@click.option("--strict", is_flag=True, help="Stop at the first song that fails.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Separate nothing; print how many songs would be separated, their hours, the disk space and the time.",
)
@click.option(
    "--progress",
    "progress_as",
    type=click.Choice(["bar", "json"]),
    default="bar",
    show_default=True,
    help="How to report progress on standard error: a bar for people, or one JSON object a line for programs.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the summary to FILE, as JSON.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print more: the model, the device, and the speed of every song.")
def command(
    inputs: Sequence[str],
    out: str,
    beside: bool,
    streamed: str | None,
    name: str,
    registry: str | None,
    offline: bool | None,
    stems: tuple[str, ...] | None,
    two_stems: str | None,
    device: str,
    precision: str,
    segment: float | None,
    stereo: bool,
    mask_extension: "MaskExtension | None",
    jobs: int,
    strict: bool,
    engine: str,
    ray_address: str | None,
    worker_cores: int,
    dry_run: bool,
    report: Path | None,
    page: bool,
    picture: str | None,
    progress_as: str,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Separate songs into stems. An INPUT is an audio file, or a folder that is searched with its subfolders, or - for
    a song on standard input.

    The command prints the paths of the stems on standard output and everything else on standard error. If it was
    interrupted, give it again: it separates what is missing. Exit codes: 0, every song is done; 1, some songs failed
    and are named at the end, or the paths could not be printed; 2, the command or an option is wrong; 130, it was
    interrupted.
    """
    context = click.get_current_context()
    context.with_resource(interrupts(_interrupt))
    if stems is not None and two_stems is not None:
        raise click.UsageError("--stems and --two-stems exclude each other; give one of them.")
    if beside and _is_given(context, "out"):
        raise click.UsageError("--beside and --out exclude each other; give one of them.")
    place: str | None = None if beside else out
    if streamed is not None:
        if dry_run or beside or page or picture or len(inputs) != 1 or Path(inputs[0]).is_dir():
            raise click.UsageError("--stdout takes one song, and neither --beside, --page, --picture nor --dry-run.")
        _require_streaming(context, settings["container"])
        place = context.with_resource(TemporaryDirectory(prefix="waveunet-"))
        settings |= {"container": "wav", "filename": "{stem}.{ext}"}
        stems = stems or (None if two_stems or settings["mix"] else (streamed,))
    if report is not None:
        require_replaceable(report)
    if (page or picture) and "://" in out:
        raise click.UsageError("--page and --picture need the stems on this machine; name a folder with --out.")
    if picture:
        from waveunet_cli.listen.plot import require_matplotlib

        require_matplotlib()
    lists_stems = not quiet and streamed is None
    voice = JsonVoice(lists_stems) if progress_as == "json" else HumanVoice(quiet, verbose, lists_stems)
    context.call_on_close(voice.close)
    ends: list[Summary | Plan] = []
    done: list[Mapping[str, str]] = []  # the stems of every song

    def on_event(event: Event) -> None:
        if isinstance(event, Summary | Plan):
            ends.append(event)
        if isinstance(event, FileDone):
            done.append(event.stems)
        voice(event)

    def separator() -> "Separator":
        with loading_torch():
            from waveunet_cli.separator import Separator

        made = Separator(
            lambda: load_model(name, registry=registry, offline=offline, on_event=on_event, progress=not quiet),
            device,
            precision,
            segment_seconds=segment,
            stems=stems,
            two_stems=two_stems,
            stereo=stereo,
            mask_extension=mask_extension,
            on_event=on_event,
        )
        if streamed is not None:
            written = (*made.stems, MIX) if settings["mix"] else made.stems
            if streamed not in written:
                raise ConfigError(f"--stdout {streamed}: no such stem; choose one of {', '.join(written)}")
        return made

    try:
        if dry_run:
            plan_songs(inputs, place, separator, on_event=on_event, **settings)
        else:
            cluster = RayCluster(ray_address, worker_cores) if engine == "ray" else None
            separate_songs(
                inputs, place, separator, jobs=jobs, strict=strict, cluster=cluster, on_event=on_event, **settings
            )
    finally:
        if report is not None and ends:
            write_report(report, ends[-1])
    if streamed is None and not page and "://" not in out:
        remove_stale_pages((Path(next(iter(stems.values()))).parent for stems in done), voice)
    shown = not (page or picture) or all_done(lambda out: _show(done, out, page, picture), [Path(out)])
    if streamed is not None and done:
        _stream(done[0], streamed)
    if not shown or ends[-1].failed or (isinstance(ends[-1], Summary) and ends[-1].remaining):
        raise click.exceptions.Exit(EXIT_FAILED)


def _is_given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is ParameterSource.COMMANDLINE


def _require_streaming(context: click.Context, container: str) -> None:
    """Raise UsageError unless a stem can go to standard output, as WAV."""
    given = {each for each in ("container", "filename", "out") if _is_given(context, each)}
    if given - ({"container"} if container == "wav" else set()):
        raise click.UsageError("--stdout writes a WAV file; leave --format, --filename and --out out.")
    if not hasattr(sys.stdout, "buffer"):
        raise click.UsageError("--stdout: standard output takes only text here; leave the option out.")
    if sys.stdout.isatty():
        raise click.UsageError("--stdout: standard output is a terminal; send it to a file or a program.")


def _stream(stems: Mapping[str, str], stem: str) -> None:
    """Copy a stem to standard output."""
    with explained("standard output"), Path(stems[stem]).open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _show(stems: Sequence[Mapping[str, str]], out: Path, page: bool, picture: str | None) -> bool:
    """Write what --page and --picture ask for; returns whether all of it could be written."""
    from waveunet_cli.listen import stems_at

    # songs come in the order in which they were done
    found = stems_at(sorted(Path(next(iter(each.values()))) for each in stems))
    pages = not page or write_pages(found, out, [])
    return (picture is None or draw_pictures(found, picture)) and pages


def _interrupt(number: int, frame: object) -> None:
    for each in INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)  # cleaning up takes a moment; a second Ctrl-C must not cut it short
    raise KeyboardInterrupt
