"""Samples with their labels: what networks, sessions and splits hand to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.errors import InputError


@dataclass(frozen=True, eq=False)
class Batch:
    """Preprocessed samples, each an input that stays the same in every timestep or one frame a timestep.

    ``len(batch)`` is the number of samples, whatever they are.

    Args:
        inputs: ``[B, C, H, W]``; with ``is_sequence`` ``[T, B, C, H, W]``, one frame a timestep.
        labels: int64 ``[B]``, or None where they are not known.
        is_sequence: whether the inputs are frames.
    """

    inputs: Tensor
    labels: Tensor | None = None
    is_sequence: bool = False

    def __post_init__(self) -> None:
        if self.inputs.dim() < 2 + self.is_sequence:
            expected = "[T, B, ...]" if self.is_sequence else "[B, ...]"
            raise InputError(f"inputs have shape {list(self.inputs.shape)}, expected {expected}")
        if self.labels is not None and len(self.labels) != len(self):
            raise InputError(f"{len(self)} samples have {len(self.labels)} labels; expected one each")

    @classmethod
    def of(cls, inputs: Tensor, input_shape: Sequence[int], labels: Tensor | None = None) -> Batch:
        """``inputs`` for a network of this input shape: one axis more than a batch has means frames over time.

        Raises:
            InputError: they are neither ``[B, *input_shape]`` nor ``[T, B, *input_shape]``.
        """
        extra = inputs.dim() - len(input_shape)
        if extra not in (1, 2) or tuple(inputs.shape[extra:]) != tuple(input_shape):
            expected = ", ".join(map(str, input_shape))
            raise InputError(
                f"inputs have shape {list(inputs.shape)}, expected [B, {expected}], or [T, B, {expected}] with one "
                "frame a timestep: prepare them as the network's preprocessing says"
            )
        return cls(inputs, labels, is_sequence=extra == 2)

    @property
    def timesteps(self) -> int | None:
        """T of frames over time; None where the input stays the same for as many steps as are run."""
        return len(self.inputs) if self.is_sequence else None

    @property
    def device(self) -> torch.device:
        """Where the inputs are."""
        return self.inputs.device

    @property
    def known_labels(self) -> Tensor:
        """The labels.

        Raises:
            ValueError: they are not known.
        """
        if self.labels is None:
            raise InputError("these samples have no labels, which are needed here: give labelled ones")
        return self.labels

    def __len__(self) -> int:
        return self.inputs.shape[int(self.is_sequence)]

    def __getitem__(self, samples: Tensor | slice) -> Batch:
        """Some of the samples, by index, mask or slice."""
        inputs = self.inputs[:, samples] if self.is_sequence else self.inputs[samples]
        return Batch(inputs, None if self.labels is None else self.labels[samples], self.is_sequence)

    def frame(self, t: int) -> Tensor:
        """The input of timestep ``t`` (from 1), ``[B, C, H, W]``."""
        return self.inputs[t - 1] if self.is_sequence else self.inputs

    def samples(self) -> Iterator[Tensor]:
        """One input after the other: ``[C, H, W]``, or frames ``[T, C, H, W]``."""
        return iter(self.inputs.unbind(int(self.is_sequence)))

    def split(self, size: int) -> Iterator[Batch]:
        """In pieces of at most ``size`` samples."""
        return (self[slice(start, start + size)] for start in range(0, len(self), size))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Batch:
        """The same on another device, in another precision."""
        return Batch(self.inputs.to(device, dtype), self.labels, self.is_sequence)

    @staticmethod
    def concatenate(parts: Sequence[Batch]) -> Batch:
        """One after the other; all of one kind."""
        labels = [part.labels for part in parts if part.labels is not None]
        inputs = torch.cat([part.inputs for part in parts], dim=int(parts[0].is_sequence))
        return Batch(inputs, torch.cat(labels) if len(labels) == len(parts) else None, parts[0].is_sequence)
