"""Standard output and standard error, whatever they are: none, closed, a full disk, a pipe that nobody reads any more.

What is printed is never worth more than the work: a stream that fails takes no more text, and the work goes on.
"""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast


class Printed(io.BufferedIOBase):
    """Passes bytes on to a binary stream until that fails. `error` keeps the first failure."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        # Unbuffered where there is a choice: what a buffer could not write, Python would try once more at its exit.
        self._stream = getattr(stream, "raw", stream)
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        try:
            while rest and self.error is None:
                rest = rest[self._stream.write(rest) or 0 :]
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile
            self.error = self.error or (error if isinstance(error, OSError) else OSError(errno.EBADF, str(error)))
        return len(data)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def close(self) -> None:
        """The stream belongs to somebody else."""


@contextmanager
def standard_streams() -> Iterator[Printed]:
    """Let sys.stdout and sys.stderr be streams that take every text and never fail. Gives what stands behind stdout.

    A character that the encoding of a stream lacks comes out as an escape, such as \\xd7 for ×. A stream of text that
    stands on no bytes, such as io.StringIO, stays as it is.
    """
    _hold_numbers()
    with ExitStack() as stack:
        nothing = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        out, printed = _lasting(sys.stdout, nothing)
        err, _ = _lasting(sys.stderr, nothing)
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        yield printed


def _lasting(stream: TextIO | None, nothing: TextIO) -> tuple[TextIO, Printed]:
    if stream is None or stream.closed:
        stream = nothing
    if not hasattr(stream, "buffer"):
        return stream, Printed(io.BytesIO())
    with suppress(OSError, ValueError):
        stream.flush()
    printed = Printed(stream.buffer)
    errors = stream.errors if stream.errors not in (None, "strict") else "backslashreplace"
    return io.TextIOWrapper(cast(BinaryIO, printed), stream.encoding, errors, write_through=True), printed


def _hold_numbers() -> None:
    """Open what stands for nothing as file 0, 1 and 2 where these are closed.

    Else a file opened later, such as a stem, gets the number of standard error, and every library that complains there
    writes into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the smallest number that is free
