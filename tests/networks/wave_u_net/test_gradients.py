from dataclasses import replace

import pytest
import torch
from torch import Tensor

from small_models import MASKED, VALID, network_of
from stream_checks import noise
from waveunet_cli.networks.wave_u_net import gradients as backward
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig
from waveunet_cli.networks.wave_u_net.network import WaveUNet
from waveunet_cli.training.network import Trainable


def gradients(network: WaveUNet, compute: object, mixture: Tensor, truth: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    network.zero_grad()
    y = compute(mixture)  # type: ignore[operator]
    (y - truth).square().mean().backward()
    return y.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", [*VALID, *MASKED], ids=str)
@pytest.mark.parametrize("hop_frames", [1, 50])
def test_gives_the_samples_and_gradients_of_autograd(config: WaveUNetConfig, hop_frames: int) -> None:
    network = network_of(config).requires_grad_(True)
    window = config.window(hop_frames)
    generator = torch.Generator().manual_seed(1)
    mixture = torch.randn(2, config.channels, window.input, generator=generator)
    truth = noise(*network.estimates(mixture).shape)
    expected, expected_gradients = gradients(network, network.estimates, mixture, truth)
    found, found_gradients = gradients(network, lambda x: backward.estimates(network, x, torch.float32), mixture, truth)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found_gradients.keys() == expected_gradients.keys() == dict(network.named_parameters()).keys()
    for name, expected_gradient in expected_gradients.items():
        scale = float(expected_gradient.abs().max())
        torch.testing.assert_close(found_gradients[name] / scale, expected_gradient / scale, rtol=0, atol=2e-5)


def test_in_bfloat16_gradients_are_as_near_as_those_of_autocast() -> None:
    config = replace(VALID[1], filters=8)
    network = network_of(config).requires_grad_(True)
    window = config.window(4000)
    mixture = noise(1, config.channels, window.input)
    truth = noise(1, len(config.sources), config.channels, window.output)

    def autocast(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(x).float()

    _, exact = gradients(network, network, mixture, truth)
    whole = torch.cat([gradient.flatten() for gradient in exact.values()])
    errors = []
    for compute in (autocast, lambda x: backward.estimates(network, x, torch.bfloat16)):
        y, found = gradients(network, compute, mixture, truth)
        assert y.dtype == torch.float32
        errors.append(float((torch.cat([gradient.flatten() for gradient in found.values()]) - whole).norm()))
    theirs, ours = errors
    assert 0 < ours < 1.5 * theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_training_takes_this_path_on_a_cpu(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    config = VALID[1]
    taken = []
    monkeypatch.setattr(backward, "estimates", lambda network, x, dtype: taken.append((network, dtype)) or network(x))
    trainable = Trainable(network_of(config), dtype)
    mixture = torch.zeros(1, config.channels, config.window().input)
    trainable(mixture)
    assert taken == [(trainable.network, dtype)]
    with torch.no_grad():
        trainable(mixture)
    assert len(taken) == 1
