"""Files of `torch.save`, read as tensors only: nothing in them is run."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from pickletools import genops
from typing import IO

import torch
from torch import Tensor

from waveunet_cli.errors import CheckpointError
from waveunet_cli.importers.converted import all_printable, listed
from waveunet_cli.text import one_line, shown

MOST_PICKLE_BYTES = 8_000_000  # that of a network and its optimizer has some 100 000
NAMING = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}  # operations that fetch something to call
PLAIN = re.compile(  # modules and names, as pickles of plain tensors have them
    r"collections OrderedDict|torch\._utils (_rebuild_tensor_v2|_rebuild_parameter)|torch (\w+Storage|Size|device|"
    r"b?float\d+|u?int\d+|bool|double|half|long)|(__builtin__|builtins) set"
)


def is_torch_file(start: bytes) -> bool:
    """Whether a file that starts so is an archive or a pickle, the two forms that `torch.save` ever wrote."""
    return start[:4] == b"PK\x03\x04" or start[:1] == b"\x80"


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights of a file that holds a state dict, alone or as "model_state_dict" beside an optimizer's.

    A leading "module." (of a parallel run) is dropped from the names. Raises CheckpointError if the file is
    damaged, holds anything but plain data, or weights that are not float32 or not finite.
    """
    try:
        archive = zipfile.is_zipfile(path)
        stored_bytes = _checked_archive(path) if archive else _checked_legacy(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the oldest of the formats
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds code or objects besides tensors, or is damaged; nothing in it was run; "
            "use a checkpoint from a source you trust that holds tensors only"
        ) from error
    except Exception as error:  # a damaged pickle or archive can raise anything
        raise CheckpointError(
            f"{path}: not a readable PyTorch checkpoint, or a truncated one ({one_line(error)}); copy or download it "
            "again"
        ) from error
    state = saved.get("model_state_dict", saved) if isinstance(saved, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path}: holds no weights by name; it is no checkpoint of a network")
    if not all_printable(state):
        raise CheckpointError(f"{path}: names of weights hold control characters, it is damaged; copy it again")
    weights = {name.removeprefix("module."): weight for name, weight in state.items()}
    wrong = [
        name
        for name, weight in weights.items()
        if not isinstance(weight, Tensor)
        or weight.dtype != (torch.int64 if name.endswith(".num_batches_tracked") else torch.float32)
    ]
    if wrong:
        raise CheckpointError(f"{path}: no float32 tensors: {listed(wrong)}; save the checkpoint again in float32")
    _require_bytes(weights, stored_bytes, path)
    return weights


def _checked_archive(path: Path) -> int:
    """The bytes of all tensors in an archive whose members are as torch takes them to be, without looking.

    It reads the bytes where a member begins, whatever its compression and its checksum. Raises ValueError for a member
    that is not stored plainly, UnpicklingError for a pickle that calls for more than tensors.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise ValueError(f"{shown(member.filename)} is compressed, which torch.save never does")
        total = sum(member.file_size for member in members)
        names = [member.filename for member in members]
        if min(member.header_offset for member in members) or total > path.stat().st_size:
            raise ValueError("its members are not where its directory says")
        pickles = [member for member in members if PurePosixPath(member.filename).name == "data.pkl"]
        if len(pickles) != 1 or len(set(names)) != len(names) or pickles[0].file_size > MOST_PICKLE_BYTES:
            raise ValueError("its directory is none of torch.save")
        damaged = archive.testzip()  # torch itself compares no checksums
        if damaged is not None:
            raise ValueError(f"checksum of {shown(damaged)} differs")
        with archive.open(pickles[0]) as file:
            _require_plain(file, pickles=1)
        return total - pickles[0].file_size


def _checked_legacy(path: Path) -> int:
    """The same of a file of the older form: five pickles (the fourth names the weights), then the tensors."""
    with path.open("rb") as file:
        _require_plain(file, pickles=5)
        return path.stat().st_size - file.tell()


def _require_plain(file: IO[bytes], pickles: int) -> None:
    """Raise UnpicklingError if one of the pickles that follow each other calls anything but what makes plain tensors.

    torch itself would also call what takes memory as the pickle likes, such as bytearray.
    """
    for _ in range(pickles):
        start = file.tell()
        for operation, argument, position in genops(file):
            if operation.name in NAMING and not PLAIN.fullmatch(str(argument)):
                raise pickle.UnpicklingError(f"calls {argument}")
            if (position or 0) - start > MOST_PICKLE_BYTES:
                raise ValueError("its pickle is longer than that of any network")


def _require_bytes(weights: Mapping[str, Tensor], stored_bytes: int, path: Path) -> None:
    """Raise CheckpointError if tensors claim more bytes than the file has for them, as overlapping views would."""
    storages = {w.untyped_storage().data_ptr(): w.untyped_storage().nbytes() for w in weights.values()}
    greedy = [name for name, w in weights.items() if w.numel() * w.element_size() > w.untyped_storage().nbytes()]
    needed = sum(w.numel() * w.element_size() for w in weights.values())
    if greedy or max(needed, sum(storages.values())) > stored_bytes:
        raise CheckpointError(
            f"{path}: its tensors claim more bytes than the file has: {listed(greedy) or needed}; copy or download it "
            "again"
        )
