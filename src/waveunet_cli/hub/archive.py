"""Take the wanted files out of a zip or a tar.gz, and nothing else.

A member is found by its last component, so that the folders inside do not matter, and is written under the name that
the card gives, so that no member can choose where it lands. Before anything is written, all members are looked at. An
archive is refused if the name of a member leads out of it, if a wanted file is no plain one or larger than the card
allows, and, if it is a tar, for any link or device. Sizes are bounded twice: as declared, and while bytes are inflated.
The archive's own checksum and then the card's hash are verified before a file gets its name.
"""

import gzip
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, Self
from zipfile import ZipFile, ZipInfo

from waveunet_cli.errors import DownloadError
from waveunet_cli.files import whole_file
from waveunet_cli.hub.cards import File
from waveunet_cli.hub.verify import CHUNK_BYTES, verified
from waveunet_cli.text import one_line, shown

ENCRYPTED = 0x1  # of ZipInfo.flag_bits
GZIP = b"\x1f\x8b"
MOST_UNWANTED_BYTES = 100_000_000  # of a tar, which is inflated from its beginning on, whatever is wanted
MOST_HEADER_BYTES = 100_000  # of a tar: names and dates of one member, which tarfile reads at once
LONG_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, *tarfile.GNU_TYPES)


class Member(NamedTuple):
    """What an archive holds under a name; `is_plain` if it is an ordinary file."""

    name: str
    size: int
    is_plain: bool
    open: Callable[[], IO[bytes] | None]


def extract(archive: Path, files: Sequence[File], folder: Path, name: str | None = None) -> dict[str, str]:
    """Write each file of `files` into `folder`; returns name → sha256. Errors call the archive by its `name`.

    Raises DownloadError if the archive is damaged, lacks a file, holds it twice or as anything but a plain file, or
    if a file is larger than it may be or has other bytes than it must; OSError if the folder cannot be written.
    """
    where = name or archive.name
    with ExitStack() as opened:
        with _of_archive(where):
            most_bytes = sum(file.most_bytes for file in files) + MOST_UNWANTED_BYTES
            form = _tar(archive, most_bytes, where) if _is_gzip(archive) else _zip(archive)
            members = opened.enter_context(form)
        for member in members:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise DownloadError(f"{where}: {shown(member.name)} leads out of the archive; refused")
        wanted = [_member(members, file, where) for file in files]
        return {
            file.name: _extract_one(member, file, folder, where) for member, file in zip(wanted, files, strict=True)
        }


def _is_gzip(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


@contextmanager
def _zip(archive: Path) -> Iterator[list[Member]]:
    with ZipFile(archive) as zipped:
        yield [Member(i.filename, i.file_size, _is_plain(i), partial(zipped.open, i)) for i in zipped.infolist()]


def _is_plain(info: ZipInfo) -> bool:
    mode = info.external_attr >> 16  # 0 where the archive was not made under Unix
    return not (info.is_dir() or info.flag_bits & ENCRYPTED) and stat.S_IFMT(mode) in (0, stat.S_IFREG)


@contextmanager
def _tar(archive: Path, most_bytes: int, where: str) -> Iterator[list[Member]]:
    """Reads the whole archive once, at most `most_bytes`, so that its checksum is known to be right."""
    with gzip.open(archive) as data, tarfile.open(fileobj=data, mode="r:", tarinfo=_TarInfo) as tar:
        members = []
        for info in tar:
            if not 0 <= info.size <= most_bytes - info.offset_data:  # to go on would be to inflate all of it
                raise ValueError(f"{shown(info.name)} lies beyond {most_bytes} bytes")
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise DownloadError(f"{where}: {shown(info.name)} is a link or a device; refused")
            members.append(Member(info.name, info.size, info.isreg(), partial(tar.extractfile, info)))
        while data.read(CHUNK_BYTES):
            if data.tell() > most_bytes:
                raise ValueError(f"it inflates beyond {most_bytes} bytes")
        yield members


class _TarInfo(tarfile.TarInfo):
    """A header that is refused if what belongs to it would take much memory, or lead back."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in LONG_HEADERS and info.size > MOST_HEADER_BYTES):
            raise ValueError(f"a header of {info.size} bytes")
        return info


def _member(members: Sequence[Member], file: File, where: str) -> Member:
    found = [member for member in members if PurePosixPath(member.name).name == file.name]
    if len(found) != 1:
        raise DownloadError(f"{where}: holds {len(found)} files named {file.name}, exactly one is wanted")
    member = found[0]
    if not member.is_plain:
        raise DownloadError(f"{where}: {shown(member.name)} is no plain, unencrypted file; refused")
    if member.size > file.most_bytes:
        raise DownloadError(
            f"{where}: {file.name} declares {member.size} bytes, {file.most_bytes} are allowed; refused"
        )
    return member


def _extract_one(member: Member, file: File, folder: Path, where: str) -> str:
    with whole_file(folder / file.name) as part:
        with part.open("wb") as out:
            written = 0
            for block in _inflated(member, where):
                written += len(block)
                if written > file.most_bytes:
                    raise DownloadError(f"{where}: {file.name} inflates beyond {file.most_bytes} bytes; refused")
                out.write(block)
        return verified(part, file)


def _inflated(member: Member, where: str) -> Iterator[bytes]:
    with _of_archive(where):
        source = member.open()
        assert source is not None
    with source:
        while True:
            with _of_archive(where):
                block = source.read(CHUNK_BYTES)
            if not block:
                return
            yield block


@contextmanager
def _of_archive(where: str) -> Iterator[None]:
    """Whatever reading an archive raises is the archive's fault: damage makes anything of its numbers and names."""
    try:
        yield
    except DownloadError:
        raise
    except Exception as error:
        raise DownloadError(
            f"{where}: no zip or tar.gz archive, or a damaged one ({one_line(error)}); download it again"
        ) from error
