"""Play voices as a sampler does, chopped into patterns, frozen into chords, tuned to melodies or as phrases that come
back; or let them speak through a vocoder.

    python recipes/sampler.py data/sampled VOICES MORE… --count 200 --seconds 45

VOICES are folders of <singer>.wav (or .ogg, .flac). With <singer>.json beside it, a list of what is sung on one pitch,
[start_frame, frames, f0_hz], a voice is played by the sampler, too. Each file, sampled_0000.flac and on, is drawn from
--seed and its number alone.
"""

import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from synthesizers import PEAK, RATE_HZ, Audio, Piece, chords, lead, options_of, placed, write_files

from waveunet_cli.audio import AUDIO_EXTENSIONS

SEMITONES = 9  # a sample is played at most so far from where it was sung
FADE_FRAMES = 400
VOCODER_FFT_FRAMES, VOCODER_HZ = 1024, (80.0, 14_000.0)


class Singer:
    """One recording of a voice, mono, and what is sung in it on one pitch, if that is known."""

    def __init__(self, path: Path) -> None:
        self._audio: Audio = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(1)
        cues = path.with_suffix(".json")
        self._cues: list[tuple[int, int, float]] = json.loads(cues.read_text()) if cues.exists() else []

    @property
    def tuned(self) -> bool:
        """Whether pitches are known."""
        return bool(self._cues)

    def stretch(self, rng: np.random.Generator, frames: int) -> Audio:
        """A random stretch of the recording, as it is."""
        start = int(rng.integers(max(1, len(self._audio) - frames)))
        return self._audio[start : start + frames]

    def sample(self, rng: np.random.Generator, seconds: float) -> "Sample":
        """A random stretch, shorter if what is sung is."""
        start, length, f0_hz = self._cues[rng.integers(len(self._cues))]
        frames = min(length, int(seconds * RATE_HZ))
        at = start + int(rng.integers(length - frames + 1))
        return Sample(self._audio[at : at + frames], f0_hz)


class Sample:
    """A piece of a voice, (frames,), sung at `f0_hz`."""

    def __init__(self, audio: Audio, f0_hz: float) -> None:
        self.audio, self.f0_hz = audio, f0_hz

    def at(self, key: float) -> Audio:
        """Played faster or slower for its pitch to be MIDI key `key`, or octaves from it if that is too far."""
        semitones = key - (69 + 12 * np.log2(self.f0_hz / 440))
        while abs(semitones) > SEMITONES:
            semitones -= 12 * np.sign(semitones)
        step = 2 ** (semitones / 12)
        positions = np.arange(0, len(self.audio) - 1, step)
        return np.interp(positions, np.arange(len(self.audio)), self.audio).astype(np.float32)


def faded(x: Audio, frames: int) -> Audio:
    """The first `frames` of x, or all, without clicks at the ends."""
    y = x[:frames].copy()
    fade = np.linspace(0, 1, min(FADE_FRAMES, len(y) // 2), dtype=np.float32)
    y[: len(fade)] *= fade
    y[len(y) - len(fade) :] *= fade[::-1]
    return y


def frozen(x: Audio, frames: int) -> Audio:
    """x over and over for `frames`, each turn fading into the next."""
    turn = len(x) * 2 // 3
    fade = np.linspace(0, 1, len(x) - turn, dtype=np.float32)
    one = x.copy()
    one[: len(fade)] *= np.sqrt(fade)
    one[turn:] *= np.sqrt(1 - fade)
    y = np.zeros(frames + len(x), np.float32)
    for at in range(0, frames, turn):
        y[at : at + len(x)] += one
    return y[:frames]


def render(rng: np.random.Generator, singers: list[Singer], seconds: float) -> Audio:
    """One piece, (frames, 2): one or two parts of one singer each, which rest in some bars."""
    piece = Piece(rng, seconds)
    frames = int(seconds * RATE_HZ)
    bar = int(4 * piece.beat_seconds * RATE_HZ)
    y = np.zeros((frames, 2), np.float32)
    tuned = [singer for singer in singers if singer.tuned]
    for _ in range(rng.integers(1, 3)):
        play = (_chops, _frozen_chords, _phrases, _melody, _vocoded, _vocoded)[rng.integers(6)]
        able = singers if play is _vocoded else tuned
        part = play(rng, piece, able[rng.integers(len(able))])[:frames]
        sounding = np.repeat(np.resize(rng.random(8) < rng.choice([0.6, 0.8, 1.0]), piece.bars + 1), bar)
        sounding = np.convolve(sounding, np.ones(FADE_FRAMES) / FADE_FRAMES, "same")
        y += placed(rng, (part * sounding[: len(part)]).astype(np.float32), frames) * 10 ** (rng.normal(0, 3) / 20)
    return np.asarray(y * (PEAK / max(1e-9, np.abs(y).max())), dtype=np.float32)


def _room(piece: Piece) -> Audio:
    return np.zeros(int((piece.bars + 3) * 4 * piece.beat_seconds * RATE_HZ), np.float32)


def _add(y: Audio, start: float, x: Audio) -> None:
    y[int(start) : int(start) + len(x)] += x[: max(0, len(y) - int(start))]


def _chops(rng: np.random.Generator, piece: Piece, singer: Singer) -> Audio:
    """Short samples in a pattern that comes back each bar, each on its note of the chord or all on one."""
    samples = [singer.sample(rng, rng.uniform(0.08, 0.7)) for _ in range(rng.integers(1, 5))]
    step = piece.beat_seconds * RATE_HZ / rng.choice([1, 2, 2, 3, 4])
    steps = round(4 * piece.beat_seconds * RATE_HZ / step)
    which = rng.integers(len(samples), size=steps)
    notes = rng.integers(4, size=steps) if rng.random() < 0.6 else np.zeros(steps, int)
    plays = rng.random(steps) < rng.choice([0.4, 0.7, 1.0])
    follows, held = rng.random() < 0.7, rng.choice([0.5, 0.95, 2.0])
    y = _room(piece)
    for i in range(piece.bars * steps):
        n = i % steps
        if plays[n]:
            key = piece.chord(i // steps if follows else 0)[notes[n]] + 12
            _add(y, i * step, faded(samples[which[n]].at(key), int(held * step)))
    return y


def _frozen_chords(rng: np.random.Generator, piece: Piece, singer: Singer) -> Audio:
    """A moment of the voice held for bars, on one or more notes of the chord."""
    sample, voices = singer.sample(rng, rng.uniform(0.06, 0.6)), int(rng.integers(1, 4))
    held = int(rng.choice([2, 4, 8]) * piece.beat_seconds * RATE_HZ)
    rise = np.minimum(1, np.arange(held) / (rng.uniform(0.01, 0.8) * RATE_HZ)).astype(np.float32)
    y = _room(piece)
    for i, start in enumerate(range(0, int(piece.bars * 4 * piece.beat_seconds * RATE_HZ), held)):
        for key in piece.chord(i)[:voices]:
            _add(y, start, faded(frozen(sample.at(key + 12), held) * rise, held))
    return y


def _phrases(rng: np.random.Generator, piece: Piece, singer: Singer) -> Audio:
    """A phrase that comes back every bar or two, each time on the chord's note, and may end in repetitions."""
    sample, every = singer.sample(rng, rng.uniform(0.8, 5.0)), int(rng.choice([1, 2, 2, 4]))
    bar, note = 4 * piece.beat_seconds * RATE_HZ, int(rng.integers(4))
    short, times = int(piece.beat_seconds * RATE_HZ / rng.choice([2, 4])), int(rng.integers(0, 9))
    y = _room(piece)
    for i in range(0, piece.bars, every):
        phrase = sample.at(piece.chord(i)[note] + 12)
        _add(y, i * bar, faded(phrase, int(every * bar)))
        for turn in range(times if len(phrase) > short else 0):
            _add(y, i * bar + min(len(phrase), every * bar) + turn * short, faded(phrase[-short:], short))
    return y


def _melody(rng: np.random.Generator, piece: Piece, singer: Singer) -> Audio:
    """Notes of the scale, each sung on one steady pitch, as hard tuning makes them."""
    y, at, degree = _room(piece), 0.0, int(rng.integers(0, 8))
    while at < 4 * piece.bars:
        beats = float(rng.choice([0.25, 0.5, 0.5, 1, 1, 2]))
        degree = int(np.clip(degree + rng.integers(-2, 3), -3, 12))
        held = beats * piece.beat_seconds
        if rng.random() < 0.85:
            # long enough to last at any pitch that it is played at
            sample = singer.sample(rng, held * 2 ** (SEMITONES / 12)).at(piece.pitch(degree) + 12)
            _add(y, at * piece.beat_seconds * RATE_HZ, faded(sample, int(held * RATE_HZ)))
        at += beats
    return y


def _vocoded(rng: np.random.Generator, piece: Piece, singer: Singer) -> Audio:
    """A melody or chords of a synthesizer, with the voice's vowels."""
    carrier = (lead, lead, chords)[rng.integers(3)](rng, piece)
    return vocoder(singer.stretch(rng, len(carrier)), carrier, int(rng.choice([12, 20, 32])))


def vocoder(voice: Audio, carrier: Audio, bands: int) -> Audio:
    """The carrier with the voice's strength in each of so many bands of frequency; as long as the shorter of both."""
    frames = min(len(voice), len(carrier))
    window = torch.hann_window(VOCODER_FFT_FRAMES)
    spectra = torch.stft(
        torch.from_numpy(np.stack([voice[:frames], carrier[:frames]])),
        VOCODER_FFT_FRAMES,
        VOCODER_FFT_FRAMES // 4,
        window=window,
        return_complex=True,
    )  # (2, bins, n)
    hz = np.linspace(0, RATE_HZ / 2, spectra.shape[1])
    low, high = np.log(VOCODER_HZ)
    band = torch.from_numpy(np.clip((np.log(hz + 1) - low) / (high - low), 0, 0.999) * bands).long()
    power = torch.zeros(2, bands, spectra.shape[-1]).index_add_(1, band, spectra.abs().square())
    least = 1e-4 * power[1].amax()  # what the carrier lacks is not made up from noise
    gain = (power[0] / (power[1] + least)).sqrt()[band]  # (bins, n)
    shaped: Audio = torch.istft(spectra[1] * gain, VOCODER_FFT_FRAMES, window=window, length=frames).numpy()
    return shaped


def main() -> None:
    parser = options_of(__doc__, count=200)
    parser.add_argument("voices", type=Path, nargs="+")
    options = parser.parse_args()
    singers = [
        Singer(path)
        for folder in options.voices
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in AUDIO_EXTENSIONS
    ]
    if not any(singer.tuned for singer in singers):
        parser.error(f"{options.voices[0]}: no <singer>.wav with a <singer>.json beside it")
    write_files(options, "sampled", lambda rng: render(rng, singers, options.seconds))


if __name__ == "__main__":
    main()
