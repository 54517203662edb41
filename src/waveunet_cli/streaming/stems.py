"""Which stems are wanted, and how they come from what the network estimates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from waveunet_cli.errors import ConfigError
from waveunet_cli.networks.family import Config


@dataclass(frozen=True)
class StemSelection:
    """Which stems are wanted, and how they come from what the network estimates.

    stems      names to return, in order
    estimated  indices of the sources that must leave the network for them
    sources    names of these
    residual   the source to be made as mixture minus `sources`, if it is wanted and the model is additive
    opposite   the stem whose complement no_<stem> is wanted
    """

    stems: tuple[str, ...]
    estimated: tuple[int, ...]
    sources: tuple[str, ...]
    residual: str | None
    opposite: str | None

    @classmethod
    def of(cls, config: Config, stems: Sequence[str] | None = None, two_stems: str | None = None) -> Self:
        """All stems, the named ones, or one and its complement; ConfigError for stems the model lacks."""
        if stems is not None and two_stems is not None:
            raise ConfigError("stems and two stems exclude each other; give one of them")
        wanted = tuple(stems) if stems is not None else (two_stems,) if two_stems is not None else config.sources
        unknown = [stem for stem in wanted if stem not in config.sources]
        if unknown or not wanted or len(set(wanted)) < len(wanted):
            about = f"{unknown[0]!r} is none" if unknown else f"{', '.join(wanted) or 'none'} are wanted"
            raise ConfigError(
                f"stems: {about} of this model's {', '.join(config.sources)}; name these, once each, or another model "
                "(waveunet models list)"
            )
        residual = config.residual if config.additive and config.residual in wanted else None
        needed = [source for source in config.sources if (source in wanted if residual is None else source != residual)]
        return cls(
            stems=wanted if two_stems is None else (two_stems, f"no_{two_stems}"),
            estimated=tuple(config.sources.index(source) for source in needed),
            sources=tuple(needed),
            residual=residual,
            opposite=two_stems,
        )

    def select(self, mixture: Tensor, estimates: Tensor) -> dict[str, Tensor]:
        """(ch, t) and (len(estimated), ch, t) → {stem: (ch, t)}."""
        found: dict[str, Tensor] = dict(zip(self.sources, estimates, strict=True))
        if self.residual is not None:
            found[self.residual] = mixture - estimates.sum(0)
        if self.opposite is not None:
            found[f"no_{self.opposite}"] = mixture - found[self.opposite]
        return {stem: found[stem] for stem in self.stems}
