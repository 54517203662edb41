#!/usr/bin/env bash
# museval's SIR and SAR collapse where the true stems were once MP3. BSSEval fits filters of 512 taps to the true stems. An
# MP3 holds nothing above some frequency; decoded to floats it is empty there almost to the last bit, the fit has no single
# solution, and numpy.linalg.solve answers with noise instead of an error. SDR is right all the same, so nobody looks. One
# would expect SIR 20 and SAR 40 dB, as the estimates are made here; found are 12 and 12. The very same samples rounded to
# 16 bits, as a decoder to WAV would write them, give 20 and 29. Matters to all who score with stems from MP3s.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
    soundfile==0.14.0 numpy==2.4.6 scipy==1.17.1
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" --no-deps museval==0.4.1
cd "$folder"
PYTHONPATH="$folder/packages" python3 - "$folder/packages/museval" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import soundfile

sys.path.append(sys.argv[1])  # the package as a whole cannot be imported where ffmpeg is missing; this module can
from metrics import bss_eval

print("museval", version("museval"), "soundfile", soundfile.__version__)
RATE = 22_050
rng = np.random.default_rng(0)
truth = []
for _ in range(2):
    soundfile.write("a.mp3", 0.1 * rng.standard_normal((3 * RATE, 2)), RATE)
    truth.append(soundfile.read("a.mp3")[0])
truth = np.array(truth)  # (stems, frames, channels)
estimates = truth + 0.1 * truth[::-1] + 0.001 * rng.standard_normal(truth.shape)
found = {}
for name, stems in (("as decoded", truth), ("rounded to 16 bits", np.round(truth * 32_768) / 32_768)):
    values = bss_eval(stems, estimates, window=RATE, hop=RATE)[:4]
    found[name] = dict(zip(("SDR", "ISR", "SIR", "SAR"), (float(np.median(value)) for value in values)))
    print(f"true stems {name}:", *(f"{measure} {value:.1f}" for measure, value in found[name].items()))
raw, rounded = found.values()
is_as_before = (
    abs(raw["SDR"] - rounded["SDR"]) < 0.1
    and rounded["SIR"] - raw["SIR"] > 3
    and rounded["SAR"] - raw["SAR"] > 5
)
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
