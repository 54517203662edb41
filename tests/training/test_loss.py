import pytest
import torch

from waveunet_cli.training.loss import LOSSES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mse", (0.3**2 + 0.1**2) / 2),
        ("l1", (0.3 + 0.1) / 2),
        ("l1+rmse", (0.3 + 0.1) / 2 + 0.5 * (0.3 + 0.1) / 2),  # of a constant error, the root mean square is the error
        ("magnitude", (0.3 + 0.1) / 2),
    ],
)
def test_losses_by_their_definition(name: str, expected: float) -> None:
    truth = torch.randn(1, 2, 2, 1000, generator=torch.Generator().manual_seed(0))
    error = torch.tensor([0.3, -0.1])[:, None, None]  # of each source
    assert float(LOSSES[name](truth + error, truth)) == pytest.approx(expected, rel=1e-3)


def test_the_root_mean_square_is_that_of_each_source_of_each_window() -> None:
    error = torch.zeros(2, 1, 1, 100)
    error[0, 0, 0, 0] = 1.0  # one frame of the first window: root of 1 / 100
    assert float(LOSSES["l1+rmse"](error, torch.zeros_like(error))) == pytest.approx(1 / 200 + 0.5 * 0.1 / 2, rel=1e-2)
