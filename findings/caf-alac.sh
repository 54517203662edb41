#!/usr/bin/env bash
# FFmpeg 8 loses the end of ALAC in CAF. The packet table says how many frames of the last packet are music; the last
# packet of ALAC holds only these, and FFmpeg cuts off what is missing once more.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" av==18.1.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import sys

import av
import numpy as np

FRAMES = 44_100  # ten packets of 4096 frames and one of 3140, which lacks 956
print("PyAV", av.__version__, "libavformat", av.library_versions["libavformat"])
for name in ("a.caf", "a.m4a"):
    with av.open(name, "w") as file:
        stream = file.add_stream("alac", rate=44_100, layout="mono")
        stream.format = "s16p"
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(np.arange(FRAMES, dtype=np.int16)[None], "s16p", "mono")
        frame.sample_rate = 44_100
        fifo.write(frame)
        while part := fifo.read(4096, partial=True):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
found = {}
for name in ("a.caf", "a.m4a"):
    with av.open(name) as file:
        stated = file.streams.audio[0].duration
        found[name] = sum(frame.samples for frame in file.decode(audio=0))
    print(f"{name}: {FRAMES} frames written, {stated} stated, {found[name]} decoded")
expected = {"a.caf": FRAMES - 956, "a.m4a": FRAMES}
print("as seen before" if found == expected else f"changed: expected {expected}")
sys.exit(found != expected)
PYTHON
