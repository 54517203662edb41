"""The PyTorch port's and MSS_WaveUNet's checkpoints: reproduced, inferred, and never run."""

import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from golden_files import arrays, facts, golden
from torch_checkpoints import mss_state, state_of
from waveunet_cli.errors import CheckpointError
from waveunet_cli.importers.convert import convert, import_checkpoint
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.checkpoint import load_checkpoint
from waveunet_cli.networks.family import build_network
from waveunet_cli.networks.mss import MSSConfig
from waveunet_cli.networks.pytorch_port import PyTorchPortConfig

SMALL = PyTorchPortConfig(sources=("bass", "vocals"), widths=(8, 16, 24), residual="bass", window_frames=500)
OPTIONS = ImportOptions(window_frames=500, residual="bass")


@pytest.mark.parametrize("variant", ["joint_learned", "separate_fixed"])
def test_reference_outputs_are_reproduced(variant, imported):
    folder = golden(f"pytorch/{variant}")
    described = facts(folder)
    model = imported(folder / "model", "--window-frames", described["target_output_frames"])
    reference = arrays(folder)

    out = model.network(torch.from_numpy(reference["mixture"].T)[None])[0]  # (S, C, t)

    assert list(model.config.sources) == described["instruments"]
    window = model.config.window()
    assert (window.input, window.output) == (described["input_frames"], described["output_frames"])
    for name, stem in zip(model.config.sources, out, strict=True):
        assert np.abs(stem.numpy().T - reference[name]).max() <= 1e-4, name


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, norm="batch", channels=1),
        replace(SMALL, norm="none", widths=(3, 5), taps=7),
        replace(SMALL, stride=2),
        replace(SMALL, resampling="learned", widths=(16, 8)),
        replace(SMALL, separate=False),
    ],
)
def test_the_architecture_is_inferred_from_the_tensors(config, tmp_path):
    torch.save({"model_state_dict": state_of(config), "step": 3}, tmp_path / "model")
    options = OPTIONS if config.separate else replace(OPTIONS, stems=config.sources)
    assert convert(tmp_path / "model", options).config == config


def test_a_joint_network_needs_names_unless_it_has_four_stems(tmp_path):
    torch.save(state_of(replace(SMALL, separate=False)), tmp_path / "two")
    with pytest.raises(CheckpointError, match="predicts 2 sources; give their names with --stems"):
        convert(tmp_path / "two")
    four = replace(PyTorchPortConfig(), separate=False, widths=SMALL.widths)
    torch.save(state_of(four), tmp_path / "four")
    assert convert(tmp_path / "four").config == four


def test_a_stride_that_the_filter_contradicts_is_refused(tmp_path):
    torch.save(state_of(SMALL), tmp_path / "model")
    with pytest.raises(CheckpointError, match="resampling filter is for a stride of 4; leave --stride out"):
        convert(tmp_path / "model", replace(OPTIONS, stride=2))


def test_separate_networks_keep_their_names(tmp_path):
    torch.save(state_of(SMALL), tmp_path / "model")
    with pytest.raises(CheckpointError, match="networks are named bass, vocals"):
        convert(tmp_path / "model", ImportOptions(stems=("drums", "vocals")))


@pytest.mark.parametrize("legacy", [False, True])
def test_every_layout_gives_the_same_weights(legacy, tmp_path):
    state = state_of(SMALL)
    layouts = {
        "plain": state,
        "old": {"model_state_dict": state, "optimizer_state_dict": {"state": {}}, "step": 5},
        "new": {"model_state_dict": state, "optimizer_state_dict": {"state": {}}, "state": {"step": 5, "epochs": 1}},
        "parallel": {"model_state_dict": {f"module.{name}": w for name, w in state.items()}, "step": 5},
    }
    for name, layout in layouts.items():
        torch.save(layout, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        converted = convert(tmp_path / name, OPTIONS)
        assert converted.config == SMALL
        assert converted.weights.keys() == state.keys()
        assert all(torch.equal(converted.weights[key], weight) for key, weight in state.items())


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_does_not_run(legacy, tmp_path):
    trap = tmp_path / "it ran"
    saved = {"model_state_dict": state_of(SMALL), "state": Malicious(trap)}
    torch.save(saved, tmp_path / "model", _use_new_zipfile_serialization=not legacy)

    with pytest.raises(CheckpointError, match="holds code or objects besides tensors") as caught:
        convert(tmp_path / "model")

    assert not trap.exists()
    assert "\n" not in str(caught.value)
    torch.load(tmp_path / "model", weights_only=False)  # the trap would have worked
    assert trap.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(share, legacy, tmp_path):
    torch.save(state_of(SMALL), tmp_path / "model", _use_new_zipfile_serialization=not legacy)
    data = (tmp_path / "model").read_bytes()
    (tmp_path / "model").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path):
    torch.save(state_of(SMALL), tmp_path / "model")
    data = bytearray((tmp_path / "model").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "model").write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="not a readable PyTorch checkpoint, or a truncated one"):
        convert(tmp_path / "model")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_recompressed_file_is_refused(method, tmp_path):
    """As a mail program or a user makes it: torch would take the compressed bytes for weights."""
    torch.save(state_of(SMALL), tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model") as plain, zipfile.ZipFile(tmp_path / "again", "w", method) as again:
        for member in plain.infolist():
            again.writestr(member.filename, plain.read(member))
    with pytest.raises(CheckpointError, match=r"is compressed, which torch\.save never does"):
        convert(tmp_path / "again", OPTIONS)


def test_a_file_behind_another_is_refused(tmp_path):
    """zipfile moves its offsets, torch does not: it would read the tensors of the first."""
    for name, sources in (("one", ("bass", "vocals")), ("two", ("bass", "vocals"))):
        torch.save(state_of(replace(SMALL, sources=sources)), tmp_path / name)
    (tmp_path / "both").write_bytes((tmp_path / "one").read_bytes() + (tmp_path / "two").read_bytes())
    with pytest.raises(CheckpointError, match="not where its directory says"):
        convert(tmp_path / "both", OPTIONS)


class Greedy:
    def __init__(self, made, *arguments):
        self.made, self.arguments = made, arguments

    def __reduce__(self):
        return self.made, self.arguments


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("greedy", [Greedy(bytearray, 1 << 50), Greedy(torch.Tensor, 1 << 24, 1 << 24)])
def test_a_pickle_takes_no_memory_of_its_own(greedy, legacy, tmp_path, monkeypatch):
    torch.save({"model_state_dict": state_of(SMALL), "state": 0}, tmp_path / "model")
    saved = {"model_state_dict": state_of(SMALL), "state": greedy}
    torch.save(saved, tmp_path / "model", _use_new_zipfile_serialization=not legacy)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was loaded"))
    with pytest.raises(CheckpointError, match="holds code or objects besides tensors"):
        convert(tmp_path / "model")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tensor_larger_than_its_file_is_refused(legacy, tmp_path):
    """A view of one number, repeated: 64 TB without a byte."""
    state = state_of(SMALL) | {FIRST: torch.zeros(1).expand(1 << 15, 1 << 15, 1 << 14)}
    torch.save(state, tmp_path / "model", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=f"claim more bytes than the file has: {FIRST}"):
        convert(tmp_path / "model")


FIRST = "waveunets.bass.downsampling_blocks.0.pre_shortcut_convs.0.filter.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({FIRST: None}, "missing or misshapen"),
        ({FIRST.replace("bass", "vocals"): None}, "missing: waveunets.vocals"),
        ({"waveunets.bass.extra": torch.zeros(1)}, "unexpected: waveunets.bass.extra"),
        ({"waveunets.bass.downsampling_blocks.0.post_shortcut_convs.1.filter.weight": torch.zeros(1)}, "unexpected"),
        ({FIRST: torch.zeros(8, 2, 5, dtype=torch.float64)}, f"no float32 tensors: {FIRST}"),
        ({FIRST: torch.zeros(8, 2, 5, dtype=torch.int64)}, f"no float32 tensors: {FIRST}"),
        ({FIRST.replace("bass", "ba\nss"): torch.zeros(1)}, "control characters"),
        ({FIRST: "a string"}, f"no float32 tensors: {FIRST}"),
        ({FIRST: torch.full((8, 2, 5), torch.nan)}, f"{FIRST} holds NaN"),
        ({FIRST: torch.zeros(8, 2)}, "missing or misshapen"),
        ({"waveunets.bass.downsampling_blocks.0.downconv.filter": torch.zeros(16, 1, 15)}, "resampling filter"),
    ],
)
def test_what_is_no_complete_network_is_refused(change, message, tmp_path):
    state = {name: weight for name, weight in {**state_of(SMALL), **change}.items() if weight is not None}
    torch.save({"model_state_dict": state, "step": 1}, tmp_path / "model")
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(tmp_path / "model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("saved", [[1, 2], {}, {1: torch.zeros(1)}, {"model_state_dict": 3}, {"w": torch.zeros(1)}])
def test_files_without_a_known_network_are_refused(saved, tmp_path):
    torch.save(saved, tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"holds no weights by name|unknown network"):
        convert(tmp_path / "model")


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"\x80", b"PK\x03\x04"])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no known format|not a readable PyTorch|holds code"):
        convert(tmp_path / "model")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        convert(tmp_path / "missing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="a folder without a checkpoint"):
        convert(tmp_path / "folder")


MSS = MSSConfig(levels=3, filters=2, down_taps=5, up_taps=3)


@pytest.mark.parametrize(
    "config", [MSS, replace(MSS, sources=("accompaniment", "vocals"), residual="accompaniment", levels=1)]
)
def test_mss_checkpoints_are_inferred_and_load(config, tmp_path):
    torch.save(mss_state(config), tmp_path / "baseline.pt")
    converted = import_checkpoint(tmp_path / "baseline.pt", tmp_path / "m.safetensors")
    assert converted.config == config
    model = load_checkpoint(tmp_path / "m.safetensors")
    weights = state_of(config)
    assert all(torch.equal(w, weights[name]) for name, w in model.network.state_dict().items())


def test_the_published_mss_network_has_the_published_size():
    with torch.device("meta"):
        values = sum(w.numel() for w in build_network(MSSConfig()).state_dict().values())
    assert 40.5e6 < 4 * values < 41.5e6  # bytes of the published file, about 41 MB


def test_an_mss_block_out_of_order_is_refused(tmp_path):
    state = mss_state(MSS)
    state["net.999999999.net.0.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "model")
    with pytest.raises(CheckpointError, match="weights do not fit the configuration"):
        convert(tmp_path / "model")


def test_mss_revisions_with_two_convolutions_are_refused(tmp_path):
    state = mss_state(MSS)
    state["net.0.net.2.weight"] = torch.zeros(2, 2, 5)
    torch.save(state, tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"unknown weights: net\.0\.net\.2\.weight"):
        convert(tmp_path / "model")
