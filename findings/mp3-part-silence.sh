#!/usr/bin/env bash
# A part of an MP3 that soundfile has written begins with silence when soundfile reads it by its place: up to 0.1 s of zeros
# where there is music, then some hundred frames of half the sound. A packet of MP3 may use bytes of the packets before it;
# with libsndfile's settings, the packets of a few tones are so small that these bytes lie further back than libsndfile
# begins to decode. Dense music is right at every place, so nobody looks. One would expect what the whole file has there, as
# in FLAC. Matters to all who draw random parts for training: stems of bass, flute or voice start with silence, their
# mixture does not.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" soundfile==0.14.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import os
import sys

import numpy as np
import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
RATE, SECONDS, PART = 44_100, 12, 8192
rng = np.random.default_rng(0)
times = np.arange(RATE * SECONDS) / RATE
swing = 220 * times + 0.6 * np.sin(2 * np.pi * 5 * times)
songs = {
    "chord": 0.1 * np.sin(2 * np.pi * np.array([[110, 220, 277, 330, 440]]) * times[:, None]).sum(1),
    "voice": sum(0.2 / k * np.sin(2 * np.pi * k * swing) for k in range(1, 12)),
    "noise": rng.uniform(-0.3, 0.3, len(times)),
}
found = {}
for name, song in songs.items():
    for kind in ("mp3", "flac"):
        path = f"{name}.{kind}"
        soundfile.write(path, np.stack([song, song], 1), RATE)
        whole = soundfile.read(path)[0]
        silent, wrong = [], []
        for place in rng.integers(2 * PART, len(song) - 2 * PART, 100):
            part = soundfile.read(path, PART, place)[0]
            off = np.abs(part - whole[place : place + PART]).max(1) > 1e-3
            silent.append(int(part.any(1).argmax()))
            wrong.append(PART - int(off[::-1].argmax()) if off.any() else 0)
        found[path] = np.mean(np.array(silent) > 100), max(silent), max(wrong)
        print(f"{path}, {os.path.getsize(path) / 125 / SECONDS:.0f} kbit/s:", end=" ")
        print("of 100 parts, {:.0%} begin with silence, {} frames at most; wrong are up to {}".format(*found[path]))
is_as_before = (
    all(found[path][0] > 0.3 and found[path][1] > 2000 for path in ("chord.mp3", "voice.mp3"))
    and all(found[path] == (0, 0, 0) for path in ("noise.mp3", "chord.flac", "voice.flac", "noise.flac"))
)
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
