"""`waveunet separate`: songs and folders of songs become stems."""

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import waveunet_cli
from waveunet_cli.audio import CONTAINERS, Clip, require_legal
from waveunet_cli.audio.sinks import explained
from waveunet_cli.cli import EXIT_FAILED
from waveunet_cli.cli.options import device_option, name_option, offline_option, precision_option, registry_option
from waveunet_cli.cli.voice import HumanVoice, JsonVoice
from waveunet_cli.errors import AudioReadError
from waveunet_cli.events import INTERRUPTED, BatchStart, Event, FileFailed, Note, Plan, Summary
from waveunet_cli.files import whole_file
from waveunet_cli.hub import load_model
from waveunet_cli.library.find import find_songs, require_apart, require_distinct
from waveunet_cli.library.names import TEMPLATE, stem_paths
from waveunet_cli.library.song import Song, outputs_of, separate_song

if TYPE_CHECKING:
    from waveunet_cli.library.song import Overwrite, Separated, Target

DEFAULT_JOBS = 2
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


class _Place(click.ParamType):  # type: ignore[type-arg] # generic in some versions
    """A path, or, with ://, an address, which is left as it is."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, str) and "://" in value else Path(value)


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=_Place(), metavar="INPUT...")
@name_option
@click.option(
    "-o",
    "--out",
    type=_Place(),
    default="separated",
    show_default=True,
    metavar="FOLDER",
    help="Where the stems go: a folder, or an address such as s3://bucket/folder.",
)
@click.option("--filename", default=TEMPLATE, show_default=True, help="Template below the output folder.")
@click.option("--stems", metavar="A,B", help="Write only these stems.")
@click.option("--two-stems", metavar="STEM", help="Write STEM and no_STEM, the mixture minus it.")
@device_option
@precision_option
@click.option("--segment", type=float, metavar="SECONDS", help="How much to compute at once; less needs less memory.")
@click.option(
    "--format",
    "container",
    type=click.Choice(list(CONTAINERS)),
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
    type=click.Choice(["always", "never", "changed"]),
    default="changed",
    show_default=True,
    help="Songs to separate again: all; none whose stems exist; those whose input, model, settings or stems changed.",
)
@registry_option
@offline_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 64),
    default=DEFAULT_JOBS,
    show_default=True,
    help="Songs at work side by side: reading and writing one overlap with computing another.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="This process, or the workers of a Ray cluster that sees the same folders.",
)
@click.option("--ray-address", metavar="auto|HOST:PORT", help="Of the Ray cluster; default: one started here.")
@click.option(
    "--worker-cores",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Processor cores of each worker on a cluster without GPUs; with them, each GPU has a worker.",
)
@click.option("--strict", is_flag=True, help="Stop at the first song that fails.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done: songs, hours, disk space, time.")
@click.option(
    "--progress",
    "progress_as",
    type=click.Choice(["bar", "json"]),
    default="bar",
    show_default=True,
    help="On standard error: a bar for people, or one JSON object a line.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the summary there, as JSON.",
)
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def command(
    inputs: Sequence[Path | str],
    out: Path | str,
    filename: str,
    container: str,
    subtype: str | None,
    clip: Clip,
    report: Path | None,
    progress_as: str,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Separate songs into stems: files, and folders searched through and through.

    The paths of the stems go to standard output, everything else to standard error. A run that was interrupted is
    resumed by the same command. Exit codes: 0 all done, 1 some songs failed (named at the end), 2 usage.
    """
    before = {number: signal.signal(number, _interrupt) for number in INTERRUPTS}
    click.get_current_context().call_on_close(lambda: [signal.signal(*item) for item in before.items()])
    if options["stems"] is not None and options["two_stems"] is not None:
        raise click.UsageError("--stems and --two-stems exclude each other; give one of them.")
    if options["engine"] == "ray" and find_spec("ray") is None:
        raise click.UsageError("--engine ray needs Ray; install it with: pip install ray")
    if report is not None and not (report.parent.is_dir() and os.access(report.parent, os.W_OK)):
        raise click.UsageError(f"--report {report}: {report.parent} is no folder to write to; make it or name another.")
    folder = Path("out") if isinstance(out, str) else out
    stem_paths(folder, filename, "model", "track", ["stem"], container)  # refuses a bad template
    require_legal(container, subtype)
    songs, problems = _songs(inputs, out, options)
    voice = JsonVoice(quiet) if progress_as == "json" else HumanVoice(quiet, verbose)
    click.get_current_context().call_on_close(voice.close)
    failures = [FileFailed(None, None, type(problem).__name__, str(problem)) for problem in problems]
    if songs:
        from waveunet_cli.library.song import Target  # imports torch

        target = Target(folder, filename, container, subtype, clip)
        summary = _run(songs, failures, inputs, out, target, voice, quiet, report, **options)
    else:
        from waveunet_cli.library.ledger import Ledger

        summary = Ledger([], failures, voice).summary()
    _write_report(report, summary)
    if summary.failed or (isinstance(summary, Summary) and summary.remaining):
        raise click.exceptions.Exit(EXIT_FAILED)


def _interrupt(number: int, frame: object) -> None:
    for each in INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)  # cleaning up takes a moment; a second Ctrl-C must not cut it short
    raise KeyboardInterrupt


def _songs(
    inputs: Sequence[Path | str], out: Path | str, options: dict[str, Any]
) -> tuple[Sequence[Song], list[AudioReadError]]:
    if not _is_remote(inputs, out):
        return find_songs([Path(given) for given in inputs], Path(out))
    if find_spec("fsspec") is None:
        raise click.UsageError("addresses need fsspec; install it with: pip install fsspec")
    if options["dry_run"] or options["engine"] != "local":
        raise click.UsageError("--dry-run and --engine ray know no addresses; mount the storage, or leave them out.")
    from waveunet_cli.library.remote import find_remote_songs

    return find_remote_songs([str(given) for given in inputs], str(out))


def _is_remote(inputs: Sequence[Path | str], out: Path | str) -> bool:
    return any(isinstance(place, str) for place in (*inputs, out))


def _run(
    songs: Sequence[Song],
    failures: Sequence[FileFailed],
    inputs: Sequence[Path | str],
    out: Path | str,
    target: "Target",
    voice: Callable[[Event], None],
    quiet: bool,
    report: Path | None,
    *,
    name: str,
    registry: str | None,
    offline: bool | None,
    segment: float | None,
    stems: str | None,
    overwrite: "Overwrite",
    dry_run: bool,
    jobs: int,
    engine: str,
    ray_address: str | None,
    worker_cores: int,
    strict: bool,
    **network: Any,
) -> Summary | Plan:
    from waveunet_cli.library.lanes import Lanes
    from waveunet_cli.library.ledger import Ledger
    from waveunet_cli.library.plan import plan
    from waveunet_cli.separator import Separator

    def note(text: str) -> None:
        voice(Note(text))

    network["segment_seconds"] = segment
    network["stems"] = None if stems is None else [stem.strip() for stem in stems.split(",")]
    model = load_model(name, registry=registry, offline=offline, on_event=voice, progress=not quiet)
    separator = Separator(model, on_event=voice, **network)
    is_remote = _is_remote(inputs, out)
    targets = [path for song in songs for path in outputs_of(separator, song, target).paths.values()]
    require_distinct(songs, targets)
    if not is_remote:
        require_apart([Path(given) for given in inputs], target.out, targets)
    if dry_run:
        return plan(songs, failures, separator, target, overwrite, voice)
    voice(
        BatchStart(
            waveunet=waveunet_cli.__version__,
            songs=len(songs) + len(failures),
            model=model.name,
            stems=separator.stems,
            device=str(separator.placement),
            engine=engine,
            jobs=jobs,
            out=str(out),
        )
    )
    ledger = Ledger(songs, failures, voice, strict)

    def separate(song: Song, progress: Callable[[float, float | None], None]) -> "Separated":
        return separate_song(separator, song, target, overwrite=overwrite, wait=False, progress=progress)

    try:
        if engine == "ray":
            from waveunet_cli.library.cluster import Cluster, Order

            order = Order(Path.cwd(), target, overwrite, network, worker_cores)
            Cluster(ray_address, model, order, ledger, strict).run(songs)
        elif is_remote:
            from waveunet_cli.library.remote import RemoteOutput

            remote = RemoteOutput(separator, target, str(out), overwrite)
            Lanes(remote.separate, ledger, target.out, jobs, strict).run(songs)
        else:
            Lanes(separate, ledger, target.out, jobs, strict).run(songs)
    except KeyboardInterrupt:
        ledger.stopped = INTERRUPTED
        _write_report(report, ledger.summary())
        raise
    return ledger.summary()


def _write_report(path: Path | None, summary: Summary | Plan) -> None:
    if path is None:
        return
    with explained(path), whole_file(path) as temporary:
        temporary.write_text(json.dumps(asdict(summary), indent=1) + "\n", encoding="utf-8")
