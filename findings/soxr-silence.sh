#!/usr/bin/env bash
# soxr makes noise of silence. Given 16 bit integers, it adds dither to what it gives back: a stem that is silent comes out
# with 23 % of its samples at 1 or -1, and other ones in each channel, even where both rates are the same and nothing is to
# be done. One would expect zeros, as with floats and with 32 bits, which it does not dither, and a song at its own rate to
# stay as it is; every fourth sample is another. Matters to all who resample stems as they lie in 16 bit files: no test for
# silence finds them any more, scores that leave silent stems out count them, and a song that is mono in two channels is so
# no longer. Better: resample floats and round them by oneself. The documentation does not tell, and python-soxr has no
# switch for it; issue 11 of dofuuz/python-soxr tells of a dither that is wrong on some systems.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" soxr==1.1.0 numpy==2.4.6
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import sys

import numpy as np
import soxr

print("soxr", soxr.__version__, soxr.__libsoxr_version__)
FRAMES = 44_100
is_as_before = True
for dtype in (np.int16, np.int32, np.float32):
    silence = np.zeros((FRAMES, 2), dtype)
    for before_hz, after_hz in ((44_100, 48_000), (44_100, 22_050), (44_100, 44_100)):
        found = soxr.resample(silence, before_hz, after_hz)
        sounding, apart = float((found != 0).mean()), float((found[:, 0] != found[:, 1]).mean())
        print(f"silence as {found.dtype}, {before_hz} to {after_hz} Hz: {found.min()} to {found.max()},", end=" ")
        print(f"{sounding:.0%} of the samples are not 0; the channels differ in {apart:.0%} of the frames")
        if dtype == np.int16:
            is_as_before &= (found.min(), found.max()) == (-1, 1) and 0.2 < sounding < 0.27 and 0.3 < apart < 0.45
        else:
            is_as_before &= sounding == apart == 0
song = np.random.default_rng(0).integers(-3000, 3000, FRAMES).astype(np.int16)
same = soxr.resample(song, 44_100, 44_100)
by_floats = np.round(soxr.resample(song.astype(np.float64), 44_100, 44_100)).astype(np.int16)
changed, changed_by_floats = float((same != song).mean()), float((by_floats != song).mean())
print(f"a song, 44100 to 44100 Hz: changed are {changed:.0%} of its samples; by way of floats {changed_by_floats:.0%}")
is_as_before &= changed > 0.2 and changed_by_floats == 0
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
