"""Codecs encoded by libsndfile: FLAC in this process, Vorbis and MP3 in one of their own.

Their encoders end the process on some of what they are given (LAME's assertions, libvorbis's tables); there, that is
the error of one song. As a script this file is that process: an order comes as a line of JSON on standard input, then
the samples as float32 in blocks, each behind its size; what has failed goes to standard output as a line of JSON.
"""

import atexit
import contextlib
import errno
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

_CHUNK_FRAMES = 1 << 14  # libsndfile's Vorbis encoder takes its scratch memory for a call from the stack


class EncoderFailedError(Exception):
    """An encoder refused, or ended."""


class SndfileEncoder:
    """Encodes blocks of (frames, channels) into a new file. Raises OSError and EncoderFailedError.

    settings: for soundfile.SoundFile; comment: text for the file's own comment
    """

    def __init__(
        self, path: Path, sample_rate_hz: int, channels: int, settings: Mapping[str, Any], comment: str = ""
    ) -> None:
        self._file = _ErrorKeepingFile(path)
        try:
            with self._explained():
                self._sound = soundfile.SoundFile(self._file, "w", sample_rate_hz, channels, **settings)
                if comment:
                    self._sound.comment = comment
        except BaseException:
            self._file.close()
            raise

    def write(self, block: NDArray[np.float32]) -> None:
        with self._explained():
            for start in range(0, len(block), _CHUNK_FRAMES):
                self._sound.write(np.ascontiguousarray(block[start : start + _CHUNK_FRAMES], np.float32))

    def finish(self) -> None:
        with self._explained():
            self._sound.close()
        self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(soundfile.LibsndfileError):
            self._sound.close()
        self._file.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        failure: BaseException | None = None
        try:
            yield
        except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts on a short write
            failure = error
        if self._file.error is not None:
            raise self._file.error
        if failure is not None:
            raise EncoderFailedError(str(failure)) from failure


class _ErrorKeepingFile:
    """What libsndfile calls back into; exceptions cannot cross it, so the first one is kept."""

    def __init__(self, path: Path) -> None:
        self._file = FileIO(path, "x+")
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is not None:
            return 0
        try:
            rest = memoryview(data)
            while rest:  # an unbuffered file may take a part
                rest = rest[self._file.write(rest) :]
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


class EncoderProcess:
    """The same as SndfileEncoder, in a process of its own, which the next song may use again."""

    def __init__(self, path: Path, sample_rate_hz: int, channels: int, settings: Mapping[str, Any]) -> None:
        self._process = _idle_process() or subprocess.Popen(
            [sys.executable, "-P", __file__],  # -P: what lies beside this file are no modules of everyone
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        place = os.path.abspath(path)  # noqa: PTH100 - the process may stand elsewhere
        order = {"path": place, "sample_rate_hz": sample_rate_hz, "channels": channels, "settings": dict(settings)}
        try:
            self._send(json.dumps(order).encode() + b"\n")
            self._hear()  # it has opened the file
        except BaseException:
            self.discard()
            raise

    def write(self, block: NDArray[np.float32]) -> None:
        for start in range(0, len(block), _CHUNK_FRAMES):
            data = np.ascontiguousarray(block[start : start + _CHUNK_FRAMES], np.float32).data.cast("B")
            self._send(_SIZE.pack(len(data)))
            self._send(data)

    def finish(self) -> None:
        self._send(_SIZE.pack(0))
        self._hear()
        _IDLE.setdefault(os.getpid(), []).append(self._process)

    def _send(self, data: "bytes | memoryview") -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError:  # it has ended, and said why
            self._hear()
            raise EncoderFailedError("it stopped taking samples") from None

    def _hear(self) -> None:
        """Wait for its answer; raise what it says has failed."""
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline() or "null")
        if answer is None:
            code = self._process.wait()
            raise EncoderFailedError(
                f"its process was ended by signal {-code}" if code < 0 else f"its process ended with code {code}"
            )
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        if "reason" in answer:
            raise EncoderFailedError(answer["reason"])

    def discard(self) -> None:
        if self._process in _IDLE.get(os.getpid(), []):
            return
        self._process.kill()
        with contextlib.suppress(OSError):
            self._process.communicate()


_SIZE = struct.Struct("<I")  # of the block that follows, in bytes; 0 ends the file
_IDLE: dict[int, list["subprocess.Popen[bytes]"]] = {}  # by our own process: forked ones must not share


def _idle_process() -> "subprocess.Popen[bytes] | None":
    idle = _IDLE.get(os.getpid(), [])
    while idle:
        process = idle.pop()
        if process.poll() is None:
            return process
    return None


@atexit.register
def _end_processes() -> None:
    for process in _IDLE.pop(os.getpid(), []):
        with contextlib.suppress(OSError):
            process.communicate()  # closes its input, at which it ends


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the one who started this says what is to be done
    while line := sys.stdin.buffer.readline():
        try:
            _encode(json.loads(line))
        except OSError as error:
            _answer(errno=error.errno or errno.EIO)
            return
        except EncoderFailedError as error:
            _answer(reason=str(error))
            return


def _encode(order: dict[str, Any]) -> None:
    """One file, from standard input."""
    read = sys.stdin.buffer.read
    encoder = SndfileEncoder(Path(order["path"]), order["sample_rate_hz"], order["channels"], order["settings"])
    _answer()
    while (size := _SIZE.unpack(read(_SIZE.size).ljust(_SIZE.size, b"\0"))[0]) > 0:
        encoder.write(np.frombuffer(read(size), np.float32).reshape(-1, order["channels"]))
    encoder.finish()
    _answer()


def _answer(**failed: object) -> None:
    sys.stdout.write(json.dumps(failed) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
