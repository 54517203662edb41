"""Which files are songs, and where their stems go.

Two inputs never write the same path, whatever the order they are given in. A song's track is the shortest of these
that no other song has: its place below the folder given (or its bare name), the same with its extension, and the
same with more and more of the folders above.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from waveunet_cli.audio import AUDIO_EXTENSIONS, FFMPEG_EXTENSIONS
from waveunet_cli.errors import AudioReadError, ConfigError

TEMPLATE = "{model}/{track}/{stem}.{ext}"
_FIELDS = {"model", "track", "stem", "ext"}
_MANIFEST = re.compile(r"\.waveunet-[0-9a-f]{12}\.json")


@dataclass(frozen=True)
class Song:
    """An input file and its track, the name of its stems' place (with "/" between folders)."""

    path: Path
    track: str

    @property
    def name(self) -> str:
        """What the user calls it."""
        return str(self.path)

    def bytes(self) -> int:
        """Its size, 0 if that cannot be known."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def find_songs(inputs: Sequence[Path], out: Path) -> tuple[list[Song], list[AudioReadError]]:
    """Every song of the files and folders given, sorted by track, and what is wrong with some of the inputs.

    Folders are searched through and through, without hidden files and folders, without `out` and without following
    links to folders. A folder that lies in `out` is searched without the folders where stems were written.
    """
    files: dict[Path, Path | None] = {}  # file: the outermost folder it was found in, or None if only named itself
    problems: list[AudioReadError] = []
    own = _place(out)
    for given in sorted(set(inputs), key=lambda path: (len(path.parts), path), reverse=True):
        if not os.path.isdir(given):  # noqa: PTH112 - Path's own tests raise where a folder above may not be entered
            if os.path.lexists(given):
                files.setdefault(given, None)
            else:
                problems.append(AudioReadError(f"{given}: no such file or folder; check the path"))
        elif own == _place(given):
            problems.append(AudioReadError(f"{given}: is the output folder; choose another --out"))
        else:
            before = len(problems)
            found = list(_walk(given, own, problems))
            files.update((file, given) for file in found)
            if not found and len(problems) == before:
                problems.append(
                    AudioReadError(f"{given}: no audio files in this folder; known are {' '.join(_extensions())}")
                )
    places: dict[Path, Path] = {}  # the same file by two names is one song, by the first of them
    for file in sorted(files):
        places.setdefault(_place(file), file)
    chosen = list(places.values())
    tracks = distinct_tracks(chosen, [files[file] for file in chosen])
    songs = [Song(file, track) for file, track in zip(chosen, tracks, strict=True)]
    return sorted(songs, key=lambda song: song.track), problems


def distinct_tracks(files: Sequence[Path], roots: Sequence[Path | None]) -> list[str]:
    """A track for each file, found below its root or, if that is None, named itself."""
    named_root = len(set(roots)) > 1
    return _distinct([_names(file, root, named_root) for file, root in zip(files, roots, strict=True)])


def stem_paths(out: Path, template: str, model: str, track: str, stems: Iterable[str], ext: str) -> dict[str, Path]:
    """Where each stem of a track goes, by a template of {model}, {track}, {stem} and {ext}.

    Raises ConfigError for a template with other fields, without {stem}, or that leaves `out`.
    """
    try:
        parts = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(f"file name template {template!r}: {error}; the default is {TEMPLATE!r}") from error
    fields = {field for field, _, _ in parts}
    if not fields <= _FIELDS or "stem" not in fields or any(spec or conversion for _, spec, conversion in parts):
        raise ConfigError(
            f"file name template {template!r}: must hold {{stem}} and may hold {{model}}, {{track}} and {{ext}}; "
            f"the default is {TEMPLATE!r}"
        )
    paths = {stem: Path(template.format(model=model, track=track, stem=stem, ext=ext)) for stem in stems}
    if any(path.is_absolute() or ".." in path.parts for path in paths.values()):
        raise ConfigError(f"file name template {template!r}: leads out of the output folder; name that with --out")
    return {stem: out / path for stem, path in paths.items()}


def require_distinct(songs: Iterable[Song], targets: Iterable[Path]) -> None:
    """Raise ConfigError if two targets are the same file, or one of them is a song."""
    taken = {_place(song.path) for song in songs}
    seen = set()
    for target in targets:
        if _place(target) in taken:
            raise ConfigError(f"{target}: is a song to be separated; choose another --out or --filename")
        key = _key(str(target))
        if key in seen:
            raise ConfigError(f"{target}: two stems would be written here; put {{track}}/{{stem}} into --filename")
        seen.add(key)


def require_apart(inputs: Iterable[Path], out: Path, targets: Iterable[Path]) -> None:
    """Raise ConfigError if a target lies in a folder to be searched that itself lies in `out`.

    (What lies in `out` is left out of a search that starts above it, so there a target is never taken for a song.)
    """
    searched = {_place(given) for given in inputs if os.path.isdir(given) and _place(out) in _place(given).parents}  # noqa: PTH112
    for target in targets if searched else ():
        if not searched.isdisjoint(_place(target).parents):
            raise ConfigError(f"{target}: a stem would be written among the songs; choose another --out")


def is_song(name: str) -> bool:
    """Whether a file found in a folder is taken for a song."""
    return not name.startswith(".") and Path(name).suffix.lower() in AUDIO_EXTENSIONS | FFMPEG_EXTENSIONS


def _extensions() -> list[str]:
    return sorted(AUDIO_EXTENSIONS | FFMPEG_EXTENSIONS)


def _place(path: Path) -> Path:
    # Unlike Path.resolve this has an answer for a link to itself.
    return Path(os.path.realpath(path))


def _walk(root: Path, own: Path, problems: list[AudioReadError]) -> Iterable[Path]:
    def refused(error: OSError) -> None:
        problems.append(AudioReadError(f"{error.filename}: cannot be searched ({error.strerror}); check permissions"))

    for folder, folders, names in os.walk(root, onerror=refused):
        here = Path(folder)
        folders[:] = [name for name in folders if not name.startswith(".") and _place(here / name) != own]
        if own in _place(here).parents and any(map(_MANIFEST.fullmatch, names)):
            continue
        for name in names:
            if is_song(name):
                yield here / name


def _names(file: Path, root: Path | None, named_root: bool) -> list[str]:
    """From the shortest to the most telling: the names a song may go by."""
    place = file.relative_to(root) if root is not None else Path(file.name)
    above = list(Path(os.path.abspath(file)).parts[1:])[: -len(place.parts)]  # noqa: PTH100 - no links
    if root is not None and named_root:
        place, above = Path(*above[-1:]) / place, above[:-1]
    names = [(*place.parts[:-1], place.stem), place.parts]
    for count in range(1, len(above) + 1):
        names.append((*above[-count:], *place.parts))
    return [_portable(name) for name in names]


def _portable(parts: Sequence[str]) -> str:
    # A folder's name that ends in a dot or a space cannot be opened on Windows.
    return "/".join(part.rstrip(". ") or "_" for part in parts)


def _key(name: str) -> str:
    # As file systems that ignore case and the spelling of accents compare names.
    return unicodedata.normalize("NFC", name).casefold()


def _distinct(candidates: list[list[str]]) -> list[str]:
    """For each list of names its first that nobody else uses; who shares one moves on to the next, all together."""
    chosen = [0] * len(candidates)
    while True:
        names = [names[index] for names, index in zip(candidates, chosen, strict=True)]
        keys = [_key(name) for name in names]
        counts = Counter(keys)
        shared = [counts[key] > 1 for key in keys]
        movable = [is_shared and chosen[i] + 1 < len(candidates[i]) for i, is_shared in enumerate(shared)]
        if not any(movable):
            return _numbered(names, shared)
        chosen = [index + move for index, move in zip(chosen, movable, strict=True)]


def _numbered(names: list[str], shared: list[bool]) -> list[str]:
    # Only names that differ by case or by what a portable name leaves out are still shared: number them.
    seen: Counter[str] = Counter()
    result = []
    for name, is_shared in zip(names, shared, strict=True):
        seen[_key(name)] += is_shared
        result.append(f"{name} ({seen[_key(name)]})" if is_shared else name)
    return result
