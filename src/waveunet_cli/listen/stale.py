"""Pages that are there already: whose they are, and those that would mislead.

A page says in its head of which stems it was made: {"vocals.wav": [bytes, time of change in ns], …}, and a hash of all
that decided it. A page misleads if one of these stems has changed since, or if a newer page is of the same stems: the
folder held one song, and now holds several. A page whose stems are all gone still tells what it holds, and stays.
"""

import html
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from waveunet_cli.audio.sinks import explained
from waveunet_cli.errors import AudioWriteError

HEAD_BYTES = 1 << 16
_GENERATOR = re.compile(r'<meta name="generator" content="waveunet \S+ ?(\w*)">')
_MADE_OF = re.compile(r'<meta name="waveunet-stems" content="(.*?)">')
_CHUNK = re.compile(r"\d{5}\.js")

Marks = Mapping[str, list[int]]


class Made(NamedTuple):
    """What a page of ours says of itself: the hash of what decided it, and the stems that it was made of."""

    key: str
    stems: Marks


NOTHING = Made("", {})


def marks_of(folder: Path, files: Iterable[Path]) -> Marks:
    """Each file's path from a folder → its size and time; without those that are not there."""
    seen = {os.path.relpath(file, folder): file.stat() for file in files if file.exists()}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in seen.items()}


def made(path: Path) -> Made | None:
    """What a page says of itself; None if there is none, or it is not ours."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    generator, stems = _GENERATOR.search(head), _MADE_OF.search(head)
    if generator is None:
        return None
    try:
        told = json.loads(html.unescape(stems[1])) if stems else {}
    except ValueError:
        told = {}
    return Made(generator[1], told if isinstance(told, dict) else {})


def require_ours(path: Path) -> None:
    """Raise AudioWriteError if another file than a page of ours is there."""
    if path.exists() and made(path) is None:
        raise AudioWriteError(f"{path}: is there and is no page of waveunet; move it away")


def clear(folder: Path) -> None:
    """Remove the chunks of sound in a folder, and the folder if nothing else is in it. May raise OSError."""
    if folder.is_dir():
        for file in folder.iterdir():
            if _CHUNK.fullmatch(file.name):
                file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def remove_misleading(folder: Path) -> list[Path]:
    """Remove the pages of a folder that mislead, with their sound; returns their paths. Raises AudioWriteError."""
    pages = {path: found for path in folder.glob("listen*.html") if (found := made(path)) is not None and found.stems}
    newest = {frozenset(pages[path].stems): path for path in sorted(pages, key=lambda path: path.stat().st_mtime_ns)}
    removed = []
    for path, found in sorted(pages.items()):
        now = marks_of(folder, (folder / name for name in found.stems))
        if any(found.stems[name] != mark for name, mark in now.items()) or path not in newest.values():
            with explained(path):
                clear(path.with_suffix(""))
                path.unlink()
            removed.append(path)
    return removed
