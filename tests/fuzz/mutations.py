"""Damage files as transport, disks and people with bad intentions do."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Mutation = Callable[[bytes, random.Random], bytes]
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
NUMBERS = (
    *(b"-1", b"0", b"NaN", b"1e300", b"Infinity", b"4294967296", b"9" * 5000),
    *(b"null", b'"x"', b"[]", b"{}"),
)
HEAD = 2048
"""Bytes in which headers lie; half of all damage goes there."""


def _place(data: bytes, rng: random.Random) -> int:
    return rng.randrange(max(1, min(len(data), HEAD) if rng.random() < 0.5 else len(data)))


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_number(data: bytes, rng: random.Random) -> bytes:
    """An extreme whole number of 1, 2, 4 or 8 bytes, either way round."""
    size = rng.choice((1, 2, 4, 8))
    at = _place(data, rng)
    value = rng.choice(EXTREMES) & ((1 << 8 * size) - 1)
    return data[:at] + value.to_bytes(size, rng.choice(("little", "big"))) + data[at + size :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def cut_end(data: bytes, rng: random.Random) -> bytes:
    return data[: len(data) - rng.randrange(1, min(64, len(data)) + 1)]


def zero_range(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 16, 256, 4096))
    return data[:at] + b"\0" * len(data[at : at + size]) + data[at + size :]


def drop_range(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 4, 64, 512))
    return data[:at] + data[at + size :]


def repeat_range(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 4, 64, 512))
    return data[: at + size] + data[at : at + size] * rng.choice((1, 1, 20)) + data[at + size :]


def swap_ranges(data: bytes, rng: random.Random) -> bytes:
    size = rng.choice((4, 64, 512))
    one, other = sorted((_place(data, rng), rng.randrange(max(1, len(data)))))
    if other < one + size:
        return flip_bits(data, rng)
    first, second = data[one : one + size], data[other : other + size]
    return data[:one] + second + data[one + size : other] + first + data[other + size :]


def insert_noise(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 3, 16, 200))) + data[at:]


def change_number(data: bytes, rng: random.Random) -> bytes:
    """A written number becomes another, or something that is none."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[: 1 << 16]))
    if not found:
        return flip_bits(data, rng)
    chosen = rng.choice(found)
    return data[: chosen.start()] + rng.choice(NUMBERS) + data[chosen.end() :]


def change_word(data: bytes, rng: random.Random) -> bytes:
    """A quoted text becomes something of another type, or nests without end."""
    found = list(re.finditer(rb'"[^"\n]{0,80}"', data[: 1 << 16]))
    if not found:
        return change_number(data, rng)
    chosen = rng.choice(found)
    deep = (b"[" * 3000 + b"]" * 3000, b'"' + b"a." * 500 + b'"')
    other = (*NUMBERS, *deep, b'"\xff\xfe"', b"true", b'"../../x"')
    return data[: chosen.start()] + rng.choice(other) + data[chosen.end() :]


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, set_number, set_number, truncate, cut_end, zero_range, drop_range),
    *(repeat_range, swap_ranges, insert_noise, change_number, change_word),
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Damage some bytes in one way, now and then in two; the result differs from what was given."""
    for _ in range(20):
        changed = rng.choice(MUTATIONS)(data, rng)
        if rng.random() < 0.2 and changed:
            changed = rng.choice(MUTATIONS)(changed, rng)
        if changed != data:
            return changed
    return data + b"\0"
