"""A song in windows and a song through carried layers: both give what one window over the whole song gives."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from small_models import TINY, VALID, Identity, IdentityConfig, network_of
from stream_checks import EXAMPLES, assert_same, noise, through, whole, windowed
from waveunet_cli.devices import choose_placement
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Model
from waveunet_cli.networks.geometry import shorter
from waveunet_cli.networks.wave_u_net import carried
from waveunet_cli.networks.wave_u_net.carried import CarriedNetwork, CarriedStream, _Kernel
from waveunet_cli.networks.wave_u_net.config import M1, M2, M5
from waveunet_cli.streaming.engine import new_engine
from waveunet_cli.streaming.frugal import MOST_SIGNALS
from waveunet_cli.streaming.windows import WindowedStream

NETWORKS = [network_of(config) for config in VALID]
networks = st.sampled_from(NETWORKS)
lengths = st.integers(0, 300)
cuts = st.lists(st.integers(0, 150), min_size=1, max_size=5).filter(any)


@EXAMPLES
@given(networks, lengths, cuts, st.integers(1, 100), st.integers(1, 4), st.integers(1, 3))
def test_windows_do_not_show(network, frames, cuts, hop, batch, size):
    x = noise(size, network.config.channels, frames)
    assert_same(through(windowed(network, hop, batch), x, cuts), whole(network, x))


@EXAMPLES
@given(networks, lengths, cuts, st.integers(1, 100), st.integers(1, 3))
def test_carried_layers_do_not_show(network, frames, cuts, block, size):
    x = noise(size, network.config.channels, frames)
    with patch.object(carried, "CHUNK_FRAMES", 14):  # a block has several, and the last is shorter
        stream = CarriedStream(CarriedNetwork(network, block_frames=block), size)
        assert_same(through(stream, x, cuts), whole(network, x))


@EXAMPLES
@given(networks, lengths, cuts, st.integers(1, 100), st.integers(1, 100), st.integers(1, 3))
def test_carried_layers_in_windows_do_not_show(network, frames, cuts, block, hop, size):
    x = noise(size, network.config.channels, frames)
    with patch.object(carried, "WINDOW_FRAMES", hop):
        found = CarriedNetwork(network, block_frames=block)
    assert_same(through(WindowedStream(found.windows, found.window, found.sources), x, cuts), whole(network, x))


@pytest.mark.parametrize(("size", "kind"), [(MOST_SIGNALS, CarriedStream), (MOST_SIGNALS + 1, WindowedStream)])
def test_signals_side_by_side_beyond_some_take_turns(size, kind):
    """Each that is carried keeps 27 MB of state in a published network."""
    network = NETWORKS[0]
    engine = new_engine(Model("m", network.config, network), choose_placement("cpu", "float32"), None, print)
    stream = engine.stream(size)
    assert type(stream) is kind
    x = noise(size, network.config.channels, 300)
    assert_same(through(stream, x, (37,)), whole(network, x))


@pytest.mark.parametrize("upsampling", ["linear", "learned"])
def test_twelve_levels(upsampling):
    # Large enough for the branches that small layers do not take.
    network = network_of(replace(M5, filters=2, upsampling=upsampling))
    x = noise(1, 2, 20_000)
    expected = whole(network, x)
    assert expected.std() > 0.01
    assert_same(through(windowed(network, 8192, 2), x, (7001,)), expected)
    for block in (4096, 16_384):
        stream = CarriedStream(CarriedNetwork(network, block_frames=block))
        assert_same(through(stream, x, (9001,)), expected)


@pytest.mark.parametrize("config", VALID, ids=str)
def test_a_sample_reaches_no_further_than_the_geometry_says(config):
    network, reach, frames = network_of(config), config.window(1).reach, 3000
    x = noise(1, config.channels, frames)
    for at in (0, frames // 2, frames // 2 + 1, frames - 1):
        y = x.clone()
        y[..., at] += 1
        changed = (whole(network, x) != whole(network, y)).any(dim=(0, 1, 2)).nonzero()
        assert len(changed)
        assert at - reach <= changed.min() and changed.max() <= at + reach  # noqa: PT018


def test_a_long_song_moves_its_lines_often():
    network = NETWORKS[1]
    x = noise(2, 2, 3000)
    stream = CarriedStream(CarriedNetwork(network, block_frames=4), 2)
    assert_same(through(stream, x, (37,)), whole(network, x))


def test_wide_layers_take_the_convolution():
    # Above SMALL values per block, rows are convolved as images; below, as matrix products.
    network = network_of(replace(VALID[1], filters=24))
    x = noise(1, 2, 6000)
    expected = whole(network, x)
    for block in (64, 4096):
        assert_same(through(CarriedStream(CarriedNetwork(network, block_frames=block)), x, (5000, 17)), expected)


@pytest.mark.parametrize(("taps", "step"), [(15, 1), (15, 2), (5, 1)])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("frames", [200, 1111, 4096])
def test_a_kernel_in_tiles_is_the_same_convolution(monkeypatch, taps, step, with_bias, frames):
    weight, bias, rows = noise(30, 70, taps), noise(30) if with_bias else None, noise(9000, 70, seed=1)
    expected = torch.nn.functional.conv1d(rows.T[None], weight, bias, stride=step, dilation=step)[0].T  # (t, out)
    for points in (40, None):
        monkeypatch.setattr(carried, "points_for", lambda *shape, points=points: points)
        kernel = _Kernel(weight, bias, torch.float32, 4096)
        assert kernel.tiled == (points is not None)
        for read in (rows, rows[: (frames + taps - 2) * step + 1]):  # nothing has to be after what it reads
            found = kernel.convolve(read, frames, step)
            torch.testing.assert_close(found, expected[:frames], atol=5e-4, rtol=0)  # of values up to 150


def test_shorter_values_come_in_longer_blocks_and_chunks():
    network = NETWORKS[1]
    full, short = CarriedNetwork(network), CarriedNetwork(network, torch.bfloat16)
    assert short.block == 2 * full.block
    assert short._down[0].chunk_frames == 2 * full._down[0].chunk_frames
    assert CarriedNetwork(network, torch.bfloat16, full.block).block == full.block  # as asked for


def test_bfloat16_layers_stay_close():
    network = NETWORKS[1]
    x = noise(1, 2, 500)
    expected = whole(network, x)
    found = through(CarriedStream(CarriedNetwork(network, torch.bfloat16, 64)), x)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).std() / expected.std() < 0.03


@pytest.mark.parametrize("variant", [M1, M2], ids=["M1", "M2"])
def test_padded_networks_run_at_their_own_window(variant):
    network = network_of(replace(variant, filters=2))
    window = network.config.window()
    frames = 2 * window.hop + 100
    x = noise(1, 1, frames)
    padded = torch.nn.functional.pad(x, (0, 3 * window.hop - frames))
    with torch.no_grad():
        expected = torch.cat([network(part) for part in padded.split(window.hop, -1)], -1)[..., :frames]
    assert_same(through(windowed(network, None), x, (10_001,)), expected)
    torch.testing.assert_close(through(windowed(network, 4096, 2), x), expected, atol=1e-6, rtol=0)


def test_a_padded_network_cannot_be_carried():
    with pytest.raises(ConfigError, match="run it in windows"):
        CarriedNetwork(network_of(replace(TINY, padding="same")))


def test_silence_before_a_song_and_what_would_come_of_it_is_not_computed(monkeypatch):
    network, computed, last_level = NETWORKS[2], [], []
    carried_network = CarriedNetwork(network, block_frames=16)
    advance, up_one = carried_network.advance, carried_network._up_one

    def counted(lines, level, rows, *later):
        y = up_one(lines, level, rows, *later)
        if level == network.config.levels - 1:
            last_level.append(len(y))
        return y

    monkeypatch.setattr(carried_network, "_up_one", counted)
    monkeypatch.setattr(carried_network, "advance", lambda _, x, *a: computed.append(len(x)) or advance(_, x, *a))
    x = noise(1, network.config.channels, 200)
    assert_same(through(carried_network.stream(), x), whole(network, x))
    step = carried_network.step
    assert sum(computed) <= 200 + network.config.window(1).context + 3 * step
    assert carried_network.delay > 16 + step
    assert sum(last_level) <= 200 + 16 + step


def test_kernels_keep_no_other_memory():
    found = CarriedNetwork(NETWORKS[1])
    for kernel in [*found._down, *(each for up in found._up for each in (up.coarse, up.skip))]:
        assert kernel.weight.untyped_storage().nbytes() == kernel.weight.nbytes


def test_layers_run_in_tiles_only_where_that_saves_time():
    assert _Kernel(noise(96, 72, 15), None, torch.float32, 8192).tiled
    assert not _Kernel(noise(96, 72, 15), None, torch.bfloat16, 8192).tiled  # saves too little for its memory
    assert not _Kernel(noise(24, 2, 15), None, torch.float32, 65_536).tiled  # few channels
    assert not _Kernel(noise(264, 240, 15), None, torch.float32, 64).tiled  # few frames


# --- how far a sample reaches


STREAMS = {
    "windows": lambda network: windowed(network, 16),
    "carried": lambda network: CarriedStream(CarriedNetwork(network, block_frames=16)),
}


@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS.keys())
@pytest.mark.parametrize("network", NETWORKS[:3], ids=["linear", "learned", "3 levels"])
def test_influence_ends_exactly_at_reach(network, make):
    config = network.config
    reach = config.window().reach
    frames = 2 * reach + 2 * 2**config.levels + 40
    quiet = 1e-3 * noise(1, config.channels, frames)
    before = through(make(network), quiet)
    furthest_back = furthest_ahead = 0
    for phase in range(2**config.levels):
        position = reach + 20 + phase
        loud = quiet.clone()
        loud[..., position] += 10.0
        changed = (through(make(network), loud) != before).any(0).any(0).any(0).nonzero()  # positions of frames
        furthest_back = max(furthest_back, position - int(changed.min()))
        furthest_ahead = max(furthest_ahead, int(changed.max()) - position)
    assert furthest_back <= reach
    assert furthest_ahead <= reach
    assert max(furthest_back, furthest_ahead) == reach


# --- the cutter by itself


@EXAMPLES
@given(lengths, cuts, st.integers(1, 60), st.integers(1, 4), st.integers(0, 20))
def test_an_identity_comes_back_bit_for_bit(frames, cuts, hop, batch, context):
    config = IdentityConfig(context=context, channels=1)
    stream = WindowedStream(Identity(config), config.window(hop), 2, batch)
    x = noise(2, 1, frames)
    assert torch.equal(through(stream, x, cuts), x[:, None].expand(-1, 2, -1, -1))


def test_only_as_many_windows_as_needed():
    seen = []
    config = IdentityConfig(channels=1)

    def network(x):
        seen.append(tuple(x.shape))
        return Identity(config)(x)

    stream = WindowedStream(network, config.window(40), 2, batch=3)
    through(stream, noise(1, 1, 40 * 5 + 6), (11,))
    extra = 2 * config.context + 3
    assert seen == [(3, 1, 40 + extra), (2, 1, 40 + extra), (1, 1, 8 + extra)]


def test_what_is_certain_comes_out_at_once():
    network = NETWORKS[0]
    window = network.config.window(16)
    stream = windowed(network, 16)
    assert stream.push(noise(1, 1, window.input - window.context - 1)).shape[-1] == 0
    with torch.no_grad():
        assert stream.push(noise(1, 1, 1)).shape[-1] == 16


def test_shorter_windows():
    window = TINY.window(40)
    assert shorter(window, 1) == TINY.window(1)
    assert shorter(window, 9) == TINY.window(9)
    assert shorter(window, 41) == window
    padded = replace(TINY, padding="same").window()
    assert shorter(padded, 1) == padded
