"""Many songs at once, as the command `separate` does them: find, name, and separate what is not done."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from waveunet_cli import __version__
from waveunet_cli.audio import Clip, require_legal
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.events import INTERRUPTED, BatchStart, FileFailed, Plan, Summary
from waveunet_cli.library.find import find_songs, require_apart, require_distinct
from waveunet_cli.library.lanes import Lanes
from waveunet_cli.library.ledger import Ledger, OnEvent
from waveunet_cli.library.names import TEMPLATE, stem_paths
from waveunet_cli.library.plan import plan
from waveunet_cli.library.song import OnProgress, Overwrite, Separated, Song, Target, outputs_of, separate_song
from waveunet_cli.library.storage import Disk

if TYPE_CHECKING:
    from waveunet_cli.separator import Separator

MAX_JOBS = 64


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster that sees the same folders: its address (None starts one here), and the cores of each worker."""

    address: str | None = None
    worker_cores: int = 2


@dataclass(frozen=True)
class _Batch:
    """What was found to do, before any model is loaded."""

    songs: Sequence[Song]
    problems: Sequence[FileFailed]
    target: Target
    inputs: Sequence[str]

    def made_distinct(self, separator: "Separator") -> None:
        """Raise ConfigError where stems would replace songs, or each other."""
        outputs = [outputs_of(separator, song, self.target) for song in self.songs]
        require_distinct(self.songs, outputs)
        if isinstance(self.target.storage, Disk):
            local = [Path(given) for given in self.inputs if "://" not in given]
            require_apart(local, Path(self.target.out), outputs)


def separate_songs(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    separator: "Separator | Callable[[], Separator]",
    *,
    filename: str = TEMPLATE,
    container: str = "wav",
    subtype: str | None = None,
    clip: Clip = "rescale",
    overwrite: Overwrite = "changed",
    jobs: int = 2,
    strict: bool = False,
    cluster: RayCluster | None = None,
    on_event: OnEvent = lambda event: None,
) -> Summary:
    """Separate files and folders of songs; a song that fails does not stop the others. Returns what became of all.

    inputs      paths and addresses (s3://…) of songs and of folders, which are searched through and through
    out         the folder, or address, below which the stems go, named by the template `filename`
    separator   a Separator, or a function that makes one, which is called only if there are songs
    container, subtype, clip, overwrite   as in `Separator.separate_file`
    jobs        how many songs are at work side by side: reading and writing one overlaps with computing another
    strict      stop at the first song that fails
    cluster     separate on a Ray cluster instead of here
    on_event    called with every event of events.py, one at a time, from several threads

    Interrupted by KeyboardInterrupt, it ends the songs at work cleanly, tells the Summary, and raises it again. Raises
    ConfigError for settings that cannot be, and where stems would replace songs or each other.
    """
    batch = _found(inputs, out, filename, container, subtype, clip, overwrite)
    if type(jobs) is not int or not 1 <= jobs <= MAX_JOBS:
        raise ConfigError(f"jobs: found {jobs!r}; give a whole number from 1 to {MAX_JOBS}")
    if not batch.songs:
        return Ledger([], batch.problems, on_event).summary()
    made = separator() if callable(separator) else separator
    batch.made_distinct(made)
    on_event(
        BatchStart(
            waveunet=__version__,
            songs=len(batch.songs) + len(batch.problems),
            model=made.model.name,
            stems=made.stems,
            device=str(made.placement),
            engine="local" if cluster is None else "ray",
            jobs=jobs,
            out=str(out),
        )
    )
    ledger = Ledger(batch.songs, batch.problems, on_event, strict)

    def separate(song: Song, progress: OnProgress) -> Separated:
        return separate_song(made, song, batch.target, overwrite=overwrite, wait=False, progress=progress)

    try:
        if cluster is None:
            Lanes(separate, ledger, Path(batch.target.out), jobs, strict).run(batch.songs)
        else:
            from waveunet_cli.library.cluster import Cluster, Order

            order = Order(Path.cwd(), batch.target, overwrite, type(made), made.options, cluster.worker_cores)
            Cluster(cluster.address, made.model, order, ledger, strict).run(batch.songs)
    except KeyboardInterrupt:
        ledger.stopped = INTERRUPTED
        ledger.summary()
        raise
    return ledger.summary()


def plan_songs(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    separator: "Separator | Callable[[], Separator]",
    *,
    filename: str = TEMPLATE,
    container: str = "wav",
    subtype: str | None = None,
    clip: Clip = "rescale",
    overwrite: Overwrite = "changed",
    on_event: OnEvent = lambda event: None,
) -> Plan | Summary:
    """What `separate_songs` would do with the same arguments, how long that takes, and how much space; changes nothing.

    Without any song, the Summary of the problems.
    """
    batch = _found(inputs, out, filename, container, subtype, clip, overwrite)
    if not batch.songs:
        return Ledger([], batch.problems, on_event).summary()
    made = separator() if callable(separator) else separator
    batch.made_distinct(made)
    return plan(batch.songs, batch.problems, made, batch.target, overwrite, on_event)


def _found(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    filename: str,
    container: str,
    subtype: str | None,
    clip: Clip,
    overwrite: Overwrite,
) -> _Batch:
    """Check the settings, then find the songs."""
    if overwrite not in ("always", "never", "changed"):
        raise ConfigError(f"overwrite: found {overwrite!r}; choose always, never or changed")
    if clip not in ("rescale", "clamp", "none"):
        raise ConfigError(f"clip: found {clip!r}; choose rescale, clamp or none")
    require_legal(container, subtype)
    stem_paths(Path("out"), filename, "model", "track", ["stem"], container)  # refuses a bad template
    given, place = [os.fspath(one) for one in inputs], os.fspath(out)
    problems: list[AudioReadError]
    if any("://" in one for one in [*given, place]):
        from waveunet_cli.library.remote import find_songs_anywhere, opened  # needs fsspec

        songs, problems = find_songs_anywhere(given, place)
        storage, folder = opened(place)
        address = None if isinstance(storage, Disk) else place.rstrip("/")
        target = Target(folder, filename, container, subtype, clip, storage, address)
    else:
        songs, problems = find_songs([Path(one) for one in given], Path(place))
        target = Target(Path(place), filename, container, subtype, clip)
    failed = [FileFailed(None, None, type(problem).__name__, str(problem)) for problem in problems]
    return _Batch(songs, failed, target, given)
