"""Separating songs: the public Separator, for arrays, for streams of blocks, and for files."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from waveunet_cli.audio import AudioInfo, AudioReader, Clip, StemWriter, choose_output
from waveunet_cli.audio.sinks import explained
from waveunet_cli.carried import BLOCK_FRAMES, CarriedNetwork, CarriedStream
from waveunet_cli.checkpoint import Config, Model
from waveunet_cli.devices import FrugalNetwork, Placement, place
from waveunet_cli.errors import AudioWriteError, ConfigError, DeviceError
from waveunet_cli.hub import load_model
from waveunet_cli.network import WaveUNet
from waveunet_cli.song import Audio, ChannelPlan, SongStream, StemPlan
from waveunet_cli.songs import TEMPLATE, Song, require_distinct, stem_paths
from waveunet_cli.windows import Stream, WindowedStream

READ_FRAMES = 65_536  # read at once
GPU_WINDOW_SECONDS = 8.0
GPU_BATCH = 4
MAX_SEGMENT_SECONDS = 600

Overwrite = Literal["always", "never"]


@dataclass(frozen=True)
class Separated:
    """What became of a file: its stems' paths, its length, the gain and the peak of the stems before it."""

    path: Path
    stems: dict[str, Path]
    skipped: bool = False
    seconds: float = 0.0
    gain: float = 1.0
    peak: float = 0.0


class Separator:
    """Separates any number of songs with one model.

    model            a model's name, the path of a checkpoint, a loaded Model, or a configuration (random weights)
    device           auto, cpu, cuda[:N] or mps
    precision        auto, float32, bfloat16 or float16, for the convolutions
    segment_seconds  how much is computed at once; less needs less memory (default: 1.5 s on a CPU, 8 s on a GPU)
    stems            the stems to return, by default all the model has
    two_stems        instead: this stem and no_<stem>, the mixture minus it
    stereo           return two channels also for a mono mixture
    report           called with a line of text when memory runs short and the plan changes

    Raises ModelNotFoundError, CheckpointError, DeviceError, and ConfigError for stems the model lacks.
    """

    def __init__(
        self,
        model: str | Path | Model | Config = "vocals",
        device: str = "auto",
        precision: str = "auto",
        *,
        segment_seconds: float | None = None,
        stems: Sequence[str] | None = None,
        two_stems: str | None = None,
        stereo: bool = False,
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        if segment_seconds is not None and not 0 < segment_seconds <= MAX_SEGMENT_SECONDS:
            raise ConfigError(
                f"segment of {segment_seconds} s: must be longer than 0 and at most {MAX_SEGMENT_SECONDS} s; "
                "leave it out for the default"
            )
        self.placement = place(device, precision)
        self.model = model if isinstance(model, Model) else load_model(model)
        config, network = self.model.config, self.model.network
        self._plan = StemPlan.of(config, stems, two_stems)
        self._stereo = stereo
        on_cpu = self.placement.device.type == "cpu"
        self._carried: CarriedNetwork | None = None
        if on_cpu and isinstance(network, WaveUNet) and network.config.padding == "valid":
            block = BLOCK_FRAMES if segment_seconds is None else round(segment_seconds * config.sample_rate)
            self._carried = CarriedNetwork(network, self.placement.dtype, block)
            return
        if segment_seconds is None and not on_cpu:
            segment_seconds = GPU_WINDOW_SECONDS
        hop = None if segment_seconds is None else max(1, round(segment_seconds * config.sample_rate))
        self._window = config.window(hop)
        self._batch = 1 if on_cpu else GPU_BATCH
        self._frugal = FrugalNetwork(network, self._window, self.placement, report)

    @property
    def stems(self) -> tuple[str, ...]:
        """The names of the stems this separator returns."""
        return self._plan.stems

    def separate(self, mixture: Audio, sample_rate: int) -> dict[str, Audio]:
        """Separate an array, (frames, channels) or (frames,), into stems of the same shape, float32.

        Raises ConfigError for an array of another shape or with NaN or infinite samples.
        """
        mixture = np.asarray(mixture, dtype=np.float32)
        if mixture.ndim not in (1, 2) or (mixture.ndim == 2 and mixture.shape[1] == 0):
            raise ConfigError(f"a mixture is (frames, channels) or (frames,), found {mixture.shape}")
        if not np.isfinite(mixture).all():
            raise ConfigError("the mixture holds NaN or infinite samples; repair it first")
        columns = mixture if mixture.ndim == 2 else mixture[:, None]
        parts = list(self.stream([columns], sample_rate))
        stems = {stem: np.concatenate([part[stem] for part in parts]) for stem in self.stems}
        if mixture.ndim == 1 and not self._stereo:
            return {stem: audio[:, 0] for stem, audio in stems.items()}
        return stems

    def stream(self, blocks: Iterable[Audio], sample_rate: int) -> Iterator[dict[str, Audio]]:
        """Separate blocks (frames, channels) as they come; yields blocks of every stem, as many frames in all.

        Never rescales. Blocks of stems may be shorter or longer than those of the mixture, and empty.
        """
        song: SongStream | None = None
        for block in blocks:
            song = song or self.song(sample_rate, block.shape[1])
            yield song.push(block)
        if song is not None:
            yield song.flush()

    def song(self, sample_rate: int, channels: int) -> SongStream:
        """A push/flush stream for one song of that rate (Hz) and that many channels."""
        config = self.model.config
        plan = ChannelPlan(channels, config.channels, self._stereo)
        device = self.placement.device
        return SongStream(self._new_stream(plan.groups), self._plan, plan, sample_rate, config.sample_rate, device)

    def separate_file(
        self,
        path: str | Path,
        out: str | Path = "separated",
        *,
        track: str | None = None,
        filename: str = TEMPLATE,
        container: str = "wav",
        subtype: str | None = None,
        clip: Clip = "rescale",
        overwrite: Overwrite = "never",
        progress: Callable[[float, float | None], None] = lambda done, total: None,
    ) -> Separated:
        """Separate a file into files that appear complete or not at all: out / filename, filled in.

        track      what {track} stands for (default: the file's name without extension)
        container  wav, flac, ogg or mp3;  subtype: a libsndfile name, by default the nearest to the input's depth
        clip       what happens to stems beyond full scale in integer and lossy formats: rescale (one gain for all),
                   clamp or none
        overwrite  never: a song whose stems all exist is skipped;  always: it is done again
        progress   called with the seconds done and, if known, the seconds in all

        Raises AudioReadError, AudioWriteError, ConfigError for an output that cannot exist, and DeviceError if memory
        runs out.
        """
        path, out = Path(path), Path(out)
        track = path.stem if track is None else track
        paths = stem_paths(out, filename, self.model.name, track, self.stems, container)
        require_distinct([Song(path, track)], paths.values())
        with AudioReader(path) as reader:
            info = reader.info
            channels = ChannelPlan(info.channels, self.model.config.channels, self._stereo).out
            output = choose_output(replace(info, channels=channels), container, subtype)
            with explained(paths[self.stems[0]]):
                if overwrite == "never" and all(stem.exists() for stem in paths.values()):
                    return Separated(path, paths, skipped=True)
                _check_space(out, info, channels, len(paths))
            total = None if info.frames is None else info.frames / info.sample_rate_hz
            with (
                _memory_explained(path, self.placement),
                StemWriter(paths, info.sample_rate_hz, channels, output, clip, info.frames) as writer,
                ThreadPoolExecutor(1, "read") as reading,
                ThreadPoolExecutor(1, "write") as writing,
            ):
                song = self.song(info.sample_rate_hz, info.channels)
                # Decoding the next block and encoding the last one overlap with computing this one.
                blocks = reader.blocks(READ_FRAMES)
                written: Future[None] = writing.submit(
                    writer.write, song.push(np.zeros((0, info.channels), np.float32))
                )
                frames = done = 0
                coming = reading.submit(next, blocks, None)
                while (block := coming.result()) is not None:
                    coming = reading.submit(next, blocks, None)
                    frames += len(block)
                    stems = song.push(block)
                    written.result()
                    written = writing.submit(writer.write, stems)
                    done += len(stems[self.stems[0]])
                    progress(done / info.sample_rate_hz, total)
                stems = song.flush()
                written.result()
                writer.write(stems)
                done += len(stems[self.stems[0]])
                assert done == frames, f"{done} frames of stems from {frames} frames of mixture"
                report = writer.commit()
                progress(done / info.sample_rate_hz, total)
        return Separated(path, paths, seconds=done / info.sample_rate_hz, gain=report.gain, peak=report.peak)

    def _new_stream(self, size: int) -> Stream:
        if self._carried is not None:
            return CarriedStream(self._carried, size)
        return WindowedStream(self._frugal, self._window, len(self.model.config.sources), self._batch)


@contextmanager
def _memory_explained(path: Path, placement: Placement) -> Iterator[None]:
    """Turn memory that ran out into one line about the song."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # on a CPU, torch raises a RuntimeError
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not out_of_memory:
            raise
        raise DeviceError(f"{path}: not enough memory on {placement.device}; try a smaller --segment") from error


def _check_space(out: Path, info: AudioInfo, channels: int, stems: int) -> None:
    """Refuse before computing what certainly does not fit: the stems as float32."""
    if info.frames is None:
        return
    folder = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    needed, free = info.frames * channels * stems * 4, shutil.disk_usage(folder).free
    if needed > free:
        raise AudioWriteError(
            f"{out}: {needed / 1e6:.1f} MB needed for the stems of {info.path}, {free / 1e6:.1f} MB free; "
            "free some space or choose another --out"
        )
