"""The Keras port's checkpoints: reproduced from the file, and refused if the graph is another."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch

from golden_files import arrays, facts, golden
from waveunet_cli.errors import CheckpointError, ConfigError
from waveunet_cli.importers import keras_port
from waveunet_cli.importers.convert import convert
from waveunet_cli.importers.options import ImportOptions

h5py = pytest.importorskip("h5py")

SHALLOW = golden("keras/shallow") / "model.h5"


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "model.h5"
    shutil.copyfile(SHALLOW, path)
    return path


@pytest.mark.parametrize("variant", ["shallow", "deep"])
def test_reference_outputs_are_reproduced(variant, imported):
    folder = golden(f"keras/{variant}")
    described = facts(folder)
    model = imported(folder / "model.h5")
    reference = arrays(folder)

    out = model.network.whole(torch.from_numpy(reference["mixture"].T)[None])[0]  # (S, C, t)

    assert list(model.config.sources) == described["order"]
    assert model.config.pooling == tuple(level["p"] for level in described["u_net"])
    assert model.config.sample_rate == described["sr"]
    assert np.abs(out.flatten(0, 1).numpy().T - reference["sources"]).max() <= 1e-4


def test_options_say_what_the_graph_cannot(copy):
    options = ImportOptions(sample_rate=22_050, stems=("speech", "rest"), residual="rest", window_frames=5000)
    config = convert(copy, options).config
    assert (config.sample_rate, config.sources, config.residual) == (22_050, ("speech", "rest"), "rest")
    assert config.window().hop == 8192


def edit(path, change):
    with h5py.File(path, "r+") as file:
        graph = json.loads(file.attrs["model_config"])
        change({layer["config"]["name"]: layer for layer in graph["config"]["layers"]}, graph["config"]["layers"])
        file.attrs["model_config"] = json.dumps(graph)


@pytest.mark.parametrize(
    ("layer", "key", "value"),
    [
        ("U_Down_Conv_3", "kernel_size", [29]),
        ("U_Down_Conv_3", "padding", "valid"),
        ("U_Up_LeakyReLU_2", "alpha", 0.3),
        ("U_Up_Average_4", "pool_size", [2]),
        ("Stem_0", "activation", "linear"),
    ],
)
def test_another_graph_is_refused(layer, key, value, copy):
    edit(copy, lambda layers, _: layers[layer]["config"].__setitem__(key, value))
    with pytest.raises(CheckpointError, match=f"these layers differ: {layer};"):
        convert(copy)


def test_another_order_of_inputs_is_refused(copy):
    edit(copy, lambda layers, _: layers["U_Up_Concat_2"]["inbound_nodes"][0].reverse())
    with pytest.raises(CheckpointError, match="these layers differ: U_Up_Concat_2;"):
        convert(copy)


def test_another_layer_is_refused(copy):
    extra = {"class_name": "Dropout", "config": {"name": "more"}, "inbound_nodes": []}
    edit(copy, lambda _, order: order.append(extra))
    with pytest.raises(CheckpointError, match="these layers differ: more;"):
        convert(copy)


KERNEL = "model_weights/U_Down_Conv_2/U_Down_Conv_2/kernel:0"


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (None, "not a readable Keras model"),
        (np.zeros((31, 4, 12)), "U_Down_Conv_2/kernel is float64"),
        (np.full((31, 4, 12), np.nan, np.float32), r"down\.2\.weight holds NaN"),
        (np.zeros((31, 5, 12), np.float32), r"down\.2\.weight"),
    ],
)
def test_damaged_weights_are_refused(replacement, message, copy):
    with h5py.File(copy, "r+") as file:
        del file[KERNEL]
        if replacement is not None:
            file[KERNEL] = replacement
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(copy)
    assert "\n" not in str(caught.value)


def test_a_tensor_larger_than_its_file_is_refused(copy):
    with h5py.File(copy, "r+") as file:
        del file[KERNEL]
        file.create_dataset(KERNEL, (1 << 20, 1 << 20), np.float32, chunks=(1024, 1024))
    with pytest.raises(CheckpointError, match="claims more bytes than the file has"):
        convert(copy)


@pytest.mark.parametrize("kind", ["external", "virtual", "linked"])
def test_numbers_of_another_file_are_refused(kind, copy, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(31 * 4 * 12 * 4))
    with h5py.File(copy, "r+") as file:
        if kind == "linked":
            del file["model_weights"]
            file["model_weights"] = h5py.ExternalLink(str(SHALLOW), "/model_weights")
        else:
            del file[KERNEL]
        if kind == "external":
            file.create_dataset(
                KERNEL, (31, 4, 12), np.float32, external=[(str(tmp_path / "secret"), 0, 31 * 4 * 12 * 4)]
            )
        elif kind == "virtual":
            layout = h5py.VirtualLayout((31, 4, 12), np.float32)
            layout[:] = h5py.VirtualSource(str(SHALLOW), KERNEL, (31, 4, 12))
            file.create_virtual_dataset(KERNEL, layout)
    with pytest.raises(CheckpointError, match="another file") as caught:
        convert(copy)
    assert "\n" not in str(caught.value)


def test_reading_comes_to_an_end(copy, tmp_path, monkeypatch):
    forever = tmp_path / "forever.py"
    forever.write_text("import threading\nthreading.Event().wait()")
    monkeypatch.setattr(keras_port, "READER", forever)
    monkeypatch.setattr(keras_port, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(keras_port, "SLOWEST_BYTES_PER_SECOND", 1e12)
    with pytest.raises(CheckpointError, match="did not come to an end in 0 s"):
        convert(copy)


def test_a_graph_that_is_nested_too_deep_is_one_line(copy):
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = "[" * 60_000
    with pytest.raises(CheckpointError, match="not a readable"):
        convert(copy)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "model.h5"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, keras_port.SIGNATURE * 2)  # as much as tells the format
    with pytest.raises(CheckpointError, match=r"model\.h5: is no regular file; save the stream to a file first"):
        convert(pipe)
    os.close(writer)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99])
def test_truncated_files_are_refused(share, copy):
    data = copy.read_bytes()
    copy.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match="not a readable Keras model of the port, or a truncated one"):
        convert(copy)


def test_reading_has_a_time_limit(copy, monkeypatch):
    monkeypatch.setattr(keras_port, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(keras_port, "SLOWEST_BYTES_PER_SECOND", 1e12)
    with pytest.raises(CheckpointError, match="the HDF5 library did not come to an end in 0 s"):
        convert(copy)


def test_a_crash_of_the_library_is_one_line(copy, tmp_path, monkeypatch):
    """As libhdf5 does for about one in 2000 files with damaged bytes."""
    crash = tmp_path / "crash.py"
    crash.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(keras_port, "READER", crash)
    with pytest.raises(CheckpointError, match=r"truncated one \(it crashes the HDF5 library\); copy") as caught:
        convert(copy)
    assert "\n" not in str(caught.value)


def test_without_h5py_the_remedy_is_named(copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"needs h5py; run: pip install 'waveunet\[h5\]'"):
        convert(copy)
