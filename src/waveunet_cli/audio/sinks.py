"""Where samples of one stem go: a spool of raw float32, or libsndfile's encoder.

libsndfile drops the reason of a failed write, and some of its encoders the failure itself, so the bytes pass
through a file object that keeps the first OSError.
"""

import contextlib
import errno
from collections.abc import Iterator
from io import FileIO
from pathlib import Path, PurePath

import numpy as np
import soundfile
from numpy.typing import NDArray

from waveunet_cli.audio.formats import CONTAINERS, SUBTYPE_BITS, OutputFormat
from waveunet_cli.errors import AudioWriteError
from waveunet_cli.files import to_disk

WAV_LIMIT_BYTES = (1 << 32) - (1 << 16)  # RIFF counts in 32 bits; the rest is room for headers
_CHUNK_FRAMES = 1 << 14  # libsndfile's Vorbis encoder takes its scratch memory for a call from the stack
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder with --out",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder with --out",
    errno.EFBIG: "the file would be larger than is allowed here; choose flac or another folder with --out",
    errno.EACCES: "may not be written; check the folder's permissions or choose another with --out",
    errno.EPERM: "may not be written; check the folder's permissions or choose another with --out",
    errno.EROFS: "the file system is read-only; choose another folder with --out",
    errno.ENAMETOOLONG: "the name is too long; shorten it with --filename",
    errno.ENOTDIR: "a part of the path is a file; choose another folder with --out",
    errno.EEXIST: "a part of the path is a file; choose another folder with --out",
}


@contextlib.contextmanager
def explained(target: PurePath) -> Iterator[None]:
    """Turn an OSError into one line about the file the user asked for."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"{error.strerror or error}; choose another folder with --out")
        raise AudioWriteError(f"{target}: cannot be written: {remedy}") from error


def data_bytes(output: OutputFormat, frames: int, channels: int) -> int:
    """The size of that many frames of an uncompressed subtype."""
    return frames * channels * SUBTYPE_BITS[output.subtype] // 8


def _write_all(file: FileIO, data: memoryview) -> None:
    while data:  # an unbuffered file may take a part
        data = data[file.write(data) :]


class Spool:
    """Raw float32 frames in a temporary file."""

    def __init__(self, target: Path, temporary: Path, channels: int) -> None:
        self.temporary = temporary
        self._target = target
        self._channels = channels
        with explained(target):
            self._file = FileIO(temporary, "x+")

    def write(self, block: NDArray[np.float32]) -> None:
        data = np.ascontiguousarray(block, np.float32)
        with explained(self._target):
            _write_all(self._file, data.data.cast("B"))

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All frames from the first, as blocks of (frames, channels)."""
        self._file.seek(0)
        while (flat := np.fromfile(self._file, np.float32, _CHUNK_FRAMES * self._channels)).size:
            yield flat.reshape(-1, self._channels)

    def discard(self) -> None:
        self._file.close()
        self.temporary.unlink(missing_ok=True)


class Encoder:
    """One stem encoded by libsndfile into a temporary file."""

    def __init__(
        self, target: Path, temporary: Path, output: OutputFormat, rf64: bool, sample_rate_hz: int, channels: int
    ) -> None:
        self.temporary = temporary
        self._target = target
        self._output = output
        self._channels = channels
        self._frames = 0
        self._limit_bytes = WAV_LIMIT_BYTES if output.container == "wav" and not rf64 else None
        with explained(target):
            self._file = _ErrorKeepingFile(temporary)
        try:
            with self._failures_explained():
                self._sound = soundfile.SoundFile(
                    self._file,
                    "w",
                    sample_rate_hz,
                    channels,
                    output.subtype,
                    format="rf64" if rf64 else output.container,
                    **CONTAINERS[output.container].encoder,
                )
        except BaseException:
            self._file.close()
            raise

    def write(self, block: NDArray[np.float32]) -> None:
        self._frames += len(block)
        if self._limit_bytes is not None:
            needed_bytes = data_bytes(self._output, self._frames, self._channels)
            if needed_bytes > self._limit_bytes:
                raise AudioWriteError(f"{self._target}: longer than the 4 GiB that WAV holds; choose flac")
        with self._failures_explained():
            for start in range(0, len(block), _CHUNK_FRAMES):
                self._sound.write(np.ascontiguousarray(block[start : start + _CHUNK_FRAMES], np.float32))

    def finish(self) -> None:
        """Close the file, wait until it is on the disk, and check that its header counts the frames written."""
        with self._failures_explained():
            self._sound.close()
        self._file.close()
        with explained(self._target):
            to_disk(self.temporary)
        with explained(self._target), self.temporary.open("rb") as file:
            try:
                with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                    found_frames = sound.frames
            except soundfile.LibsndfileError:
                found_frames = 0
        if found_frames != self._frames:
            raise AudioWriteError(
                f"{self._target}: {self._frames} frames written, {found_frames} found in the file;"
                " try again or choose wav"
            )

    @contextlib.contextmanager
    def _failures_explained(self) -> Iterator[None]:
        failure: BaseException | None = None
        try:
            yield
        except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts on a short write
            failure = error
        if self._file.error is not None:
            with explained(self._target):
                raise self._file.error
        if failure is not None:
            raise AudioWriteError(
                f"{self._target}: the {self._output.container} encoder failed ({failure}); choose wav"
            ) from failure

    def discard(self) -> None:
        if hasattr(self, "_sound"):
            with contextlib.suppress(soundfile.LibsndfileError):
                self._sound.close()
        self._file.close()
        self.temporary.unlink(missing_ok=True)


class _ErrorKeepingFile:
    """What libsndfile calls back into; exceptions cannot cross it, so the first one is kept."""

    def __init__(self, path: Path) -> None:
        self._file = FileIO(path, "x")
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is not None:
            return 0
        try:
            _write_all(self._file, memoryview(data))
        except OSError as error:
            self.error = error
            return 0
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
