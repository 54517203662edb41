"""Networks small enough for tests, with every weight random, biases included; and one that changes nothing."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from waveunet_cli.networks.family import Model, build_network
from waveunet_cli.networks.geometry import Window
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig
from waveunet_cli.networks.wave_u_net.network import WaveUNet, crop

TINY = WaveUNetConfig(
    sample_rate=8000, levels=2, filters=2, down_taps=5, up_taps=3, padding="valid", window_frames=16, channels=1
)
FOUR = ("bass", "drums", "other", "vocals")
VALID = [
    TINY,
    replace(TINY, upsampling="learned", output="difference", channels=2),
    replace(TINY, levels=3, up_taps=5, down_taps=7, output="difference"),
    replace(TINY, levels=1, down_taps=15, up_taps=5, upsampling="learned", channels=2, sources=FOUR, residual="other"),
    replace(TINY, levels=4, down_taps=3, up_taps=1, channels=2),
]
MASKED = [
    replace(TINY, output="masked"),
    replace(TINY, output="masked", levels=3, upsampling="learned", channels=2, sources=FOUR, residual="other"),
    replace(TINY, output="masked", channels=2),
]


def network_of(config: WaveUNetConfig, seed: int = 0) -> WaveUNet:
    network = build_network(config)
    assert isinstance(network, WaveUNet)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") or "upsample" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            else:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    return network


def model_of(config: WaveUNetConfig, seed: int = 0, name: str = "tiny") -> Model:
    return Model(name, config, network_of(config, seed))


class Windowed(nn.Module):
    """Hides that a network is a WaveUNet, so that a Separator runs it in windows as on a GPU."""

    def __init__(self, network: WaveUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def estimates(self, x: Tensor) -> Tensor:
        return self.network.estimates(x)


@dataclass(frozen=True)
class IdentityConfig:
    """Every source is the mixture."""

    sources: tuple[str, ...] = ("accompaniment", "vocals")
    sample_rate: int = 44_100
    channels: int = 2
    residual: str = "accompaniment"
    additive: bool = False
    context: int = 13
    alignment: int = 4

    def window(self, min_hop_frames: int | None = None) -> Window:
        hop = -(-(min_hop_frames or 1000) // self.alignment) * self.alignment
        return Window(self.context, hop + 3, hop, self.alignment)


class Identity(nn.Module):
    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        x = crop(x, x.shape[-1] - 2 * self.config.context)
        return x.unsqueeze(1).repeat(1, len(self.config.sources), 1, 1)


def identity(**changes: object) -> Model:
    config = IdentityConfig(**changes)  # type: ignore[arg-type]
    return Model("identity", config, Identity(config))
