from dataclasses import replace

import pytest
import torch

from small_models import VALID, network_of
from waveunet_cli.networks.family import Config, build_network
from waveunet_cli.networks.keras_port import KerasPortConfig
from waveunet_cli.networks.spectrogram_u_net import SpectrogramUNetConfig
from waveunet_cli.networks.wave_u_net.network import crop
from waveunet_cli.training.loss import l1
from waveunet_cli.training.network import Trainable

U = SpectrogramUNetConfig(fft_frames=64, step_frames=48, levels=2, filters=4, window_frames=300, dropout_levels=0)
KERAS = KerasPortConfig(filters=(4, 4, 6), pooling=(1, 4), down_taps=5, up_taps=3, window_frames=64)


@pytest.mark.parametrize(
    ("config", "magnitudes"),
    [(VALID[1], False), (KERAS, False), (replace(KERAS, batch_norm=True), False), (U, False), (U, True)],
)
def test_half_the_bits_give_nearly_the_same_gradients(config: Config, magnitudes: bool) -> None:
    torch.manual_seed(0)
    network = network_of(VALID[1]) if config is VALID[1] else build_network(config)
    gradients = []
    sources = 0.3 * torch.randn(2, len(config.sources), config.channels, config.window().input)
    for dtype in (torch.float32, torch.bfloat16):
        trainable = Trainable(network, dtype, magnitudes)
        trainable.zero_grad()
        estimate = trainable(sources.sum(1))
        assert estimate.dtype == torch.float32
        (estimate - trainable.wanted(sources, estimate)).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten().clone() for p in trainable.parameters() if p.grad is not None]))
    exact, reduced = gradients
    assert not torch.equal(exact, reduced)
    assert float(torch.cosine_similarity(exact, reduced, 0)) > 0.98


def test_what_is_wanted_stands_where_the_estimate_does() -> None:
    trainable = Trainable(build_network(VALID[1]))
    sources = torch.randn(1, 2, 2, VALID[1].window().input)
    estimate = trainable(sources.sum(1))
    context = VALID[1].window().context
    assert torch.equal(trainable.wanted(sources, estimate), sources[..., context:-context])
    assert trainable.samples(estimate, sources.sum(1)) is estimate


def test_perfect_magnitudes_are_no_loss_and_the_sources_themselves_where_phases_agree() -> None:
    trainable = Trainable(build_network(U), magnitudes=True)
    x = torch.randn(1, 1, 1, U.window().input)
    sources = torch.cat([x, 0.5 * x], 1)  # in phase with each other, so with the mixture, too
    magnitudes = trainable.wanted(sources, sources)
    samples = trainable.samples(magnitudes, sources.sum(1))
    torch.testing.assert_close(samples, crop(sources, samples.shape[-1]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("output", ["direct", "masked"])
def test_where_only_a_sum_is_known_only_the_sum_of_the_estimates_is_judged(output: str) -> None:
    config = replace(VALID[3], output=output, sources=("vocals", "drums", "bass", "other"))
    trainable = Trainable(network_of(config))
    torch.manual_seed(1)
    sources = torch.randn(2, 4, config.channels, config.window(256).input)
    sources[1, 2:] = 0  # the second window knows vocals, and the sum of the others in the drums' place
    all_known = torch.eye(4).repeat(2, 1, 1)
    sums = all_known.clone()
    sums[1] = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    estimate = trainable(sources.sum(1)).detach()

    def loss(estimate: torch.Tensor, sums: torch.Tensor | None) -> float:
        return float(trainable.loss(l1, estimate, sources, sums))

    assert loss(estimate, all_known) == pytest.approx(loss(estimate, None), rel=1e-6)
    assert abs(loss(estimate, sums) - loss(estimate, None)) > 0.01
    by_hand = 0.0
    for estimates, weight in ((trainable.result(estimate), 1.0), (estimate, 0.5 * (output == "masked"))):
        whole = crop(sources, estimates.shape[-1])
        of_vocals = (estimates[1, 0] - whole[1, 0]).abs().mean()
        of_sum = (estimates[1, 1:].sum(0) - whole[1, 1]).abs().mean()
        by_hand += weight * float((estimates[0] - whole[0]).abs().mean() + (of_vocals + of_sum) / 4) / 2
    assert loss(estimate, sums) == pytest.approx(by_hand, rel=1e-5)
