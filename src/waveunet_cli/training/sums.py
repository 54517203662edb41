"""Songs that know some sources only as a sum: a place for the sum among the sources, and estimates summed likewise.

A sum takes the place of the first of its sources, and the others are zeros: so the sources of a window still sum to its
mixture. A matrix A (S, S) says what is summed: A·x has the sum of the estimates x in that place, and zeros in the
others. Where every source is known, A is the identity; then there is no matrix at all.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Parts = Mapping[str, tuple[str, ...]]  # what is known: a source, or a sum and the sources in it


def placed(known: Tensor, parts: Parts, sources: Sequence[str]) -> Tensor:
    """What is known (K, C, t), in the order of `parts` → (S, C, t) in the order of `sources`."""
    if len(parts) == len(sources):
        return known
    x = known.new_zeros(len(sources), *known.shape[1:])
    for part, summed in zip(known, parts.values(), strict=True):
        x[sources.index(summed[0])] = part
    return x


def sums_of(parts: Parts, sources: Sequence[str]) -> Tensor | None:
    """The matrix A (S, S) of these parts; None where every source is known."""
    if len(parts) == len(sources):
        return None
    a = torch.zeros(len(sources), len(sources))
    for summed in parts.values():
        a[sources.index(summed[0]), [sources.index(source) for source in summed]] = 1.0
    return a


def summed(x: Tensor, sums: Tensor | None) -> Tensor:
    """Estimates (B, S, …) of windows, summed as the matrices `sums` (B, S, S) say."""
    return x if sums is None else (sums.to(x.device) @ x.flatten(2)).view_as(x)
