"""The stems of one song on a disk, with its mixture where that is still there: how to find them and read them."""

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio import AUDIO_EXTENSIONS, AudioReader
from waveunet_cli.audio.read import reading_explained
from waveunet_cli.audio.stems_file import stems_in
from waveunet_cli.errors import AudioReadError
from waveunet_cli.library.manifest import Manifest, parse_manifest
from waveunet_cli.library.names import part_name
from waveunet_cli.library.storage import Located
from waveunet_cli.library.target import ALL_STEMS, MIX

MANIFESTS = ".waveunet-*.json"
MAX_LABEL_BYTES = 200  # of a title in a file's name, which has a longest length
MIXTURE = "mixture"  # the name of the file that holds it, in a folder without a manifest

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class StemSet:
    """The stems of a song.

    title: what the song is called; folder: where they lie, and what belongs to them; stems: name → file
    mixture: the song itself, if it is known; gain: the stems' against it; model: who separated it, "" if unknown
    start_seconds: where in the song the stems begin, and, if is_part, end before it does
    tracks: for stems (and MIXTURE) in files of several audio tracks, which track they are, from 1 on
    label: tells it from the other songs of the same folder; "" if there are none
    """

    title: str
    folder: Path
    stems: Mapping[str, Path]
    mixture: Path | None = None
    gain: float = 1.0
    model: str = ""
    label: str = ""
    start_seconds: float = 0.0
    is_part: bool = False
    tracks: Mapping[str, int] = field(default_factory=dict)

    def beside(self, name: str) -> Path:
        """Where a file that belongs to this song lies, such as listen.html."""
        path = self.folder / name
        return path.with_name(f"{path.stem} {self.label}{path.suffix}") if self.label else path


@dataclass
class Tracks:
    """The files of a StemSet, opened to be read side by side; a context manager.

    Raises AudioReadError for a stem that is missing, cannot be read, or has another length or sample rate than the
    first. A mixture that does not fit the stems is passed over; `mixture_said` then says why, in words.
    """

    stems: StemSet
    sample_rate_hz: int = 0
    frames: int = 0
    channels: int = 0
    mixture_said: str = ""
    _readers: dict[str, AudioReader] = field(default_factory=dict)
    _mixture: AudioReader | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        try:
            self._open_all()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _open_all(self) -> None:
        first: Path | None = None
        for stem, path in self.stems.stems.items():
            if not path.exists():
                raise AudioReadError(f"{path}: the stem is missing; separate the song again")
            reader = self._readers[stem] = self._reader(path, stem)
            frames, rate_hz = self._frames(reader, stem), reader.info.sample_rate_hz
            if first is None:
                first, self.frames, self.sample_rate_hz = path, frames, rate_hz
            elif (frames, rate_hz) != (self.frames, self.sample_rate_hz):
                raise AudioReadError(
                    f"{path}: has {frames} frames at {rate_hz} Hz, {first.name} has {self.frames} at"
                    f" {self.sample_rate_hz} Hz; separate the song again"
                )
            self.channels = max(self.channels, reader.info.channels)
        assert first is not None
        if self.frames == 0:
            raise AudioReadError(f"{first}: holds no samples; there is nothing to hear")
        try:
            self._open_mixture()
        except AudioReadError as error:
            self.mixture_said = str(error)

    def _open_mixture(self) -> None:
        path = self.stems.mixture
        if path is None:
            return
        reader = self._reader(path, MIXTURE)
        skipped = round(self.stems.start_seconds * reader.info.sample_rate_hz)
        length = self._frames(reader, MIXTURE) - skipped
        found = (min(length, self.frames) if self.stems.is_part else length, reader.info.sample_rate_hz)
        if found != (self.frames, self.sample_rate_hz):
            self.mixture_said = (
                f"{path}: has {length} frames at {found[1]} Hz, its stems {self.frames} at {self.sample_rate_hz} Hz"
            )
            return
        self.channels = max(self.channels, reader.info.channels)
        reader.skip(skipped)
        self._mixture = reader

    def _reader(self, path: Path, name: str) -> AudioReader:
        return self._open.enter_context(AudioReader(path, track=self.stems.tracks.get(name)))

    def _frames(self, reader: AudioReader, name: str) -> int:
        """How many frames a file has; it is read through if no header says that."""
        if reader.info.frames is not None:
            return reader.info.frames
        with AudioReader(reader.info.path, track=self.stems.tracks.get(name)) as again:
            return sum(len(block) for block in again.blocks())

    def blocks(self, block_frames: int) -> Iterator[tuple[dict[str, Audio], Audio]]:
        """Every stem's block of (block_frames, channels), and the mixture's, as loud as the stems and as wide.

        Without a mixture it is the sum of the stems.
        """
        stems = {stem: reader.blocks(block_frames) for stem, reader in self._readers.items()}
        mixture = None if self._mixture is None else self._mixture.blocks(block_frames)
        for parts in zip(*stems.values(), strict=True):
            named = dict(zip(stems, parts, strict=True))
            if mixture is None:
                yield named, sum_of(parts)
            else:
                yield named, next(mixture)[: len(parts[0])] * np.float32(self.stems.gain)


def sum_of(blocks: Iterable[Audio]) -> Audio:
    """The sum of blocks (frames, channels) of the same length; one with one channel counts in all of them."""
    return functools.reduce(np.add, blocks)


def find_stems(place: Path, out: Path) -> list[StemSet]:
    """The stems that are found for a place: a song, whose stems are looked for in `out`, or a folder of stems.

    A Stems file (.stem.mp4) is a song, and holds its stems itself.
    In a folder and its subfolders, the manifests say what belongs together. Without any, the audio files of the folder
    are the stems of one song, and a file named `mixture` is the song itself. Raises AudioReadError if there are none.
    """
    if not place.exists():
        raise AudioReadError(f"{place}: no such file or folder; check the path")
    if place.is_dir():
        found = [stems for _, stems in _manifests(place)] or _without_manifest(place)
        if not found:
            raise AudioReadError(f"{place}: no stems in this folder; name the folder that waveunet separate wrote to")
        return found
    tracks = _tracks_of(place)
    if tracks:
        stems = StemSet(place.name.split(".")[0], place.parent, dict.fromkeys(tracks, place), place)
        return stems_at([place]) or [replace(stems, tracks=tracks | {MIXTURE: 1}, label=stems.title)]
    song = Located(place)
    found = []
    for manifest, stems in _manifests(out):
        if Located(Path(manifest.input)).name == song.name or _is_same(manifest, song):
            found.append(replace(stems, mixture=place))
    if not found:
        raise AudioReadError(f"{place}: no stems of this song in {out}; run waveunet separate first, or name --out")
    return found


def _is_same(manifest: Manifest, song: Located) -> bool:
    with reading_explained(Path(song.path)):
        return manifest.input_mark.seen_again(song) is not None


def stems_at(files: Iterable[Path]) -> list[StemSet]:
    """The separated songs to which these stems belong, by their manifests, in their order."""
    wanted = list(files)
    beside = {
        stem: found
        for here in dict.fromkeys(file.parent for file in wanted)
        for _, found in _manifests_in(here)
        for stem in found.stems.values()
    }
    unique = {id(beside[file]): beside[file] for file in wanted if file in beside}
    return list(unique.values())


def _manifests(folder: Path) -> Iterator[tuple[Manifest, StemSet]]:
    """All finished songs below a folder, by their folders' names."""
    for here, folders, _ in os.walk(folder):
        folders.sort()
        yield from _manifests_in(Path(here))


def _manifests_in(folder: Path) -> list[tuple[Manifest, StemSet]]:
    """The finished songs whose manifests are in a folder, by their titles; of those of the same stems the newest: the
    others wrote the same bytes, such as without a mix."""
    seen: list[tuple[int, Path, Manifest]] = []
    for path in folder.glob(MANIFESTS):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            seen.append((path.stat().st_mtime_ns, path, parse_manifest(path.read_text(encoding="utf-8"))))
    owners = Counter(stem for *_, manifest in seen for stem in manifest.paths.values())
    valid = [each for each in sorted(seen, key=lambda each: each[:2]) if not _is_overwritten(each[2], owners, folder)]
    manifests = [*{frozenset(_heard(manifest).values()): (path, manifest) for _, path, manifest in valid}.values()]
    titles = Counter(Path(manifest.input).stem for _, manifest in manifests)
    found = []
    for path, manifest in sorted(manifests, key=lambda each: (Path(each[1].input).stem, each[0])):
        mixture = Path(manifest.input)
        key = path.stem.rpartition("-")[2]
        named = titles[mixture.stem] == 1 and len(os.fsencode(mixture.stem)) <= MAX_LABEL_BYTES
        start, end = (manifest.settings.get(name) for name in ("start_seconds", "end_seconds"))
        start_seconds = start if isinstance(start, float) else 0.0
        end_seconds = end if isinstance(end, float) and _ends_there(manifest, start_seconds, end) else None
        files = {stem: folder / relative for stem, relative in _heard(manifest).items()}
        tracks = _tracks_of(files[ALL_STEMS]) if [*files] == [ALL_STEMS] else {}
        files = dict.fromkeys(tracks, files[ALL_STEMS]) if tracks else files
        track = manifest.settings.get("audio_track")
        tracks |= {MIXTURE: int(track)} if isinstance(track, float) else {}
        stems = StemSet(
            title=mixture.stem + part_name(start_seconds, end_seconds),
            folder=folder,
            stems=files,
            tracks=tracks,
            mixture=mixture if mixture.exists() else None,
            gain=manifest.gain,
            model=manifest.model,
            label="" if len(manifests) == 1 else mixture.stem if named else key,
            start_seconds=start_seconds,
            is_part=end_seconds is not None,
        )
        found.append((manifest, stems))
    return found


def _heard(manifest: Manifest) -> dict[str, str]:
    """The paths of the stems that a page plays: of all but the mix."""
    return {stem: path for stem, path in manifest.paths.items() if stem != MIX or "mix" not in manifest.settings}


def _is_overwritten(manifest: Manifest, owners: Mapping[str, int], folder: Path) -> bool:
    """Whether one of its stems was written again by another: for another song, or with other settings."""
    shared = {stem: path for stem, path in manifest.paths.items() if owners[path] > 1}
    with contextlib.suppress(OSError, KeyError):
        return any(manifest.stems[stem].seen_again(Located(folder / path)) is None for stem, path in shared.items())
    return False


def _tracks_of(file: Path) -> dict[str, int]:
    try:
        return stems_in(file)
    except OSError:  # which is said when it is opened
        return {}


def _ends_there(manifest: Manifest, start_seconds: float, end_seconds: float) -> bool:
    """Whether a part ends where it should, and the song not before."""
    frames = round(end_seconds * manifest.sample_rate_hz) - round(start_seconds * manifest.sample_rate_hz)
    return manifest.frames >= frames


def _without_manifest(folder: Path) -> list[StemSet]:
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in AUDIO_EXTENSIONS and not path.name.startswith(".")
    )
    stems = {path.stem: path for path in files if path.stem.lower() != MIXTURE}
    mixture = next((path for path in files if path.stem.lower() == MIXTURE), None)
    return [StemSet(folder.absolute().name, folder, stems, mixture)] if stems else []
