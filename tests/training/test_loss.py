import numpy as np
import pytest
import torch

from waveunet_cli.training.loss import LOSSES

RNG = np.random.default_rng(0)
ESTIMATE, TRUTH = RNG.normal(size=(2, 3, 4, 2, 50))  # (B, S, C, t) each
ERROR = ESTIMATE - TRUTH
DEFINITIONS = {
    "mse": np.mean(ERROR**2),
    "l1": np.mean(np.abs(ERROR)),
    "magnitude": np.mean(np.abs(ERROR)),
    "l1+rmse": np.mean(np.abs(ERROR)) + 0.5 * np.mean(np.sqrt(np.mean(ERROR**2, (2, 3)))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_what_its_name_says(name: str) -> None:
    found = LOSSES[name](torch.from_numpy(ESTIMATE), torch.from_numpy(TRUTH))
    assert float(found) == pytest.approx(DEFINITIONS[name], rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_estimate_loses_nothing_and_has_a_gradient(name: str) -> None:
    estimate = torch.from_numpy(TRUTH.copy()).requires_grad_()
    loss = LOSSES[name](estimate, torch.from_numpy(TRUTH))
    loss.backward()
    assert float(loss.detach()) < 1e-4
    assert estimate.grad is not None
    assert torch.isfinite(estimate.grad).all()
