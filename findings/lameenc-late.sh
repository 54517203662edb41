#!/usr/bin/env bash
# Stems that Demucs and others write as MP3 start 25 ms late. lameenc, the encoder that they use, gives out the MP3 frames
# without the Info frame in which LAME says how many frames its delay is, and it has no call for it. So no decoder can cut
# the delay off: a song comes back 1105 frames late and some 2000 longer, from libsndfile as from FFmpeg, while the same
# encoder called by libsndfile gives back every frame at its place. Played against the song, such a stem echoes; subtracted
# from it, it removes nothing; scored against the true stem, its SDR is below 0 dB. One would expect LAME's own header.
# Exits with 0 if that is still so, with 1 if it has changed. Needs python3 and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
    lameenc==1.9.0 soundfile==0.14.0 av==18.1.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" python3 - <<'PYTHON'
import sys
from importlib.metadata import version

import av
import lameenc
import numpy as np
import soundfile

print("lameenc", version("lameenc"), "soundfile", soundfile.__version__, "PyAV", av.__version__)
RATE, FRAMES = 44_100, 88_200
rng = np.random.default_rng(0)
song = np.convolve(rng.uniform(-0.1, 0.1, FRAMES), np.hanning(20), "same")

encoder = lameenc.Encoder()
encoder.silence()
encoder.set_bit_rate(192)
encoder.set_in_sample_rate(RATE)
encoder.set_channels(1)
with open("lameenc.mp3", "wb") as file:
    file.write(encoder.encode(np.round(song * 32_767).astype(np.int16).tobytes()) + encoder.flush())
soundfile.write("libsndfile.mp3", song, RATE)


def by_ffmpeg(path):
    with av.open(path) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


found = {}
for path in ("lameenc.mp3", "libsndfile.mp3"):
    for reader, decoded in (("libsndfile", soundfile.read(path)[0]), ("FFmpeg", by_ffmpeg(path))):
        size = 1 << 18
        likeness = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(song, size)))
        late = int(np.argmax(likeness[: size // 2]))
        found[path, reader] = late, len(decoded) - FRAMES
        noise = decoded[:FRAMES] - song
        sdr = 10 * np.log10((song**2).sum() / (noise**2).sum())
        print(f"{path} read by {reader}: {late} frames late, {len(decoded) - FRAMES} longer, SDR {sdr:.1f} dB")
is_as_before = (
    {found["lameenc.mp3", reader][0] for reader in ("libsndfile", "FFmpeg")} == {1105}
    and {found["libsndfile.mp3", reader] for reader in ("libsndfile", "FFmpeg")} == {(0, 0)}
)
print("as seen before" if is_as_before else "changed")
sys.exit(not is_as_before)
PYTHON
