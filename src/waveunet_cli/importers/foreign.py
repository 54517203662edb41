"""A checkpoint of another program on disk, in the forms that importers look into. Each is read when first asked."""

from functools import cached_property
from pathlib import Path

from torch import Tensor

from waveunet_cli.importers.tensorflow_bundle import Bundle, find_prefix, read_bundle
from waveunet_cli.importers.torch_file import is_torch_file, read_state

START_BYTES = 16


class Foreign:
    """A file, or the files of a TensorFlow bundle. Its properties raise CheckpointError for damaged ones.

    start     the first bytes of the file; empty if `path` is none
    bundle    the table of contents of a TensorFlow bundle, None if this is none
    state     the weights of a file of torch.save by name, None if this is none
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def start(self) -> bytes:
        if not self.path.is_file():
            return b""
        with self.path.open("rb") as file:
            return file.read(START_BYTES)

    @cached_property
    def bundle(self) -> Bundle | None:
        prefix = find_prefix(self.path)
        return read_bundle(prefix) if prefix is not None else None

    @cached_property
    def state(self) -> dict[str, Tensor] | None:
        return read_state(self.path) if is_torch_file(self.start) else None
