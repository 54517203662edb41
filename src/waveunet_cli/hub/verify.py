"""Whether a file is the one that its card or its record describes, and whether there is room for it."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from waveunet_cli.errors import DownloadError
from waveunet_cli.hub.cards import File, megabytes

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class _Digest:
    size: int
    sha256: str
    git_sha1: str


def verified(path: Path, file: File) -> str:
    """The sha256 of a file whose size and hash are as they should be; raises DownloadError if they are not."""
    found = _digest(path)
    if found.size > file.most_bytes or (file.size is not None and found.size != file.size):
        raise DownloadError(f"{file.name} has {found.size} bytes instead of {size_text(file)}")
    for kind, wanted, got in (("sha256", file.sha256, found.sha256), ("git_sha1", file.git_sha1, found.git_sha1)):
        if wanted is not None and wanted != got:
            raise DownloadError(f"{file.name} has {kind} {got} instead of {wanted}: other or damaged bytes")
    return found.sha256


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise DownloadError unless the disk of an existing folder has room."""
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise DownloadError(
            f"{folder}: {megabytes(needed_bytes)} needed, {megabytes(free_bytes)} free; "
            "make room, or set WAVEUNET_CACHE to a folder on another disk"
        )


def size_text(file: File) -> str:
    """The bytes that a file must have, in words."""
    return str(file.size) if file.size else f"at most {file.most_bytes}"


def _digest(path: Path) -> _Digest:
    size = path.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)  # as git names blobs
    with path.open("rb") as stream:
        while block := stream.read(CHUNK_BYTES):
            sha256.update(block)
            git.update(block)
    return _Digest(size, sha256.hexdigest(), git.hexdigest())
