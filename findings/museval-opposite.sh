#!/usr/bin/env bash
# museval takes sound for silence where the right channel is the left one with the sign turned. To find silent sources it
# adds the channels up first, so a stem that is all "side", as wide synthesizers, reversed cables and centre-cancelled
# karaoke tracks are, counts as silent: its frames get no value (nan), those of all the other stems in them neither, and
# the medians leave them out without a word; if the whole stem is so, museval refuses it as "all 0s". One would expect the
# 20 dB that the same stem has with its sign turned back. mir_eval's bss_eval_images, of which museval came, does the same.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" numpy==2.4.6 scipy==1.17.1
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" --no-deps museval==0.4.1
PYTHONPATH="$folder/packages" python3 - "$folder/packages/museval" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np

sys.path.append(sys.argv[1])  # the package as a whole cannot be imported where ffmpeg is missing; this module can
from metrics import bss_eval

print("museval", version("museval"))
RATE = 8_000
rng = np.random.default_rng(0)


def sdr(sign):
    """Of both stems, in three frames of a second; in the second one, the first stem is (x, sign · x)."""
    stems = rng.standard_normal((2, 3 * RATE, 2))  # (stems, frames, channels)
    stems[0, RATE : 2 * RATE, 1] = sign * stems[0, RATE : 2 * RATE, 0]
    estimates = stems + 0.1 * rng.standard_normal(stems.shape)
    found = bss_eval(stems, estimates, window=RATE, hop=RATE, filters_len=16)[0]
    print(f"left = {sign:+d} × right: SDR", *(f"{value:.1f}" for value in found.ravel()))
    return found


same, opposite = sdr(1), sdr(-1)
try:
    stem = rng.standard_normal(RATE)
    both = np.array([np.stack([stem, -stem], 1), rng.standard_normal((RATE, 2))])
    bss_eval(both, both + 0.1 * rng.standard_normal(both.shape), window=RATE, hop=RATE, filters_len=16)
    refused = False
except ValueError as error:
    refused = True
    print("a stem that is opposite throughout:", str(error)[:79], "…")
is_as_before = (
    np.abs(same - 20).max() < 1
    and np.isnan(opposite[:, 1]).all()
    and np.abs(opposite[:, [0, 2]] - 20).max() < 1
    and refused
)
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
