"""Spleeter's network: golden files of another implementation, its convolutions, its shares, its configuration."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from golden_files import golden
from spleeter_models import ELU, SMALL, network_of, whole_song
from stream_checks import through
from tf1_bundle import write_bundle
from waveunet_cli.devices import choose_placement
from waveunet_cli.errors import ConfigError
from waveunet_cli.importers.convert import convert
from waveunet_cli.networks import spleeter as module
from waveunet_cli.networks.family import Model, build_network
from waveunet_cli.networks.folded_u_net import FoldedSpleeter, FoldedUNet, Frames
from waveunet_cli.networks.spleeter import SpleeterConfig, apply_share_, shares_of
from waveunet_cli.streaming.engine import new_engine


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["narrow_2stems", "narrow_elu_4stems"])
@pytest.mark.parametrize("extension", ["average", "zeros"])
def test_the_outputs_of_another_implementation(name, extension, tmp_path):
    with np.load(golden(f"spleeter/{name}.npz")) as stored:
        arrays = dict(stored)
    tensors = {key.removeprefix("weight:"): array for key, array in arrays.items() if key.startswith("weight:")}
    converted = convert(write_bundle(tmp_path / "model", tensors))
    network = build_network(replace(converted.config, fft_frames=1024, step_frames=256, bins=256, spectra=64))
    network.load_state_dict(converted.weights)
    mixture = torch.from_numpy(arrays["mixture"].T)[None]  # (1, C, t)
    engine = new_engine(Model("s", network.config, network), choose_placement("cpu", "float32"), None, print, extension)
    for found in (whole_song(network, mixture, extension), through(engine.stream(), mixture, (3000,))):
        for source, stem in zip(converted.config.sources, found[0], strict=True):
            expected = arrays[f"{source}_{extension}"]
            if source == network.config.residual and extension == "zeros":
                continue  # our residual also gets what zeros gives to nobody; see streaming/test_spectra.py
            assert np.abs(stem.numpy().T - expected).max() <= 1e-5, source


CASES = {
    "two stems": SMALL,
    "elu, mono": replace(ELU, filters=(2, 7, 3)),
    "one level": replace(SMALL, filters=(6,)),
    "wide levels": replace(SMALL, filters=(5, 6, 7), activation="elu"),
}


def folded(unet, x, spectra=None):
    y = torch.empty_like(x)
    FoldedUNet(unet, spectra or x.shape[2], torch.float32, Frames(0, torch.float32, x.device))(x, y)
    return y


@pytest.mark.parametrize("size", [(8, 8), (40, 24), (136, 8)])
@pytest.mark.parametrize("case", CASES)
def test_folded_it_is_the_same_network(case, size):
    unet = network_of(CASES[case]).unets[1]
    x = torch.randn(2, CASES[case].channels, *size)
    with torch.no_grad():
        torch.testing.assert_close(folded(unet, x), unet(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("heard", [1, 2, 7, 20, 39])
def test_of_silence_at_a_block_s_end_only_what_reaches_into_the_song_is_computed(case, heard):
    unet, channels = network_of(CASES[case]).unets[0], CASES[case].channels
    x = torch.randn(2, channels, heard, 16)
    with torch.no_grad():
        whole = unet(F.pad(x, (0, 0, 0, 40 - heard)))
        torch.testing.assert_close(folded(unet, x, 40), whole[:, :, :heard], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("factor", [0.0, -1e-30, -2.0])
def test_any_factor_of_a_norm_can_be_folded(factor):
    unet = network_of(SMALL).unets[0]
    x = torch.randn(1, 2, 8, 8)
    with torch.no_grad():
        for norm in (*unet.down_norms, *unet.up_norms):
            norm.weight[::2] = factor
        torch.testing.assert_close(folded(unet, x), unet(x), atol=1e-5, rtol=1e-5)


def test_batches_and_modes_share_the_kept_memory():
    network = network_of(SMALL)
    x = torch.rand(2, SMALL.channels, SMALL.spectra, SMALL.bins)
    with torch.inference_mode():
        separate = FoldedSpleeter(network, torch.float32)
        separate(x[:1])
        separate(x)  # more at once than there is room for
    with torch.no_grad():
        torch.testing.assert_close(separate(x), network.masks(x), atol=1e-5, rtol=1e-5)


def test_the_published_network():
    with torch.device("meta"):
        network = build_network(SpleeterConfig())
    assert sum(p.numel() for p in network.parameters()) == 2 * 9_822_725
    assert SpleeterConfig().window().input == 511 * 1024 + 4096
    assert SpleeterConfig().window(1) == SpleeterConfig().window()


@pytest.mark.parametrize("sources", [2, 5])
def test_shares_sum_to_one_and_are_equal_in_silence(sources):
    config = replace(SMALL, sources=tuple("abcde"[:sources]), residual="a")
    network = network_of(config)
    with torch.no_grad():
        shares, silent = (
            shares_of(network.masks(x), x)
            for x in (torch.rand(2, 2, config.spectra, config.bins), torch.zeros(1, 2, config.spectra, config.bins))
        )
    torch.testing.assert_close(shares.sum(1), torch.ones_like(shares[:, 0]))
    assert shares.std() > 0.02
    torch.testing.assert_close(silent, torch.full_like(silent, 1 / sources))


def test_above_the_band_a_share_is_its_mean_or_nothing():
    spectra, share = torch.ones(1, 2, 3, 9, dtype=torch.complex64), torch.rand(1, 2, 3, 4)
    average, zeros = (apply_share_(spectra.clone(), share, extension) for extension in ("average", "zeros"))
    for found in (average, zeros):
        torch.testing.assert_close(found[..., :4].real, share)
    torch.testing.assert_close(average[..., 4:].real, share.mean(-1, keepdim=True).expand(-1, -1, -1, 5))
    assert not zeros[..., 4:].any()


def test_a_block_by_itself_is_the_song_where_its_spectra_are_whole():
    network = network_of(SMALL)
    window = SMALL.window()
    x = torch.randn(1, 2, window.input - SMALL.fft_frames)  # the first block begins a spectrum before the song
    block = F.pad(x, (SMALL.fft_frames, 0))
    with torch.no_grad():
        found = network(block)
    assert found.shape == (1, 2, 2, window.output)
    before = SMALL.fft_frames - window.context  # frames of the block before the song
    frames = window.output - before
    torch.testing.assert_close(found[..., before:], whole_song(network, x, "average")[..., :frames], atol=1e-5, rtol=0)


def test_all_weights_learn():
    network = network_of(SMALL).train()
    network(torch.randn(2, 2, SMALL.window().input))[:, 0].square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ("vocals",)}, "2 or more"),
        ({"residual": "bass"}, "residual: found 'bass'; expected one of"),
        ({"channels": 3}, "channels: found 3; expected a whole number from 1 to 2"),
        ({"step_frames": 4096}, "step_frames: found 4096; expected a whole part of 4096"),
        ({"step_frames": 1000}, "step_frames: found 1000; expected a whole part of 4096"),
        ({"bins": 4096}, "bins: found 4096; expected at most half of fft_frames, 2048"),
        ({"bins": 1000}, "bins: found 1000; expected a multiple of 64, for 6 levels"),
        ({"spectra": 500}, "spectra: found 500; expected a multiple of 64"),
        ({"filters": ()}, "filters: found"),
        ({"filters": (16, 0)}, "filters: found"),
        ({"activation": "gelu"}, 'activation: found \'gelu\'; expected "leaky_relu" or "elu"'),
    ],
)
def test_refuses_what_cannot_exist(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(SpleeterConfig(), **changes)


def test_every_setting_is_read():
    code = Path(module.__file__).read_text().split("def window", 1)[1]
    for field in fields(SpleeterConfig):
        if field.name not in ("sample_rate", "residual"):  # read by all that separates
            assert f".{field.name}" in code, field.name
