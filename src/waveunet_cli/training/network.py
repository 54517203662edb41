"""Any family's network as a module to train: (B, C, t) → (B, S, C, t − 2·context), by the fastest path there is."""

from typing import cast

import torch
from torch import Tensor, nn

from waveunet_cli.network import WaveUNet
from waveunet_cli.training import backward


class Trainable(nn.Module):
    """`network`, computed in `dtype` where autocast allows it; a valid Wave-U-Net in float32 on a CPU has gradients of
    its own (see backward.py)."""

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = network.train().requires_grad_(True)
        self._dtype = dtype

    def forward(self, mixture: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t − 2·context)."""
        network, reduced = self.network, self._dtype != torch.float32
        if (
            isinstance(network, WaveUNet)
            and network.config.padding == "valid"
            and mixture.device.type == "cpu"
            and not reduced
            and torch.is_grad_enabled()
        ):
            return backward.forward(network, mixture)
        with torch.autocast(mixture.device.type, self._dtype, enabled=reduced):
            return cast(Tensor, network(mixture)).float()
