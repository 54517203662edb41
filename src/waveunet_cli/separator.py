"""Separating songs: the public Separator, for arrays, for streams of blocks, and for files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, lcm
from numbers import Real
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from waveunet_cli.devices import choose_placement, compute_on
from waveunet_cli.errors import ConfigError
from waveunet_cli.events import OnEvent
from waveunet_cli.hub import load_model
from waveunet_cli.library.find import require_distinct
from waveunet_cli.library.ledger import Ledger
from waveunet_cli.library.manifest import Overwrite, require_overwrite
from waveunet_cli.library.song import Separated, Song, separate_song
from waveunet_cli.library.storage import on_disk
from waveunet_cli.library.target import Settings, Target
from waveunet_cli.networks.family import Config, Model
from waveunet_cli.networks.geometry import MASK_HOP_FRAMES
from waveunet_cli.networks.spleeter import MaskExtension, SpleeterConfig
from waveunet_cli.streaming.channels import ChannelLayout, require_mixture
from waveunet_cli.streaming.engine import new_engine
from waveunet_cli.streaming.song import BLOCK_FRAMES, Audio, Engine, SongStream, open_stream
from waveunet_cli.streaming.stems import StemSelection
from waveunet_cli.tables import check

MAX_SEGMENT_SECONDS = 600
EDGE_FRAMES = 8192  # more than resampling, masks and treble add to what a network reaches, at the model's rate


class SeparatedFile(Separated):
    """What became of a file; a notebook shows it as a player."""

    def _repr_html_(self) -> str | None:
        from waveunet_cli.listen import inline_page, stems_at

        found = stems_at([next(iter(self.stems.values()))])
        return inline_page(found[0]) if found else None


@dataclass(frozen=True)
class _Options:
    """What a Separator is made with, as the command line would have checked it."""

    device: str
    precision: str
    stems: tuple[str, ...] | None
    two_stems: str | None
    stereo: bool
    mask_extension: MaskExtension | None


def _ignore(event: object) -> None:
    """Has a name so that a Separator can be pickled."""


class Separator:
    """Separates any number of songs with one model.

    model            a model's name, the path of a checkpoint, a loaded Model, a configuration (random weights), or a
                     function that loads a Model, which is called once device, precision and the like are checked
    device           auto, cpu, cuda[:N] or mps
    precision        auto, float32, bfloat16 or float16, for the convolutions
    segment_seconds  how much is computed at once; less needs less memory (default: 3 s, 6 s in bfloat16, 8 s on a GPU)
    stems            the stems to return, by default all the model has
    two_stems        instead: this stem and no_<stem>, the mixture minus it
    stereo           return two channels also for a mono mixture
    mask_extension   what the stems of a Spleeter model get of a song above 11 kHz: average, their mean share of what is
                     below (the default), or zeros, nothing, as the published program does by default
    on_event         called with a Note when memory runs short, and the network goes on with less

    On a CPU that other programs use, too, set GOMP_SPINCOUNT=30000 in the environment before torch is loaded, as the
    command does: torch's threads then sleep sooner while they wait for each other, which takes half the time there.

    Start processes that separate, too, with multiprocessing.get_context("spawn"): one that is forked after torch has
    computed something waits for ever when it computes.

    Raises ModelNotFoundError, CheckpointError, DeviceError, and ConfigError for stems the model lacks and for a mask
    extension of a model that is no Spleeter.
    """

    def __init__(
        self,
        model: str | Path | Model | Config | Callable[[], Model] = "vocals",
        device: str = "auto",
        precision: str = "auto",
        *,
        segment_seconds: float | None = None,
        stems: Sequence[str] | None = None,
        two_stems: str | None = None,
        stereo: bool = False,
        mask_extension: MaskExtension | None = None,
        on_event: OnEvent = _ignore,
    ) -> None:
        if segment_seconds is not None and not (
            isinstance(segment_seconds, Real) and 0 < segment_seconds <= MAX_SEGMENT_SECONDS
        ):
            raise ConfigError(
                f"segment of {segment_seconds} s: must be longer than 0 and at most {MAX_SEGMENT_SECONDS} s; "
                "leave it out for the default"
            )
        names: Any = tuple(stems) if isinstance(stems, Sequence) and not isinstance(stems, str) else stems
        check(_Options(device, precision, names, two_stems, stereo, mask_extension))
        self.placement = choose_placement(device, precision)
        dtype = str(self.placement.dtype).removeprefix("torch.")
        self.settings = {"two_stems": two_stems, "stereo": stereo, "precision": dtype}
        self.options = {  # what a worker elsewhere needs to make the same
            "device": device, "precision": precision, "segment_seconds": segment_seconds,
            "stems": stems, "two_stems": two_stems, "stereo": stereo, "mask_extension": mask_extension,
        }  # fmt: skip
        # Until its kernels are folded, which then take the network's place in memory. It has no other name here, for
        # what torch keeps of the stack that loads a network would hold it for ever.
        self._loaded: Model | None = _loaded(model)
        self.model = self._loaded.known
        if mask_extension is not None and not isinstance(self.model.config, SpleeterConfig):
            raise ConfigError(
                f"mask_extension: {self.model.name} has no masks that end below its band; leave out --mask-extension"
            )
        self._extension: MaskExtension = mask_extension or "average"
        if self._extension != "average":
            self.settings["mask_extension"] = self._extension
        self._selection = StemSelection.of(self.model.config, stems, two_stems)
        self._stereo = stereo
        self._segment_seconds = segment_seconds
        self._on_event = on_event

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
        require_mixture(columns, "(frames, channels) or (frames,)")
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
            require_mixture(block)
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
        config, device = self.model.config, self.placement.device
        return compute_on(
            device, lambda: open_stream(self._engine, config, self._selection, layout, sample_rate, device)
        )

    def separate_file(
        self,
        path: str | Path,
        out: str | Path | None = "separated",
        *,
        track: str | None = None,
        overwrite: Overwrite = "changed",
        on_event: OnEvent = _ignore,
        **settings: Unpack[Settings],
    ) -> Separated:
        """Separate a file into files that appear complete or not at all: out / filename, filled in; `out` None is the
        file's own folder.

        track      what {track} stands for (default: the file's name without extension)
        overwrite  changed: a song is skipped if its manifest says that its stems are whole, and made from this input by
                   this model with these settings;  never: if its stems all exist;  always: it is done again
        on_event   called with FileStart, Progress, Note and FileDone of events.py
        settings   how stems are named and written: the fields of library.target.Target

        Raises AudioReadError, AudioWriteError, ConfigError for an address and for an output that cannot exist, and
        DeviceError if memory runs out. Waits for another process that is at work on the same stems.
        """
        if track is not None and (not isinstance(track, str) or "\0" in track):
            raise ConfigError(f"track: found {track!r}; give a text")
        require_overwrite(overwrite)
        song = Song(on_disk(path), Path(path).stem if track is None else track)
        target = Target(None if out is None else on_disk(out), **settings)
        require_distinct([song], [target.outputs(self, song)])
        ledger = Ledger([song], [], on_event)
        ledger.start(song)
        done = separate_song(self, song, target, overwrite=overwrite, on_event=ledger.pass_on)
        ledger.finish(song, done)
        return SeparatedFile(**vars(done))

    def first_frame(self, sample_rate: int, frame: int) -> int:
        """Where a stream may begin so that from `frame` on it gives the whole song's samples, but for their rounding.

        It is so far before that the silence before the stream does not reach `frame`, and at a multiple of the
        network's steps. A network that knows one window only begins with the song.
        """
        model_hz, window = self.model.config.sample_rate, self.model.config.window()
        if not window.alignment:
            return 0
        common = gcd(sample_rate, model_hz)
        step = lcm(window.alignment, MASK_HOP_FRAMES, model_hz // common)  # at the model's rate
        step = step // (model_hz // common) * (sample_rate // common)
        reach = -(-(window.reach + EDGE_FRAMES) * sample_rate // model_hz)
        return max(0, (frame - reach) // step * step)

    def channels(self, file_channels: int) -> int:
        """How many channels the stems of a file have."""
        return ChannelLayout(file_channels, self.model.config.channels, self._stereo).out

    @property
    def loaded(self) -> Model:
        """The model with its network. Raises ConfigError after the first song, when the network is given up."""
        if self._loaded is None:
            raise ConfigError(
                f"{self.model.name}: this Separator has begun to separate and holds no network any more; make a new one"
            )
        return self._loaded

    @cached_property
    def _engine(self) -> Engine:
        """Made for the first song: all songs may be skipped."""
        engine = new_engine(self.loaded, self.placement, self._segment_seconds, self._on_event, self._extension)
        self._loaded = None
        return engine


def _loaded(model: str | Path | Model | Config | Callable[[], Model]) -> Model:
    if isinstance(model, Model):
        return model
    return model() if callable(model) else load_model(model)
