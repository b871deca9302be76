"""``--model-kwargs key=value,...`` as timm's train script understands it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

_OPENING, _CLOSING = "([{", ")]}"


def parse_model_kwargs(text_items: Iterable[str]) -> dict[str, object]:
    """Keyword arguments from ``channels=(32,64),stem_width=32``; several items add up.

    Commas outside brackets and quotes separate. A value is a Python literal where it reads as one and a
    string otherwise, as in timm; nothing is evaluated.

    Raises:
        ValueError: an entry is not ``key=value``, a key is not a name or comes twice, a bracket stays open.
    """
    parsed: dict[str, object] = {}
    for entry in (entry for item in text_items for entry in _split(item)):
        key, separator, value = (part.strip() for part in entry.partition("="))
        if not separator or not key.isidentifier():
            raise ValueError(f"model kwargs: expected key=value, got {entry!r}")
        if key in parsed:
            raise ValueError(f"model kwargs: {key!r} is given twice")
        parsed[key] = _literal(value)
    return parsed


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # what literal_eval documents
        return text


def _split(text: str) -> Iterator[str]:
    """The parts of ``text`` between commas at bracket depth 0 and outside quotes; empty ones are dropped."""
    depth, quote, start = 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth == 0:
            yield from filter(None, [text[start:position].strip()])
            start = position + 1
    if depth != 0 or quote:
        raise ValueError(f"model kwargs: unbalanced brackets or quotes in {text!r}")
    yield from filter(None, [text[start:].strip()])
