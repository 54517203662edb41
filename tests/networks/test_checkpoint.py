"""A checkpoint is read back as it was written, or refused in one line that says why."""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from small_models import FOUR, MASKED, TINY, VALID, network_of
from spleeter_models import SMALL as SPLEETER
from waveunet_cli.errors import CheckpointError, ConfigError
from waveunet_cli.hub.registry import shipped_folder
from waveunet_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from waveunet_cli.networks.family import FAMILIES, build_network, config_class, config_from_json, config_to_json
from waveunet_cli.networks.keras_port import KerasPortConfig
from waveunet_cli.networks.mss import MSSConfig
from waveunet_cli.networks.pytorch_port import PyTorchPortConfig
from waveunet_cli.networks.spectrogram_u_net import SpectrogramUNetConfig
from waveunet_cli.networks.wave_u_net.config import M5, VARIANTS

SPECTROGRAM = SpectrogramUNetConfig(levels=2, filters=4, dropout_levels=1)


def save(path, config=TINY, **changes):
    save_checkpoint(path, config, network_of(config).state_dict() | changes)
    return path


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("config", [*VALID, SPECTROGRAM, SPLEETER], ids=lambda config: config.family)
def test_weights_come_back(tmp_path, config):
    network = build_network(config)
    for weight in network.state_dict().values():
        if weight.is_floating_point():
            weight.uniform_(0.1, 1)
    save_checkpoint(tmp_path / "a.safetensors", config, network.state_dict())
    model = load_checkpoint(tmp_path / "a.safetensors")
    assert (model.name, model.config) == ("a", config)
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    for key, weight in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], weight)


def test_half_precision_is_read_as_float32(tmp_path):
    network = network_of(TINY)
    save_checkpoint(tmp_path / "a.safetensors", TINY, network.state_dict(), torch.float16)
    assert (tmp_path / "a.safetensors").stat().st_size < 2 * sum(p.numel() for p in network.parameters()) + 4000
    for key, weight in load_checkpoint(tmp_path / "a.safetensors").network.state_dict().items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, network.state_dict()[key], atol=1e-3, rtol=1e-3)


def test_a_checkpoint_is_as_readable_as_any_file(tmp_path):
    before = os.umask(0o022)
    try:
        save(tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path):
    path = save(tmp_path / "a.safetensors")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"object.* is no family of networks; known families"):
        save_checkpoint(path, object(), {})
    assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], before)


@pytest.mark.parametrize(
    "config",
    [*VARIANTS.values(), *VALID, *MASKED, MSSConfig(), PyTorchPortConfig(), KerasPortConfig()],
    ids=lambda config: type(config).__name__,
)
def test_configurations_survive_json(config):
    text = config_to_json(config)
    assert json.loads(text)["family"] in FAMILIES
    assert config_from_json(text, "here") == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "demucs"}, "known families: wave-u-net"),
        ({"family": None}, "family: found None; expected one of wave-u-net, "),
        ({"family": ["wave-u-net"]}, "family: found ['wave-u-net']; expected one of wave-u-net, "),
        ({"levels": 0}, "impossible configuration: wave-u-net: levels: found 0; expected a whole number from 1 to 16"),
        ({"levels": "many"}, "levels: found 'many'; expected a whole number"),
        ({"levels": 2.0}, "levels: found 2.0; expected a whole number"),
        ({"levels": True}, "levels: found True; expected a whole number"),
        ({"levels": 10**30}, "levels: found"),
        ({"sources": [1, 2]}, "sources: found [1, 2]; expected a list whose items are each a name"),
        ({"sources": "ab"}, "sources: found 'ab'; expected a list"),
        ({"sources": ["accompaniment", "../vocals"]}, "sources: found ['accompaniment', '../vocals']; expected a list"),
        ({"sources": ["accompaniment", "vocals", "vocals"]}, "expected 2 or more different names"),
        ({"sources": ["accompaniment"]}, "expected 2 or more different names"),
        ({"residual": "\x1b[31m"}, r"residual: found '\x1b[31m'; expected no control characters"),
        ({"down_taps": 4}, "down_taps: found 4; taps must be odd"),
        ({"residual": "choir"}, "residual: found 'choir'; expected one of accompaniment, vocals"),
        ({"filters": float("nan")}, "filters: found nan; expected a whole number from 1 to 1024"),
        ({"padding": "reflect"}, 'padding: found \'reflect\'; expected "same" or "valid"'),
        ({"colour": "red"}, "unknown: 'colour'; known are sources, "),
    ],
    ids=str,
)
def test_configurations_that_are_refused(change, words):
    text = json.dumps(json.loads(config_to_json(TINY)) | change)
    with pytest.raises(CheckpointError) as caught:
        config_from_json(text, "a.safetensors")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '"text"', "{}", '{"family": "wave-u-net"}', "{", "[[1, 2]]", "[" * 100_000, "9" * 10_000]
)
def test_text_that_is_no_configuration(text):
    with pytest.raises(CheckpointError, match=r"^a: "):
        config_from_json(text, "a")


@pytest.mark.parametrize(
    "change",
    [{"levels": 10**6}, {"filters": 10**9}, {"down_taps": 10**9 + 1}, {"window_frames": 2**60},
     {"levels": 16, "down_taps": 1001}, {"sample_rate": 1}, {"sources": [str(i) for i in range(10_000)]}],
    ids=str,
)  # fmt: skip
def test_a_header_of_a_few_bytes_builds_no_large_network(tmp_path, monkeypatch, change):
    """The numbers are compared before a network is made of them."""
    monkeypatch.setattr("waveunet_cli.networks.checkpoint.build_network", lambda config: pytest.fail(f"built {config}"))
    config = json.dumps(json.loads(config_to_json(TINY)) | change)
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"config": config})
    message = refused(tmp_path / "a.safetensors")
    assert "impossible configuration" in message
    assert len(message) < 1000


def test_names_and_shapes_are_compared_before_a_weight_is_read(tmp_path, monkeypatch):
    weights = network_of(TINY).state_dict() | {"output.bias": torch.zeros(7)}
    save_checkpoint(tmp_path / "a.safetensors", TINY, weights)
    monkeypatch.setattr("waveunet_cli.networks.checkpoint.load_weights", lambda *_, **__: pytest.fail("weights read"))
    assert "shape: output.bias (7,) instead of (2,)" in refused(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.bool, torch.complex64, torch.float8_e5m2], ids=str)
def test_weights_that_are_no_floats_are_refused(tmp_path, dtype):
    path = save(tmp_path / "a.safetensors", **{"output.bias": torch.zeros(2).to(dtype)})
    assert "kind of numbers: output.bias" in refused(path)


def test_a_source_that_cannot_name_a_module_is_refused():
    with pytest.raises(ConfigError, match="keys cannot name a network of the port"):
        PyTorchPortConfig(sources=("keys", "vocals"), residual="keys")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_found_by_the_name_it_declares(family):
    assert config_class(family).family == family


def test_missing_unexpected_and_misshapen_weights_are_listed(tmp_path):
    weights = network_of(TINY).state_dict()
    weights["other.weight"] = weights.pop("down.0.weight")
    weights["output.bias"] = torch.zeros(7)
    save_checkpoint(tmp_path / "a.safetensors", TINY, weights)
    message = refused(tmp_path / "a.safetensors")
    assert "missing: down.0.weight; unexpected: other.weight; shape: output.bias (7,) instead of (2,)" in message
    save_checkpoint(tmp_path / "a.safetensors", TINY, {})
    assert " and 8 more" in refused(tmp_path / "a.safetensors")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, -1, (1, 0, 3)])
def test_weights_that_are_no_numbers(tmp_path, bad, place):
    weight = network_of(TINY).state_dict()["down.1.weight"].clone()
    if isinstance(place, tuple):
        weight[place] = bad
    else:
        weight.view(-1)[place] = bad
    path = save(tmp_path / "a.safetensors", **{"down.1.weight": weight})
    assert "down.1.weight holds NaN or infinite values" in refused(path)


def test_another_architecture(tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, TINY, network_of(replace(TINY, sources=FOUR, residual="other")).state_dict())
    assert "another architecture" in refused(path)


def test_files_that_are_no_checkpoint(tmp_path):
    path = tmp_path / "a.safetensors"
    assert "no such checkpoint" in refused(path)
    path.mkdir()
    assert "is a folder, not a checkpoint; give" in refused(path)
    path.rmdir()
    save_file(network_of(TINY).state_dict(), path)
    assert "holds no configuration of a network" in refused(path)


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 0.9999))
def test_every_truncation_is_noticed(tmp_path_factory, part):
    path = save(tmp_path_factory.mktemp("cut") / "a.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert "truncated" in refused(path)


def test_a_header_that_claims_too_much(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    assert "not a readable safetensors checkpoint" in refused(path)


def test_the_embedded_model_is_a_whole_checkpoint():
    path = shipped_folder() / "vocals.safetensors"
    model = load_checkpoint(path, "vocals")
    assert (model.name, model.config) == (
        "vocals",
        replace(M5, output="masked"),
    )
    assert sum(parameter.numel() for parameter in model.network.parameters()) == 10_265_550
    assert path.stat().st_size < 21_000_000
    for name in ("vocals.toml", "m4.toml"):
        assert (shipped_folder() / name).is_file()


def test_random_networks_are_ready_to_separate():
    assert not build_network(TINY).training
    with pytest.raises(ConfigError, match="known families"):
        build_network(object())


def test_a_name_that_is_no_utf8_is_read(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    folder.mkdir()
    path = folder / "a.safetensors"
    save_checkpoint(path, TINY, network_of(TINY).state_dict())
    assert load_checkpoint(path).config == TINY
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(path)
