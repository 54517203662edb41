#!/usr/bin/env bash
# W64 as FFmpeg writes it holds more frames than were written. Chunks of W64 begin at multiples of 8 bytes, and what fills
# the gap is no part of a chunk's size; but FFmpeg counts it in the size of the samples. So up to 7 bytes of zeros become
# frames, for FFmpeg itself and for libsndfile: up to three of 16 bit mono, one of 24 bit. One would expect the frames that
# were written, as in the W64 that libsndfile writes, and as in FFmpeg's own WAV. Matters where all stems of a song must
# have one length: tools that compare shapes refuse them, tools that loop or join them drift.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
    soundfile==0.14.0 av==18.1.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import sys

import av
import numpy as np
import soundfile

print("PyAV", av.__version__, "libavformat", av.library_versions["libavformat"], "soundfile", soundfile.__version__)
FRAMES = 1001


def lengths(path):
    """Frames that libsndfile and FFmpeg find."""
    with av.open(path) as file:
        decoded = sum(frame.samples for frame in file.decode(audio=0))
    return len(soundfile.read(path)[0]), decoded


found = {}
for bits, codec, samples in ((16, "pcm_s16le", "s16"), (24, "pcm_s24le", "s32")):
    array = np.ones((1, FRAMES), np.int16 if bits == 16 else np.int32) << 8
    for container in ("w64", "wav"):
        with av.open(f"a.{container}", "w") as file:
            stream = file.add_stream(codec, rate=44_100, layout="mono")
            frame = av.AudioFrame.from_ndarray(array, samples, "mono")
            frame.sample_rate = 44_100
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        found[bits, f"FFmpeg's {container}"] = lengths(f"a.{container}")
    soundfile.write("b.w64", array[0], 44_100, format="W64", subtype=f"PCM_{bits}")
    found[bits, "libsndfile's w64"] = lengths("b.w64")
for case, (libsndfile, ffmpeg) in found.items():
    print(f"{case[1]}, {case[0]} bit mono: {FRAMES} frames written, libsndfile reads {libsndfile}, FFmpeg {ffmpeg}")
expected = dict.fromkeys(found, (FRAMES, FRAMES))
expected[16, "FFmpeg's w64"] = FRAMES + 3, FRAMES + 3
expected[24, "FFmpeg's w64"] = FRAMES + 1, FRAMES + 1
print("as seen before" if found == expected else f"changed: expected {expected}")
sys.exit(found != expected)
PYTHON
