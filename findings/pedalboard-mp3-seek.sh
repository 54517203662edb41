#!/usr/bin/env bash
# pedalboard plays another place of an MP3 than it is asked for. After seek(50_000), tell() says 50_000, and read() gives
# what lies at 51_152: one packet of MP3, or two, further on, from the first place to the last. One would expect what reading
# from the start gives there, as pedalboard itself does in Ogg Vorbis and FLAC, and soundfile does with the same MP3. Matters to
# all who draw random parts of songs for training: the parts of two stems of one song differ by 1152 frames, depending on
# which place is asked for and on what was read before, so their sum is not their mixture.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
    pedalboard==0.9.26 soundfile==0.14.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import sys
from collections import Counter

import numpy as np
import pedalboard
import soundfile
from pedalboard.io import AudioFile

print("pedalboard", pedalboard.__version__, "soundfile", soundfile.__version__)
RATE, PART, SKIPPED, REACH = 44_100, 4096, 2304, 8192  # the first packets after a seek may lack what came before them
rng = np.random.default_rng(0)
song = np.convolve(rng.uniform(-0.3, 0.3, 10 * RATE), np.hanning(24) / 12, "same")
places = [int(place) for place in rng.integers(REACH, len(song) - 2 * REACH, 200)]


def late(whole, place, part):
    """How many frames behind the place what was read there lies in the whole song."""
    near = whole[place + SKIPPED - REACH : place + PART + REACH]
    return int(np.correlate(near, part[SKIPPED:], "valid").argmax()) - REACH


found = {}
for kind in ("mp3", "ogg", "flac"):
    with soundfile.SoundFile(f"song.{kind}", "w", RATE, 1) as file:
        for start in range(0, len(song), 4096):
            file.write(song[start : start + 4096])
    with AudioFile(f"song.{kind}") as file:
        whole = file.read(file.frames)[0]
        found["pedalboard", kind] = Counter()
        for place in places:
            file.seek(place)
            assert file.tell() == place
            found["pedalboard", kind][late(whole, place, file.read(PART)[0])] += 1
whole = soundfile.read("song.mp3")[0]
found["soundfile", "mp3"] = Counter(late(whole, p, soundfile.read("song.mp3", PART, p)[0]) for p in places)
for (library, kind), counts in found.items():
    print(f"{library}, {kind}:", ", ".join(f"{count} times {frames} frames late" for frames, count in counts.most_common()))
moved = found.pop(("pedalboard", "mp3"))
is_as_before = moved[0] < 40 and moved[1152] > 20 and all(set(counts) == {0} for counts in found.values())
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
