"""A part of a file, as a file of its own."""

import io
import os
from collections.abc import Mapping
from pathlib import Path


class Span(io.RawIOBase):
    """The bytes [start, end) of a file, for decoders that take a file object.

    repairs: bytes to be read instead of the file's own, by their position in the file
    `error` keeps the first OSError: reading then ends as at the end of the file, since no exception can cross a
    decoder. Who reads must look at it (`raise_error`).
    """

    name: str  # not set: decoders would rather look at a name than at the content

    def __init__(
        self, path: Path, start: int = 0, end: int | None = None, repairs: Mapping[int, bytes] | None = None
    ) -> None:
        super().__init__()
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._start = start
        self._end = os.fstat(self._file.fileno()).st_size if end is None else end
        self._position = start
        self._repairs = repairs or {}
        self.error: OSError | None = None

    @property
    def start(self) -> int:
        """Where the span starts in the file."""
        return self._start

    @property
    def bytes(self) -> int:
        """Its size."""
        return self._end - self._start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = max(self._start, base + offset)
        return self.tell()

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def] # a Buffer, which 3.11 cannot name
        view = memoryview(buffer).cast("B")[: max(0, self._end - self._position)]
        try:
            self._file.seek(self._position)
            count = self._file.readinto(view) or 0
        except OSError as error:
            self.error = self.error or error
            return 0
        for position, repair in self._repairs.items():
            first, last = max(position, self._position), min(position + len(repair), self._position + count)
            if first < last:
                view[first - self._position : last - self._position] = repair[first - position : last - position]
        self._position += count
        return count

    def raise_error(self) -> None:
        """Raise the first OSError there was."""
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self._file.close()
        super().close()
