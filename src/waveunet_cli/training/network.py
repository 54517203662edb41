"""Any family's network as a module to train: (B, C, t) → (B, S, C, t − 2·context), the fastest way there is."""

from typing import cast

import torch
from torch import Tensor, nn

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.masks import apply_masks
from waveunet_cli.networks.spectrogram_u_net import SpectrogramUNet
from waveunet_cli.networks.wave_u_net import gradients
from waveunet_cli.networks.wave_u_net.network import WaveUNet, crop
from waveunet_cli.training.loss import ESTIMATES_WEIGHT, Loss
from waveunet_cli.training.sums import summed


class Trainable(nn.Module):
    """Computes `network` in `dtype` where autocast allows it.

    A Wave-U-Net without padding has gradients of its own on a CPU: see networks/wave_u_net/gradients.py.
    With `magnitudes`, the module gives magnitudes instead of samples, and the loss compares magnitudes. Raises
    ConfigError for a network that has none.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float32, magnitudes: bool = False) -> None:
        super().__init__()
        if magnitudes and not isinstance(network, SpectrogramUNet):
            raise ConfigError("loss: 'magnitude' is for U7a and its like; choose mse, l1 or l1+rmse")
        self.network = network.train().requires_grad_(True)
        self.magnitudes = magnitudes
        self._dtype = dtype

    def forward(self, mixture: Tensor) -> Tensor:
        """The network's estimates before masks: (B, C, t) → (B, S, C, t'), or magnitudes (B, S, C, bins, n)."""
        network, reduced = self.network, self._dtype != torch.float32
        if (
            isinstance(network, WaveUNet)
            and network.config.padding == "valid"
            and mixture.device.type == "cpu"
            and self._dtype in (torch.float32, torch.bfloat16)
            and torch.is_grad_enabled()
        ):
            return gradients.estimates(network, mixture, self._dtype)
        with torch.autocast(mixture.device.type, self._dtype, enabled=reduced):
            if self.magnitudes:
                return self._spectral.magnitudes(mixture).float()
            estimate = network.estimates(mixture) if isinstance(network, WaveUNet) else network(mixture)
            return cast(Tensor, estimate).float()

    def loss(self, loss: Loss, estimate: Tensor, sources: Tensor, sums: Tensor | None = None) -> Tensor:
        """How far an `estimate` of this module is from the sources (B, S, C, t).

        `sums` (B, S, S) says which estimates are summed first, where a window knows sources only as a sum; see sums.py.

        Masks only see how large the estimates are beside each other. Trained through masks alone, all estimates may
        grow together until the tanh holds them at ±1: then every share is the same, no gradient is left, and the
        training is over. So the estimates themselves have to be near the sources, too, which also speeds it up.
        """
        given = self.result(estimate)
        total = loss(summed(given, sums), self.wanted(sources, given))
        if self._is_masked:
            total = total + ESTIMATES_WEIGHT * loss(summed(estimate, sums), self.wanted(sources, estimate))
        return total

    def result(self, estimate: Tensor) -> Tensor:
        """An estimate after the masks, if the network has any: (B, S, C, t') → (B, S, C, t − 2·context)."""
        return apply_masks(estimate) if self._is_masked else estimate

    def wanted(self, sources: Tensor, estimate: Tensor) -> Tensor:
        """What `estimate` should have been: the part of the sources (B, S, C, t) that it covers, or its magnitudes."""
        if self.magnitudes:
            return self._spectral.spectrum(sources).abs()
        return crop(sources, estimate.shape[-1])

    def samples(self, estimate: Tensor, mixture: Tensor) -> Tensor:
        """A result as samples (B, S, C, t − 2·context)."""
        return self._spectral.resynthesise(estimate, mixture) if self.magnitudes else estimate

    @property
    def _is_masked(self) -> bool:
        return isinstance(self.network, WaveUNet) and self.network.config.output == "masked"

    @property
    def _spectral(self) -> SpectrogramUNet:
        return cast(SpectrogramUNet, self.network)
