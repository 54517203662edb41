"""What the stems of a song are called.

Two inputs never write the same path, whatever the order they are given in. A song's track is the shortest of these
that no other song has: its place below the folder given (or its bare name), the same with its extension, and the
same with more and more of the folders above.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from string import Formatter

from waveunet_cli.errors import ConfigError

TEMPLATE = "{model}/{track}/{stem}.{ext}"
BESIDE_TEMPLATE = "{track} ({stem}).{ext}"
_FIELDS = {"model", "track", "stem", "ext"}


def distinct_tracks(files: Sequence[PurePath], roots: Sequence[PurePath | None]) -> list[str]:
    """A track for each file, found below its root or, if that is None, named itself."""
    named_root = len(set(roots)) > 1
    return _distinct([_names(file, root, named_root) for file, root in zip(files, roots, strict=True)])


def stem_paths(
    out: PurePath, template: str, model: str, track: str, stems: Iterable[str], ext: str
) -> dict[str, PurePath]:
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


def part_name(start_seconds: float, end_seconds: float | None) -> str:
    """What is added to a song's name for a part of it; nothing for the whole song."""
    if not start_seconds and end_seconds is None:
        return ""
    end = "the end" if end_seconds is None else f"{round(end_seconds, 3):.12g} s"
    return f" ({round(start_seconds, 3):.12g} s to {end})"


def _names(file: PurePath, root: PurePath | None, named_root: bool) -> list[str]:
    """From the shortest to the most telling: the names a song may go by."""
    place = file.relative_to(root) if root is not None else Path(file.name)
    # a Path is of this machine, another PurePath of a storage whose top is above it
    absolute = Path(os.path.abspath(file)) if isinstance(file, Path) else PurePosixPath("/", file)  # noqa: PTH100 - no links
    above = list(absolute.parts[1:])[: -len(place.parts)]
    if root is not None and named_root:
        place, above = Path(*above[-1:]) / place, above[:-1]
    names = [(*place.parts[:-1], place.stem), place.parts]
    for count in range(1, len(above) + 1):
        names.append((*above[-count:], *place.parts))
    return [_portable(name) for name in names]


def _portable(parts: Sequence[str]) -> str:
    # A folder's name that ends in a dot or a space cannot be opened on Windows.
    return "/".join(part.rstrip(". ") or "_" for part in parts)


def comparable(name: str) -> str:
    # As file systems that ignore case and the spelling of accents compare names.
    return unicodedata.normalize("NFC", name).casefold()


def _distinct(candidates: list[list[str]]) -> list[str]:
    """For each list of names its first that nobody else uses; who shares one moves on to the next, all together."""
    chosen = [0] * len(candidates)
    while True:
        names = [names[index] for names, index in zip(candidates, chosen, strict=True)]
        keys = [comparable(name) for name in names]
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
        seen[comparable(name)] += is_shared
        result.append(f"{name} ({seen[comparable(name)]})" if is_shared else name)
    return result
