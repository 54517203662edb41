#!/usr/bin/env bash
# FFmpeg makes mono of stereo in two loudnesses. Asked for integers it takes the mean of both channels, as one would expect;
# asked for floats it takes their sum divided by the square root of 2, which is 3 dB louder and goes beyond full scale. The
# kind of the output decides, and where none is asked for, the kind of the file: a song is at its level as WAV or FLAC of 16
# bits, and 3 dB louder as MP3, AAC or Ogg Vorbis. The other way round, mono becomes stereo 3 dB quieter, always. Matters
# to all who compare or mix what was read in two ways (ffmpeg -ac 1 to f32le and to s16le, PyAV's AudioResampler): a perfect
# estimate scores 7.7 dB SDR. Better: decode both channels and take the mean, or the filter pan=mono|c0=.5*c0+.5*c1.
# The documentation of the option rematrix_maxval does not say so; issue 508 of CPJKU/madmom tells of it.
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

print("PyAV", av.__version__, "libswresample", av.library_versions["libswresample"])
RATE, PART = 44_100, slice(4096, 36_864)
FULL_SCALE = {"s16": 2**15, "s32": 2**31, "flt": 1, "fltp": 1, "s16p": 2**15}


def convert(path, layout, kind):
    """The file's samples (channels, frames), remixed by FFmpeg; `kind` None leaves the kind of sample as it is."""
    blocks = []
    with av.open(path) as file:
        resampler = av.AudioResampler(kind, layout)
        frames = [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
        for frame in frames + resampler.resample(None):
            block = frame.to_ndarray() / FULL_SCALE[frame.format.name]
            blocks.append(block if frame.format.is_planar else block.reshape(-1, len(frame.layout.channels)).T)
    return np.concatenate(blocks, 1)


def decibels(samples, true):
    return float(10 * np.log10((samples[PART] ** 2).mean() / (true[PART] ** 2).mean()))


times = np.arange(RATE) / RATE
song = 0.5 * np.stack([np.sin(2 * np.pi * 220 * times), np.sin(2 * np.pi * 330 * times)], 1)
mean = song.mean(1)
is_as_before = True
for path in ("song.wav", "song.flac", "song.mp3", "song.ogg"):
    with soundfile.SoundFile(path, "w", RATE, 2) as file:
        for start in range(0, RATE, 4096):
            file.write(song[start : start + 4096])
    louder = {kind: decibels(convert(path, "mono", kind)[0], mean) for kind in (None, "s16", "s32", "flt")}
    print(f"{path} as mono, in dB of the mean of its channels:", end=" ")
    print(", ".join(f"{kind or 'as it is'} {level:+.2f}" for kind, level in louder.items()))
    expected = {None: 3 if path in ("song.mp3", "song.ogg") else 0, "s16": 0, "s32": 0, "flt": 3}
    is_as_before &= all(abs(louder[kind] - level) < 0.1 for kind, level in expected.items())
true, samples = (convert("song.wav", "mono", kind)[0] for kind in ("s16", "flt"))
sdr = float(10 * np.log10((true**2).sum() / ((samples - true) ** 2).sum()))
print(f"mono as floats scored against the same file's mono as integers: SDR {sdr:.1f} dB")
soundfile.write("mono.wav", mean, RATE)
quieter = {kind: decibels(convert("mono.wav", "stereo", kind)[0], mean) for kind in ("s16", "s32", "flt")}
print("mono as stereo, in dB:", ", ".join(f"{kind} {level:+.2f}" for kind, level in quieter.items()))
is_as_before &= abs(sdr - 7.66) < 0.1 and all(abs(level + 3.01) < 0.05 for level in quieter.values())
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
