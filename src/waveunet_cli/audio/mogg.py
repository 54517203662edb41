"""Multitrack songs of music games, .mogg: a header with a table to seek by, then Ogg Vorbis of many channels.

Each instrument has a channel or two. Which ones, a file of the game says, and the song does not. All numbers are of 32
bits, the lowest byte first: the version, where the Ogg begins, the table's version (16), then the table. Version 10 is
plain. From version 11 on the Ogg is encrypted.
"""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.audio.sndfile import NotReadError, SndfileSource
from waveunet_cli.audio.span import Span
from waveunet_cli.errors import AudioReadError
from waveunet_cli.events import Note

_PLAIN, _ENCRYPTED, _TABLE = 10, range(11, 18), 16


def mogg_start(path: Path, file: BinaryIO) -> int | None:
    """Where the Ogg of a .mogg begins; None for any other file. Raises AudioReadError for one that is encrypted."""
    file.seek(0)
    version, start, table = struct.unpack("<III", file.read(12).ljust(12, b"\0"))
    if version in _ENCRYPTED and table == _TABLE:
        raise AudioReadError(f"{path}: is a multitrack song (.mogg) that is encrypted; only its game can play it")
    if version != _PLAIN:
        return None
    file.seek(start)
    return start if file.read(4) == b"OggS" else None


class MoggSource(SndfileSource):
    """The Ogg of a .mogg: all its channels as they are stored, or the one that `track` names, from 1 on.

    Raises AudioReadError.
    """

    def __init__(self, span: Span, on_event: Callable[[Note], None], track: int | None) -> None:
        try:
            super().__init__(span, 0, has_speakers=False)
        except NotReadError as error:
            raise AudioReadError(f"{span.path}: its Ogg cannot be read ({error}); copy the file again") from error
        channels = self.info.channels
        if track is not None and not 1 <= track <= channels:
            self.close()
            raise AudioReadError(f"{span.path}: holds {channels} channels, not {track}; choose another --track")
        if track is None and channels > 1:
            text = f"holds {channels} channels, of instruments that it does not name; all are read, see --track"
            on_event(Note(f"{span.path}: {text}"))
        self._chosen = slice(None) if track is None else slice(track - 1, track)
        self.info = replace(self.info, channels=channels if track is None else 1)

    def read(self, frames: int) -> NDArray[np.float32]:
        return super().read(frames)[:, self._chosen]
