"""What the importer knows about a name of the graph.

Everything is followed at two batch sizes at once. What comes out the same at both does not depend on the batch,
what grows with it carries the batch, and no name, comment or declared shape has to be trusted for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx

Array = NDArray[Any]


@dataclass(frozen=True)
class Known:
    """A value that does not depend on the images, at either batch size."""

    at: tuple[Array, Array]

    @classmethod
    def constant(cls, array: Array) -> Known:
        """The same value at any batch size."""
        return cls((array, array))

    @property
    def varies(self) -> bool:
        """Whether the batch size is in it."""
        first, second = self.at
        return first is not second and not np.array_equal(first, second)


@dataclass(frozen=True)
class Traced:
    """A value computed from the images: an fx node, and tensors of its shape on the meta device."""

    node: fx.Node
    meta: tuple[Tensor, Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the batch, which is always axis 0."""
        return tuple(self.meta[0].shape[1:])

    def sizes(self, batch: int) -> tuple[int, ...]:
        """The shape that the ONNX graph sees."""
        return (batch, *self.shape)


@dataclass(frozen=True)
class Rows:
    """The images along any axis, alone or with rows of each: ``[…, o · B · i, …]`` in the ONNX graph.

    It is kept as ``[B, …, o · i, …]``: every axis of the ONNX graph is one further back. What acts on each row alone
    acts on the kept value, whatever the batch. TensorFlow computes a dense layer of a sequence so, ``[B · S, C]``, and
    torch attention, ``[S, B · heads, C]``.
    """

    kept: Traced
    axis: int = 0  # with the images
    outer: int = 1  # o: how many rows of it the images are within

    def sizes(self, batch: int) -> tuple[int, ...]:
        """The shape that the ONNX graph sees."""
        sizes = list(self.kept.shape)
        sizes[self.axis] *= batch
        return tuple(sizes)

    @property
    def lying(self) -> str:
        """Where the images are, in words."""
        several = "the images" if self.kept.shape[self.axis] == 1 else "several rows of each image"
        return f"{several} along {f'axis {self.axis}' if self.axis else 'the first axis'}"


@dataclass(frozen=True)
class Lost:
    """What a node that cannot be imported would have computed; ``shape``: a size, not an activation."""

    shape: bool = False


Value = Known | Traced | Rows | Lost


@dataclass(frozen=True)
class BatchSizes:
    """Which batch sizes the graph takes, and the two at which it is followed."""

    baked: int | None  # the only size that the file allows; None: any

    @property
    def sizes(self) -> tuple[int, int]:
        """Of the torch graph."""
        return (2, 3) if self.baked is None else (self.baked, self.baked + 1)

    @property
    def declared(self) -> tuple[int, int]:
        """What the ONNX graph sees at each: a baked size is always itself."""
        return (2, 3) if self.baked is None else (self.baked, self.baked)
