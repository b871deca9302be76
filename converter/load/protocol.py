"""Newer pickle protocols in the words of protocol 2, the only ones that torch reads without running code.

``torch.save(..., pickle_protocol=4)`` writes the same objects with other opcodes. They are rewritten one by one, as
bytes: nothing is built, imported or called here. What ``pickle.dump`` wrote alone, with the tensors inside, is put in
torch's older format, whose header comes before it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from seenn.errors import CheckpointError

_MOST_PLAIN = 2**31  # of a pickle with its tensors inside
_MOST_BYTES = 2**24  # of one pickle, which holds names and shapes; tensors lie beside it
_PICKLES = 5  # of torch's format before zip: a magic number, a version, the system, the content, the storages' keys
_MAGIC = 0x1950A86A20F9469CFC6C  # with which torch's format before zip begins
_START = 64  # bytes among which it is
_SHORT = 256  # bytes; longer strings name no class
_AS_LISTS = {"EMPTY_SET": pickle.EMPTY_LIST, "ADDITEMS": pickle.APPENDS, "FROZENSET": pickle.TUPLE}
_NAMES = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")


def in_protocol_2(file: Path) -> io.BytesIO | None:
    """The file in protocol 2, in memory; None where it is no newer, or no pickle of torch.

    Raises:
        CheckpointError: too much of it is pickled to be rewritten.
    """
    if not zipfile.is_zipfile(file):
        with file.open("rb") as source:
            if is_plain(file):
                header = (_MAGIC, 1001, {"little_endian": True})
                content = _rewritten(source, file, _MOST_PLAIN)
                return io.BytesIO(b"".join([*(pickle.dumps(part, 2) for part in header), content, pickle.dumps([], 2)]))
            if not _is_newer(source.read(2)):
                return None
            source.seek(0)
            content = b"".join(_rewritten(source, file) for _ in range(_PICKLES))
            return io.BytesIO(content + source.read())
    with zipfile.ZipFile(file) as archive:
        pickled = [member for member in archive.infolist() if member.filename.endswith("data.pkl")]
        if len(pickled) != 1 or not _is_newer(archive.open(pickled[0]).read(2)):
            return None
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as target:
            for member in archive.infolist():
                with archive.open(member) as source:
                    content = _rewritten(source, file) if member is pickled[0] else source.read()
                target.writestr(member.filename, content)
    made.seek(0)
    return made


def is_plain(file: Path) -> bool:
    """Whether ``pickle.dump`` wrote it, and not torch."""
    with file.open("rb") as source:
        start = source.read(_START)
    return start[:1] == pickle.PROTO and pickle.dumps(_MAGIC, 2)[2:-1] not in start


def _is_newer(start: bytes) -> bool:
    return start[:1] == pickle.PROTO and start[1:] > b"\x02"


def _rewritten(source: IO[bytes], file: Path, most: int | None = None) -> bytes:
    """One pickle in protocol 2.

    Raises:
        CheckpointError: it is too long.
    """
    parts, size = [], 0
    for part in _opcodes(source):
        parts.append(part)
        size += len(part)
        if size > (most or _MOST_BYTES):
            where = "" if most else " beside its tensors, in a new protocol"
            raise CheckpointError(
                f"{file}: pickles {size:,} bytes and more{where}; re-save it with "
                "torch.save(model.state_dict(), 'weights.pth')"
            )
    return b"".join(parts)


def _opcodes(source: IO[bytes]) -> Iterator[bytes]:
    """The opcodes of one pickle. A class is named by the two strings before ``STACK_GLOBAL``, kept back for that."""
    raw = io.BytesIO()
    memo: dict[int, str | None] = {}  # short strings by their number; None: another object
    held: list[str] = []  # short strings that were not written yet
    last: str | None = None  # the last object, if it is one of them

    def written() -> Iterator[bytes]:
        yield from map(_unicode, held)
        held.clear()

    argument: Any
    for opcode, argument, _ in pickletools.genops(cast(IO[bytes], _Recorder(source, raw))):
        name, code = opcode.name, raw.getvalue()
        raw.seek(0)
        raw.truncate()
        if name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            place = len(memo) if name == "MEMOIZE" else argument
            memo[place] = last
            if last is None:  # a string is written again wherever it is read
                yield pickle.LONG_BINPUT + struct.pack("<I", place)
            continue
        if name in ("BINGET", "LONG_BINGET") and memo.get(argument) is not None:
            last = memo[argument]
        elif name in _NAMES and len(argument) < _SHORT:
            last = argument
        else:
            last = None
        if last is not None:
            held.append(last)
        elif name == "STACK_GLOBAL" and len(held) >= 2:
            module, own = held[-2:]
            del held[-2:]
            yield from written()
            yield pickle.GLOBAL + f"{module}\n{own}\n".encode()
        elif name != "FRAME":
            yield from written()
            yield _in_words_of_2(name, argument, code)


def _in_words_of_2(name: str, argument: object, code: bytes) -> bytes:
    if name == "PROTO":
        return pickle.PROTO + b"\x02"
    if name in _BYTES:
        assert isinstance(argument, bytes | bytearray)
        text, encoding = _unicode(argument.decode("latin1")), _unicode("latin1")
        return pickle.GLOBAL + b"_codecs\nencode\n" + text + encoding + pickle.TUPLE2 + pickle.REDUCE
    if name in _NAMES:
        assert isinstance(argument, str)
        return _unicode(argument)
    return _AS_LISTS.get(name, code)


def _unicode(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


class _Recorder:
    """A file for ``pickletools`` that keeps the bytes of each opcode."""

    def __init__(self, source: IO[bytes], raw: io.BytesIO) -> None:
        self._source, self._raw = source, raw

    def read(self, count: int) -> bytes:
        data = self._source.read(count)
        self._raw.write(data)
        return data

    def readline(self) -> bytes:
        data = self._source.readline()
        self._raw.write(data)
        return data
