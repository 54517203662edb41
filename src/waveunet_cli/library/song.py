"""One song of a library: is it done, and if not, from its file to its stems and their manifest."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from waveunet_cli import __version__
from waveunet_cli.audio import AudioInfo, AudioReader, StemWriter, probe
from waveunet_cli.audio.read import reading_explained
from waveunet_cli.audio.sinks import explained
from waveunet_cli.audio.stems_file import StemsFileWriter
from waveunet_cli.audio.tags import Tags, read_tags
from waveunet_cli.errors import AudioReadError, AudioWriteError, DeviceError, WaveUNetError
from waveunet_cli.events import Event, GeneralNote, Note, OnEvent, Progress
from waveunet_cli.files import existing
from waveunet_cli.library.manifest import Overwrite
from waveunet_cli.library.storage import BusyError, Disk, FileMark, Glance, Located
from waveunet_cli.library.target import Part, Target
from waveunet_cli.text import one_line

if TYPE_CHECKING:
    from waveunet_cli.separator import Separator

READ_FRAMES = 65_536  # read at once

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Song:
    """An input file and its track: the name of the folder of its stems, with "/" between folders.

    `size_bytes` is the file's size if its folder's listing told it.
    """

    file: Located
    track: str
    size_bytes: int | None = None

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.file.name

    def glance(self) -> Glance | None:
        """None if the file cannot be seen."""
        try:
            return self.file.glance()
        except OSError:
            return None

    @cached_property
    def _info(self) -> AudioInfo | None:
        """What the header of a file on this machine tells; None if there is none."""
        try:
            return probe(Path(self.file.path)) if isinstance(self.file.storage, Disk) else None
        except AudioReadError:  # which is said when it is separated
            return None

    def ends_before(self, seconds: float) -> bool:
        """Whether it is known to be shorter."""
        info = self._info
        return info is not None and info.frames is not None and info.frames < round(seconds * info.sample_rate_hz)

    def bytes(self) -> int:
        """Its size, 0 if that cannot be known."""
        if self.size_bytes is not None:
            return self.size_bytes
        seen = self.glance()
        return 0 if seen is None else seen.bytes


@dataclass(frozen=True)
class Separated:
    """What became of a song.

    path, stems      the song, and the file of each stem; paths within their storage, if that is no disk
    names            what the user calls these files: paths, or addresses
    skipped          True: the stems were there already, and the fields below are not known
    seconds          of music
    gain             applied to all stems; 1 unless they would have clipped
    peak             the largest sample of the stems before that gain
    clipped_samples  samples cut at full scale
    """

    path: Path
    stems: Mapping[str, Path]
    skipped: bool = False
    seconds: float = 0.0
    gain: float = 1.0
    peak: float = 0.0
    clipped_samples: int = 0
    names: Mapping[str, str] = field(default_factory=dict)


def separate_song(
    separator: "Separator",
    song: Song,
    target: Target,
    *,
    overwrite: Overwrite = "changed",
    wait: bool = True,
    on_event: OnEvent = lambda event: None,
) -> Separated:
    """As `Separator.separate_file`; raises BusyError where it may not wait for another process at work on the song.

    May be called from several threads: reading and writing of one song then overlap with computing another. All that
    goes wrong is a WaveUNetError, except what `on_event` raises.
    """

    def tell(event: Event) -> None:
        try:
            on_event(event)
        except Exception as error:
            raise _TellingFailedError(error) from error

    try:
        with as_its_failure(song):
            return _separate_song(separator, song, target, overwrite, wait, tell)
    except _TellingFailedError as failed:
        raise failed.error from None


class _TellingFailedError(BaseException):
    """What a callback raised, on its way through everything."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def as_its_failure(song: Song) -> Iterator[None]:
    """Whatever a reader, a network, an encoder or a manifest raises is a failure of this song, and of no other."""
    try:
        yield
    except (WaveUNetError, BusyError):
        raise
    except Exception as error:
        raise WaveUNetError(
            f"{song.name}: failed for a reason that nobody foresaw ({type(error).__name__}: {one_line(error)}); see "
            "whether the file plays, and report this"
        ) from error


def _separate_song(
    separator: "Separator", song: Song, target: Target, overwrite: Overwrite, wait: bool, on_event: OnEvent
) -> Separated:
    outputs = target.outputs(separator, song)
    done = Separated(
        Path(song.file.path),
        {stem: Path(path) for stem, path in outputs.paths.items()},
        names=outputs.names,
    )
    request = target.request(separator)

    def tags_of(path: Path, start_frames: int | None) -> dict[str, Tags]:
        if not target.tags:
            return {}
        comment = f"separated by waveunet {__version__} with {separator.model.name} ({separator.model.sha256[:12]})"
        tags, title = read_tags(path), song.file.path.stem
        return {stem: tags.of_stem(stem, title, comment, start_frames) for stem in outputs.paths}

    def is_done() -> bool:
        return outputs.why_again(song.file, request, overwrite) is None

    def waiting() -> None:
        on_event(Note(f"{song.name}: another process is separating it; waiting for that"))

    if is_done() and not outputs.was_abandoned:
        return replace(done, skipped=True)
    before = song.glance()
    with ExitStack() as stack:
        path = stack.enter_context(song.file.storage.as_file(song.file.path))

        def noted(note: Note) -> None:
            on_event(Note(note.text.replace(str(path), song.name)))  # the path may be that of a copy

        reader = stack.enter_context(AudioReader(path, noted, target.audio_track))
        info = reader.info
        channels = separator.channels(info.channels)
        part = target.part(info)
        target.output(replace(info, channels=channels))  # refuses what cannot be, before anything is done
        with explained(outputs.name):
            _check_space(target.folder(song), replace(info, frames=part.frames), channels, len(outputs.paths))
        with outputs.claim(wait, waiting) as keeps_away, _memory_explained(separator, path):
            if not keeps_away:
                text = f"{target.folder(song).name}: this drive has no locks; let only one batch at a time write there"
                on_event(GeneralNote(text))
            if is_done():  # by now, by another process
                return replace(done, skipped=True)
            rate_hz = info.sample_rate_hz
            with (
                outputs.storage.landing(outputs.paths, outputs.lock) as paths,
                target.writer(
                    paths,
                    separator.stems,
                    replace(info, channels=channels),
                    part.frames,
                    outputs.key,
                    tags_of(path, part.start if target.is_part else None),
                ) as writer,
            ):
                sha256, frames = _pump(separator, song, reader, part, target.mixed, writer, on_event)
                if part.start and frames <= part.start:
                    raise target.too_short(info.path, frames / rate_hz)
                with reading_explained(song.name):
                    after = song.file.glance()
                if after != before:
                    raise AudioReadError(f"{song.name}: was changed while it was read; separate it again")
                outputs.land()
                report = writer.commit()
            outputs.finish(song.file, FileMark(*after, sha256), separator.model.name, request, rate_hz, report)
    if report.lost:
        lost = ", ".join(report.lost)
        on_event(Note(f"{song.name}: {target.container} has no place for {lost}, so the stems are without"))
    return replace(
        done,
        seconds=report.frames / rate_hz,
        gain=report.gain,
        peak=report.peak,
        clipped_samples=report.clipped_samples,
    )


def _pump(
    separator: "Separator",
    song: Song,
    reader: AudioReader,
    part: Part,
    mixed: Callable[[Mapping[str, Audio]], Mapping[str, Audio]],
    writer: StemWriter | StemsFileWriter,
    on_event: OnEvent,
) -> tuple[str, int]:
    """Let a part of a song run through; decoding the next block and encoding the last overlap with computing this one.

    Returns the SHA-256 of the file, and how many frames of the song were separated.
    """
    info = reader.info
    total_seconds = None if part.frames is None else part.frames / info.sample_rate_hz
    first = separator.first_frame(info.sample_rate_hz, part.start)
    frames = done = first  # of the song: read, and separated
    begun = time.monotonic()

    def advance(stems: dict[str, Audio]) -> Future[None]:
        nonlocal done
        wanted = slice(max(0, part.start - done), None if part.stop is None else max(0, part.stop - done))
        done += len(stems[separator.stems[0]])
        written = mixed({stem: audio[wanted] for stem, audio in stems.items()})
        end = done if part.stop is None else min(done, part.stop)
        seconds = max(0, end - part.start) / info.sample_rate_hz
        speed = seconds / max(1e-6, time.monotonic() - begun)
        left_seconds = None if total_seconds is None or not speed else (total_seconds - seconds) / speed
        on_event(Progress(song.name, song.track, seconds, total_seconds, speed, left_seconds, 0, 1, speed))
        return writing.submit(writer.write, written)

    with ThreadPoolExecutor(1, "read") as reading, ThreadPoolExecutor(1, "write") as writing:
        stream = separator.song(info.sample_rate_hz, info.channels)
        reader.skip(first)
        blocks = reader.blocks(READ_FRAMES)
        coming = reading.submit(next, blocks, None)
        written = advance(stream.push(np.zeros((0, info.channels), np.float32)))
        while (part.stop is None or done < part.stop) and (block := coming.result()) is not None:
            coming = reading.submit(next, blocks, None)
            frames += len(block)
            stems = stream.push(block)
            written.result()
            written = advance(stems)
        marked = reading.submit(Located(info.path).sha256)
        written.result()
        if part.stop is None or done < part.stop:
            advance(stream.flush()).result()
            assert done == frames, f"{done} frames of stems from {frames} frames of mixture"
        with reading_explained(info.path):
            return marked.result(), done


def _check_space(out: Located, info: AudioInfo, channels: int, stems: int) -> None:
    """Refuse before computing what certainly does not fit: the stems as float32."""
    if info.frames is None:
        return
    needed, usage = info.frames * channels * stems * 4, shutil.disk_usage(existing(out.storage.space(out.path)))
    if needed > usage.free and usage.total:  # a file system without any space, such as /proc, says so itself
        raise AudioWriteError(
            f"{out.name}: {needed / 1e6:.1f} MB needed for the stems of {info.path}, {usage.free / 1e6:.1f} MB free; "
            "free some space or choose another --out"
        )


@contextmanager
def _memory_explained(separator: "Separator", path: Path) -> Iterator[None]:
    """Turn memory that ran out into a DeviceError about the song."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises a RuntimeError, or one kind of it
        kind = type(error).__name__
        if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "allocate memory" in str(error):
            raise DeviceError(
                f"{path}: not enough memory on {separator.placement.device}; try a smaller --segment"
            ) from error
        raise
