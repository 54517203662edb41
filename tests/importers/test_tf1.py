"""The TensorFlow program's checkpoints: its outputs are reproduced, and damaged bundles are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from golden_files import arrays, facts, golden
from tf1_bundle import tensors_of, write_bundle
from waveunet_cli.errors import CheckpointError
from waveunet_cli.importers.convert import convert
from waveunet_cli.importers.crc32c import crc32c
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.wave_u_net.config import FOUR_STEMS, WaveUNetConfig

VARIANTS = ["M1", "M2", "M3", "M4", "M5", "M6"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_reference_outputs_are_reproduced(variant, imported):
    folder = golden(f"tf/{variant}")
    described = facts(folder)
    padding = "valid" if described["context"] else "same"
    model = imported(folder, "--padding", padding, "--stems", ",".join(described["source_names"]))
    reference = arrays(folder)

    out = model.network(torch.from_numpy(reference["mixture"].T)[None])[0]  # (S, C, t)

    assert out.shape[0] == len(model.config.sources)
    for name, stem in zip(model.config.sources, out, strict=True):
        if model.config.additive and name == model.config.sources[-1]:
            stem = stem.clamp(-1, 1)  # the reference clips its difference at test time
        assert np.abs(stem.numpy().T - reference[name]).max() <= 5e-6, name


CONFIG = WaveUNetConfig(levels=3, filters=3, channels=2, padding="valid", upsampling="learned", output="difference")


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, upsampling="linear", channels=1, down_taps=7, up_taps=3),
        replace(CONFIG, output="direct", levels=2, filters=5),
        replace(CONFIG, sources=FOUR_STEMS, residual="other"),
        replace(CONFIG, sources=FOUR_STEMS, residual="other", output="direct"),
    ],
)
def test_the_architecture_is_inferred_from_the_tensors(config, tmp_path):
    assert convert(write_bundle(tmp_path / "m-1", tensors_of(config))).config == config


def test_options_say_what_tensors_cannot(tmp_path):
    prefix = write_bundle(tmp_path / "m-1", tensors_of(CONFIG))
    told = {"padding": "same", "activation": "linear", "sample_rate": 44_100, "window_frames": 500}
    config = convert(prefix, ImportOptions(**told, stems=("piano", "rest"), residual="piano")).config
    assert {key: getattr(config, key) for key in told} == told
    assert (config.sources, config.residual) == (("piano", "rest"), "piano")


@pytest.mark.parametrize("name", ["m-1", "m-1.index", "m-1.data-00000-of-00001", "."])
def test_a_bundle_is_found_by_prefix_file_or_folder(name, tmp_path):
    write_bundle(tmp_path / "m-1", tensors_of(CONFIG))
    assert convert(tmp_path / name).config == CONFIG


def test_of_several_in_a_folder_the_named_one_is_taken(tmp_path):
    write_bundle(tmp_path / "m-1", tensors_of(CONFIG))
    write_bundle(tmp_path / "m-2", tensors_of(replace(CONFIG, filters=4)))
    with pytest.raises(CheckpointError, match=r"holds several checkpoints; give one of .*m-1\.index"):
        convert(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/home/author/checkpoints/m-2"\n')
    assert convert(tmp_path).config.filters == 4


def test_kernels_are_transposed_and_the_slots_ignored(tmp_path):
    tensors = tensors_of(CONFIG)
    weights = convert(write_bundle(tmp_path / "m-1", tensors)).weights
    assert np.array_equal(weights["down.1.weight"][4, 2], tensors["separator/conv1d_1/kernel"][:, 2, 4])
    assert np.array_equal(weights["upsample.2"], tensors["separator/interp_2"])
    assert not any("adam" in name.lower() for name in weights)


KERNEL = "separator/conv1d_2/kernel"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({KERNEL: None}, f"layers are missing: {KERNEL}"),
        ({"separator/conv1d_99/kernel": np.zeros((1, 1, 1), np.float32)}, "layers are missing"),
        ({"separator/conv2d/kernel": np.zeros(3, np.float32)}, "unknown variables: separator/conv2d/kernel"),
        ({"separator/interp_2": None}, "2 learned upsamplings in 3 levels"),
        ({KERNEL: np.zeros((15, 6, 9), np.float64)}, "conv1d_2/kernel is no whole float32 tensor"),
        ({KERNEL: np.full((15, 6, 9), np.nan, np.float32)}, "down.2.weight holds NaN"),
        ({KERNEL: np.zeros((15, 7, 9), np.float32)}, "down.2.weight"),
        ({KERNEL: np.zeros((15, 54), np.float32)}, f"not of 1-D convolutions: {KERNEL}"),
        ({KERNEL.replace("2", "\n"): np.zeros(1, np.float32)}, "control characters"),
    ],
)
def test_what_is_no_complete_wave_u_net_is_refused(change, message, tmp_path):
    tensors = {name: array for name, array in {**tensors_of(CONFIG), **change}.items() if array is not None}
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(write_bundle(tmp_path / "m-1", tensors))
    assert "\n" not in str(caught.value)


def test_a_number_of_outputs_without_names_is_refused(tmp_path):
    six = ("a", "b", "c", "d", "e", "f")
    prefix = write_bundle(tmp_path / "m-1", tensors_of(replace(CONFIG, sources=six, residual="a", output="direct")))
    with pytest.raises(CheckpointError, match=r"predicts is 6, .* give 6 names with --stems, or 7"):
        convert(prefix)
    assert convert(prefix, ImportOptions(stems=six)).config.output == "direct"
    assert convert(prefix, ImportOptions(stems=(*six, "g"))).config.output == "difference"


def damage(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.thorough
@given(position=st.floats(0, 1, exclude_max=True))
@example(position=0.9375)  # in the metaindex
@settings(deadline=None, max_examples=25)
def test_any_flipped_bit_of_the_index_is_noticed(position, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    prefix = write_bundle(folder / "m-1", tensors_of(replace(CONFIG, levels=1)))
    index = prefix.with_name("m-1.index")
    size = index.stat().st_size
    # The footer has no checksum: all but its magic number and its two handles is padding.
    damage(index, int(position * (size - 48)))
    with pytest.raises(CheckpointError, match="not a readable TensorFlow V2 checkpoint index"):
        convert(prefix)


def test_variables_that_share_bytes_are_refused(tmp_path, monkeypatch):
    """Many names for the same bytes would be read many times."""
    tensors = tensors_of(CONFIG)
    prefix = write_bundle(tmp_path / "m-1", tensors)
    shared = dict.fromkeys((f"separator/conv1d_{i}/kernel" for i in range(1, 100)), np.zeros((1, 1, 1), np.float32))
    write_bundle(tmp_path / "m-1", shared, same_bytes=True)
    with pytest.raises(CheckpointError, match="its variables share bytes"):
        convert(prefix)


@pytest.mark.parametrize(
    ("entry", "message"),
    [((b"a" * 5000, b""), "longer than any"), ((b"a", b"\x08" + b"\xff" * 1000 + b"\x01"), "more than 64 bits")],
)
def test_a_name_or_a_number_beyond_reason_is_refused(entry, message, tmp_path):
    prefix = write_bundle(tmp_path / "m-1", {}, further=[entry])
    with pytest.raises(CheckpointError, match=f"not a readable TensorFlow V2 checkpoint index .*{message}"):
        convert(prefix)


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path):
    prefix = write_bundle(tmp_path / "m-1", tensors_of(CONFIG))
    damage(prefix.with_name("m-1.data-00000-of-00001"), 1000)
    with pytest.raises(CheckpointError, match=r"checksum of separator/.* differs"):
        convert(prefix)


def test_truncated_files_are_refused(tmp_path):
    prefix = write_bundle(tmp_path / "m-1", tensors_of(CONFIG))
    data, index = prefix.with_name("m-1.data-00000-of-00001"), prefix.with_name("m-1.index")
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=rf"the index says {len(whole)} bytes, {len(whole) - 1} found"):
        convert(prefix)
    data.unlink()
    with pytest.raises(CheckpointError, match=r"data-00000-of-00001: missing"):
        convert(prefix)
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="magic number"):
        convert(prefix)


def test_compressed_blocks_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="a block is compressed"):
        convert(write_bundle(tmp_path / "m-1", tensors_of(CONFIG), compression=1))


@given(st.binary(max_size=100), st.integers(1, 200))
@settings(deadline=None, max_examples=25)
def test_checksums_are_those_of_a_byte_by_byte_register(data, times):
    data *= times  # short ones and long ones are computed in two ways
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(data) == register ^ 0xFFFFFFFF


def test_the_standard_check_value():
    assert crc32c(b"123456789") == 0xE3069283
