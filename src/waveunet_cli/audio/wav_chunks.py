"""What WAV files hold beside their samples, in chunks: read from a song, fitted to a part of it, appended to a stem.

Studios keep in bext the place in a recording, in cue marks, in LIST adtl the names of marks, and in smpl loops. The
texts of LIST INFO are tags.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAX_CHUNK_BYTES = 1 << 24
_STUDIO = (b"bext", b"cue ", b"smpl")
_RIFF_LIMIT = (1 << 32) - (1 << 16)
_TIME_REFERENCE = 338  # where bext counts the samples since midnight before the first of the file
_CUE = struct.Struct("<II4sIII")  # name, position, chunk, its start, the block's start, the frame in it
_SMPL_BYTES, _LOOPS_AT = 36, 28  # before the loops; where their count is
_LOOP = struct.Struct("<IIIIII")  # name, kind, first frame, last frame, fraction, count


class Chunk(NamedTuple):
    """A chunk's name of four bytes, and its content."""

    name: bytes
    content: bytes

    def packed(self) -> bytes:
        """As it stands in a file."""
        return struct.pack("<4sI", self.name, len(self.content)) + self.content + bytes(len(self.content) % 2)


def studio_chunks(path: Path) -> tuple[Chunk, ...]:
    """The chunks of a WAV file that are about its samples; none of any other file."""
    found = []
    for name, size, file in _chunks(path):
        is_wanted = name in _STUDIO or (name == b"LIST" and size >= 4)
        content = file.read(size) if is_wanted and size <= MAX_CHUNK_BYTES else b""
        if content and (name != b"LIST" or content.startswith(b"adtl")):
            found.append(Chunk(name, content))
    return tuple(found)


def info_texts(path: Path) -> dict[str, str]:
    """The texts of a WAV file's LIST INFO by their codes, such as INAM; none of any other file."""
    texts: dict[str, str] = {}
    for name, size, file in _chunks(path):
        if name != b"LIST" or size > MAX_CHUNK_BYTES or (content := file.read(size))[:4] != b"INFO":
            continue
        for code, raw in _inner(content[4:]):
            text = raw.rstrip(b"\0")
            texts[code.decode("latin-1")] = _decoded(text).strip()
    return texts


def info_chunk(texts: Sequence[tuple[str, str]]) -> Chunk:
    """LIST INFO of these (code, text)."""
    return Chunk(
        b"LIST", b"INFO" + b"".join(Chunk(code.encode(), text.encode() + b"\0").packed() for code, text in texts)
    )


def append(path: Path, chunks: Sequence[Chunk]) -> bool:
    """Append chunks to a finished WAV file; False, and nothing is changed, if that would pass 4 GiB without RF64.

    Raises OSError.
    """
    added = b"".join(chunk.packed() for chunk in chunks)
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        kind = file.read(4)
        if kind != b"RF64" and size + len(added) > _RIFF_LIMIT:
            return False
        file.seek(size)
        file.write(bytes(size % 2) + added)
        riff_bytes = size + size % 2 + len(added) - 8
        at, form = (20, "<Q") if kind == b"RF64" else (4, "<I")  # RF64 has its sizes in ds64, its first chunk
        file.seek(at)
        file.write(struct.pack(form, riff_bytes))
    return True


def frames_of(path: Path) -> int:
    """How many frames a finished WAV file holds."""
    frame_bytes = data_bytes = 0
    for name, size, file in _chunks(path):
        if name == b"fmt ":
            (frame_bytes,) = struct.unpack_from("<12xH", file.read(14))
        elif name == b"data":
            data_bytes = size
    return data_bytes // frame_bytes


def of_part(chunks: Sequence[Chunk], start: int, frames: int) -> list[Chunk]:
    """A song's studio chunks, fitted to so many frames of it from `start` on: without marks and loops elsewhere."""
    kept: set[int] = set()  # the names of the marks that are left
    made = []
    for name, content in sorted(chunks, key=lambda chunk: chunk.name == b"LIST"):  # names behind their marks
        if name == b"bext":
            made.append(Chunk(name, _later(content, start)))
        elif name == b"smpl":
            made.append(Chunk(name, _loops_of_part(content, start, frames)))
        elif name == b"cue ":
            marks = [
                mark for mark in _CUE.iter_unpack(_whole(content[4:], _CUE.size)) if start <= mark[5] <= start + frames
            ]
            kept |= {mark[0] for mark in marks}
            moved = [_CUE.pack(mark[0], max(0, mark[1] - start), *mark[2:5], mark[5] - start) for mark in marks]
            made += [Chunk(name, struct.pack("<I", len(moved)) + b"".join(moved))] if moved else []
        else:
            named = [Chunk(*each) for each in _inner(content[4:]) if int.from_bytes(each[1][:4], "little") in kept]
            made += [Chunk(name, content[:4] + b"".join(each.packed() for each in named))] if named else []
    return made


def _later(bext: bytes, frames: int) -> bytes:
    """The chunk of what begins so many frames later."""
    if len(bext) < _TIME_REFERENCE + 8:
        return bext
    (reference,) = struct.unpack_from("<Q", bext, _TIME_REFERENCE)
    moved = struct.pack("<Q", min(reference + frames, (1 << 64) - 1))
    return bext[:_TIME_REFERENCE] + moved + bext[_TIME_REFERENCE + 8 :]


def _loops_of_part(smpl: bytes, start: int, frames: int) -> bytes:
    if len(smpl) < _SMPL_BYTES:
        return smpl
    (count,) = struct.unpack_from("<I", smpl, _LOOPS_AT)
    end = _SMPL_BYTES + count * _LOOP.size
    loops = _LOOP.iter_unpack(_whole(smpl[_SMPL_BYTES:end], _LOOP.size))
    inside = [loop for loop in loops if start <= loop[2] <= loop[3] <= start + frames]
    moved = [_LOOP.pack(*loop[:2], loop[2] - start, loop[3] - start, *loop[4:]) for loop in inside]
    head = smpl[:_LOOPS_AT] + struct.pack("<I", len(moved)) + smpl[_LOOPS_AT + 4 : _SMPL_BYTES]
    return head + b"".join(moved) + smpl[end:]


def _whole(content: bytes, size: int) -> bytes:
    """Without the rest that is no whole record."""
    return content[: len(content) // size * size]


def _inner(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks within a chunk: name and content."""
    at = 0
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        yield name, content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _decoded(text: bytes) -> str:
    """INFO has no encoding: old programs use that of their machine, new ones UTF-8."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace")


def _chunks(path: Path) -> Iterator[tuple[bytes, int, BinaryIO]]:
    """The chunks of a WAV file: name, size, and the file at the first byte of the content."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
            return
        long_data_bytes = 0
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            at = file.tell()
            if name == b"ds64" and size >= 16:
                long_data_bytes = struct.unpack("<8xQ", file.read(16))[0]
                file.seek(at)
            if name == b"data" and size == 0xFFFF_FFFF:
                size = long_data_bytes
            yield name, size, file
            file.seek(at + size + size % 2)
