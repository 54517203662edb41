"""What a training run does, as one frozen dataclass that a TOML file can hold.

    model = "M5-HighSR"          M1 … M7, M5-HighSR, U7, U7a, Keras-shallow, or a checkpoint's path to go on from
    loss = "l1+rmse"
    [architecture]               fields of the variant to change
    filters = 16
    [[data]]
    path = "musdb18hq"
    [augmentation]
    remix = 0.5
    [schedule]
    kind = "budget"
    steps = 20_000

The defaults are the paper's (section 4.2): MSE, gains in [0.7, 1], Adam at 1e-4 with 16 windows a step until 20 epochs
of 2 000 steps bring no better validation loss, then the same at 1e-5 with 32.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from waveunet_cli.bounds import (
    Batch,
    Decibels,
    Factor,
    LearningRate,
    Minutes,
    PastWeight,
    Probability,
    Seed,
    Semitones,
    SpreadDecibels,
    Steps,
    Weight,
    WindowFrames,
    Workers,
)
from waveunet_cli.datasets.tracks import Data
from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Config
from waveunet_cli.networks.keras_port import KerasPortConfig
from waveunet_cli.networks.spectrogram_u_net import U7
from waveunet_cli.networks.wave_u_net.config import VARIANTS
from waveunet_cli.tables import check, from_table, partial, toml_in
from waveunet_cli.training.optimizer import Name

ARCHITECTURES: dict[str, Config] = {
    **VARIANTS,
    "U7": U7,
    "U7a": U7,
    "Keras-shallow": KerasPortConfig(batch_norm=True),
}
CHECKPOINT = ".safetensors"
LOSS_OF = {"U7a": "magnitude"}  # what "auto" means for an architecture; for all others mse


@dataclass(frozen=True)
class Augmentation:
    """What happens to the sources of a window before they are summed. A bare number is a probability from 0 to 1.

    gain             range of the factor of each source
    remix            take every source from a song of its own
    levels_db        source: its level in a remix, in dB below full scale (root mean square of what is not silent)
    spread_db        standard deviation of these levels
    lead_sources     the sources that the next three are for
    heard            look for a stretch in whose middle the source sounds (of a song: the first of `lead_sources`)
    doubled          add a second stretch of the same source, 0 to 12 dB below the first
    reverb           reverberation
    swap, polarity   exchange left and right; turn the sign
    silence          leave one source out
    mono             put all sources in the middle, so that the channels are equal
    speed            play faster or slower, pitch and all, by up to speed_semitones
    equalise         a random smooth frequency response of equaliser_db standard deviation
    limit            drive the mixture into a limiter: one gain for all sources, sample by sample
    full_scale       turn a window down whose mixture exceeds full scale
    """

    gain: tuple[Factor, Factor] = (0.7, 1.0)
    remix: Probability = 0.0
    levels_db: Mapping[str, Decibels] = field(default_factory=dict)
    spread_db: SpreadDecibels = 4.0
    lead_sources: tuple[str, ...] = ("vocals",)
    heard: Probability = 0.0
    doubled: Probability = 0.0
    reverb: Probability = 0.0
    swap: Probability = 0.0
    polarity: Probability = 0.0
    silence: Probability = 0.0
    mono: Probability = 0.0
    speed: Probability = 0.0
    speed_semitones: Semitones = 3.0
    equalise: Probability = 0.0
    equaliser_db: SpreadDecibels = 2.5
    limit: Probability = 0.0
    full_scale: bool = False

    def __post_init__(self) -> None:
        check(self)
        if self.gain[0] > self.gain[1]:
            raise ConfigError(f"augmentation.gain: found {list(self.gain)}; give the least and the greatest factor")


@dataclass(frozen=True)
class Schedule:
    """How long to train, and how fast.

    kind            "paper": two stages with early stopping; "budget": a fixed length with a cosine to zero
    learning_rate   of the first stage, or the cosine's highest
    batch           windows a step, over all processes; the paper's second stage takes twice as many
    epoch_steps     steps between validations
    patience        epochs without a better validation loss that end a stage of the paper
    steps, minutes  length of a budget: one of them. Only steps make a run that can be repeated exactly
    warmup_steps    of a budget: steps over which the learning rate rises
    average         weight of the past in the moving average of the weights, 0 for none
    optimizer       "adam", or "muon": its steps take some time of their own, but a network learns more from each
    betas           of Adam: weights of the past in the means of gradients and of their squares
    clip_factor     the norm of all gradients together is shortened to so many times its running mean. 0 for no limit
    """

    kind: Literal["paper", "budget"] = "paper"
    learning_rate: LearningRate = 1e-4
    batch: Batch = 16
    epoch_steps: Steps = 2000
    patience: Steps = 20
    steps: Steps | None = None
    minutes: Minutes | None = None
    warmup_steps: Annotated[int, Meta(ge=0, le=10**12)] = 0
    average: PastWeight = 0.0
    weight_decay: Weight = 0.0
    optimizer: Name = "adam"
    betas: tuple[PastWeight, PastWeight] = (0.9, 0.999)
    clip_factor: Weight = 0.0

    def __post_init__(self) -> None:
        check(self)
        if (self.kind == "budget") != ((self.steps is None) != (self.minutes is None)):
            raise ConfigError("schedule: a budget needs either steps or minutes, the paper's schedule has neither")
        if self.clip_factor and self.clip_factor < 1:
            raise ConfigError(f"schedule.clip_factor: found {self.clip_factor}; give at least 1, or 0 for no limit")


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    architecture   fields that differ from the variant `model`
    transfer       checkpoint to take those weights from that have the same name and shape; the others start anew
    validation     folders of songs to validate with: the weights with the lowest loss on them are the result
    hold_out       or so many songs of the first folder of data, chosen by the seed (the paper: 25 of 100)
    loss           "mse", "l1", "l1+rmse", or "magnitude" (L1 between magnitudes of spectrograms). "auto" is the paper's
                   for the model: "magnitude" for U7a, "mse" for all others
    hop_frames     least frames of a window that a valid network keeps; default: the paper's
    micro_batch    windows computed at once; more than that are accumulated
    precision      "float32", or "bfloat16" for the convolutions
    storage        of the weights in model.safetensors: "float32", "float16" or "bfloat16"
    in_memory      keep decoded audio in memory (16 bits a sample, 32 for files of float samples) instead of reading
                   each window from disk
    save_minutes   time between two saves of the state
    """

    data: tuple[Data, ...]
    model: str = "M4"
    architecture: Mapping[str, Any] = field(default_factory=dict)
    transfer: str | None = None
    validation: tuple[Data, ...] = ()
    hold_out: Annotated[int, Meta(ge=0, le=10**6)] = 0
    augmentation: Augmentation = Augmentation()
    schedule: Schedule = Schedule()
    loss: Literal["auto", "mse", "l1", "l1+rmse", "magnitude"] = "auto"
    hop_frames: WindowFrames | None = None
    micro_batch: Batch = 16
    precision: Literal["float32", "bfloat16"] = "float32"
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    seed: Seed = 0
    workers: Workers = 2
    in_memory: bool = False
    save_minutes: Minutes = 10.0

    def __post_init__(self) -> None:
        if not self.data:
            raise ConfigError("data: no folder to train on; give at least one")
        check(self)
        if self.schedule.kind == "paper" and not self.validation and not self.hold_out:
            raise ConfigError(
                "validation: the paper's schedule stops early and needs it; give folders, or hold_out = 25"
            )
        if self.transfer is not None and self.model.endswith(CHECKPOINT):
            raise ConfigError("transfer: the model is a checkpoint and has all its weights; name an architecture")

    @property
    def loss_name(self) -> str:
        """The loss to train with."""
        return LOSS_OF.get(self.model, "mse") if self.loss == "auto" else self.loss

    def config(self) -> Config:
        """The architecture; raises ConfigError for an unknown variant or field."""
        if self.model.endswith(CHECKPOINT):
            from waveunet_cli.networks.checkpoint import load_checkpoint

            base = load_checkpoint(Path(self.model)).config
        elif self.model in ARCHITECTURES:
            base = ARCHITECTURES[self.model]
        else:
            raise ConfigError(
                f"model: {self.model!r} is no architecture; choose {', '.join(ARCHITECTURES)}, or the path of a "
                ".safetensors file"
            )
        return replace(base, **partial(type(base), self.architecture, "architecture"))  # type: ignore[type-var]


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file; paths in it are relative to the file. Raises ConfigError."""
    values = toml_in(path)
    try:
        return recipe_from(values, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def recipe_from(values: Mapping[str, Any], root: Path = Path()) -> Recipe:
    """The recipe that nested tables describe. Raises ConfigError for an unknown or mistyped key."""
    known = dict(values)
    for name in ("data", "validation"):
        if isinstance(known.get(name), list):
            known[name] = [_beside(root, table) for table in known[name]]
    for name in ("model", "transfer"):
        if isinstance(known.get(name), str) and known[name].endswith(CHECKPOINT):
            known[name] = str(root / known[name])
    return from_table(Recipe, known, "recipe")


def _beside(root: Path, table: Any) -> Any:
    """A table of data whose path is relative to `root`; what is no such table is refused later."""
    if isinstance(table, dict) and isinstance(table.get("path"), str) and table["path"]:
        return {**table, "path": root / table["path"]}
    return table
