"""Music source separation in the time domain with the Wave-U-Net.

>>> from waveunet_cli import Separator
>>> stems = Separator("vocals").separate(mixture, sample_rate)  # {"accompaniment": …, "vocals": …}
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from waveunet_cli.errors import (
    AudioError,
    AudioReadError,
    AudioWriteError,
    CheckpointError,
    ConfigError,
    DeviceError,
    DownloadError,
    ModelNotFoundError,
    WaveUNetError,
)

if TYPE_CHECKING:
    from waveunet_cli.audio import read_blocks
    from waveunet_cli.hub import load_model
    from waveunet_cli.library.batch import separate_songs
    from waveunet_cli.library.song import Separated
    from waveunet_cli.networks.family import Model
    from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig
    from waveunet_cli.separator import Separator

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "AudioReadError",
    "AudioWriteError",
    "CheckpointError",
    "ConfigError",
    "DeviceError",
    "DownloadError",
    "Model",
    "ModelNotFoundError",
    "Separated",
    "Separator",
    "WaveUNetConfig",
    "WaveUNetError",
    "load_model",
    "read_blocks",
    "separate_songs",
]

# What needs torch loads when it is first asked for, so that `waveunet --help` does not.
_LAZY = {
    "Model": "networks.family",
    "Separated": "library.song",
    "Separator": "separator",
    "WaveUNetConfig": "networks.wave_u_net.config",
    "load_model": "hub",
    "read_blocks": "audio",
    "separate_songs": "library.batch",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
