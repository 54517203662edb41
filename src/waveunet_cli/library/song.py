"""One song of a library: is it done, and if not, from its file to its stems and their manifest."""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio import AudioInfo, AudioReader, Clip, StemWriter, choose_output
from waveunet_cli.audio.read import reading_explained
from waveunet_cli.audio.sinks import explained
from waveunet_cli.errors import AudioReadError, AudioWriteError
from waveunet_cli.files import existing
from waveunet_cli.library.manifest import FileMark, Request, SongOutputs
from waveunet_cli.library.names import TEMPLATE, stem_paths

if TYPE_CHECKING:
    from waveunet_cli.separator import Separator

READ_FRAMES = 65_536  # read at once

Audio = NDArray[np.float32]
Overwrite = Literal["always", "never", "changed"]


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


@dataclass(frozen=True)
class Separated:
    """What became of a file: its stems, its length, their gain, their peak before that, how many samples were cut."""

    path: Path
    stems: dict[str, Path]
    skipped: bool = False
    seconds: float = 0.0
    gain: float = 1.0
    peak: float = 0.0
    clipped_samples: int = 0

    @property
    def names(self) -> dict[str, str]:
        """The stems' paths as the user writes them."""
        return {stem: str(path) for stem, path in self.stems.items()}


@dataclass(frozen=True)
class Target:
    """Where stems go and as what; see `Separator.separate_file`."""

    out: Path
    filename: str = TEMPLATE
    container: str = "wav"
    subtype: str | None = None
    clip: Clip = "rescale"


def separate_song(
    separator: "Separator",
    song: Song,
    target: Target,
    *,
    overwrite: Overwrite = "changed",
    wait: bool = True,
    progress: Callable[[float, float | None], None] = lambda done, total: None,
) -> Separated:
    """As `Separator.separate_file`; raises BusyError where it may not wait for another process at work on the song.

    May be called from several threads: reading and writing of one song then overlap with computing another.
    """
    path, outputs = song.path, outputs_of(separator, song, target)

    def is_done() -> bool:
        return why_again(separator, song, target, overwrite) is None

    if is_done() and not outputs.was_abandoned:
        return Separated(path, outputs.paths, skipped=True)
    with AudioReader(path) as reader:
        info = reader.info
        channels = separator.channels(info.channels)
        output = choose_output(replace(info, channels=channels), target.container, target.subtype)
        with explained(outputs.first):
            _check_space(target.out, info, channels, len(outputs.paths))
        with outputs.claim(wait), separator.memory_explained(path):
            if is_done():  # by now, by another process
                return Separated(path, outputs.paths, skipped=True)
            with reading_explained(path):
                before = path.stat()
            rate_hz = info.sample_rate_hz
            with StemWriter(outputs.paths, rate_hz, channels, output, target.clip, info.frames, outputs.key) as writer:
                mark = _pump(separator, reader, writer, progress)
                if (mark.bytes, mark.modified_ns) != (before.st_size, before.st_mtime_ns):
                    raise AudioReadError(f"{path}: was changed while it was read; separate it again")
                report = writer.commit()
            outputs.finish(path, mark, separator.model.name, request_of(separator, target), rate_hz, report)
    return Separated(
        path,
        outputs.paths,
        seconds=report.frames / rate_hz,
        gain=report.gain,
        peak=report.peak,
        clipped_samples=report.clipped_samples,
    )


def why_again(separator: "Separator", song: Song, target: Target, overwrite: Overwrite) -> str | None:
    """Why a song would be separated, in a word or two; None if it would be skipped."""
    outputs = outputs_of(separator, song, target)
    if overwrite == "changed":
        return outputs.why_again(song.path, request_of(separator, target))
    with explained(outputs.first):
        return "asked for" if overwrite == "always" else None if outputs.stems_exist() else "new"


def outputs_of(separator: "Separator", song: Song, target: Target) -> SongOutputs:
    """Where the stems of a song go; raises ConfigError for an impossible template."""
    model = separator.model.name
    return SongOutputs(stem_paths(target.out, target.filename, model, song.track, separator.stems, target.container))


def request_of(separator: "Separator", target: Target) -> Request:
    """What decides the samples of stems, the song itself aside."""
    settings = separator.settings | {"stems": list(separator.stems)}
    settings |= {"container": target.container, "subtype": target.subtype, "clip": target.clip}
    return Request(separator.model_sha256, settings)


def _pump(
    separator: "Separator", reader: AudioReader, writer: StemWriter, progress: Callable[[float, float | None], None]
) -> FileMark:
    """Let a song run through; decoding the next block and encoding the last overlap with computing this one."""
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
        marked = reading.submit(FileMark.of, info.path)
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
