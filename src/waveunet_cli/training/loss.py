"""Distances between estimated and true sources. Each is a mean over a batch's windows.

They compare samples (B, S, C, t) or, for networks that mask spectrograms, magnitudes (B, S, C, bins, n).
"""

from collections.abc import Callable

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
ESTIMATES_WEIGHT = 0.5  # of the estimates themselves, beside what masks make of them
TINY = 1e-8  # keeps the gradient of a root finite where an estimate is perfect


def mse(estimate: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error, the paper's loss."""
    return (estimate - truth).square().mean()


def l1(estimate: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error."""
    return (estimate - truth).abs().mean()


def l1_and_rmse(estimate: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error, plus half the mean of the root mean square errors of each source of each window.

    The root weighs loud windows less than a square would. It weighs the loud moments within a window more than L1 does.
    """
    error = estimate - truth
    return error.abs().mean() + 0.5 * (error.square().mean((2, 3)) + TINY).sqrt().mean()


LOSSES: dict[str, Loss] = {"mse": mse, "l1": l1, "l1+rmse": l1_and_rmse, "magnitude": l1}
OF_MAGNITUDES = frozenset({"magnitude"})
