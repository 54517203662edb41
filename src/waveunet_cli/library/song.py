"""One song of a library: is it done, and if not, from its file to its stems and their manifest."""

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio import AudioInfo, AudioReader, Clip, StemWriter, choose_output
from waveunet_cli.audio.read import reading_explained
from waveunet_cli.audio.sinks import explained
from waveunet_cli.errors import AudioReadError, AudioWriteError
from waveunet_cli.files import existing
from waveunet_cli.library.manifest import Request, SongOutputs
from waveunet_cli.library.names import TEMPLATE, stem_paths
from waveunet_cli.library.storage import DISK, Disk, FileMark, Located, Storage

if TYPE_CHECKING:
    from waveunet_cli.separator import Separator

READ_FRAMES = 65_536  # read at once

Audio = NDArray[np.float32]
Overwrite = Literal["always", "never", "changed"]
OnProgress = Callable[[float, float | None], None]  # seconds of music done, and in all if that is known


@dataclass(frozen=True)
class Song:
    """An input file and its track, the name of its stems' place (with "/" between folders).

    `address` is what the user calls a file that is not on a disk; `size_bytes` its size.
    """

    path: PurePath
    track: str
    storage: Storage = DISK
    address: str | None = None
    size_bytes: int | None = None

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.address or str(self.path)

    @property
    def identity(self) -> str:
        """The same for all names of a file."""
        return self.storage.identity(self.path)

    @property
    def source(self) -> Located:
        """Where it lies."""
        return Located(self.path, self.storage)

    def bytes(self) -> int:
        """Its size, 0 if that cannot be known."""
        try:
            return self.storage.glance(self.path).bytes if self.size_bytes is None else self.size_bytes
        except OSError:
            return 0


@dataclass(frozen=True)
class Separated:
    """What became of a song: its stems, its length, their gain, their peak before that, how many samples were cut."""

    path: PurePath
    stems: Mapping[str, PurePath]
    skipped: bool = False
    seconds: float = 0.0
    gain: float = 1.0
    peak: float = 0.0
    clipped_samples: int = 0
    addresses: Mapping[str, str] = field(default_factory=dict)  # of stems that are not on a disk

    @property
    def names(self) -> dict[str, str]:
        """The stems' paths as the user writes them."""
        return {stem: str(path) for stem, path in self.stems.items()} | dict(self.addresses)


@dataclass(frozen=True)
class Target:
    """Where stems go and as what; see `Separator.separate_file`. `out` is a folder of `storage`, `address` its name
    if that is no disk."""

    out: PurePath
    filename: str = TEMPLATE
    container: str = "wav"
    subtype: str | None = None
    clip: Clip = "rescale"
    storage: Storage = DISK
    address: str | None = None

    def addresses(self, paths: Mapping[str, PurePath]) -> dict[str, str]:
        """The addresses of files below `out`; none if it is on a disk."""
        if self.address is None:
            return {}
        return {stem: f"{self.address}/{path.relative_to(self.out).as_posix()}" for stem, path in paths.items()}


def separate_song(
    separator: "Separator",
    song: Song,
    target: Target,
    *,
    overwrite: Overwrite = "changed",
    wait: bool = True,
    progress: OnProgress = lambda done, total: None,
) -> Separated:
    """As `Separator.separate_file`; raises BusyError where it may not wait for another process at work on the song.

    May be called from several threads: reading and writing of one song then overlap with computing another.
    """
    outputs = outputs_of(separator, song, target)
    addresses = target.addresses(outputs.paths)

    def is_done() -> bool:
        return why_again(separator, song, target, overwrite) is None

    if is_done() and not outputs.was_abandoned:
        return Separated(song.path, outputs.paths, skipped=True, addresses=addresses)
    with song.storage.as_file(song.path) as path, AudioReader(path, separator.on_event) as reader:
        info = reader.info
        channels = separator.channels(info.channels)
        output = choose_output(replace(info, channels=channels), target.container, target.subtype)
        if isinstance(target.storage, Disk):
            with explained(outputs.first):
                _check_space(Path(target.out), info, channels, len(outputs.paths))
        with outputs.claim(wait), separator.memory_explained(path):
            if is_done():  # by now, by another process
                return Separated(song.path, outputs.paths, skipped=True, addresses=addresses)
            with reading_explained(path):
                before = song.storage.glance(song.path)
            rate_hz = info.sample_rate_hz
            with (
                target.storage.landing(outputs.paths, outputs.key) as paths,
                StemWriter(paths, rate_hz, channels, output, target.clip, info.frames, outputs.key) as writer,
            ):
                sha256 = _pump(separator, reader, writer, progress)
                with reading_explained(path):
                    if song.storage.glance(song.path) != before:
                        raise AudioReadError(f"{song.name}: was changed while it was read; separate it again")
                report = writer.commit()
            mark = FileMark(*before, sha256)
            outputs.finish(song.source, mark, separator.model.name, request_of(separator, target), rate_hz, report)
    return Separated(
        song.path,
        outputs.paths,
        seconds=report.frames / rate_hz,
        gain=report.gain,
        peak=report.peak,
        clipped_samples=report.clipped_samples,
        addresses=addresses,
    )


def why_again(
    separator: "Separator", song: Song, target: Target, overwrite: Overwrite, remember: bool = True
) -> str | None:
    """Why a song would be separated, in a word or two; None if it would be skipped. `remember` as `SongOutputs` has it.

    Raises AudioWriteError where the stems would replace what is not this song's.
    """
    outputs = outputs_of(separator, song, target)
    if overwrite == "changed":
        return outputs.why_again(song.source, request_of(separator, target), remember)
    with explained(outputs.first):
        return "asked for" if overwrite == "always" else None if outputs.stems_exist() else "new"


def outputs_of(separator: "Separator", song: Song, target: Target) -> SongOutputs:
    """Where the stems of a song go; raises ConfigError for an impossible template."""
    model = separator.model.name
    paths = stem_paths(target.out, target.filename, model, song.track, separator.stems, target.container)
    return SongOutputs(paths, target.storage)


def request_of(separator: "Separator", target: Target) -> Request:
    """What decides the samples of stems, the song itself aside."""
    settings = separator.settings | {"stems": list(separator.stems)}
    settings |= {"container": target.container, "subtype": target.subtype, "clip": target.clip}
    return Request(separator.model_sha256, settings)


def _pump(separator: "Separator", reader: AudioReader, writer: StemWriter, progress: OnProgress) -> str:
    """Let a song run through; decoding the next block and encoding the last overlap with computing this one.

    Returns the SHA-256 of the file.
    """
    info = reader.info
    total_seconds = None if info.frames is None else info.frames / info.sample_rate_hz
    frames = done = 0

    def advance(stems: dict[str, Audio]) -> Future[None]:
        nonlocal done
        done += len(stems[separator.stems[0]])
        progress(done / info.sample_rate_hz, total_seconds)
        return writing.submit(writer.write, stems)

    with ThreadPoolExecutor(1, "read") as reading, ThreadPoolExecutor(1, "write") as writing:
        song = separator.song(info.sample_rate_hz, info.channels)
        blocks = reader.blocks(READ_FRAMES)
        coming = reading.submit(next, blocks, None)
        written = advance(separator.compute(song.push, np.zeros((0, info.channels), np.float32)))
        while (block := coming.result()) is not None:
            coming = reading.submit(next, blocks, None)
            frames += len(block)
            stems = separator.compute(song.push, block)
            written.result()
            written = advance(stems)
        marked = reading.submit(DISK.sha256, info.path)
        stems = separator.compute(song.flush)
        written.result()
        advance(stems).result()
        assert done == frames, f"{done} frames of stems from {frames} frames of mixture"
        with reading_explained(info.path):
            return marked.result()


def _check_space(out: Path, info: AudioInfo, channels: int, stems: int) -> None:
    """Refuse before computing what certainly does not fit: the stems as float32."""
    if info.frames is None:
        return
    needed, usage = info.frames * channels * stems * 4, shutil.disk_usage(existing(out))
    if needed > usage.free and usage.total:  # a file system without any space, such as /proc, says so itself
        raise AudioWriteError(
            f"{out}: {needed / 1e6:.1f} MB needed for the stems of {info.path}, {usage.free / 1e6:.1f} MB free; "
            "free some space or choose another --out"
        )
