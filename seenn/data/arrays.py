"""Arrays of any library as plain ones: dense, detached, of this machine's byte order, with nothing left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from seenn.errors import DataError, DataTypeError, InputError


def is_array(value: Any) -> bool:
    """Whether it is an array: of torch, of numpy, or of a library that numpy reads, as tables of pandas are."""
    if isinstance(value, Tensor | np.ndarray):
        return True
    return hasattr(value, "__array__") and not isinstance(value, np.generic | Image.Image | type)


def plain(array: Any) -> Tensor | NDArray[Any]:
    """The same values as a dense tensor without gradients, or as an array of numpy's own.

    Raises:
        DataTypeError: a tensor that holds no values, or not as rows of numbers.
        InputError: values are masked.
    """
    if isinstance(array, Tensor):
        if array.is_meta:
            raise DataTypeError("samples are on the meta device, where there are no values: give computed ones")
        if array.is_nested:
            raise DataTypeError("samples are a nested tensor: give a list of them, list(tensor.unbind())")
        if array.is_quantized:
            raise DataTypeError(f"samples are {array.dtype}: give numbers, tensor.dequantize()")
        found: Tensor = array.detach()
        return found if found.layout == torch.strided else found.to_dense()
    if masked := int(np.ma.getmaskarray(array).sum()) if isinstance(array, np.ma.MaskedArray) else 0:
        raise InputError(f"{masked} values are masked: fill them in (array.filled(0)), or leave those samples out")
    return np.asarray(array)


def as_numbers(array: Any) -> Tensor | None:
    """Floats as they are or, of numpy, float32; integers, bools and complex numbers. None where they are no numbers.

    Raises as :func:`plain`.
    """
    found = plain(array)
    if isinstance(found, Tensor):
        return found
    kinds: dict[str, Any] = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_, "c": np.complex64}
    kind = np.uint8 if found.dtype == np.uint8 else kinds.get(found.dtype.kind)
    # A copy: torch takes no negative strides, foreign byte order or read-only memory.
    return None if kind is None else torch.from_numpy(np.array(found, dtype=kind, order="C"))


def with_batch_axis(samples: Tensor, shape: Sequence[int]) -> Tensor:
    """Prepared samples ``[B, *shape]`` of one without its batch axis, or of gray images without their channel.

    Others stay as they are: whoever takes them looks at their shape.
    """
    found, shape = tuple(samples.shape), tuple(shape)
    if len(shape) == 3 and shape[0] == 1 and found[-2:] == shape[1:] and found[-3:] != shape and len(found) in (2, 3):
        samples = samples.unsqueeze(-3)
    return samples.unsqueeze(0) if samples.dim() == len(shape) else samples


def joined(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Batches ``[B, *shape]``, or frames ``[T, B, *shape]``, as one.

    Raises:
        InputError: some are frames and others are not, or of another T.
    """
    kinds = {(part.dim(), part.shape[0] if part.dim() == len(shape) + 2 else None) for part in parts}
    if len(kinds) > 1:
        raise InputError("samples are of several numbers of frames: give those of one kind at a time")
    return torch.cat(list(parts), dim=parts[0].dim() - len(shape) - 1)


def as_array(labels: Any) -> NDArray[Any]:
    """Labels as an array of numpy's, from an array, or from nested lists of numbers, names and arrays.

    Raises as :func:`plain` and :func:`stacked`.
    """
    if not is_array(labels):
        return stacked(labels, "labels")
    found = plain(labels)
    if isinstance(found, Tensor):
        return (found.float() if found.is_floating_point() else found).cpu().numpy()
    return stacked(found.tolist(), "labels") if found.dtype == object else found


def stacked(rows: Any, what: str) -> NDArray[Any]:
    """Nested lists as one array.

    Raises:
        DataTypeError: they hold neither numbers nor names.
        DataError: they are of several lengths, or numbers and names.
    """
    nested = isinstance(rows, list | tuple)
    parts = [as_array(row) if is_array(row) else row for row in rows] if nested else rows
    for part in parts if nested else [parts]:
        if not isinstance(part, list | tuple | str | bytes | np.ndarray) and not is_number(part):
            raise DataTypeError(f"{what} are {type(part).__name__}: expected numbers")
    try:
        array = np.asarray(parts)
    except ValueError as error:  # of several lengths
        raise DataError(f"{what} differ in length: give each of one shape") from error
    if array.dtype == object or (array.dtype.kind in "US" and nested and any(map(is_number, rows))):
        raise DataError(f"{what} are of several kinds: give numbers alone, or names alone")
    return array


def is_number(value: Any) -> bool:
    """Whether it is one, be it in an array without axes."""
    return isinstance(value, int | float | np.number | np.bool_) or (is_array(value) and not value.ndim)


def type_of(value: Any) -> str:
    """What it is, to be said in a message."""
    if isinstance(value, Tensor):
        return str(value.dtype if value.layout == torch.strided else value.layout)
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
