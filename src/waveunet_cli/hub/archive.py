"""Take the wanted files out of a zip, and nothing else.

A member is found by its last component, so that the folders inside do not matter, and is written under the name
that the card gives, so that no member can choose where it lands. Its size is bounded twice: as declared, and while
it is inflated. The archive's own checksum and then the card's hash are verified before the file gets its name.
"""

import stat
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from waveunet_cli.errors import DownloadError
from waveunet_cli.files import whole_file
from waveunet_cli.hub.cards import File
from waveunet_cli.hub.download import CHUNK_BYTES, verified

ENCRYPTED = 0x1  # of ZipInfo.flag_bits


def extract(archive: Path, files: Sequence[File], folder: Path) -> dict[str, str]:
    """Write each file of `files` into `folder`; returns name → sha256.

    Raises DownloadError if the archive is damaged, lacks a file, holds it twice or as anything but a plain file, or
    if a file is larger than it may be or has other bytes than it must.
    """
    try:
        with ZipFile(archive) as members:
            return {file.name: _extract_one(members, file, folder, archive.name) for file in files}
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise DownloadError(f"{archive.name}: no zip archive, or a damaged one ({error}); download it again") from error


def _extract_one(members: ZipFile, file: File, folder: Path, where: str) -> str:
    member = _member(members, file, where)
    with whole_file(folder / file.name) as part:
        with members.open(member) as source, part.open("wb") as out:
            written = 0
            while block := source.read(CHUNK_BYTES):
                written += len(block)
                if written > file.most_bytes:
                    raise DownloadError(f"{where}: {member.filename} inflates beyond {file.most_bytes} bytes; refused")
                out.write(block)
        return verified(part, file)


def _member(members: ZipFile, file: File, where: str) -> ZipInfo:
    found = [info for info in members.infolist() if PurePosixPath(info.filename).name == file.name]
    if len(found) != 1:
        raise DownloadError(f"{where}: holds {len(found)} files named {file.name}, exactly one is wanted")
    member = found[0]
    mode = member.external_attr >> 16  # 0 where the archive was not made under Unix
    if member.is_dir() or member.flag_bits & ENCRYPTED or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise DownloadError(f"{where}: {member.filename} is no plain, unencrypted file; refused")
    if member.file_size > file.most_bytes:
        raise DownloadError(
            f"{where}: {member.filename} declares {member.file_size} bytes, {file.most_bytes} are allowed; refused"
        )
    return member
