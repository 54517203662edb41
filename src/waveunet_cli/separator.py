"""Separating songs: the public Separator, for arrays, for streams of blocks, and for files."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch

from waveunet_cli.audio import Clip
from waveunet_cli.devices import choose_placement
from waveunet_cli.errors import ConfigError, DeviceError
from waveunet_cli.hub import load_model
from waveunet_cli.library.find import require_distinct
from waveunet_cli.library.names import TEMPLATE
from waveunet_cli.library.song import Overwrite, Separated, Song, Target, outputs_of, separate_song
from waveunet_cli.networks.family import Config, Model, stated_fields
from waveunet_cli.networks.wave_u_net.carried import BLOCK_FRAMES, CarriedNetwork
from waveunet_cli.networks.wave_u_net.config import WaveUNetConfig
from waveunet_cli.networks.wave_u_net.network import WaveUNet
from waveunet_cli.streaming.channels import ChannelLayout
from waveunet_cli.streaming.frugal import FrugalNetwork
from waveunet_cli.streaming.gate import GatedStream
from waveunet_cli.streaming.masks import MaskedStream
from waveunet_cli.streaming.song import Audio, SongStream
from waveunet_cli.streaming.stems import StemSelection
from waveunet_cli.streaming.windows import Stream, WindowedStream

GPU_WINDOW_SECONDS = 8.0
GPU_BATCH = 4
MAX_SEGMENT_SECONDS = 600
MAX_CHANNELS = 64  # of an array; more are frames in the wrong place


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
        self.placement = choose_placement(device, precision)
        self.settings = {"two_stems": two_stems, "stereo": stereo, "precision": precision}
        self._networks = ThreadPoolExecutor(1, "network")  # one at a time; songs side by side take turns
        self.model = model if isinstance(model, Model) else load_model(model)
        config, network = self.model.config, self.model.network
        self._plan = StemSelection.of(config, stems, two_stems)
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
        plan = ChannelLayout(channels, config.channels, self._stereo)
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
        require_distinct([song], outputs_of(self, song, target).paths.values())
        return separate_song(self, song, target, overwrite=overwrite, progress=progress)

    def channels(self, file_channels: int) -> int:
        """How many channels the stems of a file have."""
        return ChannelLayout(file_channels, self.model.config.channels, self._stereo).out

    @cached_property
    def model_sha256(self) -> str:
        """Hash of the model's configuration and weights."""
        config = self.model.config
        stated = ", ".join(f"{name}={value!r}" for name, value in stated_fields(config).items())
        digest = hashlib.sha256(f"{type(config).__name__}({stated})".encode())
        for name, weight in sorted(self.model.network.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().float().cpu().contiguous().numpy())
        return digest.hexdigest()

    def compute(self, function: Callable[..., dict[str, Audio]], *arguments: Audio) -> dict[str, Audio]:
        """Call a stream's function in the one thread that computes, after those before it."""
        return self._networks.submit(function, *arguments).result()

    @contextmanager
    def memory_explained(self, path: Path) -> Iterator[None]:
        """Turn memory that ran out into one line about the song."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:  # on a CPU, torch raises a RuntimeError
            out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
            if not out_of_memory:
                raise
            raise DeviceError(
                f"{path}: not enough memory on {self.placement.device}; try a smaller --segment"
            ) from error

    def _new_stream(self, size: int) -> Stream:
        with self._folding:
            carried = self._carried
        config = self.model.config
        stream: Stream
        if carried is not None:
            stream = carried.stream(size)
            if isinstance(config, WaveUNetConfig) and config.output == "masked":
                stream = MaskedStream(stream, config.mask_exponent, config.mask_spread)
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
