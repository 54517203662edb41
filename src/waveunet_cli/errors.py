"""Everything that can go wrong for a user, as one tree.

    WaveUNetError
    ├── ConfigError          an architecture or a setting that cannot exist
    ├── CheckpointError      a file that is no checkpoint, is damaged, or holds another architecture
    ├── ModelNotFoundError   a model name nobody knows
    ├── DeviceError          a device or a precision this machine does not have
    ├── AudioError
    │   ├── AudioReadError   an input that cannot be read to its end
    │   └── AudioWriteError  an output that cannot be written, or may not be
    └── DownloadError        a file that could not be fetched or did not verify

The message is one line: what happened, where, what was found, and the remedy.
"""


class WaveUNetError(Exception):
    """Base of every error the package raises on purpose."""


class ConfigError(WaveUNetError):
    """An architecture, a window or a setting that cannot exist."""


class CheckpointError(WaveUNetError):
    """A checkpoint that is missing, damaged, or of another architecture."""


class ModelNotFoundError(WaveUNetError):
    """A model name that is neither embedded, downloaded nor a path."""


class DeviceError(WaveUNetError):
    """A device or a precision that this machine does not have."""


class AudioError(WaveUNetError):
    """Base of what goes wrong with audio files."""


class AudioReadError(AudioError):
    """An input that is missing, no audio, damaged or shorter than it claims."""


class AudioWriteError(AudioError):
    """An output that cannot be written or that its format cannot hold."""


class DownloadError(WaveUNetError):
    """A file that could not be fetched, or whose bytes are not the expected ones."""
