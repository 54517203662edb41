"""What is plausible, and why. Numbers and names from files are compared with these before anything is done with them.

Each bound is far beyond what anybody uses, and so low that the worst file costs seconds and megabytes, not the machine.
They are annotations of the fields of frozen dataclasses; tables.py compares.
"""

from typing import Annotated

from msgspec import Meta

# Below 1 kHz nothing is music, and the resampler's filter to it would be longer than a song's memory allows; above
# 768 kHz no converter works.
SampleRateHz = Annotated[int, Meta(ge=1000, le=768_000)]

# Of a song. Third-order ambisonics have 16, the widest standard for loudspeakers 24. Each pair of channels costs 90 MB
# of memory up to the fourth, and 50 MB beyond, where pairs take turns.
SongChannels = Annotated[int, Meta(ge=1, le=32)]

# A name becomes part of a file's name. 64 characters leave room for the song's within the 255 bytes of file systems.
SourceName = Annotated[
    str,
    Meta(
        pattern=r"\A\w[\w -]*\Z",
        max_length=64,
        description="a name of letters, digits, spaces, _ and -, of at most 64 characters",
    ),
]
# Each source costs memory of a window. Published networks have 1 to 6.
SourceNames = Annotated[tuple[SourceName, ...], Meta(min_length=1, max_length=32)]

# Mono or stereo: what the audio files' stems are written as, and all that published networks read.
AudioChannels = Annotated[int, Meta(ge=1, le=2)]

# Each level doubles the hop; at 16 one level more would read minutes for the first sample. Published: 5 to 12.
Levels = Annotated[int, Meta(ge=1, le=16)]
# Of one level. The widest published has 1024; a kernel between two of 16 384 alone would have gigabytes.
Channels = Annotated[int, Meta(ge=1, le=16_384)]
# Of the first level, which is multiplied further down. The widest published has 34.
Filters = Annotated[int, Meta(ge=1, le=1024)]
# Published: 1 to 31.
Taps = Annotated[int, Meta(ge=1, le=1023)]
# From one level's rate to the next's. Published: 2 to 4.
Stride = Annotated[int, Meta(ge=2, le=32)]
# The same where 1 is none. Published: 1 or 4.
Pooling = Annotated[int, Meta(ge=1, le=32)]
# Of one window: 95 s at 44.1 kHz. Published: 2 s.
WindowFrames = Annotated[int, Meta(ge=1, le=1 << 22)]
# What a network reads at once, which follows from all of these: 6 minutes at 44.1 kHz.
MOST_INPUT_FRAMES = 1 << 24
# Of a short-time spectrum: 1.5 s at 44.1 kHz. Published: 4096.
SpectrumFrames = Annotated[int, Meta(ge=1, le=1 << 16)]
# Of a training. A probability is one draw in so many.
Probability = Annotated[float, Meta(ge=0, le=1, description="a probability from 0 to 1")]
# A factor of amplitude, or a weight for drawing: what is a thousand times the rest leaves nothing of the rest.
Factor = Annotated[float, Meta(gt=0, le=1000)]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
# Below −100 dB is less than a step of 16 bits.
Decibels = Annotated[float, Meta(ge=-100, le=100)]
SpreadDecibels = Annotated[float, Meta(ge=0, le=100)]
# Two octaves.
Semitones = Annotated[float, Meta(ge=0, le=24)]
# Published: 1e-5 to 1e-2. Beyond 10 every step overshoots.
LearningRate = Annotated[float, Meta(gt=0, le=10)]
# Of a moving mean: 1 would never move.
PastWeight = Annotated[float, Meta(ge=0, lt=1)]
# Windows at once; each takes megabytes.
Batch = Annotated[int, Meta(ge=1, le=4096)]
# A step takes a millisecond or more: 10^12 of them are thirty years.
Steps = Annotated[int, Meta(ge=1, le=10**12)]
Minutes = Annotated[float, Meta(gt=0, le=10**8)]
# Of the numbers from which random ones are drawn; numpy takes no negative ones, torch none beyond 64 bits.
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Workers = Annotated[int, Meta(ge=1, le=256)]
# Networks side by side. Published: 1; ours: 2.
