"""The families of networks: what every configuration offers, and where the network of each family is found.

A family is added in two places: its file in this folder, with a frozen dataclass (a Config that names its `family`) and
a network built from it; and its line in FAMILIES. No torch is loaded before a network is built.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from waveunet_cli.bounds import MOST_INPUT_FRAMES
from waveunet_cli.errors import CheckpointError, ConfigError
from waveunet_cli.networks.geometry import Window
from waveunet_cli.tables import check, from_table, json_of
from waveunet_cli.text import shown

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
    "spleeter": Family("spleeter", "SpleeterConfig", "Spleeter"),
    "spectrogram-u-net": Family("spectrogram_u_net", "SpectrogramUNetConfig", "SpectrogramUNet"),
}


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model without its network; `sha256` is the hash of the configuration and the weights."""

    name: str
    config: Config
    sha256: str


@dataclass(frozen=True)
class Model:
    """A network ready to separate: `network` is a module (B, C, t) → (B, S, C, t − 2·context) in eval mode."""

    name: str
    config: Config
    network: "nn.Module"

    @cached_property
    def sha256(self) -> str:
        """Hash of the configuration and the weights."""
        stated = ", ".join(f"{name}={value!r}" for name, value in vars(self.config).items())
        digest = hashlib.sha256(f"{type(self.config).__name__}({stated})".encode())
        for name, weight in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().float().cpu().contiguous().numpy())
        return digest.hexdigest()

    @property
    def known(self) -> KnownModel:
        """What remains when the network is no longer needed."""
        return KnownModel(self.name, self.config, self.sha256)


def check_config(config: Config, *, least_sources: int) -> None:
    """What the configurations of all families must hold, to be called by each when it is made.

    Raises ConfigError if a field is of another type or out of bounds, if taps have no centre, or if the names of the
    sources do not differ, are fewer than `least_sources`, or lack `residual`.
    """
    check(config)
    for field in fields(config):  # type: ignore[arg-type]
        if field.name.endswith("taps") and getattr(config, field.name) % 2 == 0:
            raise ConfigError(f"{field.name}: found {getattr(config, field.name)}; taps must be odd")
    if not least_sources <= len(config.sources) == len(set(config.sources)):
        raise ConfigError(f"sources: found {config.sources!r}; expected {least_sources} or more different names")
    if config.residual not in config.sources:
        raise ConfigError(f"residual: found {config.residual!r}; expected one of {', '.join(config.sources)}")


def check_window(config: Config) -> None:
    """Raise ConfigError if a configuration from a file makes a network that reads more at once than is plausible."""
    frames = config.window().input
    if frames > MOST_INPUT_FRAMES:
        raise ConfigError(f"its levels and taps make windows of {frames} frames; at most {MOST_INPUT_FRAMES} are read")


def config_to_json(config: Config) -> str:
    """A configuration as a checkpoint states it: one line of JSON, the family first."""
    return json.dumps({"family": family_of(config), **asdict(config)})  # type: ignore[call-overload]


def config_from_json(text: str, where: str) -> Config:
    """The configuration that `config_to_json` wrote. Raises CheckpointError for anything else.

    Every field must be there, so that a default that changes changes no checkpoint.
    """
    try:
        table = json_of(text, "configuration")
        family = table.pop("family", None)
        if not isinstance(family, str):
            raise ConfigError(f"family: found {shown(family)}; expected one of {', '.join(FAMILIES)}")
        kind = config_class(family)
        missing = [f.name for f in fields(kind) if f.name not in table]  # type: ignore[arg-type]
        if missing:
            raise ConfigError(f"missing: {', '.join(missing)}")
        config = from_table(kind, table, family)
        check_window(config)
    except ConfigError as error:
        raise CheckpointError(
            f"{where}: impossible configuration: {error}; update waveunet or convert the checkpoint again"
        ) from error
    return config


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
        raise ConfigError(f"{shown(name)} is no family of networks; known families: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _module(family: Family) -> object:
    return import_module(f"{__package__}.{family.module}")
