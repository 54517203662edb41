"""Which files are songs."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from waveunet_cli.audio import AUDIO_EXTENSIONS
from waveunet_cli.errors import AudioReadError, ConfigError
from waveunet_cli.library.manifest import SongOutputs, parse_manifest
from waveunet_cli.library.names import comparable, distinct_tracks
from waveunet_cli.library.song import Song
from waveunet_cli.library.storage import Located
from waveunet_cli.text import one_line

_MANIFEST = re.compile(r"\.waveunet-[0-9a-f]{12}\.json")


@dataclass(frozen=True)
class Found:
    """The songs, sorted by track; what is wrong with some of the inputs; and how many files in folders were no songs.

    The files that were left out are counted by their extension: lower case, with its dot, or empty.
    """

    songs: list[Song]
    problems: list[AudioReadError]
    left_out: Mapping[str, int]


def find_songs(inputs: Iterable[Located], out: Located | None) -> Found:
    """Every song of the files and folders given.

    Without `out` the stems go beside the songs, and only songs of one folder need tracks that differ.

    Folders are searched with their subfolders, but without hidden files and folders, without `out`, and without
    following links to folders. A folder that lies in `out` is searched without the folders where stems were written.
    Stems are no songs where the song that they are of is found, too.
    """
    roots: dict[Located, PurePath | None] = {}  # file: the outermost folder it was found in, None if only named itself
    sizes: dict[Located, int | None] = {}
    problems: list[AudioReadError] = []
    others: set[Located] = set()
    for given in sorted(set(inputs), key=lambda file: (len(file.path.parts), *_order(file)), reverse=True):
        doing = "looked for"
        try:
            if given.storage.is_folder(given.path):
                doing = "listed"
                found = _songs_in(given, out, problems, others)
                sizes |= found
                roots |= dict.fromkeys(found, given.path)
            elif given.storage.is_there(given.path):
                roots.setdefault(given, None)
            else:
                problems.append(AudioReadError(f"{given.name}: no such file or folder; check the {_kind(given)}"))
        except OSError as error:
            where = "permissions of the folders above" if isinstance(error, PermissionError) else _kind(given)
            reason = f"cannot be {doing} ({error.strerror or one_line(error)}); check the {where}"
            problems.append(AudioReadError(f"{given.name}: {reason}"))
        except Exception as error:  # of a storage, whose errors nobody lists
            reason = f"cannot be {doing} ({one_line(error)}); check the {_kind(given)}"
            problems.append(AudioReadError(f"{given.name}: {reason}"))
    chosen: dict[str, Located] = {}  # the same file by two names is one song, by the first of them
    for file in sorted(roots, key=_order):
        chosen.setdefault(file.identity, file)
    apart: dict[Located | None, list[Located]] = {}  # songs whose tracks must differ
    for file in chosen.values():
        apart.setdefault(file.above() if out is None else None, []).append(file)
    songs = []
    for files in apart.values():
        folders = [None if out is None else roots[file] for file in files]
        tracks = distinct_tracks([file.path for file in files], folders)
        songs += [Song(file, track, sizes.get(file)) for file, track in zip(files, tracks, strict=True)]
    left_out = Counter(file.path.suffix.lower() for file in others - roots.keys())
    return Found(sorted(songs, key=lambda song: (song.track, song.name)), problems, left_out)


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


def _songs_in(
    folder: Located, out: Located | None, problems: list[AudioReadError], others: set[Located]
) -> dict[Located, int | None]:
    """The songs of a folder and its subfolders, with their sizes in bytes where known; other files go to `others`."""
    storage, own = folder.storage, None if out is None else out.identity
    if folder.identity == own:
        problems.append(AudioReadError(f"{folder.name}: is the output folder; choose another --out"))
        return {}

    def enter(path: PurePath) -> bool:
        return not path.name.startswith(".") and storage.identity(path) != own

    found: dict[Located, int | None] = {}
    stems: dict[str, str] = {}  # identity → the name of the song's file
    before = len(problems)
    for listing in storage.walk(folder.path, enter):
        if listing.error is not None:
            reason = f"cannot be searched ({listing.error.strerror}); check permissions"
            problems.append(AudioReadError(f"{listing.folder}: {reason}"))
            continue
        manifests = list(filter(_MANIFEST.fullmatch, listing.sizes))
        if not manifests or own is None or not _is_below(storage.identity(listing.folder), own):
            for name in manifests:
                stems |= _stems_of(folder.at(listing.folder / name))
            for name, size in listing.sizes.items():
                if is_song(name):
                    found[folder.at(listing.folder / name)] = size
                elif not name.startswith("."):
                    others.add(folder.at(listing.folder / name))
    names = {file.path.name for file in found} if stems else set()
    found = {file: size for file, size in found.items() if not stems or stems.get(file.identity) not in names}
    if not found and len(problems) == before:
        problems.append(AudioReadError(f"{folder.name}: no audio files in this folder; name one with songs, or a file"))
    return found


def _stems_of(manifest: Located) -> dict[str, str]:
    """The identities of the stems that a manifest names, each with the name of the song's file."""
    try:
        with manifest.storage.open(manifest.path) as file:
            told = parse_manifest(file.read().decode())
    except (OSError, ValueError):
        return {}
    folder = manifest.path.parent
    return {manifest.storage.identity(folder / path): PurePath(told.input).name for path in told.paths.values()}
