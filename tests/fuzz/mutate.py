"""Mutants of valid input: a few changes each, most of them near the ends of the file, where headers and indices are."""

import random
import struct

NUMBERS = [
    struct.pack(order + "Q", number) for order in "<>" for number in (0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
]
TOKENS = [
    b"[", b"{", b'"', b"-", b"9" * 30, b"1e999", b"nan", b"inf", b"true", b"null", b"{}", b"[]", b"\x80" * 20,
    b"\\u001b", b"\x1b[2J", b"\xff\xfe", b"= 0\n", b"= -1\n", b"../", b"\n",
]  # fmt: skip
NEAR_END_BYTES = 400


def mutant(rng: random.Random, data: bytes, protected: int = 0) -> bytes:
    """Other bytes than `data`; the first `protected` stay."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        if len(found) <= protected:
            break
        _change(rng, found, _position(rng, len(found), protected))
    return bytes(found)


def _position(rng: random.Random, size: int, protected: int) -> int:
    near = min(size - protected, NEAR_END_BYTES)
    place = rng.random()
    if place < 0.5:
        return protected + rng.randrange(near)
    return size - 1 - rng.randrange(near) if place < 0.6 else rng.randrange(protected, size)


def _change(rng: random.Random, data: bytearray, at: int) -> None:
    match rng.randrange(9):
        case 0 | 1:
            data[at] ^= 1 << rng.randrange(8)
        case 2:
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, ord("9"), ord("-")])
        case 3:
            del data[at : at + rng.randrange(1, 32)]
        case 4:
            data[at:at] = data[at : at + rng.randrange(1, 64)]
        case 5:
            width = rng.choice([1, 2, 4, 8])
            number = rng.choice(NUMBERS)
            data[at : at + width] = rng.choice([number[:width], number[-width:]])
        case 6:
            other = rng.randrange(len(data))
            data[at : at + 8] = data[other : other + 8]
        case 7:
            del data[at:]
        case 8:
            data[at:at] = rng.choice(TOKENS)
