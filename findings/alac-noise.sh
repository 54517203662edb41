#!/usr/bin/env bash
# Lossless ALAC that loses everything: libsndfile writes, and reads, stereo ALAC of 24 bits wrongly wherever a packet of
# 4096 frames is too noisy to be made smaller, as loud cymbals or distorted guitars can be. Such a packet is stored as it
# is, and there libsndfile mixes up the bits: noise at half of full scale comes back almost silent, without any error. One
# would expect the samples that were written, as in quieter packets, in mono, and with 16 bits. FFmpeg decodes libsndfile's
# file to the same wrong samples, so the file is lost. Matters to all who keep stems as ALAC in CAF with soundfile.
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

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__, "PyAV", av.__version__)
FRAMES = 3 * 4096 + 1000
rng = np.random.default_rng(0)


def worst(levels, channels, subtype):
    """The largest error of each of the first three packets, as libsndfile and as FFmpeg reads them."""
    levels = np.repeat([*levels, 0.01], 4096)[:FRAMES, None]
    samples = levels * rng.uniform(-0.5, 0.5, (FRAMES, channels))
    soundfile.write("a.caf", samples, 44_100, format="CAF", subtype=subtype)
    read = soundfile.read("a.caf", always_2d=True)[0]
    with av.open("a.caf") as file:
        first = [frame.to_ndarray() for frame in file.decode(audio=0)][:3]
    decoded = np.concatenate(first, axis=1).T / 2.0 ** (15 if first[0].dtype == np.int16 else 31)
    errors = [[np.abs(x[i : i + 4096] - samples[i : i + 4096]).max() for i in (0, 4096, 8192)] for x in (read, decoded)]
    print(f"{subtype}, {channels} channels, errors by packet: libsndfile", *(f"{e:.1e}" for e in errors[0]), end="; ")
    print("FFmpeg", *(f"{e:.1e}" for e in errors[1]))
    return (np.array(errors) > 1e-3).tolist()


found = [
    worst((0.01, 1.99, 0.01), 2, "ALAC_24"),
    worst((0.01, 1.99, 0.01), 1, "ALAC_24"),
    worst((0.01, 1.99, 0.01), 2, "ALAC_16"),
]
expected = [[[False, True, False]] * 2, [[False] * 3] * 2, [[False] * 3] * 2]
print("as seen before" if found == expected else f"changed: found {found}")
sys.exit(found != expected)
PYTHON
