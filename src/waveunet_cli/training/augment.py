"""What can happen to a source before it is mixed.

Speed, equaliser, echo and reverberation are one product in the spectrum of the stretch, which is taken as periodic.
What wraps around does so within the window, in the source and in the mixture alike.
"""

from math import log2
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from waveunet_cli.training.recipe import Augmentation

EQUALISER_HZ = (20, 120, 500, 2000, 6000, 22_050)
FFT_STEP_FRAMES = 256  # lengths are multiples of this, which have fast transforms
SILENT = 1e-6  # mean square below which a block counts as silent: −60 dB
BLOCK_FRAMES = 4096
HEARD = 0.005  # root mean square above which a source counts as sounding: −46 dB
STRETCH_FFT_FRAMES = 2048
LIMITER_DRIVE = (1.0, 2.2)
ECHO_SECONDS, ECHO_FEEDBACK = (0.06, 0.6), (0.3, 0.85)
STUTTER_SECONDS, STUTTER_TIMES, FADE_FRAMES = (0.05, 0.5), (2, 24), 64


def own_stream(seed: int, number: int, name: str) -> np.random.Generator:
    """A generator for one augmentation in window `number`. What it draws does not shift what the others draw, so that
    recipes without this augmentation keep their samples."""
    return np.random.default_rng((seed, number, crc32(name.encode())))


def happens(rng: np.random.Generator, probability: float) -> bool:
    """True in `probability` of all cases. Always draws, so that one setting does not shift what others draw."""
    return bool(rng.random() < probability)


def speed(rng: np.random.Generator, settings: Augmentation) -> float:
    """A factor of speed: 1, or up to so many semitones up or down."""
    semitones = rng.uniform(-settings.speed_semitones, settings.speed_semitones)
    return float(2 ** (semitones / 12)) if happens(rng, settings.speed) else 1.0


def stretch_factor(rng: np.random.Generator, settings: Augmentation) -> float:
    """How many times as long a sound shall last, at the same pitch."""
    widest = log2(settings.stretch_factor)
    factor = 2 ** rng.uniform(-widest, widest)
    return float(factor) if happens(rng, settings.stretch) else 1.0


def fast_length(frames: float) -> int:
    """The next length up whose Fourier transform is fast."""
    return int(-(-frames // FFT_STEP_FRAMES) * FFT_STEP_FRAMES)


def resample_to(spectrum: Tensor, frames: int, out_frames: int) -> Tensor:
    """The spectrum (…, frames // 2 + 1) of a signal as that of the same signal with `out_frames` frames."""
    bins = out_frames // 2 + 1
    return F.pad(spectrum, (0, max(0, bins - spectrum.shape[-1])))[..., :bins] * (out_frames / frames)


def stretch(x: Tensor, out_frames: int) -> Tensor:
    """Play (C, frames) in `out_frames` frames at the same pitch, by a phase vocoder.

    The spectra of the output lie `hop` apart, those of the input that they are made of hop · frames / out_frames; each
    takes the magnitude found there, and a phase that has gone on since the one before as the input's phase goes on
    within a hop at that place (Flanagan & Golden, Phase Vocoder, 1966).
    """
    window, hop, frames = torch.hann_window(STRETCH_FFT_FRAMES), STRETCH_FFT_FRAMES // 4, x.shape[-1]
    x = F.pad(x, (0, 2 * hop))  # silence to read beyond the end
    spectra = torch.stft(
        x, STRETCH_FFT_FRAMES, hop, window=window, pad_mode="constant", return_complex=True
    )  # (C, bins, n)
    count = out_frames // hop + 1
    at = torch.arange(count, dtype=torch.float64) * (frames / out_frames)  # in hops of the input
    before = at.long().clamp(max=spectra.shape[-1] - 2)
    weight = (at - before).clamp(max=1).float()
    here, next_ = spectra[..., before], spectra[..., before + 1]  # (C, bins, count)
    magnitude = torch.lerp(here.abs(), next_.abs(), weight)
    gone_on = next_.angle() - here.angle()  # modulo 2π, which is all that matters
    phase = torch.cat([here[..., :1].angle(), gone_on[..., :-1]], -1).double().cumsum(-1)
    stretched = torch.polar(magnitude, phase.float())
    y: Tensor = torch.istft(stretched, STRETCH_FFT_FRAMES, hop, window=window, length=out_frames)
    return y


def equaliser(rng: np.random.Generator, bins: int, sample_rate_hz: int, deviation_db: float) -> Tensor:
    """A smooth random frequency response: (bins,), interpolated in decibels over the logarithm of frequency."""
    decibels = rng.normal(0, deviation_db, len(EQUALISER_HZ))
    hz = np.maximum(np.linspace(0, sample_rate_hz / 2, bins), EQUALISER_HZ[0])
    curve = np.interp(np.log2(hz), [log2(f) for f in EQUALISER_HZ], decibels)
    return torch.from_numpy(10 ** (curve / 20)).float()


def reverberation(rng: np.random.Generator, channels: int, frames: int, sample_rate_hz: int) -> Tensor:
    """Spectrum (C, frames // 2 + 1) of a random room: the sound, and a while later noise that decays by 60 dB."""
    seconds, wet = rng.uniform(0.2, 2.0), rng.uniform(0.05, 0.5)
    delay = min(frames // 2, int(rng.uniform(0.001, 0.04) * sample_rate_hz))
    dark_hz = rng.uniform(3000, 12_000)
    tail = min(frames - delay, int(seconds * sample_rate_hz))
    noise = torch.from_numpy(rng.standard_normal((channels, tail), dtype=np.float32))
    decay = torch.exp(torch.arange(tail) * (-6.9 / (seconds * sample_rate_hz)))
    room = noise * decay
    room = room * (wet / room.square().sum(-1, keepdim=True).sqrt())
    room = torch.fft.rfft(F.pad(room, (delay, frames - delay - tail)))
    hz = torch.linspace(0, sample_rate_hz / 2, room.shape[-1])
    response: Tensor = 1 + room / (1 + (hz / dark_hz).square()).sqrt()
    return response


def echo(rng: np.random.Generator, channels: int, frames: int, sample_rate_hz: int) -> Tensor:
    """Spectrum (C, frames // 2 + 1) of a delay with feedback, whose repetitions grow darker; in half of all cases its
    time differs by channel.

    With one pass g(ω) = feedback · lowpass(ω) · e^(−iω·delay), all of them are g + g² + … = g / (1 − g).
    """
    seconds = rng.uniform(*ECHO_SECONDS)
    feedback, wet, dark_hz = rng.uniform(*ECHO_FEEDBACK), rng.uniform(0.2, 1.0), rng.uniform(2000, 12_000)
    delays = seconds * np.array([1.0, rng.choice([1.0, 1.5])])[:channels, None]  # (C, 1)
    hz = np.linspace(0, sample_rate_hz / 2, frames // 2 + 1)
    once = feedback / np.sqrt(1 + (hz / dark_hz) ** 2) * np.exp(-2j * np.pi * hz * delays)  # (C, bins)
    return torch.from_numpy(1 + wet * once / (1 - once)).to(torch.complex64)


def stutter(rng: np.random.Generator, x: Tensor, sample_rate_hz: int) -> Tensor:
    """A short slice of (C, t) repeated over what follows it, as samplers do; the slice fades at both ends."""
    frames = min(x.shape[-1], int(rng.uniform(*STUTTER_SECONDS) * sample_rate_hz))
    times = min(int(rng.integers(*STUTTER_TIMES)), x.shape[-1] // frames)
    start = int(rng.integers(x.shape[-1] - frames * times + 1))
    fade = torch.linspace(0, 1, min(FADE_FRAMES, frames))
    piece = x[:, start : start + frames].clone()
    piece[:, : len(fade)] *= fade
    piece[:, frames - len(fade) :] *= fade.flip(0)
    y = x.clone()
    y[:, start : start + frames * times] = piece.repeat(1, times)
    return y


def shape(
    x: Tensor, out_frames: int, rng: np.random.Generator, settings: Augmentation, rate_hz: int, effects: bool
) -> Tensor:
    """Play (C, frames) in `out_frames` frames, perhaps equalised and, with `effects`, repeated, with echo and
    reverberation: (C, out_frames)."""
    equalised = happens(rng, settings.equalise)
    stuttering, echoing, reverberant = (
        happens(rng, probability) and effects for probability in (settings.stutter, settings.echo, settings.reverb)
    )
    if stuttering:
        x = stutter(rng, x, rate_hz)
    if x.shape[-1] == out_frames and not (equalised or echoing or reverberant):
        return x
    spectrum = resample_to(torch.fft.rfft(x), x.shape[-1], out_frames)
    if equalised:
        spectrum = spectrum * equaliser(rng, spectrum.shape[-1], rate_hz, settings.equaliser_db)
    if echoing:
        spectrum = spectrum * echo(rng, x.shape[0], out_frames, rate_hz)
    if reverberant:
        spectrum = spectrum * reverberation(rng, x.shape[0], out_frames, rate_hz)
    shaped: Tensor = torch.fft.irfft(spectrum, out_frames)
    return shaped


def limiter(rng: np.random.Generator, mixture: Tensor) -> Tensor:
    """The gain (C, t) that a limiter, tanh after a random drive, gives to each sample of a mixture (C, t)."""
    driven = mixture * rng.uniform(*LIMITER_DRIVE)
    # tanh(d·x) / (d·x), and its limit 1 where there is next to nothing
    return torch.where(driven.abs() > 1e-3, torch.tanh(driven) / driven, 1.0)


def mono(x: Tensor) -> Tensor:
    """Sources (S, C, t) put in the middle: every channel becomes the mean of the channels."""
    return x.mean(1, keepdim=True).expand_as(x)


def loudness(x: Tensor) -> float:
    """Root mean square of (C, t) over its blocks that are not silent; 0 if all are."""
    power = x.square().mean(0)
    blocks = (
        power[: len(power) // BLOCK_FRAMES * BLOCK_FRAMES].view(-1, BLOCK_FRAMES).mean(1)
        if len(power) >= BLOCK_FRAMES
        else power.mean(0, keepdim=True)
    )
    heard = blocks[blocks > SILENT]
    return float(heard.mean().sqrt()) if len(heard) else 0.0
