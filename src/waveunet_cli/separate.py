"""Separating songs: the public Separator, for arrays, for streams of blocks, and for files."""

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch

from waveunet_cli.audio import AudioInfo, AudioReader, Clip, StemWriter, choose_output
from waveunet_cli.audio.read import reading_explained
from waveunet_cli.audio.sinks import explained
from waveunet_cli.carried import BLOCK_FRAMES, CarriedNetwork
from waveunet_cli.checkpoint import Config, Model, stated_fields
from waveunet_cli.config import WaveUNetConfig
from waveunet_cli.devices import FrugalNetwork, Placement, place
from waveunet_cli.errors import AudioReadError, AudioWriteError, ConfigError, DeviceError
from waveunet_cli.files import existing
from waveunet_cli.gate import GatedStream
from waveunet_cli.hub import load_model
from waveunet_cli.manifest import FileMark, Place, Request
from waveunet_cli.network import WaveUNet
from waveunet_cli.song import Audio, ChannelPlan, SongStream, StemPlan
from waveunet_cli.songs import TEMPLATE, Song, require_distinct, stem_paths
from waveunet_cli.windows import Stream, WindowedStream

READ_FRAMES = 65_536  # read at once
GPU_WINDOW_SECONDS = 8.0
GPU_BATCH = 4
MAX_SEGMENT_SECONDS = 600
MAX_CHANNELS = 64  # of an array; more are frames in the wrong place

Overwrite = Literal["always", "never", "changed"]


@dataclass(frozen=True)
class Separated:
    """What became of a file: its stems, its length, their gain, their peak before that, how many samples were cut."""

    path: Path
    stems: dict[str, Path]
    skipped: bool = False
    seconds: float = 0.0
    gain: float = 1.0
    peak: float = 0.0
    clipped_samples: int = 0

    @property
    def names(self) -> dict[str, str]:
        """The stems' paths as the user writes them."""
        return {stem: str(path) for stem, path in self.stems.items()}


@dataclass(frozen=True)
class Target:
    """Where stems go and as what; see `Separator.separate_file`."""

    out: Path
    filename: str = TEMPLATE
    container: str = "wav"
    subtype: str | None = None
    clip: Clip = "rescale"


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
        self._settings = {"two_stems": two_stems, "stereo": stereo, "precision": precision}
        self._networks = ThreadPoolExecutor(1, "network")  # one at a time; songs side by side take turns
        self.model = model if isinstance(model, Model) else load_model(model)
        config, network = self.model.config, self.model.network
        self._plan = StemPlan.of(config, stems, two_stems)
        self._stereo = stereo
        on_cpu = self.placement.device.type == "cpu"
        self._folding = threading.Lock()
        self._block: int | None = None
        if on_cpu and isinstance(network, WaveUNet) and network.config.padding == "valid":
            self._block = BLOCK_FRAMES if segment_seconds is None else round(segment_seconds * config.sample_rate)
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

        Raises ConfigError for an array of another shape, of integers, or with NaN or infinite samples.
        """
        mixture = np.asarray(mixture)
        if mixture.ndim not in (1, 2) or (mixture.ndim == 2 and not 1 <= mixture.shape[1] <= MAX_CHANNELS):
            raise ConfigError(
                f"a mixture is (frames, channels), with at most {MAX_CHANNELS} channels, or (frames,), "
                f"found {mixture.shape}; transpose it if its channels come first"
            )
        if not np.issubdtype(mixture.dtype, np.floating):
            raise ConfigError(
                f"a mixture's samples are floats within ±1, found {mixture.dtype}; divide them by their full scale"
            )
        mixture = mixture.astype(np.float32, copy=False)
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
        overwrite: Overwrite = "changed",
        progress: Callable[[float, float | None], None] = lambda done, total: None,
    ) -> Separated:
        """Separate a file into files that appear complete or not at all: out / filename, filled in.

        track      what {track} stands for (default: the file's name without extension)
        container  wav, flac, ogg or mp3;  subtype: a libsndfile name, by default the nearest to the input's depth
        clip       what happens to stems beyond full scale in integer and lossy formats: rescale (one gain for all),
                   clamp or none
        overwrite  changed: a song is skipped if its manifest says that its stems are whole, and made from this input by
                   this model with these settings;  never: if its stems all exist;  always: it is done again
        progress   called with the seconds done and, if known, the seconds in all

        Raises AudioReadError, AudioWriteError, ConfigError for an output that cannot exist, and DeviceError if memory
        runs out. Waits for another process that is at work on the same stems.
        """
        song = Song(Path(path), Path(path).stem if track is None else track)
        target = Target(Path(out), filename, container, subtype, clip)
        require_distinct([song], self.place(song, target).paths.values())
        return self.separate_song(song, target, overwrite=overwrite, progress=progress)

    def separate_song(
        self,
        song: Song,
        target: Target,
        *,
        overwrite: Overwrite = "changed",
        wait: bool = True,
        progress: Callable[[float, float | None], None] = lambda done, total: None,
    ) -> Separated:
        """As `separate_file`; raises BusyError where it may not wait for another process at work on the song.

        May be called from several threads: reading and writing of one song then overlap with computing another.
        """
        path, place = song.path, self.place(song, target)

        def is_done() -> bool:
            return self.why_again(song, target, overwrite) is None

        if is_done() and not place.was_abandoned:
            return Separated(path, place.paths, skipped=True)
        with AudioReader(path) as reader:
            info = reader.info
            channels = self.channels(info.channels)
            output = choose_output(replace(info, channels=channels), target.container, target.subtype)
            with explained(place.first):
                _check_space(target.out, info, channels, len(place.paths))
            with place.claim(wait), _memory_explained(path, self.placement):
                if is_done():  # by now, by another process
                    return Separated(path, place.paths, skipped=True)
                with reading_explained(path):
                    before = path.stat()
                rate_hz = info.sample_rate_hz
                with StemWriter(place.paths, rate_hz, channels, output, target.clip, info.frames, place.key) as writer:
                    mark = self._pump(reader, writer, progress)
                    if (mark.bytes, mark.modified_ns) != (before.st_size, before.st_mtime_ns):
                        raise AudioReadError(f"{path}: was changed while it was read; separate it again")
                    report = writer.commit()
                place.finish(path, mark, self.model.name, self.request(target), rate_hz, report)
        return Separated(
            path,
            place.paths,
            seconds=report.frames / rate_hz,
            gain=report.gain,
            peak=report.peak,
            clipped_samples=report.clipped_samples,
        )

    def why_again(self, song: Song, target: Target, overwrite: Overwrite) -> str | None:
        """Why a song would be separated, in a word or two; None if it would be skipped."""
        place = self.place(song, target)
        if overwrite == "changed":
            return place.why_again(song.path, self.request(target))
        with explained(place.first):
            return "asked for" if overwrite == "always" else None if place.stems_exist() else "new"

    def channels(self, file_channels: int) -> int:
        """How many channels the stems of a file have."""
        return ChannelPlan(file_channels, self.model.config.channels, self._stereo).out

    def place(self, song: Song, target: Target) -> Place:
        """Where the stems of a song go; raises ConfigError for an impossible template."""
        return Place(stem_paths(target.out, target.filename, self.model.name, song.track, self.stems, target.container))

    def request(self, target: Target) -> Request:
        """What decides the samples of stems, the song itself aside."""
        settings = self._settings | {"stems": list(self.stems)}
        settings |= {"container": target.container, "subtype": target.subtype, "clip": target.clip}
        return Request(self._model_sha256, settings)

    @cached_property
    def _model_sha256(self) -> str:
        config = self.model.config
        stated = ", ".join(f"{name}={value!r}" for name, value in stated_fields(config).items())
        digest = hashlib.sha256(f"{type(config).__name__}({stated})".encode())
        for name, weight in sorted(self.model.network.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().float().cpu().contiguous().numpy())
        return digest.hexdigest()

    def _pump(
        self, reader: AudioReader, writer: StemWriter, progress: Callable[[float, float | None], None]
    ) -> FileMark:
        """Let a song run through; decoding the next block and encoding the last overlap with computing this one."""
        info = reader.info
        total_seconds = None if info.frames is None else info.frames / info.sample_rate_hz
        frames = done = 0

        def advance(stems: dict[str, Audio]) -> Future[None]:
            nonlocal done
            done += len(stems[self.stems[0]])
            progress(done / info.sample_rate_hz, total_seconds)
            return writing.submit(writer.write, stems)

        with ThreadPoolExecutor(1, "read") as reading, ThreadPoolExecutor(1, "write") as writing:
            song = self.song(info.sample_rate_hz, info.channels)
            blocks = reader.blocks(READ_FRAMES)
            coming = reading.submit(next, blocks, None)
            written = advance(self._compute(song.push, np.zeros((0, info.channels), np.float32)))
            while (block := coming.result()) is not None:
                coming = reading.submit(next, blocks, None)
                frames += len(block)
                stems = self._compute(song.push, block)
                written.result()
                written = advance(stems)
            marked = reading.submit(FileMark.of, info.path)
            stems = self._compute(song.flush)
            written.result()
            advance(stems).result()
            assert done == frames, f"{done} frames of stems from {frames} frames of mixture"
            with reading_explained(info.path):
                return marked.result()

    def _compute(self, function: Callable[..., dict[str, Audio]], *arguments: Audio) -> dict[str, Audio]:
        return self._networks.submit(function, *arguments).result()

    def _new_stream(self, size: int) -> Stream:
        with self._folding:
            carried = self._carried
        config = self.model.config
        stream: Stream
        if carried is not None:
            stream = carried.stream(size)
        else:
            stream = WindowedStream(self._frugal, self._window, len(config.sources), self._batch)
        if isinstance(config, WaveUNetConfig) and config.gate:
            residual = config.sources.index(config.residual)
            return GatedStream(stream, config.gate, config.sample_rate, residual)
        return stream

    @cached_property
    def _carried(self) -> CarriedNetwork | None:
        """Made for the first song: folding kernels takes a moment, and all songs may be skipped."""
        if self._block is None:
            return None
        return CarriedNetwork(cast(WaveUNet, self.model.network), self.placement.dtype, self._block)


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
    needed, usage = info.frames * channels * stems * 4, shutil.disk_usage(existing(out))
    if needed > usage.free and usage.total:  # a file system without any space, such as /proc, says so itself
        raise AudioWriteError(
            f"{out}: {needed / 1e6:.1f} MB needed for the stems of {info.path}, {usage.free / 1e6:.1f} MB free; "
            "free some space or choose another --out"
        )
