"""Damaged files: what bad disks, cut-off downloads and people with ideas make of whole ones. The same for each seed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable

_NUMBERS = (0, 1, -1, 2, 7, 255, 2**15, 2**31 - 1, 2**31, 2**53, 2**63 - 1, -(2**63), 10**40, 0.5, -0.5, 1e300)
_WORDS = ("", "F32", "F64", "BF16", "I8", "conv2d", "linear", "if_neuron", "input", "../../x", "\0", "é" * 300, "NaN")
_FEW = 4  # at most so many changes


def damaged(whole: bytes, draw: random.Random, *, header: bool = False) -> bytes:
    """A few changes, or a cut; with ``header`` half of them inside the JSON that safetensors files begin with."""
    if header and draw.random() < 0.5:
        return _other_header(whole, draw)
    content = bytearray(whole)
    for _ in range(draw.randint(1, _FEW)):
        draw.choice(_CHANGES)(content, draw)
    return bytes(content)


def _flip(content: bytearray, draw: random.Random) -> None:
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def _cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randint(0, len(content)) :]


def _span(content: bytearray, draw: random.Random) -> slice:
    start = draw.randint(0, len(content))
    return slice(start, min(len(content), start + draw.choice((1, 4, 8, 64, 512))))


def _remove(content: bytearray, draw: random.Random) -> None:
    del content[_span(content, draw)]


def _repeat(content: bytearray, draw: random.Random) -> None:
    span = _span(content, draw)
    content[span.stop : span.stop] = content[span]


def _fill(content: bytearray, draw: random.Random) -> None:
    span = _span(content, draw)
    content[span] = bytes((draw.choice((0, 1, 127, 128, 255)),)) * (span.stop - span.start)


def _noise(content: bytearray, draw: random.Random) -> None:
    span = _span(content, draw)
    content[span] = draw.randbytes(span.stop - span.start)


def _insert(content: bytearray, draw: random.Random) -> None:
    place = draw.randint(0, len(content))
    content[place:place] = draw.randbytes(draw.choice((1, 4, 64)))


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _flip, _cut, _remove, _repeat, _fill, _noise, _insert,
)  # fmt: skip


def _other_header(whole: bytes, draw: random.Random) -> bytes:
    """Other values in the header, or in the JSON texts within it, around the same tensors."""
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    for _ in range(draw.randint(1, _FEW)):
        _change(header, draw)
    written = json.dumps(header).encode(errors="replace")
    return struct.pack("<Q", len(written)) + written + whole[8 + length :]


def _change(tree: dict[str, object], draw: random.Random) -> None:
    """One value somewhere in a tree of JSON; a text that is JSON itself is a part of it."""
    where: dict[object, object] | list[object] = tree  # type: ignore[assignment]
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            return
        key = draw.choice(keys)
        value = where[key]  # type: ignore[index]
        if isinstance(value, str) and value[:1] in ("{", "[") and draw.random() < 0.9:
            inner = {"": json.loads(value)}
            _change(inner, draw)
            where[key] = json.dumps(inner.get(""))  # type: ignore[index]
            return
        if isinstance(value, dict | list) and value and draw.random() < 0.95:
            where = value
            continue
        if draw.random() < 0.15:
            del where[key]  # type: ignore[arg-type]
        elif isinstance(value, int | float) and not isinstance(value, bool) and draw.random() < 0.5:
            where[key] = value + draw.choice((-1, 1, 1000, -value, 2**40))  # type: ignore[index]
        else:
            where[key] = draw.choice((*_NUMBERS, *_WORDS, None, True, [], {}, [1] * 100, value))  # type: ignore[index]
        return
