"""Files that appear complete or not at all, even if the power fails: they are written under another name, and reach the
disk before they take their own.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from waveunet_cli.errors import ConfigError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # said by drives of a network
_NOT_NEEDED = {errno.EINVAL, errno.ENOTSUP}  # said by file systems that keep nothing back


def existing(path: Path) -> Path:
    """The path itself or, where there is nothing yet, the nearest folder above it: where space is counted for it."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def require_folder(path: Path) -> None:
    """Raise ConfigError if something that is no folder is in the way of a folder of this path."""
    for place in (path, *path.absolute().parents):
        if os.path.isdir(place):  # noqa: PTH112 - Path's own test raises where a folder above may not be entered
            return
        if os.path.lexists(place):
            raise ConfigError(f"{place}: is no folder, so nothing can be written there; choose another --out")


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk. Raises OSError, also for what failed after it was written."""
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NOT_NEEDED:
                raise


@contextmanager
def whole_file(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Where to write what is to become `path`: a file beside it, by default .NAME.part, which is renamed at the end.

    If an exception comes, or to_disk raises one, the file beside it is removed, and what was at `path` before stays.
    """
    temporary = temporary or path.with_name(f".{path.name}.part")
    try:
        yield temporary
        to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def new_lock(path: Path) -> FileLock:
    """A lock for `locked`, which nobody holds yet."""
    return FileLock(path, fallback_to_soft=False)  # a mark that stays when a process is killed would lock for good


def locked(lock: FileLock, timeout_seconds: float = -1) -> bool:
    """Take a lock, or say False where the file system knows none: then nobody is kept away.

    Waits as long as it takes, or so many seconds. Raises filelock.Timeout, and OSError.
    """
    try:
        lock.acquire(timeout=timeout_seconds)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True
