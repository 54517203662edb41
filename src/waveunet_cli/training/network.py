"""Any family's network as a module to train: (B, C, t) → (B, S, C, t − 2·context), by the fastest path there is."""

from typing import cast

import torch
from torch import Tensor, nn

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.spectrogram_u_net import SpectrogramUNet
from waveunet_cli.networks.wave_u_net import gradients as backward
from waveunet_cli.networks.wave_u_net.network import WaveUNet, crop


class Trainable(nn.Module):
    """`network`, computed in `dtype` where autocast allows it; a valid Wave-U-Net on a CPU has gradients of its own
    (see backward.py).

    With `magnitudes`, what comes out and what is wanted are magnitudes, not samples. Raises ConfigError for a network
    that has none.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float32, magnitudes: bool = False) -> None:
        super().__init__()
        if magnitudes and not isinstance(network, SpectrogramUNet):
            raise ConfigError("loss: 'magnitude' is for U7a and its like; choose mse, l1 or l1+rmse")
        self.network = network.train().requires_grad_(True)
        self.magnitudes = magnitudes
        self._dtype = dtype

    def forward(self, mixture: Tensor) -> Tensor:
        """(B, C, t) → (B, S, C, t − 2·context), or magnitudes (B, S, C, bins, n)."""
        network, reduced = self.network, self._dtype != torch.float32
        if (
            isinstance(network, WaveUNet)
            and network.config.padding == "valid"
            and mixture.device.type == "cpu"
            and self._dtype in (torch.float32, torch.bfloat16)
            and torch.is_grad_enabled()
        ):
            return backward.forward(network, mixture, self._dtype)
        with torch.autocast(mixture.device.type, self._dtype, enabled=reduced):
            estimate = self._spectral.magnitudes(mixture) if self.magnitudes else network(mixture)
            return cast(Tensor, estimate).float()

    def wanted(self, sources: Tensor, estimate: Tensor) -> Tensor:
        """What `estimate` should have been: sources (B, S, C, t) in its place."""
        if self.magnitudes:
            return self._spectral.spectrum(sources).abs()
        return crop(sources, estimate.shape[-1])

    def samples(self, estimate: Tensor, mixture: Tensor) -> Tensor:
        """An estimate as samples (B, S, C, t − 2·context)."""
        return self._spectral.resynthesise(estimate, mixture) if self.magnitudes else estimate

    @property
    def _spectral(self) -> SpectrogramUNet:
        return cast(SpectrogramUNet, self.network)
