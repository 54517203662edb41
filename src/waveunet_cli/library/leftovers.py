"""What a killed process left unfinished below an output folder, whatever names and format it was asked for."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from filelock import Timeout

from waveunet_cli.files import locked, new_lock
from waveunet_cli.library.storage import Disk, Located

_PART = re.compile(r"\.waveunet-([0-9a-f]{12})-[0-9a-f]{12}\.part")
_LOCK = re.compile(r"\.waveunet-([0-9a-f]{12})\.lock")
MOST_FOLDERS = 100_000  # that are looked into; more would keep the songs waiting


def remove_leftovers(out: Located) -> None:
    """Remove the unfinished files of processes that were killed; those of a process at work have a lock that is held.

    A lock file stays where it may be all that tells whose finished stems lie beside it. A storage without locks does
    not tell who is at work: there nothing is removed.
    """
    if type(out.storage) is Disk:
        found = islice(out.storage.walk(out.path, lambda folder: True), MOST_FOLDERS)
        _remove_from(((Path(each.folder), each.sizes) for each in found), Path(out.path))


def remove_leftovers_in(folders: Iterable[Path]) -> None:
    """The same, in these folders and not below them."""
    _remove_from(((folder, _names_in(folder)) for folder in folders), None)


def _names_in(folder: Path) -> list[str]:
    try:
        return [file.name for file in folder.iterdir()]
    except OSError:  # it is gone, or may not be read
        return []


def _remove_from(listings: Iterable[tuple[Path, Iterable[str]]], out: Path | None) -> None:
    """`listings` are folders with the names in them; a folder below `out` that becomes empty is removed, too."""
    parts: list[tuple[str, Path]] = []
    locks: defaultdict[str, list[Path]] = defaultdict(list)
    for folder, names in listings:
        for name in names:
            if found := _PART.fullmatch(name):
                parts.append((found[1], folder / name))
            elif found := _LOCK.fullmatch(name):
                locks[found[1]].append(folder / name)
    held: defaultdict[Path, list[Path]] = defaultdict(list)  # lock: the unfinished files of whoever holds it
    for key, part in parts:
        # Songs whose stems have the same names, each in a folder of its own, have the same key, and the lock beside
        # the stems. Otherwise stems lie in several folders, and the lock in one of them.
        beside = [lock for lock in locks[key] if lock.parent == part.parent] or locks[key]
        if len(beside) == 1:
            held[beside[0]].append(part)
    for lock, own in held.items():
        with contextlib.suppress(OSError):  # a folder that may not be written keeps what it has
            _remove(own, lock, out)


def _remove(parts: list[Path], path: Path, out: Path | None) -> None:
    lock = new_lock(path)
    try:
        if not locked(lock, 0):  # there are no locks: nobody tells who is at work
            return
    except Timeout:
        return
    try:
        was_finished = not any(part.exists() for part in parts)  # meanwhile
        for part in parts:
            part.unlink(missing_ok=True)
        if was_finished or [file.name for file in path.parent.iterdir()] == [path.name]:
            path.unlink(missing_ok=True)
    finally:
        lock.release()
    below = {folder for file in [path, *parts] for folder in file.parents if out in folder.parents}
    for folder in sorted(below, reverse=True):  # the deepest first
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
