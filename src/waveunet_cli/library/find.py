"""Which files are songs."""

import re
from collections.abc import Iterable
from pathlib import PurePath

from waveunet_cli.audio import AUDIO_EXTENSIONS
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.library.manifest import SongOutputs
from waveunet_cli.library.names import comparable, distinct_tracks
from waveunet_cli.library.song import Song
from waveunet_cli.library.storage import Located
from waveunet_cli.text import one_line

_MANIFEST = re.compile(r"\.waveunet-[0-9a-f]{12}\.json")


def find_songs(inputs: Iterable[Located], out: Located) -> tuple[list[Song], list[AudioReadError]]:
    """Every song of the files and folders given, sorted by track, and what is wrong with some of the inputs.

    Folders are searched with their subfolders, but without hidden files and folders, without `out`, and without
    following links to folders. A folder that lies in `out` is searched without the folders where stems were written.
    """
    roots: dict[Located, Located | None] = {}  # file: the outermost folder it was found in, None if only named itself
    sizes: dict[Located, int | None] = {}
    problems: list[AudioReadError] = []
    for given in sorted(set(inputs), key=lambda file: (len(file.path.parts), *_order(file)), reverse=True):
        try:
            if given.storage.is_folder(given.path):
                found = _songs_in(given, out, problems)
                sizes |= found
                roots |= dict.fromkeys(found, given)
            elif given.storage.is_there(given.path):
                roots.setdefault(given, None)
            else:
                problems.append(AudioReadError(f"{given.name}: no such file or folder; check the {_kind(given)}"))
        except OSError as error:
            reason = f"cannot be listed ({one_line(error)}); check the {_kind(given)}"
            problems.append(AudioReadError(f"{given.name}: {reason}"))
    chosen: dict[str, Located] = {}  # the same file by two names is one song, by the first of them
    for file in sorted(roots, key=_order):
        chosen.setdefault(file.identity, file)
    files = list(chosen.values())
    folders = [roots[file] for file in files]
    tracks = distinct_tracks(
        [file.path for file in files], [None if folder is None else folder.path for folder in folders]
    )
    songs = [Song(file, track, sizes.get(file)) for file, track in zip(files, tracks, strict=True)]
    return sorted(songs, key=lambda song: song.track), problems


def require_distinct(songs: Iterable[Song], outputs: Iterable[SongOutputs]) -> None:
    """Raise ConfigError if two stems would be the same file, or one of them is a song."""
    taken = {song.file.identity for song in songs}
    seen = set()
    for stems in outputs:
        for stem, path in stems.paths.items():
            name = stems.names[stem]
            if stems.storage.identity(path) in taken:
                raise ConfigError(f"{name}: is a song to be separated; choose another --out or --filename")
            key = comparable(str(path))
            if key in seen:
                raise ConfigError(f"{name}: two stems would be written here; put {{track}}/{{stem}} into --filename")
            seen.add(key)


def require_apart(inputs: Iterable[Located], out: Located, outputs: Iterable[SongOutputs]) -> None:
    """Raise ConfigError if a stem would lie in a folder to be searched that itself lies in `out`.

    (What lies in `out` is left out of a search that starts above it, so there a stem is never taken for a song.)
    """
    searched = {
        PurePath(given.identity)
        for given in inputs
        if _is_below(given.identity, out.identity) and given.storage.is_folder(given.path)
    }
    for stems in outputs if searched else ():
        for stem, path in stems.paths.items():
            if not searched.isdisjoint(PurePath(stems.storage.identity(path)).parents):
                raise ConfigError(f"{stems.names[stem]}: a stem would be written among the songs; choose another --out")


def is_song(name: str) -> bool:
    """Whether a file found in a folder is taken for a song."""
    return not name.startswith(".") and PurePath(name).suffix.lower() in AUDIO_EXTENSIONS


def _kind(file: Located) -> str:
    return "path" if file.address is None else "address"


def _order(file: Located) -> tuple[tuple[str, ...], str]:
    return file.path.parts, file.name


def _is_below(identity: str, folder: str) -> bool:
    return PurePath(folder) in PurePath(identity).parents


def _songs_in(folder: Located, out: Located, problems: list[AudioReadError]) -> dict[Located, int | None]:
    """The songs of a folder and its subfolders, with their sizes in bytes where known."""
    storage, own = folder.storage, out.identity
    if folder.identity == own:
        problems.append(AudioReadError(f"{folder.name}: is the output folder; choose another --out"))
        return {}

    def enter(path: PurePath) -> bool:
        return not path.name.startswith(".") and storage.identity(path) != own

    found: dict[Located, int | None] = {}
    before = len(problems)
    for listing in storage.walk(folder.path, enter):
        if listing.error is not None:
            reason = f"cannot be searched ({listing.error.strerror}); check permissions"
            problems.append(AudioReadError(f"{listing.folder}: {reason}"))
        elif not (_is_below(storage.identity(listing.folder), own) and any(map(_MANIFEST.fullmatch, listing.sizes))):
            songs = filter(is_song, listing.sizes)
            found |= {folder.at(listing.folder / name): listing.sizes[name] for name in songs}
    if not found and len(problems) == before:
        problems.append(AudioReadError(f"{folder.name}: no audio files in this folder; name one with songs, or a file"))
    return found
