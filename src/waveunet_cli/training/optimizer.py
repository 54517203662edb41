"""The optimizers that a recipe may name: Adam, as in the paper, and Muon."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Name = Literal["adam", "muon"]

MOMENTUM = 0.95  # weight of the past in Muon's mean of gradients
FEW_FILTERS = 8  # of the last layer; with as few, all directions of a kernel matter alike already
ITERATIONS = 5
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # Jordan's; moves every singular value to between 0.7 and 1.2
LIKE_ADAM = 0.2  # root mean square of a step, in learning rates; about Adam's, so that both take the same rates


class Muon(torch.optim.AdamW):
    """Steps of equal length in all directions of a kernel; biases and the last layer are AdamW's.

    A kernel [out, in, tap] is a matrix (out, in·tap). Its step is the mean of its gradients with all singular values
    made equal (Jordan et al., Muon, 2024), as long as a step of Adam (Liu et al., arXiv 2502.16982, section 2.2).
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "the gradients are there already"
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None or kernel.ndim < 2 or len(kernel) <= FEW_FILTERS:
                    continue
                state = self.state[kernel]
                if not state:
                    state |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(kernel)}
                state["step"] += 1
                mean: Tensor = state["exp_avg"].lerp_(kernel.grad, 1 - MOMENTUM)
                ahead = kernel.grad.lerp(mean, MOMENTUM).flatten(1)  # (out, in·tap), Nesterov's
                length = LIKE_ADAM * max(ahead.shape) ** 0.5
                kernel.mul_(1 - group["lr"] * group["weight_decay"])
                kernel.sub_(equalized(ahead).view_as(kernel), alpha=group["lr"] * length)
                kernel.grad = None  # for AdamW
        super().step()


def equalized(x: Tensor) -> Tensor:
    """A matrix (m, n) with the singular vectors of x and singular values near 1, by Newton and Schulz's iteration.

    An iteration multiplies x by a polynomial P of its Gram matrix x·xᵀ, which becomes P·x·xᵀ·P. So the iterations need
    the small Gram matrix alone, and x is multiplied once, by the product of all P: a fifth of the work.
    """
    a, b, c = POLYNOMIAL
    wide: Tensor = x.T if x.shape[0] > x.shape[1] else x
    wide = wide / (wide.norm() + 1e-12)
    gram = wide @ wide.T
    product = identity = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        polynomial = torch.addmm(a * identity + b * gram, gram, gram, alpha=c)
        product = polynomial @ product
        gram = polynomial @ gram @ polynomial
    wide = product @ wide
    return wide.T if x.shape[0] > x.shape[1] else wide


OPTIMIZERS: dict[str, type[torch.optim.AdamW]] = {"adam": torch.optim.AdamW, "muon": Muon}


def new_optimizer(network: nn.Module, name: Name, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """Adam as in the paper, or Muon; with weight decay. The learning rate is set at every step."""
    return OPTIMIZERS[name](network.parameters(), lr=0.0, betas=betas, weight_decay=weight_decay)
