#!/usr/bin/env bash
# A 16 bit file read and written by pedalboard is not the same file: half of all sample values come back one step lower.
# It reads with a full scale of 32767 (-32768 becomes -1.00003), writes with 2^31 − 1 cut down to 16 bits, and cuts
# towards minus infinity instead of rounding. One would expect a round trip without effects to change nothing, all the more
# in WAV and FLAC. 24 bits lose a step here and there, too. Matters to those who compare a mixture that pedalboard has read
# with stems that another library has (all floats differ), and who look for exact sums.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
    pedalboard==0.9.26 soundfile==0.14.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import sys

import numpy as np
import pedalboard
import soundfile
from pedalboard.io import AudioFile

print("pedalboard", pedalboard.__version__)
RATE = 44_100
values = np.arange(-32_768, 32_768, dtype=np.int16)  # each once
found = {}
for kind in ("wav", "flac", "aiff"):
    soundfile.write(f"in.{kind}", values, RATE, subtype="PCM_16")
    with AudioFile(f"in.{kind}") as file:
        samples = file.read(file.frames)
    with AudioFile(f"out.{kind}", "w", RATE, 1, bit_depth=16) as file:
        file.write(samples)
    off = soundfile.read(f"out.{kind}", dtype="int16")[0].astype(int) - values
    found[kind] = int((off == 0).sum()), int((off == -1).sum())
    print(f"{kind}: {found[kind][0]} values as they were, {found[kind][1]} one lower; -32768 was read as {samples.min()}")
is_as_before = set(found.values()) == {(32_769, 32_767)}
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
