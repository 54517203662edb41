"""The order of channels: inside the program that of WAVE, in files that of the format.

WAVE (and FFmpeg, and FLAC) order channels by the bits of a mask, from FRONT_LEFT = 1 on. Vorbis and Opus (mapping
family 1) have an order of their own for 3, 5, 6, 7 and 8 channels (Vorbis I specification, 4.3.9; RFC 7845, 5.1.1.2).
"""

from collections.abc import Sequence
from types import MappingProxyType

SPEAKERS = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"),
    *("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"),
)
"""FFmpeg's names of the bits of a WAVE channel mask, from the lowest."""

VORBIS_ORDER = MappingProxyType(
    {
        3: ("FL", "FC", "FR"),
        5: ("FL", "FC", "FR", "BL", "BR"),
        6: ("FL", "FC", "FR", "BL", "BR", "LFE"),
        7: ("FL", "FC", "FR", "SL", "SR", "BC", "LFE"),
        8: ("FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"),
    }
)
"""Channels → their order in a Vorbis stream, where it is not WAVE's."""

_SIDES_AND_BACKS = 0x600, 0x30  # four and more channels are surround either way
_FLAC_MASKS = MappingProxyType({1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F})
_VORBIS_MASKS = MappingProxyType({1: 0x4, 2: 0x3, 4: 0x33})


def mask_of(names: Sequence[str]) -> int:
    """The WAVE channel mask of these speakers; 0 where one is none of SPEAKERS or comes twice."""
    if len(set(names)) < len(names) or not set(names) <= set(SPEAKERS):
        return 0
    return sum(1 << SPEAKERS.index(name) for name in names)


def speakers(mask: int) -> list[str]:
    """The speakers of a WAVE channel mask."""
    return [name for bit, name in enumerate(SPEAKERS) if mask >> bit & 1]


def wave_order(names: Sequence[str]) -> list[int]:
    """For channels stored as `names` say: which of them comes first, second … in the order of WAVE."""
    if not mask_of(names):
        return list(range(len(names)))
    return sorted(range(len(names)), key=lambda channel: SPEAKERS.index(names[channel]))


def vorbis_mask(channels: int) -> int:
    """The WAVE channel mask of so many channels in a Vorbis stream; 0 above eight, which mean nothing."""
    return mask_of(VORBIS_ORDER[channels]) if channels in VORBIS_ORDER else _VORBIS_MASKS.get(channels, 0)


def flac_mask_of(channels: int) -> int:
    """The WAVE channel mask of so many channels in a FLAC stream that says nothing else (RFC 9639, 9.1.3)."""
    return _FLAC_MASKS.get(channels, 0)


def from_vorbis(channels: int) -> list[int]:
    """Which channel of a Vorbis stream comes first, second … in the order of WAVE."""
    return wave_order(VORBIS_ORDER[channels]) if channels in VORBIS_ORDER else list(range(channels))


def to_vorbis(channels: int) -> list[int]:
    """Which channel in the order of WAVE comes first, second … in a Vorbis stream."""
    order = from_vorbis(channels)
    return [order.index(channel) for channel in range(channels)]


def same_speakers(mask: int, other: int) -> bool:
    """Whether two masks mean the same, if side and back speakers count as one kind where only one kind is used."""

    def plain(mask: int) -> int:
        sides, backs = _SIDES_AND_BACKS
        return (mask & ~sides) | backs if mask & sides == sides and not mask & backs else mask

    return plain(mask) == plain(other)
