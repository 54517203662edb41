"""`waveunet separate`: songs and folders of songs become stems."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waveunet_cli.audio import CONTAINERS
from waveunet_cli.audio.sinks import explained
from waveunet_cli.cli import EXIT_FAILED
from waveunet_cli.cli.options import device_option, name_option, offline_option, precision_option, registry_option
from waveunet_cli.cli.voice import HumanVoice, JsonVoice
from waveunet_cli.events import Event, Plan, Summary
from waveunet_cli.files import whole_file
from waveunet_cli.hub import load_model
from waveunet_cli.library.batch import RayCluster, plan_songs, separate_songs
from waveunet_cli.library.names import TEMPLATE

if TYPE_CHECKING:
    from waveunet_cli.networks.spleeter import MaskExtension
    from waveunet_cli.separator import Separator

DEFAULT_JOBS = 2
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


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
@click.option(
    "--filename", default=TEMPLATE, show_default=True, help="Template of a stem's path below the output folder."
)
@click.option("--stems", metavar="A,B", help="Write only these stems, separated by commas.")
@click.option("--two-stems", metavar="STEM", help="Write STEM, and no_STEM, which is the song minus STEM.")
@device_option
@precision_option
@click.option(
    "--segment",
    type=float,
    metavar="SECONDS",
    help="Length of music to compute at once; less needs less memory and more time.",
)
@click.option(
    "--format",
    "container",
    type=click.Choice(list(CONTAINERS)),
    default="wav",
    show_default=True,
    help="File format of the stems.",
)
@click.option(
    "--subtype",
    help="Sample format of the stems, such as PCM_16, PCM_24 or FLOAT.  [default: the nearest to the input's]",
)
@click.option(
    "--clip",
    type=click.Choice(["rescale", "clamp", "none"]),
    default="rescale",
    show_default=True,
    help="What happens if a stem is louder than its format can hold. rescale lowers all stems of the song by one gain, "
    "clamp cuts the samples, none cuts them only where the format must. Float stems keep their samples.",
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
    name: str,
    registry: str | None,
    offline: bool | None,
    stems: str | None,
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
    progress_as: str,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Separate songs into stems. An INPUT is an audio file, or a folder that is searched with its subfolders.

    The command prints the paths of the stems on standard output and everything else on standard error. If it was
    interrupted, give it again: it separates what is missing. Exit codes: 0, every song is done; 1, some songs failed
    and are named at the end; 2, the command or an option is wrong; 130, it was interrupted.
    """
    before = {number: signal.signal(number, _interrupt) for number in INTERRUPTS}
    context = click.get_current_context()
    context.call_on_close(lambda: [signal.signal(*item) for item in before.items()])
    if stems is not None and two_stems is not None:
        raise click.UsageError("--stems and --two-stems exclude each other; give one of them.")
    if report is not None and not (report.parent.is_dir() and os.access(report.parent, os.W_OK)):
        raise click.UsageError(f"--report {report}: {report.parent} is no folder to write to; make it or name another.")
    voice = JsonVoice(quiet) if progress_as == "json" else HumanVoice(quiet, verbose)
    context.call_on_close(voice.close)
    ends: list[Summary | Plan] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Summary | Plan):
            ends.append(event)
        voice(event)

    def separator() -> "Separator":
        from waveunet_cli.separator import Separator  # imports torch

        model = load_model(name, registry=registry, offline=offline, on_event=on_event, progress=not quiet)
        names = None if stems is None else [stem.strip() for stem in stems.split(",")]
        return Separator(
            model,
            device,
            precision,
            segment_seconds=segment,
            stems=names,
            two_stems=two_stems,
            stereo=stereo,
            mask_extension=mask_extension,
            on_event=on_event,
        )

    try:
        if dry_run:
            plan_songs(inputs, out, separator, on_event=on_event, **settings)
        else:
            cluster = RayCluster(ray_address, worker_cores) if engine == "ray" else None
            separate_songs(
                inputs, out, separator, jobs=jobs, strict=strict, cluster=cluster, on_event=on_event, **settings
            )
    finally:
        if report is not None and ends:
            with explained(report), whole_file(report) as temporary:
                temporary.write_text(json.dumps(asdict(ends[-1]), indent=1) + "\n", encoding="utf-8")
    if ends[-1].failed or (isinstance(ends[-1], Summary) and ends[-1].remaining):
        raise click.exceptions.Exit(EXIT_FAILED)


def _interrupt(number: int, frame: object) -> None:
    for each in INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)  # cleaning up takes a moment; a second Ctrl-C must not cut it short
    raise KeyboardInterrupt
