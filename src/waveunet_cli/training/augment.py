"""What can happen to a source before it is mixed.

Speed, equaliser and reverberation are one product in the spectrum of the stretch, which is taken as periodic.
What wraps around does so within the window, in the source and in the mixture alike.
"""

from math import log2

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
LIMITER_DRIVE = (1.0, 2.2)


def happens(rng: np.random.Generator, probability: float) -> bool:
    """True in `probability` of all cases. Always draws, so that one setting does not shift what others draw."""
    return bool(rng.random() < probability)


def speed(rng: np.random.Generator, settings: Augmentation) -> float:
    """A factor of speed: 1, or up to so many semitones up or down."""
    semitones = rng.uniform(-settings.speed_semitones, settings.speed_semitones)
    return float(2 ** (semitones / 12)) if happens(rng, settings.speed) else 1.0


def fast_length(frames: float) -> int:
    """The next length up whose Fourier transform is fast."""
    return int(-(-frames // FFT_STEP_FRAMES) * FFT_STEP_FRAMES)


def resample_to(spectrum: Tensor, frames: int, out_frames: int) -> Tensor:
    """The spectrum (…, frames // 2 + 1) of a signal as that of the same signal with `out_frames` frames."""
    bins = out_frames // 2 + 1
    return F.pad(spectrum, (0, max(0, bins - spectrum.shape[-1])))[..., :bins] * (out_frames / frames)


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


def shape(
    x: Tensor, out_frames: int, rng: np.random.Generator, settings: Augmentation, rate_hz: int, in_room: bool
) -> Tensor:
    """Play (C, frames) in `out_frames` frames, perhaps equalised and, if `in_room`, with reverberation:
    (C, out_frames)."""
    equalised = happens(rng, settings.equalise)
    reverberant = happens(rng, settings.reverb) and in_room
    if x.shape[-1] == out_frames and not (equalised or reverberant):
        return x
    spectrum = resample_to(torch.fft.rfft(x), x.shape[-1], out_frames)
    if equalised:
        spectrum = spectrum * equaliser(rng, spectrum.shape[-1], rate_hz, settings.equaliser_db)
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
