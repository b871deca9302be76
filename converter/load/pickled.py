"""Torch's pickled files, read as data: tensors are made, and nothing else is.

``torch.load(weights_only=True)`` runs no code but stops at the first object beside the tensors that it does not know.
Objects of plain data (``PLAIN``) are named to it as ``Inert``, which holds nothing and does nothing, kinds of
dictionaries (``MAPPINGS``) as dictionaries, and arrays of numpy's as their bytes (``PlainArray``), since numpy itself
believes what a file says of them: what trainings store beside their weights is passed over, whatever version of its
library wrote it. Everything else is refused, with the line of Python that writes its weights alone.
"""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from converter.load.protocol import in_protocol_2, is_plain
from seenn.errors import CheckpointError

_ARRAYS = ("scalar", "_reconstruct", "_frombuffer")
#: Objects of plain data that trainings keep beside their weights.
PLAIN = frozenset(
    [f"{package}.{module}.{name}" for package in ("numpy.core", "numpy._core") for module in ("multiarray", "numeric")
     for name in _ARRAYS]
    + [f"numpy.{name}" for name in ("bool_", "dtype", "ndarray", "float16", "float32", "float64", "int32", "int64",
                                    "uint8")]
    + [f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in (
        "Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath")]
    + [f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")]
    + ["argparse.Namespace", "types.SimpleNamespace", "builtins.frozenset", "builtins.slice", "builtins.range",
       "builtins.int", "builtins.float", "builtins.str", "builtins.bool", "builtins.list", "builtins.dict",
       "fractions.Fraction", "decimal.Decimal", "uuid.UUID", "typing.Any",
       "mmcv.utils.config.Config", "mmengine.config.config.Config", "mmengine.logging.history_buffer.HistoryBuffer",
       "ml_collections.config_dict.config_dict.ConfigDict", "fastcore.foundation.L"]
    + [f"omegaconf.{name}" for name in (
        "base.ContainerMetadata", "base.Metadata", "dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode",
        "nodes.BooleanNode", "nodes.FloatNode", "nodes.IntegerNode", "nodes.StringNode")]
)  # fmt: skip
#: Dictionaries of other libraries; weights may lie in them.
MAPPINGS = frozenset([
    "addict.addict.Dict", "box.box.Box", "collections.defaultdict", "easydict.EasyDict",
    "lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict",
    "mmcv.utils.config.ConfigDict", "mmengine.config.config.ConfigDict", "munch.Munch",
    "pytorch_lightning.utilities.parsing.AttributeDict", "yacs.config.CfgNode",
])  # fmt: skip
#: Lists of other kinds.
SEQUENCES = frozenset(["collections.deque"])
_MOST_FOREIGN = 200  # kinds of objects in one file
_WHOLE = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "ema",
    "module",
    "learner",
)  # may be pickled whole


class Inert:
    """Stands for an object of the file that is not read."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Takes anything."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class PlainMapping:
    """Makes a dictionary in place of one of another kind, empty: what it holds is set after."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Of ``Counter``, ``OrderedDict`` and ``dict``, torch sets the attributes of the second alone."""
        return OrderedDict()


class PlainSequence:
    """Makes a list in place of one of another kind, empty: what it holds is appended after."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Torch appends to lists alone."""
        return []


class PlainStorage:
    """Makes the numbers of tensors that lie inside a pickle, of the bytes that torch wrote of them."""

    def __new__(cls, content: bytes) -> Any:
        """Read as a file of torch is, by the same reader."""
        return torch.load(BytesIO(content), map_location="cpu", weights_only=True)


class PlainType(Inert):
    """Stands for a type of numpy's: its code, as ``f4``, and its byte order."""

    def __init__(self, code: Any = "", *args: Any, **kwargs: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        """The byte order is the second of what numpy keeps."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


class PlainArray(Inert):
    """Stands for an array of numpy's: what is needed to make a tensor of its numbers."""

    parts: tuple[Any, ...] = ()  # bytes, type, shape, order

    def __setstate__(self, state: Any) -> None:
        """A version, the shape, the type, whether the first axis runs fastest, the bytes."""
        if isinstance(state, tuple) and len(state) == 5:
            self.parts = (state[4], state[2], state[1], "F" if state[3] else "C")

    @property
    def tensor(self) -> Tensor | None:
        """The numbers; None of an array of something else, or one that is damaged."""
        if len(self.parts) != 4:
            return None
        content, kind, shape, order = self.parts
        if not isinstance(kind, PlainType) or not re.fullmatch(r"b1|[iu][1248]|f[248]", str(kind.code)):
            return None
        sizes = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        dtype = np.dtype(f"{kind.order}{kind.code}")
        if not sizes or not isinstance(content, bytes | bytearray) or order not in ("C", "F"):
            return None
        if math.prod(shape) * dtype.itemsize != len(content):
            return None
        native = np.int64 if dtype.kind == "u" and dtype.itemsize > 1 else dtype.newbyteorder("=")
        return torch.from_numpy(np.frombuffer(content, dtype).reshape(shape, order=order).astype(native, order="C"))


class PlainBuffer(PlainArray):
    """The same, as newer protocols write it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.parts = args


def read_pickled(file: Path) -> Any:
    """What ``torch.save`` wrote, on the CPU; objects of plain data are ``Inert``.

    Raises:
        CheckpointError: it is no file of torch, is damaged, compressed or TorchScript, or holds objects of a program.
    """
    foreign: set[str] = set()
    while True:
        try:
            content = _load(file, PLAIN | MAPPINGS | SEQUENCES | foreign)
            break
        except CheckpointError:
            raise
        except Exception as error:  # a damaged or hostile pickle can raise anything
            name = _unknown(error)
            if name is None or name in foreign or len(foreign) == _MOST_FOREIGN or "is blocked" in str(error):
                if name is None and not foreign:
                    raise CheckpointError(
                        f"{file}: not a torch checkpoint, or damaged or truncated; copy it again, or save it by "
                        "torch.save(model.state_dict(), 'weights.pth')"
                    ) from error
                raise _refusal(file, [*foreign, *([name] if name else [])], None) from error
            foreign.add(name)
    if foreign:
        raise _refusal(file, sorted(foreign), content)
    return content


def _load(file: Path, names: Iterable[str]) -> Any:
    if is_zip := zipfile.is_zipfile(file):
        _check_archive(file)
    older = in_protocol_2(file)
    stand_ins = [_stand_in(name) for name in (*names, _STORAGE)]
    with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if older is None and file.suffix.lower() == ".safetensors":  # which torch would believe
            older = BytesIO(file.read_bytes())
        return torch.load(older or file, map_location="cpu", weights_only=True, mmap=is_zip and older is None)


_STORAGE = "torch.storage._load_from_bytes"
_NUMPY: dict[str, type[Inert]] = {"_reconstruct": PlainArray, "_frombuffer": PlainBuffer, "dtype": PlainType}


def _stand_in(name: str) -> Any:
    """A class called ``name`` that makes a dictionary, a list or something ``Inert``."""
    module, _, own = name.rpartition(".")
    kind = PlainMapping if name in MAPPINGS else PlainSequence if name in SEQUENCES else _NUMPY.get(own, Inert)
    kind = PlainStorage if name == _STORAGE else kind
    return type(own, (kind,), {"__module__": module})


def _unknown(error: Exception) -> str | None:
    """The name at which torch stopped."""
    found = re.search(r"[Gg](?:lobal|LOBAL):? (?:GLOBAL )?([\w.]+)", str(error))
    if found is None:
        return None
    name = found.group(1)
    return name if "." in name else f"builtins.{name}"  # torch shortens these


def _check_archive(file: Path) -> None:
    """A torch checkpoint is a zip of stored members; compressed ones could inflate without bound."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(Path(member.filename).name == "constants.pkl" for member in members):
        raise CheckpointError(
            f"{file}: a TorchScript archive holds code; write its weights alone: "
            f"torch.save(torch.jit.load({str(file)!r}).state_dict(), 'weights.pth')"
        )
    if not any(Path(member.filename).name == "data.pkl" for member in members):
        held = ", ".join(member.filename for member in members[:4]) + ", …" * (len(members) > 4)
        raise CheckpointError(
            f"{file}: a zip archive with {held or 'nothing'}: unpack it, and name the file that is meant"
        )
    declared = sum(member.file_size for member in members)
    if declared > file.stat().st_size:
        raise CheckpointError(
            f"{file}: declares {declared:,} bytes in a file of {file.stat().st_size:,}; "
            f"a torch checkpoint is not compressed, so the file is damaged or hostile: copy it again"
        )


def _refusal(file: Path, names: list[str], content: Any) -> CheckpointError:
    """What is in the way, and the line that writes the weights alone."""
    names.sort(key=lambda name: name.startswith("builtins."))
    more = f" and {len(names) - 1} more kinds of objects" if len(names) > 1 else ""
    source = f"torch.load({str(file)!r}, weights_only=False)"
    if not zipfile.is_zipfile(file) and is_plain(file):
        source = f"pickle.load(open({str(file)!r}, 'rb'))"
    if any(name.startswith("fastai.learner.") for name in names):
        source += ".model.state_dict()"
    elif isinstance(content, Inert):
        source += ".state_dict()"
    elif isinstance(content, Mapping):
        pickled = [key for key in _WHOLE if isinstance(content.get(key), Inert)]
        plain = [key for key in _WHOLE if isinstance(content.get(key), Mapping)]
        if plain or pickled:
            source += f"[{plain[0]!r}]" if plain else f"[{pickled[0]!r}].state_dict()"
        else:
            source = f"{{n: t for n, t in {source}.items() if isinstance(t, torch.Tensor)}}"
    return CheckpointError(
        f"{file}: the file pickles {names[0]}{more}: objects of a program, which seenn never runs. If you trust the "
        f"file, write its weights alone: torch.save({source}, 'weights.pth')"
    )
