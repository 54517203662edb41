#!/usr/bin/env bash
# libsndfile wraps loud samples of Ogg Vorbis when it is asked for 16 bit integers: what is beyond full scale comes out
# with the other sign, a loud click. Asked for floats it gives them as they are. (In MP3 it cuts them at full scale.)
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" soundfile==0.14.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import sys

import numpy as np
import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
RATE = 44_100
samples = (1.4 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE)).astype(np.float32)
found = {}
for name, kind in (("a.ogg", "VORBIS"), ("a.mp3", "MPEG_LAYER_III")):
    with soundfile.SoundFile(name, "w", RATE, 1, kind) as file:
        for start in range(0, RATE, 4096):
            file.write(samples[start : start + 4096])
    floats = soundfile.read(name, dtype="float32")[0]
    integers = soundfile.read(name, dtype="int16")[0]
    loud = np.abs(floats) > 1.1
    found[kind] = int((np.sign(floats[loud]) != np.sign(integers[loud])).sum())
    print(f"{kind}: {loud.sum()} samples beyond full scale, {found[kind]} of them with the other sign as int16")
is_as_before = found["VORBIS"] > 1000 and found["MPEG_LAYER_III"] == 0
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
