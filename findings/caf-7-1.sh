#!/usr/bin/env bash
# FFmpeg 8 writes 7.1 into CAF in another order than it states there: the header says sides before backs
# (kAudioChannelLayoutTag_MPEG_7_1_C: L R C LFE Ls Rs Rls Rrs), the samples come with backs before sides.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" av==18.1.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import struct
import sys

import av
import numpy as np

print("PyAV", av.__version__, "libavformat", av.library_versions["libavformat"])
names = [channel.name for channel in av.AudioLayout("7.1").channels]
samples = np.tile(np.arange(1, 9, dtype=np.int16), 64)[None]  # every channel its own number, in the order of `names`
with av.open("a.caf", "w") as file:
    stream = file.add_stream("pcm_s16le", rate=48_000, layout="7.1")
    frame = av.AudioFrame.from_ndarray(samples, "s16", "7.1")
    frame.sample_rate = 48_000
    file.mux(stream.encode(frame))
    file.mux(stream.encode(None))
with open("a.caf", "rb") as file:
    data = file.read()
(tag,) = struct.unpack(">I", data[data.index(b"chan") + 12 :][:4])
first = np.frombuffer(data[data.index(b"data") + 16 :][:16], "<i2")
written = [names[number - 1] for number in first]
print(f"layout tag {tag >> 16}, {tag & 0xFFFF} channels; 128 means FL FR FC LFE SL SR BL BR")
print("samples come as", *written)
is_as_before = tag == (128 << 16 | 8) and written == names and names[4:] == ["BL", "BR", "SL", "SR"]
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
