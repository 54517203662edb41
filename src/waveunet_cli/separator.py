"""Separating songs: the public Separator, for arrays, for streams of blocks, and for files."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from waveunet_cli.audio import Clip
from waveunet_cli.devices import choose_placement
from waveunet_cli.errors import ConfigError, DeviceError
from waveunet_cli.events import OnEvent
from waveunet_cli.hub import load_model
from waveunet_cli.library.find import require_distinct
from waveunet_cli.library.ledger import Ledger
from waveunet_cli.library.manifest import Overwrite
from waveunet_cli.library.names import TEMPLATE
from waveunet_cli.library.song import Separated, Song, Target, outputs_of, separate_song
from waveunet_cli.library.storage import Located
from waveunet_cli.networks.family import Config, Model
from waveunet_cli.networks.spleeter import MaskExtension, SpleeterConfig
from waveunet_cli.streaming.channels import ChannelLayout
from waveunet_cli.streaming.engine import new_engine
from waveunet_cli.streaming.song import BLOCK_FRAMES, Audio, Engine, SongStream, open_stream
from waveunet_cli.streaming.stems import StemSelection

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
    mask_extension   what the stems of a Spleeter model get of a song above 11 kHz: average, their mean share of what is
                     below (the default), or zeros, nothing, as the published program does by default
    on_event         called with a Note when memory runs short, and the network goes on with less

    Raises ModelNotFoundError, CheckpointError, DeviceError, and ConfigError for stems the model lacks and for a mask
    extension of a model that is no Spleeter.
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
        mask_extension: MaskExtension | None = None,
        on_event: OnEvent = lambda event: None,
    ) -> None:
        if segment_seconds is not None and not 0 < segment_seconds <= MAX_SEGMENT_SECONDS:
            raise ConfigError(
                f"segment of {segment_seconds} s: must be longer than 0 and at most {MAX_SEGMENT_SECONDS} s; "
                "leave it out for the default"
            )
        self.placement = choose_placement(device, precision)
        dtype = str(self.placement.dtype).removeprefix("torch.")
        self.settings = {"two_stems": two_stems, "stereo": stereo, "precision": dtype}
        self.options = {  # what a worker elsewhere needs to make the same
            "device": device, "precision": precision, "segment_seconds": segment_seconds,
            "stems": stems, "two_stems": two_stems, "stereo": stereo, "mask_extension": mask_extension,
        }  # fmt: skip
        self.model = model if isinstance(model, Model) else load_model(model)
        self._extension = self._mask_extension(mask_extension)
        self._selection = StemSelection.of(self.model.config, stems, two_stems)
        self._stereo = stereo
        self._segment_seconds = segment_seconds
        self._on_event = on_event
        self._networks = ThreadPoolExecutor(1, "network")  # one at a time; songs side by side take turns
        self._folding = threading.Lock()

    @property
    def stems(self) -> tuple[str, ...]:
        """The names of the stems this separator returns."""
        return self._selection.stems

    def separate(self, mixture: Audio, sample_rate: int) -> dict[str, Audio]:
        """Separate an array, (frames, channels) or (frames,), into stems of the same shape, float32.

        Raises ConfigError for an array of another shape, of integers, or with NaN or infinite samples.
        """
        mixture = np.asarray(mixture)
        columns = mixture[:, None] if mixture.ndim == 1 else mixture
        _require_audio(columns, "(frames, channels) or (frames,)")
        frames, channels = columns.shape[0], self.channels(columns.shape[1])
        stems = {stem: np.empty((frames, channels), np.float32) for stem in self.stems}
        blocks = (columns[start : start + BLOCK_FRAMES] for start in range(0, max(1, frames), BLOCK_FRAMES))
        done = 0
        for part in self.stream(blocks, sample_rate):
            for stem, audio in part.items():
                stems[stem][done : done + len(audio)] = audio
            done += len(audio)
        if mixture.ndim == 1 and not self._stereo:
            return {stem: audio[:, 0] for stem, audio in stems.items()}
        return stems

    def stream(self, blocks: Iterable[Audio], sample_rate: int) -> Iterator[dict[str, Audio]]:
        """Separate blocks (frames, channels) as they come; yields blocks of every stem, as many frames in all.

        Never rescales. Blocks of stems may be shorter or longer than those of the mixture, and empty. Raises
        ConfigError for a block that `separate` would refuse, and for one with another number of channels.
        """
        song: SongStream | None = None
        channels = 0
        for block in blocks:
            _require_audio(block)
            if song is None:
                channels = block.shape[1]
                song = self.song(sample_rate, channels)
            if block.shape[1] != channels:
                raise ConfigError(
                    f"a block has {block.shape[1]} channels, those before {channels}; give all blocks of a song alike"
                )
            yield song.push(block)
        if song is not None:
            yield song.flush()

    def song(self, sample_rate: int, channels: int) -> SongStream:
        """A push/flush stream for one song of that rate (Hz) and that many channels."""
        layout = ChannelLayout(channels, self.model.config.channels, self._stereo)
        with self._folding:
            engine = self._engine
        return open_stream(engine, self.model.config, self._selection, layout, sample_rate, self.placement.device)

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
        on_event: OnEvent = lambda event: None,
    ) -> Separated:
        """Separate a file into files that appear complete or not at all: out / filename, filled in.

        track      what {track} stands for (default: the file's name without extension)
        container  wav, flac, ogg or mp3
        subtype    a libsndfile name, by default the nearest to the input's depth
        clip       what happens to stems beyond full scale in integer and lossy formats: rescale (one gain for all),
                   clamp or none
        overwrite  changed: a song is skipped if its manifest says that its stems are whole, and made from this input by
                   this model with these settings;  never: if its stems all exist;  always: it is done again
        on_event   called with FileStart, Progress, Note and FileDone of events.py

        Raises AudioReadError, AudioWriteError, ConfigError for an output that cannot exist, and DeviceError if memory
        runs out. Waits for another process that is at work on the same stems.
        """
        song = Song(Located(Path(path)), Path(path).stem if track is None else track)
        target = Target(Located(Path(out)), filename, container, subtype, clip)
        require_distinct([song], [outputs_of(self, song, target)])
        ledger = Ledger([song], [], on_event)
        ledger.start(song)
        done = separate_song(self, song, target, overwrite=overwrite, on_event=ledger.pass_on)
        ledger.finish(song, done)
        return done

    def channels(self, file_channels: int) -> int:
        """How many channels the stems of a file have."""
        return ChannelLayout(file_channels, self.model.config.channels, self._stereo).out

    @cached_property
    def model_sha256(self) -> str:
        """Hash of the model's configuration and weights."""
        config = self.model.config
        stated = ", ".join(f"{name}={value!r}" for name, value in vars(config).items())
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

    def _mask_extension(self, asked: MaskExtension | None) -> MaskExtension:
        if asked is None:
            return "average"
        if asked not in get_args(MaskExtension):
            raise ConfigError(f"mask extension: found {asked!r}; expected one of {', '.join(get_args(MaskExtension))}")
        if not isinstance(self.model.config, SpleeterConfig):
            raise ConfigError(
                f"mask extension: {self.model.name} has no masks that end below its band; leave out --mask-extension"
            )
        if asked != "average":
            self.settings["mask_extension"] = asked
        return asked

    @cached_property
    def _engine(self) -> Engine:
        """Made for the first song: all songs may be skipped."""
        return new_engine(self.model, self.placement, self._segment_seconds, self._on_event, self._extension)


def _require_audio(block: Audio, shape: str = "(frames, channels)") -> None:
    """Raise ConfigError unless these are finite floats (frames, channels); `shape` is what was asked for, in words."""
    block = np.asarray(block)
    if block.ndim != 2 or not 1 <= block.shape[1] <= MAX_CHANNELS:
        raise ConfigError(
            f"a mixture has 1 to {MAX_CHANNELS} channels and is {shape}, found {block.shape}; "
            "transpose it if its channels come first"
        )
    if not np.issubdtype(block.dtype, np.floating):
        raise ConfigError(
            f"a mixture's samples are floats within ±1, found {block.dtype}; divide them by their full scale"
        )
    if not np.isfinite(block).all():
        raise ConfigError("the mixture holds NaN or infinite samples; repair it first")
