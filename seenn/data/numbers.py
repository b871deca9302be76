"""From arrays of numbers (signals, tables, images that somebody prepared) to the network's input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from seenn.data.arrays import as_numbers, is_array, joined, stacked, type_of, with_batch_axis
from seenn.errors import CheckpointError, DataTypeError, InputError


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """How numbers ``[B, *shape]`` become the network's input: ``(x - mean) / std``, by default as they are.

    Signals are ``[C, L]``, tables ``[F]``, prepared images ``[C, H, W]``. Nothing is resized: only axes of length 1
    may be missing, so that ``[28, 28]`` goes into a network that takes ``[1, 28, 28]``.

    Raises:
        ValueError: a field is out of its range; the message names every such field.
    """

    shape: tuple[int, ...]  # of one sample
    mean: tuple[float, ...] = (0.0,)  # one, or one for each entry of the first axis
    std: tuple[float, ...] = (1.0,)  # likewise

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ValueError(f"Numbers: {'; '.join(problems)}")

    def _problems(self) -> Iterator[str]:
        if not self.shape or not all(type(size) is int and size > 0 for size in self.shape):
            yield f"shape is {self.shape!r}, expected positive integers"
            return
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(map(_is_finite, values)):
                yield f"{name} is {values!r}, expected finite numbers"
            elif len(values) not in (1, self.shape[0]):
                yield f"{name} has {len(values)} values, expected one, or one for each of {self.shape[0]} channels"
            elif name == "std" and min(values) <= 0:
                yield f"std is {values!r}, expected numbers above 0"

    def __str__(self) -> str:
        mean, std = (",".join(f"{value:.4g}" for value in values[:4]) for values in (self.mean, self.std))
        return f"{_sizes(self.shape)}, mean {mean}, std {std}"

    def __call__(self, numbers: Tensor) -> Tensor:
        """Numbers ``[B, ...]`` to float32 ``[B, *shape]``, on the same device.

        Raises:
            InputError: their shape is another.
        """
        found = tuple(numbers.shape[1:])
        if [size for size in found if size > 1] != [size for size in self.shape if size > 1]:
            raise InputError(
                f"{_sizes(found)} numbers a sample, the network takes {_sizes(self.shape)}: prepare them so"
            )
        values = numbers.to(torch.float32).reshape(-1, *self.shape)
        mean, std = (values.new_tensor(v).view(-1, *[1] * (len(self.shape) - 1)) for v in (self.mean, self.std))
        result: Tensor = (values - mean) / std
        return result

    def prepare(self, samples: Any) -> Tensor:
        """One sample or several as the network's input, float32 ``[B, *shape]`` or, one a timestep, ``[T, B, *shape]``.

        Floating-point arrays and tensors are taken as prepared, as those of images are; integers are raw numbers, and
        so are lists of them.

        Raises:
            DataTypeError: they are of another type.
            InputError: they have another shape, or hold NaN or infinity.
        """
        first = samples[0] if isinstance(samples, list | tuple) and samples else samples
        if isinstance(first, str | Path | Image.Image):
            raise DataTypeError(
                f"samples are {type_of(first)}, and the network takes numbers {_sizes(self.shape)}, as it was made "
                "of them: prepare pictures as in training and give floats, or convert it again with preprocessing="
            )
        if isinstance(samples, list | tuple) and samples and all(map(is_array, samples)):
            return joined([self.prepare(sample) for sample in samples], self.shape)
        listed = stacked(samples, "samples") if isinstance(samples, list | tuple) else samples
        found = as_numbers(listed) if is_array(listed) else None
        if found is None or found.dtype == torch.bool or found.is_complex():
            raise DataTypeError(f"samples are {type_of(samples)}: expected arrays or tensors {_sizes(self.shape)}")
        samples = with_batch_axis(found, self.shape)
        extra = samples.dim() - len(self.shape)
        if extra not in (1, 2) or tuple(samples.shape[extra:]) != self.shape:
            raise InputError(
                f"samples have shape {list(samples.shape)}, expected {_sizes(self.shape)} each, [B, …] or [T, B, …]"
            )
        if not samples.is_floating_point():
            flat: Tensor = samples.flatten(0, extra - 1) if extra > 1 else samples
            return self(flat).view(samples.shape)
        if not bool(samples.isfinite().all()):
            raise InputError("samples hold NaN or infinity: leave them out, or fill them in")
        prepared: Tensor = samples.to(torch.float32)
        return prepared

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {name: list(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> Numbers:
        """The inverse of ``to_json``; accepts nothing else.

        Raises:
            CheckpointError: a field is missing, unknown, of another type or out of range.
        """
        if obj.keys() != {"shape", "mean", "std"} or not all(isinstance(value, list) for value in obj.values()):
            raise CheckpointError(f"preprocessing: got {sorted(map(str, obj))}, expected lists shape, mean and std")
        try:
            return cls(**{name: tuple(value) for name, value in obj.items()})
        except ValueError as error:
            raise CheckpointError(f"preprocessing in the checkpoint cannot be used: {error}; write it again") from error


def _sizes(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "single"


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
