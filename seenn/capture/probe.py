"""The shapes of a graph while it grows: an op that does not fit what it reads is found at its own call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from seenn.core.graph import INPUT, shapes_only
from seenn.core.ops import Op, StatefulOp


class Probe:
    """Runs every op that is added on values that have a shape only; ops raise as torch does where those do not fit."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._values: dict[str, Tensor] = {}

    def begin(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        """The network's input, ``[B, ...]``."""
        with shapes_only(self._mode):
            self._values[INPUT] = torch.empty(tuple(shape), dtype=dtype)

    def add(self, name: str, op: Op, inputs: Sequence[str]) -> None:
        """A node that reads what is there already."""
        read = tuple(self._values[name] for name in inputs)
        with shapes_only(self._mode):
            if isinstance(op, StatefulOp):
                self._values[name] = op.step(read, op.initial_state(*read))[0]
            else:
                self._values[name] = op(*read)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one image."""
        return tuple(self._values[name].shape[1:])
