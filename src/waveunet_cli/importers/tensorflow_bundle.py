"""TensorFlow V2 bundles (`tf.train.Saver`), read without TensorFlow: variables by name.

A bundle is `PREFIX.index`, a sorted-string table from variable names to BundleEntryProto, and
`PREFIX.data-00000-of-0000N`, the raw little-endian tensors. The table (LevelDB's format):

    file    blocks …, footer of 48 bytes: two handles (metaindex, index), zeros, magic number
    handle  offset and size as varints
    block   contents, 1 byte of compression, 4 bytes of masked CRC-32C over both
    content entries: shared bytes, other bytes, value bytes as varints, then the rest of the key, the value;
            then the restart points (4 bytes each) and their number (4 bytes)
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from waveunet_cli.errors import CheckpointError
from waveunet_cli.importers.converted import all_printable, listed
from waveunet_cli.importers.crc32c import masked_crc32c

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
MOST_NAME_BYTES = 4096  # a name repeats its neighbour's: long ones would multiply
TRAILER_BYTES = 5  # of a block: compression, checksum
FLOAT32 = 1  # of TensorFlow's DataType


class Entry(NamedTuple):
    """Where a variable lies in the data files."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int  # bytes
    crc: int  # masked
    sliced: bool


@dataclass(frozen=True)
class Bundle:
    """The table of contents of a bundle whose data files are all there, at their full size."""

    prefix: Path
    shards: int
    entries: dict[str, Entry]

    def data_path(self, shard: int) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")

    def read(self, name: str) -> NDArray[np.float32]:
        """A variable; raises CheckpointError if it is not float32, or if its bytes are not those written."""
        entry = self.entries[name]
        where = self.data_path(entry.shard)
        if entry.dtype != FLOAT32 or entry.sliced or entry.size != 4 * prod(entry.shape):
            raise CheckpointError(
                f"{where}: {name} is no whole float32 tensor (data type {entry.dtype}, shape {entry.shape}, "
                f"{entry.size} bytes); only checkpoints of the published program can be converted"
            )
        with where.open("rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
        if masked_crc32c(data) != entry.crc:
            raise CheckpointError(f"{where}: checksum of {name} differs: damaged; copy or download it again")
        return np.frombuffer(data, "<f4").reshape(entry.shape)


def find_prefix(path: Path) -> Path | None:
    """The bundle that `path` means, as a prefix, an .index file, or a folder holding one; None if there is none.

    Of several in a folder, the one that its `checkpoint` file names; raises CheckpointError if it names none.
    """
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        latest = path / "checkpoint"
        if latest.is_file():
            named = re.search(r'^model_checkpoint_path: "(.*)"', _start_of(latest), re.MULTILINE)
            name = re.split(r"[/\\]", named[1])[-1] if named else ""  # written with the author's own folders
            if path / f"{name}.index" in found:
                return path / name
        if len(found) > 1:
            raise CheckpointError(f"{path}: holds several checkpoints; give one of {listed(map(str, found))}")
        return found[0].with_suffix("") if found else None
    if path.suffix == ".index":
        return path.with_suffix("") if path.is_file() else None
    if re.fullmatch(r"\.data-\d{5}-of-\d{5}", path.suffix):
        path = path.with_suffix("")
    return path if path.with_name(f"{path.name}.index").is_file() else None


def _start_of(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(100_000)


def read_bundle(prefix: Path) -> Bundle:
    """The table of contents of a bundle.

    Raises CheckpointError if the index is damaged, or if a data file is missing or not as long as the index says.
    """
    path = prefix.with_name(f"{prefix.name}.index")
    try:
        table = dict(_table(path.read_bytes()))
        header = _message(table.pop(b""))
        bundle = Bundle(
            prefix=prefix,
            shards=_integer(header, 1, default=1),
            entries={name.decode(): _entry(value) for name, value in table.items()},
        )
        if _integer(header, 2):
            raise ValueError("big-endian tensors")
        if not all_printable(bundle.entries):
            raise ValueError("a variable's name holds control characters")
        if any(entry.shard >= bundle.shards for entry in bundle.entries.values()):
            raise ValueError("a variable lies in a data file that the header does not count")
    except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise CheckpointError(
            f"{path}: not a readable TensorFlow V2 checkpoint index ({error}); copy or download it again"
        ) from error
    for shard in range(bundle.shards):
        data = bundle.data_path(shard)
        entries = [entry for entry in bundle.entries.values() if entry.shard == shard]
        expected = max((entry.offset + entry.size for entry in entries), default=0)
        if not data.is_file():
            raise CheckpointError(f"{data}: missing; it belongs beside {path.name}")
        if data.stat().st_size != expected:
            raise CheckpointError(
                f"{data}: truncated or of another checkpoint: the index says {expected} bytes, "
                f"{data.stat().st_size} found; copy or download it again"
            )
        if sum(entry.size for entry in entries) > expected:
            raise CheckpointError(f"{path}: its variables share bytes, so it is damaged; copy or download it again")
    return bundle


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a sorted-string table."""
    if len(data) < FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise ValueError("the magic number at its end is missing: truncated, or another kind of file")
    footer = data[-FOOTER_BYTES:]
    metaindex, position = _handle(footer, 0)
    index, _ = _handle(footer, position)
    if any(_block(data, *metaindex)):  # read for its checksum's sake
        raise ValueError("its metaindex is not empty")
    for _, value in _block(data, *index):
        block, _ = _handle(value, 0)
        yield from _block(data, *block)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the block at `offset`; a key repeats the first `shared` bytes of the one before."""
    if offset + size + TRAILER_BYTES > len(data):
        raise ValueError("a block lies beyond its end")
    contents = data[offset : offset + size]
    compression, crc = struct.unpack("<BI", data[offset + size : offset + size + TRAILER_BYTES])
    if masked_crc32c(data[offset : offset + size + 1]) != crc:
        raise ValueError("a block's checksum differs")
    if compression != 0:
        raise ValueError(f"a block is compressed (kind {compression}), which TensorFlow never does here")
    (restarts,) = struct.unpack("<I", contents[-4:])
    end = size - 4 * (restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = _varint(contents, position)
        rest, position = _varint(contents, position)
        length, position = _varint(contents, position)
        if shared + rest > MOST_NAME_BYTES:
            raise ValueError("the name of a variable is longer than any")
        key = key[:shared] + contents[position : position + rest]
        position += rest
        yield key, contents[position : position + length]
        position += length


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """7 bits a byte, the lowest first; the top bit says that another byte follows."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than 64 bits")


def _message(data: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a protocol buffer by number."""
    found: dict[int, list[int | bytes]] = {}
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        value: int | bytes
        if tag & 7 == 0:
            value, position = _varint(data, position)
        elif tag & 7 == 5:
            (value,) = struct.unpack_from("<I", data, position)
            position += 4
        elif tag & 7 == 2:
            length, position = _varint(data, position)
            value, position = data[position : position + length], position + length
        else:
            raise ValueError(f"wire type {tag & 7} in a message")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _integer(message: dict[int, list[int | bytes]], field: int, default: int = 0) -> int:
    value = message.get(field, [default])[-1]
    if not isinstance(value, int):
        raise ValueError("a message where a number belongs")
    return value


def _submessage(value: int | bytes) -> dict[int, list[int | bytes]]:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return _message(value)


def _entry(value: bytes) -> Entry:
    message = _message(value)
    shape = _submessage(message[2][-1]) if 2 in message else {}
    dimensions = [_submessage(d) for d in shape.get(2, [])]
    return Entry(
        dtype=_integer(message, 1),
        shape=tuple(_integer(d, 1) for d in dimensions),
        shard=_integer(message, 3),
        offset=_integer(message, 4),
        size=_integer(message, 5),
        crc=_integer(message, 6),
        sliced=7 in message,
    )
