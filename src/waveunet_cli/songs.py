"""Which files are songs, and where their stems go.

Two inputs never write the same path, whatever the order they are given in. A song's track is the shortest of these
that no other song has: its place below the folder given (or its bare name), the same with its extension, and the
same with more and more of the folders above.
"""

import os
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


@dataclass(frozen=True)
class Song:
    """An input file and its track, the name of its stems' place (with "/" between folders)."""

    path: Path
    track: str


def find_songs(inputs: Sequence[Path], out: Path) -> tuple[list[Song], list[AudioReadError]]:
    """Every song of the files and folders given, sorted by track, and what is wrong with some of the inputs.

    Folders are searched through and through, without hidden files and folders and without `out`.
    """
    files: dict[Path, Path | None] = {}  # file: the outermost folder it was found in, or None if only named itself
    problems = []
    for given in sorted(set(inputs), key=lambda path: len(path.parts), reverse=True):
        if given.is_dir():
            found = list(_walk(given, out))
            if not found:
                problems.append(
                    AudioReadError(f"{given}: no audio files in this folder; known are {' '.join(_extensions())}")
                )
            files.update((file, given) for file in found)
        elif given.exists():
            files.setdefault(given, None)
        else:
            problems.append(AudioReadError(f"{given}: no such file or folder; check the path"))
    places: dict[Path, Path] = {}  # the same file by two names is one song, by the first of them
    for file in sorted(files):
        places.setdefault(file.resolve(), file)
    chosen = list(places.values())
    roots = {files[file] for file in chosen}
    named_root = len(roots) > 1
    tracks = _distinct([_names(file, files[file], named_root) for file in chosen])
    songs = [Song(file, track) for file, track in zip(chosen, tracks, strict=True)]
    return sorted(songs, key=lambda song: song.track), problems


def stem_paths(out: Path, template: str, model: str, track: str, stems: Iterable[str], ext: str) -> dict[str, Path]:
    """Where each stem of a track goes, by a template of {model}, {track}, {stem} and {ext}.

    Raises ConfigError for a template with other fields, without {stem}, or that leaves `out`.
    """
    try:
        fields = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    except ValueError as error:
        raise ConfigError(f"file name template {template!r}: {error}; the default is {TEMPLATE!r}") from error
    if not fields <= _FIELDS or "stem" not in fields:
        raise ConfigError(
            f"file name template {template!r}: must hold {{stem}} and may hold {{model}}, {{track}} and {{ext}}; "
            f"the default is {TEMPLATE!r}"
        )
    paths = {stem: Path(template.format(model=model, track=track, stem=stem, ext=ext)) for stem in stems}
    if any(path.is_absolute() or ".." in path.parts for path in paths.values()):
        raise ConfigError(f"file name template {template!r}: leads out of the output folder; name that with --out")
    return {stem: out / path for stem, path in paths.items()}


def needs_track(template: str) -> bool:
    """Whether a template gives every song the same paths."""
    return "{track}" not in template


def _extensions() -> list[str]:
    return sorted(AUDIO_EXTENSIONS | FFMPEG_EXTENSIONS)


def _walk(root: Path, out: Path) -> Iterable[Path]:
    known = AUDIO_EXTENSIONS | FFMPEG_EXTENSIONS
    own = out.resolve()
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        if here.resolve() == own or own in here.resolve().parents:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in known:
                yield here / name


def _names(file: Path, root: Path | None, named_root: bool) -> list[str]:
    """From the shortest to the most telling: the names a song may go by."""
    place = file.relative_to(root) if root is not None else Path(file.name)
    above = list(Path(os.path.abspath(file)).parts[1:])[: -len(place.parts)]  # noqa: PTH100 - no links
    if root is not None and named_root:
        place, above = Path(*above[-1:]) / place, above[:-1]
    names = [place.with_name(place.stem), place]
    for count in range(1, len(above) + 1):
        names.append(Path(*above[-count:]) / place)
    return [_portable(name) for name in names]


def _portable(name: Path) -> str:
    # A folder's name that ends in a dot or a space cannot be opened on Windows.
    return "/".join(part.rstrip(". ") or "_" for part in name.parts)


def _distinct(candidates: list[list[str]]) -> list[str]:
    """For each list of names its first that nobody else uses; who shares one moves on to the next, all together."""
    chosen = [0] * len(candidates)
    while True:
        names = [names[index] for names, index in zip(candidates, chosen, strict=True)]
        keys = [unicodedata.normalize("NFC", name).casefold() for name in names]  # as some file systems compare
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
        seen[name.casefold()] += is_shared
        result.append(f"{name} ({seen[name.casefold()]})" if is_shared else name)
    return result
