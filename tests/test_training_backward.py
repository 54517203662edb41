import pytest
import torch
from torch import Tensor

from small_models import MASKED, VALID, network_of
from waveunet_cli.config import WaveUNetConfig
from waveunet_cli.network import WaveUNet
from waveunet_cli.training import backward
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
    truth = torch.randn(2, len(config.sources), config.channels, window.output, generator=generator)
    expected, expected_gradients = gradients(network, network, mixture, truth)
    found, found_gradients = gradients(network, lambda x: backward.forward(network, x), mixture, truth)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found_gradients.keys() == expected_gradients.keys() == dict(network.named_parameters()).keys()
    for name, expected_gradient in expected_gradients.items():
        scale = float(expected_gradient.abs().max())
        torch.testing.assert_close(found_gradients[name] / scale, expected_gradient / scale, rtol=0, atol=2e-5)


def test_training_takes_this_path_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = VALID[1]
    taken = []
    monkeypatch.setattr(backward, "forward", lambda network, x: taken.append(network) or network(x))
    trainable = Trainable(network_of(config))
    mixture = torch.zeros(1, config.channels, config.window().input)
    trainable(mixture)
    assert taken == [trainable.network]
    with torch.no_grad():
        trainable(mixture)
    assert len(taken) == 1
