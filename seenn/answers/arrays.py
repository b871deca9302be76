"""Arrays of samples, as numpy writes them: signals, rows of a table, pictures, each an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seenn.data.sets.npz import CHANNELS, channels_first, read_samples
from seenn.data.source import as_samples
from seenn.errors import DataError

ARRAYS = (".npy", ".npz")


def rows(path: Path, shape: Sequence[int] | None = None) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """The name ``FILE[NUMBER]`` of each sample in an array file, and how it is read; see ``sets.npz`` for the layouts.

    Args:
        path: a ``.npz`` file, which is read whole, or a ``.npy`` file, which is mapped.
        shape: of the network's input: an array of just this shape is one sample, and called as its file; so is one
            picture of any size, its channels last.

    Raises:
        DataError: the file is missing, damaged or holds no samples.
    """
    where, array = read_samples(path)
    alone = array.ndim > 0 and array.shape == tuple(shape or ())
    if not alone and _is_picture(array, shape or ()):
        array, alone = array.transpose(2, 0, 1), True
    if alone:
        yield str(path), partial(_sample, where, array[np.newaxis])
        return
    if array.ndim and not len(array):
        raise DataError(f"{where} has shape {list(array.shape)}: there are no samples in it; leave it out")
    if array.ndim < 2:
        raise DataError(f"{where} has shape {list(array.shape)}: expected samples along its first axis, [N, …]")
    array = channels_first(where, array)
    for number in range(len(array)):
        yield f"{path}[{number}]", partial(_sample, f"{where}[{number}]", array[number : number + 1])


def _is_picture(array: NDArray[Any], shape: Sequence[int]) -> bool:
    """Whether it is ``[H, W, C]`` for a network of pictures, and no gray ones so narrow ``[N, H, W]``."""
    pixels = array.dtype == np.uint8 and array.ndim == len(shape) == 3
    return pixels and array.shape[-1] in CHANNELS and array.shape[1:] != tuple(shape[1:])


def _sample(where: str, one: NDArray[Any]) -> Tensor:
    """A picture's pixels uint8 ``[C, H, W]``, or numbers float32 ``[...]``."""
    return torch.from_numpy(as_samples(where, np.array(one)))[0]
