"""Audio files as streams of blocks: float32, (frames, channels).

`AudioReader` yields the blocks of any file that libsndfile or FFmpeg's libraries can decode, `StemWriter` takes the
blocks of all stems of a song and lets the finished files appear together.
"""

from waveunet_cli.audio.formats import (
    AUDIO_EXTENSIONS,
    CONTAINERS,
    AudioInfo,
    Container,
    OutputFormat,
    choose_output,
    require_legal,
    subtype_table,
)
from waveunet_cli.audio.read import AudioReader, probe, read_blocks
from waveunet_cli.audio.write import Clip, StemWriter, WriteReport

__all__ = [
    "AUDIO_EXTENSIONS",
    "CONTAINERS",
    "AudioInfo",
    "AudioReader",
    "Clip",
    "Container",
    "OutputFormat",
    "StemWriter",
    "WriteReport",
    "choose_output",
    "probe",
    "read_blocks",
    "require_legal",
    "subtype_table",
]
