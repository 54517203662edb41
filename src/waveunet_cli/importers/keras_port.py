"""Checkpoints of the Keras port: an HDF5 file whose attribute `model_config` holds the graph as JSON.

Layers are named by place: `U_Down_Conv_i`, `U_Down_BN_i`, `U_Down_Pool_i` (or `_Decimate_i`), `U_Bridge_Conv_0`,
`U_Up_Conv_i` (0 is the shallowest), `Stem_0`. The graph is rebuilt from what was inferred and must be the same,
layer for layer, so that no other network is taken for one of these. Kernels are [tap, in, out].

Batch norm, y = γ·(w∗x − μ)/√(v + ε) + β, is folded: w' = w·γ/√(v + ε), bias = β − μ·γ/√(v + ε).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from waveunet_cli.errors import CheckpointError, ConfigError
from waveunet_cli.importers.converted import Converted, Importer, all_printable, listed, residual_of
from waveunet_cli.importers.foreign import Foreign
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.keras_port import SLOPE, KerasPortConfig

FORMAT = "Keras port"
READER = Path(__file__).with_name("h5_reader.py")
LEAST_SECONDS, SLOWEST_BYTES_PER_SECOND = 60.0, 1e6  # to read a file; a disk gives a hundred times as many
NO_FILTERS = {"HDF5_PLUGIN_PRELOAD": "::"}  # beside the library's own, in the environment
SIGNATURE = b"\x89HDF\r\n\x1a\n"
Read = Callable[[str, str], NDArray[np.float32]]


def recognises(foreign: Foreign) -> bool:
    """Whether a file is HDF5."""
    return foreign.start.startswith(SIGNATURE)


def convert(foreign: Foreign, options: ImportOptions) -> Converted:
    """The network and weights of a Keras file; the architecture is in its graph.

    Raises CheckpointError if the file is damaged or holds another network, ConfigError if h5py is not installed.
    """
    path = foreign.path
    if find_spec("h5py") is None:
        raise ConfigError(f"{path}: reading Keras files needs h5py; run: pip install 'waveunet[h5]'; then try again")
    stored = _stored(path)
    try:
        graph = json.loads(stored["model_config"].tobytes())
        layers = {layer["config"]["name"]: layer for layer in graph["config"]["layers"]}
        if not all_printable(layers):
            raise ValueError("a layer's name holds control characters")
        config = _infer(layers, options)
        _compare(_described(layers), dict(_expected(config, "U_Down_BN_0" in layers)), path)

        def read(layer: str, variable: str) -> NDArray[np.float32]:
            data = stored[f"weights/{layer}/{layer}/{variable}:0"]
            if data.dtype != np.float32:
                raise CheckpointError(f"{path}: {layer}/{variable} is {data.dtype}, not float32; save it again so")
            return data

        with np.errstate(all="ignore"):  # what damage makes of numbers is refused with the weights
            weights = dict(_weights(config, layers, read))
    except ConfigError as error:
        raise CheckpointError(f"{path}: its graph is an impossible network: {error}") from error
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise _unreadable(path, str(error)) from error
    notes = []
    if options.sample_rate is None:
        notes.append(f"sample rate {config.sample_rate} Hz is assumed, the port's")
    if options.stems is None:
        notes.append(f"stems {', '.join(config.sources)} are assumed, the port's order")
    return Converted(config, weights, FORMAT, notes)


def _stored(path: Path) -> dict[str, NDArray[Any]]:
    """The graph and the arrays of a file, read by a process of its own: libhdf5 crashes on some damaged ones."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "arrays.npz"
        seconds = LEAST_SECONDS + path.stat().st_size / SLOWEST_BYTES_PER_SECOND
        try:
            code, said = read_apart(path, out, seconds)
        except subprocess.TimeoutExpired as error:
            raise _unreadable(path, f"the HDF5 library did not come to an end in {seconds:.0f} s") from error
        if code:
            lines = said.strip().splitlines() if code > 0 else ()
            raise _unreadable(path, lines[-1] if lines else "it crashes the HDF5 library")
        with np.load(out) as stored:
            return dict(stored)


def read_apart(path: Path, out: Path, seconds: float) -> tuple[int, str]:
    """Run h5_reader.py; its exit code, negative for a signal, and what it says. Raises TimeoutExpired."""
    done = subprocess.run(
        [sys.executable, "-P", str(READER), str(path), str(out)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        env={**os.environ, **NO_FILTERS},
    )
    return done.returncode, done.stderr


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: not a readable Keras model of the port, or a truncated one ({reason}); copy or download it again"
    )


def _infer(layers: dict[str, Any], options: ImportOptions) -> KerasPortConfig:
    levels = sum(1 for name in layers if name.startswith("U_Down_Conv_"))
    pools = {name: layers[name]["config"] for name in layers if name.startswith(("U_Down_Pool_", "U_Down_Decimate_"))}
    factor = {int(name.rsplit("_", 1)[1]): pool["strides"][0] for name, pool in pools.items()}
    sources = options.stems or KerasPortConfig.sources
    down = [layers[f"U_Down_Conv_{i}"]["config"] for i in range(levels)]
    bottleneck = layers["U_Bridge_Conv_0"]["config"]
    return KerasPortConfig(
        sources=sources,
        sample_rate=options.sample_rate or KerasPortConfig.sample_rate,
        channels=layers["x_mix"]["config"]["batch_input_shape"][-1],
        filters=(*(layer["filters"] for layer in down), bottleneck["filters"]),
        pooling=tuple(factor.get(i, 1) for i in range(levels)),
        pool="first" if any(name.startswith("U_Down_Decimate_") for name in pools) else "max",
        down_taps=down[0]["kernel_size"][0],
        up_taps=layers["U_Up_Conv_0"]["config"]["kernel_size"][0],
        bottleneck_taps=bottleneck["kernel_size"][0],
        window_frames=options.window_frames or KerasPortConfig.window_frames,
        residual=residual_of(sources, options.residual),
    )


def _described(layers: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Each layer as (kind, inputs, what its outputs depend on), in the same terms as `_expected`."""
    meaningful = {
        "Conv1D": ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "activation", "use_bias"),
        "MaxPooling1D": ("strides", "pool_size", "padding"),
        "AveragePooling1D": ("strides", "pool_size", "padding"),
        "UpSampling1D": ("size",),
        "Concatenate": ("axis",),
        "BatchNormalization": ("axis", "center", "scale"),
    }
    described = {}
    for name, layer in layers.items():
        kind, config = layer["class_name"], layer["config"]
        inputs = tuple(node[0] for node in layer["inbound_nodes"][0]) if layer["inbound_nodes"] else ()
        values = [config[key] for key in meaningful.get(kind, ())]
        if kind == "LeakyReLU":
            values = [round(config["alpha"], 6)]
        described[name] = (kind, inputs, *(v[0] if isinstance(v, list) else v for v in values))
    return described


def _expected(config: KerasPortConfig, batch_norm: bool) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The port's graph for a configuration."""

    def block(place: str, i: int, source: str, filters: int, taps: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
        conv, norm, relu = (f"U_{place}_{kind}_{i}" for kind in ("Conv", "BN", "LeakyReLU"))
        yield conv, ("Conv1D", (source,), filters, taps, 1, "same", 1, 1, "linear", not batch_norm)
        if batch_norm:
            yield norm, ("BatchNormalization", (conv,), 2, True, True)
        yield relu, ("LeakyReLU", (norm if batch_norm else conv,), SLOPE)

    pool_name = "Pool" if config.pool == "max" else "Decimate"
    last = "x_mix"
    yield last, ("InputLayer", ())
    for i, p in enumerate(config.pooling):
        yield from block("Down", i, last, config.filters[i], config.down_taps)
        last = f"U_Down_LeakyReLU_{i}"
        if p > 1:
            pool = f"U_Down_{pool_name}_{i}"
            yield pool, ("MaxPooling1D", (last,), p, p if config.pool == "max" else 1, "same")
            last = pool
    yield from block("Bridge", 0, last, config.filters[-1], config.bottleneck_taps)
    last = "U_Bridge_LeakyReLU_0"
    for i, p in reversed(list(enumerate(config.pooling))):
        if p > 1:
            yield f"U_Up_Upsample_{i}", ("UpSampling1D", (last,), p)
            yield f"U_Up_Average_{i}", ("AveragePooling1D", (f"U_Up_Upsample_{i}",), 1, p, "same")
            last = f"U_Up_Average_{i}"
        yield f"U_Up_Concat_{i}", ("Concatenate", (last, f"U_Down_LeakyReLU_{i}"), -1)
        yield from block("Up", i, f"U_Up_Concat_{i}", config.filters[i], config.up_taps)
        last = f"U_Up_LeakyReLU_{i}"
    yield "Concat_Unet_Mix", ("Concatenate", (last, "x_mix"), -1)
    yield "Stem_0", ("Conv1D", ("Concat_Unet_Mix",), config.channels, 1, 1, "same", 1, 1, "tanh", True)
    yield "Stem_1", ("Subtract", ("x_mix", "Stem_0"))
    yield "ConcatStems", ("Concatenate", ("Stem_0", "Stem_1"), -1)


def _compare(found: dict[str, tuple[Any, ...]], expected: dict[str, tuple[Any, ...]], where: Path) -> None:
    different = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
    if different:
        raise CheckpointError(
            f"{where}: not one of the port's networks, these layers differ: {listed(different)}; "
            "only its shallow and deep Wave-U-Nets with two stems can be converted"
        )


def _weights(config: KerasPortConfig, layers: dict[str, Any], read: Read) -> Iterator[tuple[str, Tensor]]:
    levels = len(config.pooling)
    places = [
        *((f"down.{i}", f"Down_{{}}_{i}") for i in range(levels)),
        ("bottleneck", "Bridge_{}_0"),
        *((f"up.{levels - 1 - i}", f"Up_{{}}_{i}") for i in range(levels)),
    ]
    for ours, theirs in places:
        conv, norm = (f"U_{theirs.format(kind)}" for kind in ("Conv", "BN"))
        kernel = read(conv, "kernel").transpose(2, 1, 0).astype(np.float64)  # [out, in, tap]
        if norm in layers:
            variance = read(norm, "moving_variance").astype(np.float64)
            gain = read(norm, "gamma") / np.sqrt(variance + layers[norm]["config"]["epsilon"])
            kernel = kernel * gain[:, None, None]
            bias = read(norm, "beta") - read(norm, "moving_mean") * gain
        else:
            bias = read(conv, "bias")
        yield f"{ours}.weight", torch.from_numpy(kernel.astype(np.float32))
        yield f"{ours}.bias", torch.from_numpy(bias.astype(np.float32))
    yield "output.weight", torch.from_numpy(np.ascontiguousarray(read("Stem_0", "kernel").transpose(2, 1, 0)))
    yield "output.bias", torch.from_numpy(read("Stem_0", "bias"))


IMPORTER = Importer(
    FORMAT,
    frozenset({"sample_rate", "stems", "residual", "window_frames"}),
    recognises,
    convert,
)
