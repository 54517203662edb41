"""What a track looks like in a few thousand numbers, found while it streams by: its peaks and its spectrogram."""

import math

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]

LOWEST_HZ = 40.0
SILENCE_DB = -120.0
WINDOW_SECONDS = 0.046  # of the spectrogram: 2048 frames at 44.1 kHz
WINDOWS_PER_COLUMN = 2


class Peaks:
    """The highest |sample| of all channels in each of about so many equal parts of a track of so many frames."""

    def __init__(self, frames: int, parts: int) -> None:
        self._hop_frames = max(1, math.ceil(frames / parts))
        self._rest: Audio | None = None  # (frames, channels) of a part that is not complete
        self._found: list[Audio] = []

    def push(self, block: Audio) -> None:
        """Take the next block, (frames, channels)."""
        joined = block if self._rest is None else np.concatenate([self._rest, block])
        whole = len(joined) // self._hop_frames * self._hop_frames
        parts = joined[:whole].reshape(whole // self._hop_frames, -1)  # (parts, frames × channels)
        self._found.append(np.maximum(parts.max(axis=1, initial=0), -parts.min(axis=1, initial=0)))
        self._rest = joined[whole:]

    def finish(self) -> Audio:
        """All peaks, after the last block."""
        last = [] if self._rest is None or not len(self._rest) else [np.abs(self._rest).max(keepdims=True)[0]]
        return np.concatenate([*self._found, *last])


class Spectrogram:
    """A track's power in `columns` equal parts of its time and `bands` bands of frequency.

    The bands are equally wide in octaves, from LOWEST_HZ to half the sample rate; a band shows its strongest frequency.
    A column is the mean of a few windows from its time, so that the work does not grow with the length of the track.
    """

    def __init__(self, frames: int, sample_rate_hz: int, columns: int, bands: int) -> None:
        self._window_frames = 1 << max(4, round(math.log2(WINDOW_SECONDS * sample_rate_hz)))
        self._window = np.hanning(self._window_frames).astype(np.float32)
        starts = np.arange(columns * WINDOWS_PER_COLUMN) * frames / (columns * WINDOWS_PER_COLUMN)
        self._starts = starts.astype(np.int64)
        self.edges_hz = np.geomspace(min(LOWEST_HZ, sample_rate_hz / 8), sample_rate_hz / 2, bands + 1)
        bins = np.rint(self.edges_hz * self._window_frames / sample_rate_hz).astype(np.int64)
        self._bins = np.minimum(bins[:-1], self._window_frames // 2)
        self._rest: Audio | None = None  # (frames, channels) that the next window may need
        self._at = 0  # the frame with which the rest begins
        self._found: list[Audio] = []
        self._columns = columns

    def push(self, block: Audio) -> None:
        """Take the next block, (frames, channels)."""
        joined = block if self._rest is None else np.concatenate([self._rest, block])
        last_start = self._at + len(joined) - self._window_frames
        count = int(np.searchsorted(self._starts, last_start, side="right"))
        if count:
            places = self._starts[:count] - self._at
            windows = np.stack([joined[place : place + self._window_frames] for place in places])
            mono = windows.mean(axis=2) if windows.shape[2] > 1 else windows[:, :, 0]  # (windows, frames)
            spectra = np.fft.rfft(mono * self._window)  # (windows, bins)
            power = spectra.real**2 + spectra.imag**2
            bands = np.maximum.reduceat(power, self._bins, axis=1)  # a band narrower than a bin takes the nearest
            self._found.append(bands.astype(np.float32))
            self._starts = self._starts[count:]
        ahead = min(int(self._starts[0]) - self._at, len(joined)) if len(self._starts) else len(joined)
        self._rest = joined[ahead:]
        self._at += ahead

    def finish(self) -> Audio:
        """Decibels of (bands, columns), the lowest band first, after the last block. A full-scale sine is near 0."""
        assert self._rest is not None
        self.push(np.zeros((self._window_frames, self._rest.shape[1]), np.float32))
        power = np.concatenate(self._found).reshape(self._columns, WINDOWS_PER_COLUMN, -1).mean(axis=1)
        full = (self._window.sum() / 2) ** 2
        decibels: Audio = (10 * np.log10(np.maximum(power / full, 10 ** (SILENCE_DB / 10)))).T.astype(np.float32)
        return decibels
