"""The Keras port's network: windows of any hop agree, and its resampling."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import build_network
from waveunet_cli.networks.keras_port import KerasPortConfig, stretch

SMALL = KerasPortConfig(
    filters=(3, 4, 5), pooling=(2, 3), channels=1, down_taps=5, up_taps=3, bottleneck_taps=3, window_frames=12
)


@given(
    pooling=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    pool=st.sampled_from(["max", "first"]),
    batch_norm=st.booleans(),
    taps=st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
    hops=st.integers(1, 4),
    data=st.data(),
)
@settings(deadline=None, max_examples=25)
def test_what_lies_beyond_the_context_is_never_felt(pooling, pool, batch_norm, taps, hops, data):
    config = replace(
        SMALL,
        pooling=pooling,
        pool=pool,
        batch_norm=batch_norm,
        filters=(3,) * (len(pooling) + 1),
        down_taps=taps[0],
        up_taps=taps[1],
        bottleneck_taps=taps[2],
    )
    network = build_network(config)
    window = config.window(1)
    song = torch.randn(1, 1, window.input + (hops - 1) * window.hop, generator=torch.Generator().manual_seed(1))
    whole = network(song)
    first = data.draw(st.integers(0, hops - 1)) * window.hop

    part = network(song[..., first : first + window.input])

    assert part.shape[-1] == window.output
    torch.testing.assert_close(part, whole[..., first : first + window.hop])


def test_the_published_context_is_no_more_than_training_cropped():
    deep = replace(KerasPortConfig(), filters=(24,) * 13, pooling=(2,) * 12, pool="first", down_taps=15, up_taps=5)
    for config in (KerasPortConfig(), deep):
        window = config.window()
        assert config.reach() <= window.context <= 80_000
        assert window.input % 4096 == window.hop % 4096 == 0


def test_stems_sum_to_the_mixture():
    network = build_network(SMALL)
    mixture = torch.randn(2, 1, 60)
    torch.testing.assert_close(network.whole(mixture).sum(1), mixture)


def test_batch_norm_is_what_a_conversion_folds_into_the_convolutions():
    torch.manual_seed(3)
    normalised, folded = build_network(replace(SMALL, batch_norm=True)), build_network(SMALL)
    mixture = torch.randn(2, 1, 60)
    normalised.train()
    for _ in range(3):  # means and variances to fold
        normalised(5 * torch.randn(2, 1, 120))
    normalised.eval()
    whole_blocks = [*folded.down, folded.bottleneck, *folded.up]
    with torch.no_grad():
        for block, whole in zip([*normalised.down, normalised.bottleneck, *normalised.up], whole_blocks, strict=True):
            conv, norm = block
            scale = norm.weight / (norm.running_var + 1e-3).sqrt()
            whole.weight.copy_(conv.weight * scale[:, None, None])
            whole.bias.copy_(norm.bias - norm.running_mean * scale)
        folded.output.load_state_dict(normalised.output.state_dict())
        torch.testing.assert_close(normalised.whole(mixture), folded.whole(mixture))


def test_stretching_repeats_and_averages_what_is_there():
    x = torch.tensor([[1.0, 3.0, 5.0]])
    assert stretch(x, 1).tolist() == [[1, 3, 5]]
    assert stretch(x, 2).tolist() == [[1, 2, 3, 4, 5, 5]]
    # one frame before, two after, and only those that exist
    assert stretch(x, 4).tolist() == [[1, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5, 5]]


@pytest.mark.parametrize(
    "change",
    [
        {"sources": ("vocals",)},
        {"residual": "drums"},
        {"pool": "mean"},
        {"pooling": (2,)},
        {"pooling": (2, 0)},
        {"up_taps": 2},
        {"channels": 3},
        {"sample_rate": 0},
    ],
)
def test_impossible_configurations_are_refused(change):
    with pytest.raises(ConfigError):
        replace(SMALL, **change)
