"""What the tensors of a checkpoint cannot tell: one list, from which the command's options, the keys of a sidecar and
those of a card derive. No torch here.
"""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from msgspec import Meta

from waveunet_cli.bounds import SampleRateHz, SourceName, Stride, WindowFrames
from waveunet_cli.errors import ConfigError
from waveunet_cli.tables import check

Names = Annotated[
    tuple[SourceName, ...],
    Meta(min_length=2, max_length=32, description="two or more different names of letters, digits, spaces, _ and -"),
]


@dataclass(frozen=True)
class ImportOptions:
    """None is what nobody said: then the importer takes what the published models have, and says so.

    The metadata are for the command line. Raises ConfigError for an option that cannot be.
    """

    padding: Literal["valid", "same"] | None = field(
        default=None,
        metadata={
            "help": "Padding of a TensorFlow checkpoint's network: none (valid) or zeros (same).  [default: valid]"
        },
    )
    activation: Literal["tanh", "linear"] | None = field(
        default=None,
        metadata={"help": "What a TensorFlow checkpoint's network applies to its output.  [default: tanh]"},
    )
    sample_rate: SampleRateHz | None = field(
        default=None,
        metadata={"help": "Sample rate that the network works at.", "metavar": "HZ"},
    )
    stems: Names | None = field(
        default=None,
        metadata={"help": "Names of the stems, in the order of the network's outputs.", "metavar": "A,B"},
    )
    residual: SourceName | None = field(
        default=None,
        metadata={"help": "Stem that gets what lies above half the network's sample rate.", "metavar": "STEM"},
    )
    window_frames: WindowFrames | None = field(
        default=None,
        metadata={"help": "Frames of each stem that the network computes at once.", "metavar": "N"},
    )
    stride: Stride | None = field(
        default=None,
        metadata={
            "help": "Factor between the sample rates of two levels of a PyTorch port.  [default: 4]",
            "metavar": "N",
        },
    )

    def __post_init__(self) -> None:
        check(self)
        if self.stems and len(set(self.stems)) < len(self.stems):
            raise ConfigError(f"stems: found {', '.join(self.stems)}; expected two or more different names")

    def given(self) -> dict[str, Any]:
        """The options that somebody gave, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, others: "ImportOptions") -> "ImportOptions":
        """These options and, where they say nothing, the others."""
        return ImportOptions(**{**others.given(), **self.given()})
