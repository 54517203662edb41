"""Many songs at once, as the command `separate` does them: find them, name their stems, separate what is not done."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from waveunet_cli import __version__
from waveunet_cli.errors import ConfigError
from waveunet_cli.events import INTERRUPTED, BatchStart, FileFailed, OnEvent, Plan, Summary
from waveunet_cli.files import require_folder
from waveunet_cli.library.find import find_songs, require_apart, require_distinct
from waveunet_cli.library.lanes import Lanes
from waveunet_cli.library.ledger import Ledger
from waveunet_cli.library.leftovers import remove_leftovers, remove_leftovers_in
from waveunet_cli.library.manifest import Overwrite, require_overwrite
from waveunet_cli.library.plan import plan
from waveunet_cli.library.song import Separated, Song, separate_song
from waveunet_cli.library.storage import Disk, Located, StandardInput, located
from waveunet_cli.library.target import Settings, Target

if TYPE_CHECKING:
    from waveunet_cli.separator import Separator

MAX_JOBS = 64

PathOrAddress = str | os.PathLike[str]  # with :// it is an address


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster that sees the same folders: its address (None starts one here), and the cores of each worker."""

    address: str | None = None
    worker_cores: int = 2


def separate_songs(
    inputs: Iterable[PathOrAddress],
    out: PathOrAddress | None,
    separator: "Separator | Callable[[], Separator]",
    *,
    overwrite: Overwrite = "changed",
    jobs: int = 2,
    strict: bool = False,
    cluster: RayCluster | None = None,
    on_event: OnEvent = lambda event: None,
    **settings: Unpack[Settings],
) -> Summary:
    """Separate songs, and folders of songs, into stems. A song that fails does not stop the others.

    inputs      paths and addresses (s3://…) of songs, and of folders, which are searched with their subfolders;
                "-" is a song on standard input
    out         the folder, or the address of a folder, below which the stems go; None: each song's own folder
    separator   a Separator, or a function that makes one, which is called only if songs were found
    overwrite   as in `Separator.separate_file`
    jobs        how many songs are at work at once; while one is computed, others are read and written
    strict      stop at the first song that fails
    cluster     separate on a Ray cluster (library.batch.RayCluster) instead of in this process
    on_event    called with each event of events.py, one at a time, from several threads
    settings    how stems are named and written: the fields of library.target.Target

    Returns the Summary, which counts the songs and names those that failed. After a KeyboardInterrupt, no half-written
    file is left, `on_event` gets the Summary, and KeyboardInterrupt is raised again. Raises ConfigError for settings
    that cannot be, and if a stem would replace a song or another stem.
    """
    if type(jobs) is not int or not 1 <= jobs <= MAX_JOBS:
        raise ConfigError(f"jobs: found {jobs!r}; give a whole number from 1 to {MAX_JOBS}")
    if cluster is not None and find_spec("ray") is None:
        raise ConfigError("--engine ray needs Ray; install it with: pip install ray")
    if type(strict) is not bool:
        raise ConfigError(f"strict: found {strict!r}; give True or False")
    target = Target(None if out is None else located(out), **settings)
    batch = _found(inputs, target, overwrite, disks_only=cluster is not None)
    if not batch.songs:
        return batch.ledger(on_event).summary()
    made = batch.checked(separator)
    on_event(
        BatchStart(
            waveunet=__version__,
            songs=len(batch.songs) + len(batch.problems),
            model=made.model.name,
            stems=made.stems,
            device=str(made.placement),
            engine="local" if cluster is None else "ray",
            jobs=jobs,
            out="" if target.out is None else target.out.name,
        )
    )
    ledger = batch.ledger(on_event, strict)

    def separate(song: Song, on_event: OnEvent) -> Separated:
        return separate_song(made, song, target, overwrite=overwrite, wait=False, on_event=on_event)

    if target.out is not None:
        remove_leftovers(target.out)
    else:
        remove_leftovers_in({Path(song.file.above().path) for song in batch.songs if type(song.file.storage) is Disk})
    try:
        if cluster is None:
            Lanes(separate, ledger, target.folder(batch.songs[0]), jobs, strict).run(batch.songs)
        else:
            from waveunet_cli.library.cluster import Cluster, Order

            order = Order(Path.cwd(), target, overwrite, type(made), made.options, cluster.worker_cores)
            Cluster(cluster.address, made.loaded, order, ledger, strict).run(batch.songs)
    except KeyboardInterrupt:
        ledger.stopped = INTERRUPTED
        ledger.summary()
        raise
    return ledger.summary()


def plan_songs(
    inputs: Iterable[PathOrAddress],
    out: PathOrAddress | None,
    separator: "Separator | Callable[[], Separator]",
    *,
    overwrite: Overwrite = "changed",
    on_event: OnEvent = lambda event: None,
    **settings: Unpack[Settings],
) -> Plan | Summary:
    """Tell what `separate_songs` would do with the same arguments, in what time and with how much space.

    Changes nothing. Gives `on_event` a Planned for each song. Returns the Plan, or a Summary if there is no song.
    """
    target = Target(None if out is None else located(out), **settings)
    batch = _found(inputs, target, overwrite, disks_only=True)
    if not batch.songs:
        return batch.ledger(on_event).summary()
    separator = batch.checked(separator)
    return plan(batch.songs, batch.problems, batch.left_out, separator, target, overwrite, on_event)


@dataclass(frozen=True)
class _Batch:
    """What was found to do, before any model is loaded."""

    inputs: Sequence[Located]
    target: Target
    songs: Sequence[Song]
    problems: Sequence[FileFailed]
    left_out: Mapping[str, int]

    def ledger(self, on_event: OnEvent, strict: bool = False) -> Ledger:
        return Ledger(self.songs, self.problems, on_event, strict, self.left_out)

    def checked(self, separator: "Separator | Callable[[], Separator]") -> "Separator":
        """The separator, made if need be. Raises ConfigError if its stems would replace songs, or each other."""
        made = separator() if callable(separator) else separator
        outputs = [self.target.outputs(made, song) for song in self.songs]
        require_distinct(self.songs, outputs)
        if self.target.out is not None:
            require_apart(self.inputs, self.target.out, outputs)
        return made


def _found(inputs: Iterable[PathOrAddress], target: Target, overwrite: Overwrite, disks_only: bool) -> _Batch:
    """Check the settings, then find the songs."""
    require_overwrite(overwrite)
    if target.out is not None and target.out.name.startswith(("http://", "https://")):
        raise ConfigError(f"{target.out.name}: stems cannot be written to a page of the web; choose another --out")
    if target.out is not None and type(target.out.storage) is Disk:
        require_folder(Path(target.out.path))
    given = [located(one) for one in ([inputs] if isinstance(inputs, str | os.PathLike) else inputs)]
    for one in [*given, *([target.out] if target.out else [])]:
        if target.out is None and isinstance(one.storage, StandardInput):
            raise ConfigError("standard input lies in no folder that stems could be written to; name one with --out")
        if disks_only and type(one.storage) is not Disk:
            raise ConfigError(
                f"{one.name}: --dry-run and --engine ray know only files and folders of this machine; name one of these"
            )
    found = find_songs(given, target.out)
    failed = [FileFailed(None, None, type(problem).__name__, str(problem)) for problem in found.problems]
    return _Batch(given, target, found.songs, failed, found.left_out)
