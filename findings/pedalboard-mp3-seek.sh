#!/usr/bin/env bash
# pedalboard jumps right in an MP3 only once. The first seek() in an open file finds its place; after each later one, tell()
# states the place, and read() gives what lies one to three packets of 1152 frames further on. How many, differs between
# the stems of a song, so that parts that one reads at one place do not belong together. One would expect what the file has
# there when it is read from the start, as pedalboard itself gives in Ogg Vorbis and FLAC. Matters to all who draw random
# parts of songs for training from files that they keep open. The documentation promises that reads start from the place.
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
RATE, PART, SKIPPED, REACH = 44_100, 4096, 2304, 8192  # the first two packets after a seek lack what came before them
rng = np.random.default_rng(0)
places = [int(place) for place in rng.integers(REACH, 10 * RATE - 2 * REACH, 100)]


def lateness(path, stays_open):
    """By how many frames the part that is read at each place lies behind that place in the whole file."""
    with AudioFile(path) as file:
        whole = file.read(file.frames)[0]
    late = []
    file = AudioFile(path)
    for place in places:
        if not stays_open:
            file.close()
            file = AudioFile(path)
        file.seek(place)
        assert file.tell() == place
        part = file.read(PART)[0]
        near = whole[place + SKIPPED - REACH : place + PART + REACH]
        distance = np.convolve(near**2, np.ones(PART - SKIPPED), "valid") - 2 * np.correlate(near, part[SKIPPED:], "valid")
        late.append(int(distance.argmin()) - REACH)
    file.close()
    counts = {frames: late.count(frames) for frames in sorted(set(late))}
    print(f"{path}, {'stays open' if stays_open else 'opened for each part'}: late by", end=" ")
    print(", ".join(f"{frames} frames {count} times" for frames, count in counts.items()))
    return late


late = {}
for stem, smoothing in (("drums", 24), ("bass", 60)):
    song = np.convolve(rng.uniform(-0.3, 0.3, 10 * RATE), np.hanning(smoothing) * 2 / smoothing, "same")
    for kind in ("mp3", "ogg", "flac"):
        with soundfile.SoundFile(f"{stem}.{kind}", "w", RATE, 1) as file:
            for start in range(0, len(song), 4096):
                file.write(song[start : start + 4096])
        late[stem, kind] = lateness(f"{stem}.{kind}", stays_open=True)
    late[stem, "anew"] = lateness(f"{stem}.mp3", stays_open=False)
drums, bass = late.pop(("drums", "mp3")), late.pop(("bass", "mp3"))
apart = sum(a != b for a, b in zip(drums, bass))
print(f"the two MP3 files at the same {len(places)} places: {apart} times apart")
is_as_before = (
    min(sum(frames > 0 for frames in drums), sum(frames > 0 for frames in bass)) > 80
    and apart > 20
    and not any(sum(late.values(), []))
)
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
