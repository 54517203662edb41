"""A song through Spleeter in blocks of spectra: what the published program computes of a song as a whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from small_models import identity
from spleeter_models import ELU, SMALL, network_of, whole_song
from stream_checks import EXAMPLES, noise, through
from waveunet_cli import Separator
from waveunet_cli.devices import choose_placement
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Model
from waveunet_cli.streaming.engine import new_engine

CONFIGS = [SMALL, ELU, replace(SMALL, step_frames=32, spectra=4, sources=("a", "b", "c"), residual="a")]
NETWORKS = [network_of(config) for config in CONFIGS]
networks = st.sampled_from(NETWORKS)
extensions = st.sampled_from(["average", "zeros"])
lengths = st.integers(0, 1000)  # a block has 128 frames more than the last
cuts = st.lists(st.integers(0, 300), min_size=1, max_size=5).filter(any)


def stream_of(network, extension="average", precision="float32"):
    placement = choose_placement("cpu", precision)
    model = Model("s", network.config, network)
    return new_engine(model, placement, None, lambda event: None, extension).stream()


@EXAMPLES
@given(networks, extensions, lengths, cuts, st.integers(1, 3))
def test_blocks_do_not_show(network, extension, frames, cuts, size):
    config = network.config
    x = noise(size, config.channels, frames)
    found, expected = through(stream_of(network, extension), x, cuts), whole_song(network, x, extension)
    assert found.shape == expected.shape
    for index, source in enumerate(config.sources):
        if source == config.residual:  # which also gets what "zeros" gives to nobody
            expected[:, index] = x - expected.sum(1) + expected[:, index]
        torch.testing.assert_close(found[:, index], expected[:, index], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.sum(1), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", NETWORKS)
def test_with_average_the_residual_is_its_own_share(network):
    x = noise(1, network.config.channels, 900)
    torch.testing.assert_close(
        through(stream_of(network), x, (100,)), whole_song(network, x, "average"), atol=1e-5, rtol=0
    )


def test_no_more_is_kept_than_a_block():
    stream = stream_of(NETWORKS[0])
    for _ in range(50):
        stream.push(noise(1, 2, 37))
        kept = [*stream._pending, *([] if stream._waiting is None else [stream._waiting])]
        assert sum(x.untyped_storage().nbytes() for x in kept) < 2 * 4 * (stream._block_frames + 4 * SMALL.fft_frames)


def test_a_block_comes_out_as_soon_as_it_is_whole():
    stream = stream_of(NETWORKS[0])
    needed = stream._block_frames - SMALL.fft_frames
    assert stream.push(noise(1, 2, needed - 1)).shape[-1] == 0
    assert stream.push(noise(1, 2, 1)).shape[-1] == SMALL.spectra * SMALL.step_frames - SMALL.fft_frames


def test_bfloat16_stays_close():
    network = NETWORKS[0]
    x = noise(1, 2, 900)
    expected = whole_song(network, x, "average")
    found = through(stream_of(network, precision="bfloat16"), x)
    assert 0 < (found - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("file_hz", [8000, 16_000, 7000])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("extension", ["average", "zeros"])
def test_stems_sum_to_the_song(file_hz, channels, extension):
    song = np.random.default_rng(0).normal(0, 0.1, (3000, channels)).astype(np.float32)
    separator = Separator(Model("s", SMALL, NETWORKS[0]), "cpu", "float32", mask_extension=extension)
    stems = separator.separate(song, file_hz)
    assert list(stems) == ["vocals", "accompaniment"]
    np.testing.assert_allclose(sum(stems.values()), song, atol=1e-6)


def test_with_zeros_only_the_residual_has_treble():
    song = np.random.default_rng(0).normal(0, 0.1, (8000, 2)).astype(np.float32)

    def treble(extension):
        separator = Separator(Model("s", SMALL, NETWORKS[0]), "cpu", "float32", mask_extension=extension)
        spectrum = np.fft.rfft(separator.separate(song, 8000)["vocals"], axis=0)
        return np.square(np.abs(spectrum[3000:])).mean() / np.square(np.abs(spectrum[:1500])).mean()  # from 2 kHz on

    assert treble("zeros") < 0.01 < 0.3 < treble("average")


def test_a_setting_that_changes_samples_is_part_of_the_request():
    model = Model("s", SMALL, NETWORKS[0])
    plain, average, zeros = (
        Separator(model, "cpu", "float32", mask_extension=extension) for extension in (None, "average", "zeros")
    )
    assert plain.settings == average.settings
    assert zeros.settings == plain.settings | {"mask_extension": "zeros"}


def test_an_extension_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="mask_extension: identity has no masks that end below its band"):
        Separator(identity(), "cpu", mask_extension="average")
    with pytest.raises(ConfigError, match='mask_extension: found \'mean\'; expected "average" or "zeros"'):
        Separator(Model("s", SMALL, NETWORKS[0]), "cpu", mask_extension="mean")
