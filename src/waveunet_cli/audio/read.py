"""Audio files as streams of float32 blocks, in constant memory; a file shorter than its header is an error.

What comes out has as many frames as the best decoder of the format gives, in the order of channels of WAVE. Who that
decoder is, the content decides, not the name: libsndfile for PCM, FLAC and Vorbis, whose samples it counts exactly,
FFmpeg's libraries for everything else, and for what libsndfile fails to open. docs/formats.md lists what was tried.

What cannot be detected: a file cut before the end whose header was written by a streaming encoder and so counts
nothing looks like a shorter song. An Ogg file (Vorbis, Opus) that lacks the mark of its end may have been cut, or may
be a recording of a broadcast: a Note says so. An MP3 may lack up to two of its own frames (52 ms at 44.1 kHz), since
encoders disagree on what to count.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, get_args

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio import links
from waveunet_cli.audio.formats import AudioInfo
from waveunet_cli.audio.headers import Header, flac_mask, read_header
from waveunet_cli.audio.libav import LibavSource
from waveunet_cli.audio.mogg import MoggSource, mogg_start
from waveunet_cli.audio.sndfile import NotReadError, SndfileSource
from waveunet_cli.audio.span import Span
from waveunet_cli.bounds import SampleRateHz, SongChannels
from waveunet_cli.errors import AudioReadError
from waveunet_cli.events import Note
from waveunet_cli.text import one_line

_RATES_HZ, _CHANNELS = (get_args(kind)[1] for kind in (SampleRateHz, SongChannels))  # see bounds.py
BLOCK_FRAMES = 65_536


@contextmanager
def reading_explained(path: Path | str) -> Iterator[None]:
    """Turn an OSError, of a disk or a mount, into one line about the file."""
    try:
        yield
    except OSError as error:
        raise AudioReadError(
            f"{path}: cannot be read ({error.strerror or error}); check the disk or the mount"
        ) from error


class _Source(Protocol):
    """A stream being decoded; read() gives up to that many frames, none at the end."""

    @property
    def info(self) -> AudioInfo: ...
    def read(self, frames: int) -> NDArray[np.float32]: ...
    def close(self) -> None: ...


def _ignore(note: Note) -> None:
    pass


class AudioReader:
    """Reads one file once, block by block; a context manager.

    on_event takes what a user may want to know of a file that is read all the same. track: which of the file's audio
    tracks is read, the first being 1; None: the first, with a Note if there are several. In a .mogg each channel is a
    track; None: all. Raises AudioReadError.
    """

    def __init__(
        self, path: str | os.PathLike[str], on_event: Callable[[Note], None] = _ignore, track: int | None = None
    ) -> None:
        with reading_explained(Path(path)):
            self._links = _Links(Path(path), on_event, track)
        self.info = self._links.info
        for found, unit, bounds in (
            (self.info.sample_rate_hz, "Hz", _RATES_HZ),
            (self.info.channels, "channels", _CHANNELS),
        ):
            if not bounds.ge <= found <= bounds.le:
                self.close()
                raise AudioReadError(
                    f"{path}: has {found} {unit}; songs have {bounds.ge} to {bounds.le}; export it again as usual"
                )
        self._position_frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._links.close()

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[NDArray[np.float32]]:
        """Blocks of (block_frames, channels), the last one shorter; none for a file without samples.

        Raises AudioReadError where the file is damaged, ends early, or a sample is NaN or infinite.
        """
        while len(block := self._read(block_frames)):  # (frames, channels)
            finite = np.isfinite(block)
            if not finite.all():
                bad_frame = self._position_frames + int(np.argmin(finite.all(axis=1)))
                raise AudioReadError(
                    f"{self.info.path}: a sample is NaN or infinite at"
                    f" {bad_frame / self.info.sample_rate_hz:.3f} s (frame {bad_frame});"
                    " repair or export the file again"
                )
            self._position_frames += len(block)
            yield block

    def skip(self, frames: int) -> None:
        """Pass over so many frames, or to the end of the file."""
        while frames and (passed := len(self._read(min(frames, BLOCK_FRAMES)))):
            self._position_frames += passed
            frames -= passed

    def _read(self, frames: int) -> NDArray[np.float32]:
        with reading_explained(self.info.path):
            parts: list[NDArray[np.float32]] = []
            while frames and len(part := self._links.read(frames)):
                parts.append(part)
                frames -= len(part)
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty((0, self.info.channels), np.float32), *parts])


def read_blocks(path: str | os.PathLike[str], block_frames: int = BLOCK_FRAMES) -> Iterator[NDArray[np.float32]]:
    """A file's samples as float32 blocks of (block_frames, channels), the last one shorter, for Separator.stream().

    All blocks together are what one sequential read of the whole file gives, whatever the format. Raises
    AudioReadError.
    """
    with AudioReader(path) as reader:
        yield from reader.blocks(block_frames)


def probe(path: str | os.PathLike[str]) -> AudioInfo:
    """What is known of a file without reading it through. Raises AudioReadError."""
    with AudioReader(path) as reader:
        return reader.info


def frames_of(path: Path) -> int | None:
    """How many frames the header of a file counts, however implausible its rate and channels. Raises AudioReadError."""
    with contextlib.closing(_Links(path, _ignore, None)) as found:
        return found.info.frames


@dataclass(frozen=True)
class _Part:
    """A stream of a file: where it lies, who is to decode it, and whether it lacks the mark of its end.

    is_mogg: whether its channels are instruments
    """

    start: int = 0
    end: int | None = None
    by_libsndfile: bool = True
    header: Header = field(default_factory=Header)
    has_no_end: bool = False
    is_mogg: bool = False


class _Links:
    """The streams of a file, one after the other; a file of most formats holds one."""

    def __init__(self, path: Path, on_event: Callable[[Note], None], track: int | None) -> None:
        self._path = path
        self._track = track
        self._on_event = on_event
        self._first, *self._waiting = _parts(path)
        self._has_no_end = [self._first, *self._waiting][-1].has_no_end
        self._position_frames = 0
        self._count = 1
        self._open(self._first)
        self.info = self._source.info
        if self._waiting:
            self.info = replace(self.info, frames=None)

    def _open(self, part: _Part) -> None:
        self._span = Span(self._path, part.start, part.end, part.header.repairs)
        try:
            self._source = self._decoder(part)
        except BaseException:
            self._span.close()
            raise

    def _decoder(self, part: _Part) -> _Source:
        if part.is_mogg:
            return MoggSource(self._span, self._on_event, self._track)
        why = "it is for FFmpeg"
        if part.by_libsndfile:
            try:
                source = SndfileSource(self._span, part.header.channel_mask)
                if self._track not in (None, 1):
                    source.close()
                    raise AudioReadError(f"{self._path}: holds one audio track, not {self._track}; leave out --track")
                return source
            except NotReadError as error:
                why = f"libsndfile: {error}"
            self._span.seek(0)
        return LibavSource(self._span, why, self._on_event, self._track)

    def read(self, frames: int) -> NDArray[np.float32]:
        """Up to so many frames; none at the end of the last stream."""
        while not len(block := self._source.read(frames)) and self._next():
            pass
        self._position_frames += len(block)
        return block

    def _next(self) -> bool:
        if self._source.info.format == "FLAC" and isinstance(self._source, SndfileSource):
            with self._path.open("rb") as file:
                start = links.next_flac(file, self._span.start, self._span.start + self._span.tell())
            self._waiting = [] if start is None else [_Part(start)]
        if not self._waiting:
            if self._has_no_end:
                self._on_event(Note(f"{self._path}: lacks the mark of its end; compare its length, it may be cut"))
            self._has_no_end = False
            return False
        self.close()
        self._open(self._waiting.pop(0))
        self._count += 1
        found, first = self._source.info, self.info
        if (found.sample_rate_hz, found.channels) != (first.sample_rate_hz, first.channels):
            raise AudioReadError(
                f"{self._path}: holds several recordings, and number {self._count}, after"
                f" {self._position_frames / first.sample_rate_hz:.3f} s, has {found.sample_rate_hz} Hz and"
                f" {found.channels} channels, the first {first.sample_rate_hz} Hz and {first.channels}; split it there"
            )
        return True

    def close(self) -> None:
        self._source.close()
        self._span.close()


def _parts(path: Path) -> list[_Part]:
    """The streams of a file, by its content."""
    with _opened(path) as file:
        file_bytes = os.fstat(file.fileno()).st_size
        if (start := mogg_start(path, file)) is not None:
            return [_Part(start, has_no_end=not links.ogg_has_end(file), is_mogg=True)]
        start = links.content_start(file)
        file.seek(start)
        head = file.read(16)
        if head.startswith(b"OggS"):
            found = links.ogg_links(file) or [(start, False)]
            ends = [*(at for at, _ in found[1:]), file_bytes]
            has_no_end = not links.ogg_has_end(file)
            return [
                _Part(at, end, is_vorbis, has_no_end=has_no_end)
                for (at, is_vorbis), end in zip(found, ends, strict=True)
            ]
        if head.startswith(b"fLaC"):
            return [_Part(start, header=Header(channel_mask=flac_mask(file, start)))]
        if start or links.is_mpeg(head):
            starts = links.mpeg_links(file, start) if links.is_mpeg(head) else [0]
            return [_Part(at, end, False) for at, end in zip(starts, [*starts[1:], file_bytes], strict=True)]
        header = read_header(file)
    if header.end_bytes is not None and header.end_bytes > file_bytes:
        raise AudioReadError(
            f"{path}: truncated: its header says {header.end_bytes} bytes, {file_bytes} found; copy the file again"
        )
    if header.is_cut:
        raise AudioReadError(f"{path}: truncated: ends before its samples begin; copy the file again")
    if header.is_for_ffmpeg:
        return [_Part(0, None, False, header)]
    return [_Part(header=header)]


def _opened(path: Path) -> BinaryIO:
    """A regular file that is not empty, open for reading."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioReadError(f"{path}: is a folder; name an audio file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioReadError(f"{path}: is no regular file; save the stream to a file first")
        if status.st_size == 0:
            raise AudioReadError(f"{path}: is empty (0 bytes); copy the file again")
        return path.open("rb")
    except FileNotFoundError as error:
        raise AudioReadError(f"{path}: no such file; check the path") from error
    except PermissionError as error:
        raise AudioReadError(f"{path}: may not be read; check the permissions") from error
    except (OSError, ValueError) as error:
        raise AudioReadError(f"{path}: cannot be opened ({one_line(error)}); check the path") from error
