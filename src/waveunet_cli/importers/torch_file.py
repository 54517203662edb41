"""Files of `torch.save`, read as tensors only: nothing in them is run."""

import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from waveunet_cli.errors import CheckpointError
from waveunet_cli.importers.converted import all_printable, listed


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
        if archive:
            with zipfile.ZipFile(path) as members:
                damaged = members.testzip()  # torch itself compares no checksums
            if damaged is not None:
                raise ValueError(f"checksum of {damaged} differs")
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
            f"{path}: not a readable PyTorch checkpoint, or a truncated one; copy or download it again"
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
    return weights
