"""Take the wanted files out of a zip, and nothing else.

A member is found by its last component, so that the folders inside do not matter, and is written under the name
that the card gives, so that no member can choose where it lands. Its size is bounded twice: as declared, and while
it is inflated. The archive's own checksum and then the card's hash are verified before the file gets its name.
"""

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from waveunet_cli.errors import DownloadError
from waveunet_cli.files import whole_file
from waveunet_cli.hub.cards import File
from waveunet_cli.hub.verify import CHUNK_BYTES, verified
from waveunet_cli.text import one_line, shown

ENCRYPTED = 0x1  # of ZipInfo.flag_bits


def extract(archive: Path, files: Sequence[File], folder: Path) -> dict[str, str]:
    """Write each file of `files` into `folder`; returns name → sha256.

    Raises DownloadError if the archive is damaged, lacks a file, holds it twice or as anything but a plain file, or
    if a file is larger than it may be or has other bytes than it must; OSError if the folder cannot be written.
    """
    with _of_archive(archive.name):
        members = ZipFile(archive)
    with members:
        return {file.name: _extract_one(members, file, folder, archive.name) for file in files}


def _extract_one(members: ZipFile, file: File, folder: Path, where: str) -> str:
    member = _member(members, file, where)
    with whole_file(folder / file.name) as part:
        with part.open("wb") as out:
            written = 0
            for block in _inflated(members, member, where):
                written += len(block)
                if written > file.most_bytes:
                    raise DownloadError(f"{where}: {file.name} inflates beyond {file.most_bytes} bytes; refused")
                out.write(block)
        return verified(part, file)


def _inflated(members: ZipFile, member: ZipInfo, where: str) -> Iterator[bytes]:
    with _of_archive(where):
        source = members.open(member)
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
    except Exception as error:
        raise DownloadError(
            f"{where}: no zip archive, or a damaged one ({one_line(error)}); download it again"
        ) from error


def _member(members: ZipFile, file: File, where: str) -> ZipInfo:
    found = [info for info in members.infolist() if PurePosixPath(info.filename).name == file.name]
    if len(found) != 1:
        raise DownloadError(f"{where}: holds {len(found)} files named {file.name}, exactly one is wanted")
    member = found[0]
    mode = member.external_attr >> 16  # 0 where the archive was not made under Unix
    if member.is_dir() or member.flag_bits & ENCRYPTED or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise DownloadError(f"{where}: {shown(member.filename)} is no plain, unencrypted file; refused")
    if member.file_size > file.most_bytes:
        raise DownloadError(
            f"{where}: {file.name} declares {member.file_size} bytes, {file.most_bytes} are allowed; refused"
        )
    return member
