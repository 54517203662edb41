#!/usr/bin/env bash
# norbert.wiener makes the mixture that it is given quieter, in the caller's own array. With one iteration or more and a
# spectrum whose loudest bin is beyond 10, as every spectrum of music is that is not divided by the window's sum, it
# divides the mixture by a tenth of that peak, in place; its estimates are right, so nothing shows. What the caller computes
# from the mixture afterwards is wrong: the rest of the mixture, a second call with other settings, the figures. One would
# expect arguments to stay as they are, as they do with quieter spectra and with iterations=0; the documentation says
# nothing of it.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
    norbert==0.2.1 numpy==2.4.6 scipy==1.17.1
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import sys
from importlib.metadata import version

import norbert
import numpy as np

print("norbert", version("norbert"))
rng = np.random.default_rng(0)
found = {}
for peak, iterations in ((390, 1), (390, 0), (9, 1)):
    mixture = rng.standard_normal((20, 30, 2)) + 1j * rng.standard_normal((20, 30, 2))  # (frames, bins, channels)
    mixture *= peak / np.abs(mixture).max()
    magnitudes = np.abs(rng.standard_normal((20, 30, 2, 2)))  # of two sources
    before = mixture.copy()
    estimates = norbert.wiener(magnitudes, mixture, iterations)
    quieter = float(np.abs(before).max() / np.abs(mixture).max())
    sum_error = float(np.abs(estimates.sum(-1) - before).max() / peak)
    found[peak, iterations] = round(quieter, 3)
    print(f"peak {peak}, iterations {iterations}: the mixture is {quieter:.1f} times quieter afterwards;", end=" ")
    print(f"sum of the estimates against the mixture as it was: {sum_error:.1e} off")
expected = {(390, 1): 39, (390, 0): 1, (9, 1): 1}
print("as seen before" if found == expected else f"changed: expected {expected}")
sys.exit(found != expected)
PYTHON
