"""The families of networks: what every configuration offers, and where the network of each family is found.

A family is added in two places: its file in this folder, with a frozen dataclass (a Config that names its `family`) and
a network built from it; and its line in FAMILIES. No torch is loaded before a network is built.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.geometry import Window

if TYPE_CHECKING:
    from torch import nn


class Config(Protocol):
    """What every family's frozen dataclass offers. Its fields are all that defines a network except its weights."""

    family: ClassVar[str]

    @property
    def sources(self) -> tuple[str, ...]: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def residual(self) -> str: ...
    @property
    def additive(self) -> bool: ...
    def window(self, min_hop_frames: int | None = None) -> Window: ...


class Family(NamedTuple):
    """Where a family is defined: a module of this package, and in it the names of two classes."""

    module: str
    config: str
    network: str  # built from a configuration: (B, C, t) → (B, S, C, t − 2·context)


FAMILIES = {
    "wave-u-net": Family("wave_u_net.network", "WaveUNetConfig", "WaveUNet"),
    "pytorch-port": Family("pytorch_port", "PyTorchPortConfig", "PyTorchPort"),
    "keras-port": Family("keras_port", "KerasPortConfig", "KerasPort"),
    "mss-wave-u-net": Family("mss", "MSSConfig", "MSSNetwork"),
    "spectrogram-u-net": Family("spectrogram_u_net", "SpectrogramUNetConfig", "SpectrogramUNet"),
}


@dataclass(frozen=True)
class Model:
    """A network ready to separate: `network` is a module (B, C, t) → (B, S, C, t − 2·context) in eval mode."""

    name: str
    config: Config
    network: "nn.Module"


def family_of(config: Config) -> str:
    """The family that a configuration declares. Raises ConfigError if there is none of that name."""
    name = getattr(config, "family", type(config).__name__)
    _family(name)
    return name


def config_class(family: str) -> type[Config]:
    """The dataclass of a family's configurations. Raises ConfigError for an unknown family."""
    known = _family(family)
    found: type[Config] = getattr(_module(known), known.config)
    return found


def build_network(config: Config) -> "nn.Module":
    """The network of a configuration, with random weights, in eval mode. Raises ConfigError for an unknown family."""
    known = _family(family_of(config))
    built: nn.Module = getattr(_module(known), known.network)(config)
    return built.eval()


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ConfigError(f"{name!r} is no family of networks; known families: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _module(family: Family) -> object:
    return import_module(f"{__package__}.{family.module}")
