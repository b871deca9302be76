"""The memory that a step works on: buffers of some rows, and what kernels want of them in bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from seenn.runtime.kernels.synapses import Margin

Action = Callable[[], object]
Views = Mapping[str, Tensor]


@dataclass(frozen=True)
class Copy:
    """A buffer as bytes, ``value − low``, with a margin of zeros around each image."""

    name: str
    margin: Margin

    def interior(self, framed: Tensor) -> Tensor:
        """Without the margin."""
        if framed.dim() < 4:
            return framed
        (rows, columns), (height, width) = self.margin, framed.shape[2:]
        return framed[:, :, rows : height - rows, columns : width - columns]


Copies = Mapping[Copy, Tensor]
