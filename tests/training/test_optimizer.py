import pytest
import torch
from torch import nn

from waveunet_cli.training.optimizer import equalized, new_optimizer


@pytest.mark.parametrize("shape", [(12, 80), (80, 12), (20, 20)])
def test_all_singular_values_become_alike_and_no_direction_turns(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-4
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    values = u.T @ equalized(x) @ v.T
    assert 0.6 < float(values.diag().min()) < float(values.diag().max()) < 1.3
    torch.testing.assert_close(values, values.diag().diag(), atol=1e-4, rtol=0)


def stepped(name: str, steps: int = 3) -> dict[str, torch.Tensor]:
    """How far a network moved."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(2, 16, 5), nn.LeakyReLU(), nn.Conv1d(16, 2, 1))
    before = {key: weight.detach().clone() for key, weight in network.named_parameters()}
    optimizer = new_optimizer(network, name, 0.0, (0.9, 0.98))  # type: ignore[arg-type]
    x = torch.randn(4, 2, 50)
    for _ in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    return {key: weight.detach() - before[key] for key, weight in network.named_parameters()}


def test_a_kernel_moves_about_as_far_as_with_adam_and_the_last_layer_just_so() -> None:
    muon, adam = stepped("muon", 1), stepped("adam", 1)
    assert 0.15e-3 < float(muon["0.weight"].square().mean().sqrt()) < 0.25e-3  # Adam's typical step is 0.2 to 0.4 rates
    for name in ("0.bias", "2.weight", "2.bias"):
        assert torch.equal(muon[name], adam[name])


def test_gradients_of_the_past_count() -> None:
    one, three = stepped("muon", 1)["0.weight"], stepped("muon", 3)["0.weight"]
    assert 2.5 * one.norm() < three.norm() < 3.05 * one.norm()  # nearly the same direction three times
