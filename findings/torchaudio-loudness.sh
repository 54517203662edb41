#!/usr/bin/env bash
# torchaudio measures loud songs as too quiet. Its loudness() filters the song as BS.1770 says, but the filters that it calls
# cut their output at full scale, and the first of them makes treble 4 dB louder. So a song near full scale is cut before
# it is measured, and one beyond it, as float stems and sums of stems are, is cut all the more. One would expect a song to
# measure 6 dB more when it is doubled, as in pyloudnorm; here it is 1 to 4 dB. Matters where stems are brought to one
# loudness, for training or mixing: just the loud ones come out too loud. The documentation of loudness() does not tell;
# lfilter() has an option "clamp", which loudness() leaves on.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
    torch==2.13.0 torchaudio==2.11.1 numpy==2.4.6 scipy==1.17.1 pyloudnorm==0.2.0
# The compiled part of torchaudio fits one build of torch only. Without it the same code filters in Python, and cuts as well.
rm -rf "$folder/packages/torchaudio/lib"
PYTHONPATH="$folder/packages" python3 -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pyloudnorm
import torch
import torchaudio

print("torchaudio", torchaudio.__version__, "pyloudnorm", version("pyloudnorm"))
RATE = 44_100
frames = RATE // 2
noise = np.tanh(np.random.default_rng(0).standard_normal(frames))  # within full scale, as a loud master is
cymbal = np.sin(2 * np.pi * 8000 * np.arange(frames) / RATE)
cases = {(name, gain): gain * song for name, song in (("noise", noise), ("tone", cymbal)) for gain in (0.25, 0.5, 1, 2)}
by_torchaudio = torchaudio.functional.loudness(torch.from_numpy(np.array([*cases.values()])[:, None]), RATE).tolist()
by_pyloudnorm = [pyloudnorm.Meter(RATE).integrated_loudness(song[:, None]) for song in cases.values()]
too_quiet = {}
for case, a, b in zip(cases, by_torchaudio, by_pyloudnorm):
    too_quiet[case] = b - a
    print(f"{case[0]} with peak {case[1]}: torchaudio {a:.1f} LUFS, pyloudnorm {b:.1f} LUFS")
is_as_before = all(
    abs(off) < 0.2 if gain < 0.5 else off > 1 if gain == 1 else off > 4 if gain == 2 else True
    for (_, gain), off in too_quiet.items()
)
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
