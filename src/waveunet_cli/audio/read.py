"""Audio files as streams of float32 blocks, in constant memory; a file shorter than its header is an error.

What cannot be detected: an Ogg file (Vorbis, Opus) cut between two pages, and a file cut before the end
whose header was written by a streaming encoder and so counts nothing, look like shorter songs. An MP3 may
lack up to two MPEG frames (52 ms at 44.1 kHz), since encoders disagree on what to count.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from waveunet_cli.audio.ffmpeg import FfmpegSource
from waveunet_cli.audio.formats import FFMPEG_EXTENSIONS, AudioInfo
from waveunet_cli.audio.headers import declared_end_bytes, mp3_counts_frames
from waveunet_cli.errors import AudioReadError

_LOSSY_SUBTYPES = frozenset(
    {"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "GSM610", "ULAW", "ALAW"}
    | {"IMA_ADPCM", "MS_ADPCM", "VOX_ADPCM", "G721_32", "G723_24", "G723_40"}
    | {"NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"}
)
_UNRECOGNISED = 1  # libsndfile's SF_ERR_UNRECOGNISED_FORMAT
_UNCOUNTED_FRAMES = 1 << 62  # libsndfile says 2^63 − 1 for a FLAC whose header counts nothing
_MP3_TOLERANCE_FRAMES = 2 * 1152  # some encoders count the header frame, or the decoder's delay, as music


class _NotCountedError(Exception):
    """libsndfile would guess the length of this file."""


class _UnrecognisedError(Exception):
    """libsndfile does not know this format."""


@contextmanager
def reading_explained(path: Path) -> Iterator[None]:
    """Turn an OSError, of a disk or a mount, into one line about the file."""
    try:
        yield
    except OSError as error:
        raise AudioReadError(
            f"{path}: cannot be read ({error.strerror or error}); check the disk or the mount"
        ) from error


class _Source(Protocol):
    """A file being decoded; read() gives up to that many frames, none at the end."""

    @property
    def info(self) -> AudioInfo: ...
    def read(self, frames: int) -> NDArray[np.float32]: ...
    def close(self) -> None: ...


class AudioReader:
    """Reads one file once, block by block; a context manager.

    libsndfile decodes what it knows; extensions in FFMPEG_EXTENSIONS, formats libsndfile does not know, and
    MP3 or FLAC files whose header does not count their frames go through ffmpeg. Raises AudioReadError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with reading_explained(Path(path)):
            self._source = _open(Path(path))
        self.info = self._source.info

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, or end ffmpeg if it still runs."""
        self._source.close()

    def blocks(self, block_frames: int) -> Iterator[NDArray[np.float32]]:
        """Blocks of (block_frames, channels), the last one shorter; none for a file without samples.

        Raises AudioReadError where the file is damaged, ends early, or a sample is NaN or infinite.
        """
        position_frames = 0
        while len(block := self._read(block_frames)):  # (frames, channels)
            finite = np.isfinite(block)
            if not finite.all():
                bad_frame = position_frames + int(np.argmin(finite.all(axis=1)))
                raise AudioReadError(
                    f"{self.info.path}: a sample is NaN or infinite at"
                    f" {bad_frame / self.info.sample_rate_hz:.3f} s (frame {bad_frame});"
                    " repair or export the file again"
                )
            position_frames += len(block)
            yield block

    def _read(self, frames: int) -> NDArray[np.float32]:
        with reading_explained(self.info.path):
            return self._source.read(frames)


def probe(path: str | os.PathLike[str]) -> AudioInfo:
    """What the file's header says, without reading samples. Raises AudioReadError."""
    with AudioReader(path) as reader:
        return reader.info


def _open(path: Path) -> _Source:
    file_bytes = _check_file(path)
    if path.suffix.lower() in FFMPEG_EXTENSIONS:
        return FfmpegSource(path, "no format that libsndfile reads")
    try:
        return _SndfileSource(path, file_bytes)
    except _UnrecognisedError:
        return FfmpegSource(path, "no audio that libsndfile knows")
    except _NotCountedError:
        return FfmpegSource(path, "its header does not count its frames")


def _check_file(path: Path) -> int:
    """The size in bytes of a file that can be opened and is not empty."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioReadError(f"{path}: is a folder; name an audio file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioReadError(f"{path}: is no regular file; save the stream to a file first")
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise AudioReadError(f"{path}: no such file; check the path") from error
    except PermissionError as error:
        raise AudioReadError(f"{path}: may not be read; check the permissions") from error
    except (OSError, ValueError) as error:
        raise AudioReadError(f"{path}: cannot be opened ({error}); check the path") from error
    if status.st_size == 0:
        raise AudioReadError(f"{path}: is empty (0 bytes); copy the file again")
    return status.st_size


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """python-soundfile seeks after every read where it can, which disturbs the Opus decoder and slows MP3."""

    def seekable(self) -> bool:
        return False


class _SndfileSource:
    """A file decoded by libsndfile, opened by descriptor so that no name can confuse it."""

    def __init__(self, path: Path, file_bytes: int) -> None:
        self._path = path
        self._position_frames = 0
        self._file = path.open("rb", buffering=0)  # libsndfile starts where the descriptor stands
        try:
            end_bytes = declared_end_bytes(self._file)
            if end_bytes is not None and end_bytes > file_bytes:
                raise AudioReadError(
                    f"{path}: truncated: its header says {end_bytes} bytes, {file_bytes} found; copy the file again"
                )
            self._file.seek(0)
            self._sound = self._open_sound()
            self._frames: int = self._sound.frames
            is_mp3 = self._sound.format == "MP3"
            if self._frames >= _UNCOUNTED_FRAMES:
                raise _NotCountedError
            with path.open("rb") as head:
                if is_mp3 and not mp3_counts_frames(head, file_bytes):
                    raise _NotCountedError
        except BaseException:
            self.close()
            raise
        self._tolerance_frames = _MP3_TOLERANCE_FRAMES if is_mp3 else 0
        self.info = AudioInfo(
            path=path,
            sample_rate_hz=self._sound.samplerate,
            channels=self._sound.channels,
            frames=self._frames,
            format=self._sound.format,
            subtype=self._sound.subtype,
            lossy=self._sound.subtype in _LOSSY_SUBTYPES,
        )

    def _open_sound(self) -> _ForwardFile:
        try:
            return _ForwardFile(self._file.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            if error.code == _UNRECOGNISED:
                raise _UnrecognisedError from error
            raise AudioReadError(
                f"{self._path}: cannot be decoded ({_reason(error)}); copy or export the file again"
            ) from error

    def read(self, frames: int) -> NDArray[np.float32]:
        wanted_frames = min(frames, self._frames - self._position_frames)
        try:
            block: NDArray[np.float32] = self._sound.read(wanted_frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            _drain(self._file.fileno())
            raise AudioReadError(
                f"{self._path}: damaged or truncated after frame {self._position_frames} of {self._frames}"
                f" ({_reason(error)}); copy the file again"
            ) from error
        self._position_frames += len(block)
        if len(block) < wanted_frames and self._position_frames < self._frames - self._tolerance_frames:
            _drain(self._file.fileno())
            raise AudioReadError(
                f"{self._path}: truncated: its header says {self._frames} frames,"
                f" {self._position_frames} found; copy the file again"
            )
        return block

    def close(self) -> None:
        if hasattr(self, "_sound"):
            self._sound.close()
        self._file.close()


def _drain(descriptor: int) -> None:
    """Read a whole file: libsndfile takes a disk's or network's error for its end. Raises the OSError there is."""
    position_bytes = 0
    while data := os.pread(descriptor, 1 << 20, position_bytes):
        position_bytes += len(data)


def _reason(error: soundfile.LibsndfileError) -> str:
    # libsndfile has no words for some FLAC errors
    return error.error_string.strip().rstrip(".") or "the decoder gave no reason"
