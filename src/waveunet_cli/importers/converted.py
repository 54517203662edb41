"""What an importer is and what it yields, and the few rules that all formats share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from waveunet_cli.errors import CheckpointError
from waveunet_cli.importers.options import ImportOptions
from waveunet_cli.networks.family import Config
from waveunet_cli.networks.wave_u_net.config import FOUR_STEMS, VOICE

if TYPE_CHECKING:
    from waveunet_cli.importers.foreign import Foreign


@dataclass(frozen=True)
class Converted:
    """A checkpoint of another program: our configuration, its weights under our names, and how it was read.

    `notes` says what was assumed rather than read, one sentence each.
    """

    config: Config
    weights: dict[str, Tensor]
    format: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Importer:
    """How the checkpoints of one program are read.

    format        what its checkpoints are called, as in PROGRAMS
    options       the names of the fields of ImportOptions that it reads; any other that is given is refused
    recognises    whether a checkpoint is one of its own
    convert       the conversion; it raises CheckpointError for a damaged checkpoint or another network
    """

    format: str
    options: frozenset[str]
    recognises: "Callable[[Foreign], bool]"
    convert: "Callable[[Foreign, ImportOptions], Converted]"


def all_printable(names: Iterable[str]) -> bool:
    """Whether names from a file can stand in a message: damage may put line breaks into them."""
    return all(name.isprintable() for name in names)


def listed(names: Iterable[str]) -> str:
    """The first four names, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:4]) + (f" and {len(ordered) - 4} more" if len(ordered) > 4 else "")


def residual_of(sources: tuple[str, ...], chosen: str | None) -> str:
    """The source for what lies above the model's Nyquist frequency: never the vocals, if there is a choice.

    Raises CheckpointError if the chosen one is none of them.
    """
    if chosen is not None:
        if chosen not in sources:
            raise CheckpointError(f"no stem is named {chosen!r}; give one of {', '.join(sources)} as --residual")
        return chosen
    for name in ("other", "accompaniment"):
        if name in sources:
            return name
    return next((name for name in sources if name != "vocals"), sources[0])


def sources_and_output(
    predicted: int, sources: tuple[str, ...] | None, where: Path
) -> tuple[tuple[str, ...], Literal["direct", "difference"]]:
    """Names and kind of output from the number of predicted sources, K − 1 of K with a difference output.

    Without names, the published tasks decide: two stems or four. Raises CheckpointError if nothing fits.
    """
    for names in (sources,) if sources else (VOICE, FOUR_STEMS):
        if len(names) == predicted:
            return names, "direct"
        if len(names) == predicted + 1:
            return names, "difference"
    given = f"{len(sources)} names were given" if sources else "that is neither of the published tasks"
    either = f"{predicted} names with --stems, or {predicted + 1}" if predicted > 1 else "2 names with --stems"
    raise CheckpointError(
        f"{where}: the number of sources that the network predicts is {predicted}, and {given}; "
        f"give {either} if the last is the mixture minus the others"
    )
