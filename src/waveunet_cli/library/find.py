"""Which files are songs."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from waveunet_cli.audio import AUDIO_EXTENSIONS
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.library.manifest import SongOutputs
from waveunet_cli.library.names import comparable, distinct_tracks
from waveunet_cli.library.song import Song
from waveunet_cli.library.storage import DISK

_MANIFEST = re.compile(r"\.waveunet-[0-9a-f]{12}\.json")


def find_songs(inputs: Sequence[Path], out: Path) -> tuple[list[Song], list[AudioReadError]]:
    """Every song of the files and folders given, sorted by track, and what is wrong with some of the inputs.

    Folders are searched through and through, without hidden files and folders, without `out` and without following
    links to folders. A folder that lies in `out` is searched without the folders where stems were written.
    """
    files: dict[Path, Path | None] = {}  # file: the outermost folder it was found in, or None if only named itself
    problems: list[AudioReadError] = []
    own = _real(out)
    for given in sorted(set(inputs), key=lambda path: (len(path.parts), path), reverse=True):
        if not os.path.isdir(given):  # noqa: PTH112 - Path's own tests raise where a folder above may not be entered
            if os.path.lexists(given):
                files.setdefault(given, None)
            else:
                problems.append(AudioReadError(f"{given}: no such file or folder; check the path"))
        elif own == _real(given):
            problems.append(AudioReadError(f"{given}: is the output folder; choose another --out"))
        else:
            before = len(problems)
            found = list(_walk(given, own, problems))
            files.update((file, given) for file in found)
            if not found and len(problems) == before:
                problems.append(
                    AudioReadError(f"{given}: no audio files in this folder; name one with songs, or a file")
                )
    places: dict[Path, Path] = {}  # the same file by two names is one song, by the first of them
    for file in sorted(files):
        places.setdefault(_real(file), file)
    chosen = list(places.values())
    tracks = distinct_tracks(chosen, [files[file] for file in chosen])
    songs = [Song(file, track) for file, track in zip(chosen, tracks, strict=True)]
    return sorted(songs, key=lambda song: song.track), problems


def require_distinct(songs: Iterable[Song], outputs: Iterable[SongOutputs]) -> None:
    """Raise ConfigError if two stems would be the same file, or one of them is a song."""
    taken = {song.identity for song in songs}
    seen = set()
    for places in outputs:
        for path in places.paths.values():
            if places.storage.identity(path) in taken:
                raise ConfigError(f"{path}: is a song to be separated; choose another --out or --filename")
            key = comparable(str(path))
            if key in seen:
                raise ConfigError(f"{path}: two stems would be written here; put {{track}}/{{stem}} into --filename")
            seen.add(key)


def require_apart(inputs: Iterable[Path], out: Path, outputs: Iterable[SongOutputs]) -> None:
    """Raise ConfigError if a stem would lie in a folder to be searched that itself lies in `out`.

    (What lies in `out` is left out of a search that starts above it, so there a target is never taken for a song.)
    """
    searched = {_real(given) for given in inputs if os.path.isdir(given) and _real(out) in _real(given).parents}  # noqa: PTH112
    targets = [Path(path) for places in outputs for path in places.paths.values()] if searched else []
    for target in targets:
        if not searched.isdisjoint(_real(target).parents):
            raise ConfigError(f"{target}: a stem would be written among the songs; choose another --out")


def is_song(name: str) -> bool:
    """Whether a file found in a folder is taken for a song."""
    return not name.startswith(".") and Path(name).suffix.lower() in AUDIO_EXTENSIONS


def _real(path: Path) -> Path:
    return Path(DISK.identity(path))


def _walk(root: Path, own: Path, problems: list[AudioReadError]) -> Iterable[Path]:
    def refused(error: OSError) -> None:
        problems.append(AudioReadError(f"{error.filename}: cannot be searched ({error.strerror}); check permissions"))

    for folder, folders, names in os.walk(root, onerror=refused):
        here = Path(folder)
        folders[:] = [name for name in folders if not name.startswith(".") and _real(here / name) != own]
        if own in _real(here).parents and any(map(_MANIFEST.fullmatch, names)):
            continue
        for name in names:
            if is_song(name):
                yield here / name
