"""Where a file's streams begin: Ogg, MP3 and FLAC files may hold several, one after the other.

Radio recordings are chains of Ogg streams, and people join MP3s end to end. Decoders stop after the first stream, or
take the seams for music; each stream is therefore decoded as a file of its own.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from waveunet_cli.audio.span import Span

_OGG_FIRST_PAGE = b"OggS\0\x02"  # version 0, the first page of a stream
_OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # at most
_OGG_LAST = 0x04  # among the flags of a page: it is the last of its stream
_FLAC_START = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")  # and a STREAMINFO of 34 bytes, perhaps the only header
_TAGS_BYTES = 1 << 16  # that may stand at the end of an MP3
_SEARCH_BYTES = 1 << 20
_READ_AHEAD_BYTES = 1 << 16  # at least what libFLAC reads beyond the last frame


def id3_bytes(head: bytes) -> int:
    """The size of the ID3v2 tag that these bytes begin with; 0 where they don't."""
    if len(head) < 10 or head[:3] != b"ID3" or head[3] > 4 or head[4] == 0xFF or max(head[6:10]) > 0x7F:
        return 0
    # seven bits a byte; flag 0x10 announces a footer as long as the header
    size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 0x10 else 0)


def content_start(file: BinaryIO | Span) -> int:
    """Where the content begins, behind ID3v2 tags, and zeros before MPEG audio, at the start of a file."""
    position = 0
    while size := id3_bytes(_bytes_at(file, position, 10)):
        position += size
    if _bytes_at(file, position, 1) != b"\0":
        return position
    filled = _bytes_at(file, position, _SEARCH_BYTES)
    zeros = len(filled) - len(filled.lstrip(b"\0"))
    return position + zeros if is_frame(filled[zeros : zeros + 4]) else position


def ogg_links(file: BinaryIO) -> list[tuple[int, bool]]:
    """Start of every link of an Ogg file, and whether it is one Vorbis stream and nothing else.

    Streams that begin with pages side by side are of one link (a film's picture and sound).
    """
    links: list[tuple[int, bool]] = []
    file_bytes, expected = file.seek(0, os.SEEK_END), 0
    for found in _find_all(file, _OGG_FIRST_PAGE, 0):
        page = _bytes_at(file, found, 27 + 255 + 7)
        segments = page[26] if len(page) > 26 else 0
        end = found + 27 + segments + sum(page[27 : 27 + segments])
        if end != file_bytes and _bytes_at(file, end, 4) != b"OggS":
            continue  # it only looks like a page
        if links and found == expected:
            links[-1] = (links[-1][0], False)
        else:
            links.append((found, page[27 + segments : 34 + segments] == b"\x01vorbis"))
        expected = end
    return links


def ogg_has_end(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file is whole and marked as the last of its stream."""
    file_bytes = file.seek(0, os.SEEK_END)
    tail = _bytes_at(file, max(0, file_bytes - _OGG_PAGE_BYTES - _TAGS_BYTES), _OGG_PAGE_BYTES + _TAGS_BYTES)
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    if len(page) < 27:
        return False
    return bool(page[5] & _OGG_LAST) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def mpeg_links(file: BinaryIO, start: int) -> list[int]:
    """Start of every MP3 in a file of joined ones, whose first begins at `start`: where a tag stands in the middle.

    Tags are ID3v2 and the frame that counts the others (Xing, Info). Without either nothing shows the seam, and
    nothing needs to.
    """
    is_whole = _counted_end(file, start) == file.seek(0, os.SEEK_END)
    if is_whole or not is_frame(_bytes_at(file, start, 4)):
        return [start]
    links, free_from = [start], start + 1
    for found in sorted([*_id3_tags(file, start), *_counting_frames(file, start)]):
        if found >= free_from:
            links.append(found)
            free_from = found + max(1, id3_bytes(_bytes_at(file, found, 10)) + 1)
    return links


def _id3_tags(file: BinaryIO, start: int) -> Iterator[int]:
    for found in _find_all(file, b"ID3", start):
        size = id3_bytes(_bytes_at(file, found, 10))
        if size and is_frame(_bytes_at(file, found + size, 4)):
            yield found


def _counting_frames(file: BinaryIO, start: int) -> Iterator[int]:
    for name in (b"Xing\0\0\0", b"Info\0\0\0"):
        for found in _find_all(file, name, start):
            for side_bytes in (32, 17, 9):  # of side information between the frame's header and the tag
                before = _bytes_at(file, found - side_bytes - 4, side_bytes + 4) if found >= side_bytes + 4 else b""
                if is_frame(before[:4]) and not any(before[4:]):
                    yield found - side_bytes - 4
                    break


def is_frame(header: bytes) -> bool:
    """Whether four bytes can begin a frame of MPEG audio, layer III."""
    if len(header) < 4:
        return False
    is_sync = header[0] == 0xFF and header[1] & 0xE6 == 0xE2 and header[1] & 0x18 != 0x08
    return is_sync and header[2] & 0xF0 not in (0, 0xF0) and header[2] & 0x0C != 0x0C


def is_mpeg(head: bytes) -> bool:
    """Whether a file that begins with these bytes, behind its tags, is MPEG audio of any layer or AAC in ADTS."""
    return len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0


def counts_frames(file: BinaryIO | Span) -> bool:
    """Whether an MP3 begins with a header that counts its frames, and nothing tells that more were added since."""
    start = content_start(file)
    counts, counted_bytes = _counts(file, start)
    added_bytes = file.seek(0, os.SEEK_END) - start - (counted_bytes or 0)
    return counts and (counted_bytes is None or added_bytes <= counted_bytes * 0.01 + _TAGS_BYTES)


def _counted_end(file: BinaryIO, start: int) -> int | None:
    """Where an MP3 ends, with an ID3v1 tag, by the header that counts its bytes."""
    _, counted_bytes = _counts(file, start)
    if counted_bytes is None:
        return None
    file.seek(start + counted_bytes)
    return start + counted_bytes + (128 if file.read(3) == b"TAG" else 0)


def _counts(file: BinaryIO | Span, start: int) -> tuple[bool, int | None]:
    """Of the frame that begins an MP3: whether it counts frames (Xing, Info), and how many bytes it counts."""
    file.seek(start)
    frame = file.read(64)
    # the tag follows 4 bytes of frame header, 0 or 2 of check sum and 9 to 32 of side information
    at = max(frame.find(b"Xing", 13, 42), frame.find(b"Info", 13, 42))
    if at < 0 or len(frame) < at + 16:
        return False, None
    flags, _, counted_bytes = struct.unpack(">III", frame[at + 4 : at + 16])
    return bool(flags & 1), counted_bytes if flags & 2 else None


def next_flac(file: BinaryIO, start: int, read_bytes: int) -> int | None:
    """Where a FLAC stream begins behind the one at `start`, whose decoder has read so far and was at an end; else None.

    (Looking for it beforehand would mean to read the whole file twice.)
    """
    start = max(start + 8, read_bytes - _READ_AHEAD_BYTES)
    found = (next(_find_all(file, magic, start), None) for magic in _FLAC_START)
    return min((at for at in found if at is not None), default=None)


def _bytes_at(file: BinaryIO | Span, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _find_all(file: BinaryIO, wanted: bytes, start: int) -> Iterator[int]:
    """Every position of some bytes; the file may be used otherwise between two of them."""
    position, kept = start, b""  # what was searched, but for what may be the beginning of a find
    while data := _bytes_at(file, position, _SEARCH_BYTES):
        data = kept + data
        base = position - len(kept)
        found = data.find(wanted)
        while found >= 0:
            yield base + found
            found = data.find(wanted, found + 1)
        position = base + len(data)
        kept = data[max(0, len(data) - len(wanted) + 1) :]
