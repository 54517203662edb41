"""Run as a program, `python h5_reader.py FILE OUT`: the graph and the weights of a Keras file, as OUT, an .npz.

A damaged HDF5 file can crash the library that reads it, which takes its process along: so that is this one. The .npz
holds `model_config` as bytes and each array of numbers under its name. One line on stderr says why it could not be.
"""

import os
import sys
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np


def read(path: str, out: str) -> None:
    """Write OUT; raises anything."""
    size = os.stat(path).st_size  # noqa: PTH116
    arrays: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        graph = file.attrs["model_config"]
        arrays["model_config"] = np.frombuffer(graph if isinstance(graph, bytes) else graph.encode(), np.uint8)

        def take(name: str, item: h5py.Dataset | h5py.Group) -> None:
            nonlocal size
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
                if item.external or item.is_virtual:
                    raise ValueError(f"the numbers of {name} lie in another file")
                size -= item.nbytes
                if size < 0:  # the port compresses nothing
                    raise ValueError(f"{name} claims more bytes than the file has")
                arrays[f"weights/{name}"] = item[()]

        if not isinstance(file.get("model_weights", getlink=True), h5py.HardLink):
            raise ValueError("model_weights lies in another file or nowhere")
        file["model_weights"].visititems(take)  # which follows no links
    np.savez(out, **arrays)


def main(path: str, out: str) -> None:
    """Write OUT, or end with the reason."""
    try:
        read(path, out)
    except Exception as error:  # damage can make anything of the names and numbers inside
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))


if __name__ == "__main__":
    main(*sys.argv[1:])
