"""What the tensors of a checkpoint cannot tell: one list, from which the command's options, the keys of a sidecar and
those of a card's [import] table derive. No torch here.
"""

from dataclasses import dataclass, fields
from typing import Literal


@dataclass(frozen=True)
class ImportOptions:
    """None is what nobody said: then the importer takes what the published models have, and notes it.

    padding          "valid" or "same": whether the network's convolutions pad with zeros
    activation       "tanh" or "linear": what the network applies to its output
    sample_rate      Hz the network works at
    stems            names of the sources, in the order of the network's outputs
    residual         the source for what lies above the model's Nyquist frequency
    window_frames    output frames of one window
    stride           factor between the rates of two levels
    """

    padding: Literal["valid", "same"] | None = None
    activation: Literal["tanh", "linear"] | None = None
    sample_rate: int | None = None
    stems: tuple[str, ...] | None = None
    residual: str | None = None
    window_frames: int | None = None
    stride: int | None = None

    def given(self) -> dict[str, object]:
        """The options that somebody said, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, others: "ImportOptions") -> "ImportOptions":
        """These options and, where they say nothing, the others."""
        return ImportOptions(**{**others.given(), **self.given()})  # type: ignore[arg-type]
