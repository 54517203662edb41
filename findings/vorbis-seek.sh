#!/usr/bin/env bash
# A part of an Ogg Vorbis file, read by its place, is often the part of another place. libsndfile seeks to the frame that it
# is asked for, states that it is there, and gives what lies 920 frames further on, as long as one reads: at every fifth
# place or so of a tone at 44.1 kHz. In a file that stays open between two parts, the first hundreds of frames of others are
# wrong, too. Read as a whole, the file is right. One would expect the same samples both ways, as in FLAC. Matters to all who
# draw random parts of songs for training (soundfile, librosa): stems and mixture do not belong together, and nothing tells.
# The documentation does not mention it; issue 885 of libsndfile/libsndfile tells of the wrong first frames.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" soundfile==0.14.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import sys

import numpy as np
import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
RATE, SECONDS, PART, PLACES, REACH = 44_100, 10, 4096, 300, 8192
times = np.arange(RATE * SECONDS) / RATE
song = 0.3 * np.sin(2 * np.pi * (300 + 100 * times) * times)  # a tone that rises, so that each place sounds different
places = np.random.default_rng(0).integers(REACH, len(song) - REACH - PART, PLACES)


def count(path, stays_open):
    """How many parts are wrong to their end, and how many of the others at their beginning."""
    whole = soundfile.read(path)[0]
    late, wrong_start = [], 0
    file = soundfile.SoundFile(path)
    for place in places:
        if not stays_open:
            file.close()
            file = soundfile.SoundFile(path)
        file.seek(place)
        assert file.tell() == place
        part = file.read(PART)
        wrong = np.abs(part - whole[place : place + PART]) > 1e-3
        if wrong[PART // 2 :].any():
            near = whole[place + PART // 2 - REACH : place + PART + REACH]
            likeness = 2 * np.correlate(near, part[PART // 2 :], "valid")
            late.append(int((np.convolve(near**2, np.ones(PART // 2), "valid") - likeness).argmin()) - REACH)
        elif wrong.any():
            wrong_start += 1
    file.close()
    how = "stays open" if stays_open else "opened for each part"
    print(f"{path}, {how}: of {PLACES} parts, {len(late)} are from elsewhere", end="")
    print(f" ({', '.join(map(str, sorted(set(late))))} frames further on)" if late else "", end="")
    print(f", {wrong_start} are wrong at first")
    return len(late), wrong_start


found = {}
for path in ("song.ogg", "song.flac"):
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for start in range(0, len(song), 4096):
            file.write(song[start : start + 4096])
    found[path] = [count(path, stays_open) for stays_open in (False, True)]
(elsewhere, _), (elsewhere_open, wrong_start) = found["song.ogg"]
is_as_before = min(elsewhere, elsewhere_open, wrong_start) > 10 and found["song.flac"] == [(0, 0)] * 2
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
