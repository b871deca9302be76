"""The closed op set: what a node of a network may be, and nothing else.

An op is a pure function of its inputs whose attributes are JSON values and whose tensors are parameters.
That is all a checkpoint has to hold, so loading one never executes anything from the file.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from seenn.errors import CheckpointError, did_you_mean

State = tuple[Tensor, ...]


class Op(nn.Module, ABC):
    """One operation of the closed set.

    ``attributes`` names the constructor's JSON-valued keywords, ``tensor_names`` its tensor-valued ones
    (a tensor may be ``None``); ``config()`` and ``tensors()`` read them back, so that
    ``type(op)(**op.tensors(), **op.config())`` is an equal op.
    """

    kind: ClassVar[str]
    attributes: ClassVar[tuple[str, ...]] = ()
    tensor_names: ClassVar[tuple[str, ...]] = ()
    #: Attributes that files of earlier versions lack; reading one of those takes the constructor's default.
    added: ClassVar[tuple[str, ...]] = ()
    #: f(a + b) = f(a) + f(b) up to a constant: may act on one step's current, and over time on its mean.
    affine: ClassVar[bool] = False
    #: f(a·x) = a·f(x) for a > 0.
    homogeneous: ClassVar[bool] = False
    #: Neither affine nor an activation that neurons express: stays analog, and only where the user allows it.
    island: ClassVar[bool] = False
    #: Takes any number of inputs; every other op takes ``arity``.
    joins: bool = False
    arity: int = 1

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.kind

    def config(self) -> dict[str, Any]:
        """The op's attributes as JSON values."""
        return {name: _to_json(getattr(self, name)) for name in self.attributes}

    def tensors(self) -> dict[str, Tensor]:
        """The op's tensors by constructor keyword; absent ones are left out."""
        found = {name: getattr(self, name) for name in self.tensor_names}
        return {name: tensor for name, tensor in found.items() if tensor is not None}


class StatelessOp(Op):
    """``forward(*inputs) -> output``."""

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """The op's value."""

    def route(self, *events: Tensor) -> Tensor:
        """For affine ops: how many of the events that enter leave at each output, whatever their weight.

        An average over k inputs passes every one of them on, so it routes the sum.
        """
        return self.forward(*events)

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """Multiply-accumulates of one call on one image, from shapes without the batch; none by default."""
        return 0


class Synapse(StatelessOp):
    """A weighted sum of its one input plus a bias: what spikes travel through, and what costs energy."""

    affine = True
    weight: Tensor
    bias: Tensor | None

    @abstractmethod
    def response(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same connectivity with other weights: ``response(x, self.weight, self.bias)`` is ``forward``."""

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return self.response(x, self.weight, self.bias)

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """Output elements × weights per output."""
        return math.prod(output) * self.weight[0].numel()


class StatefulOp(Op):
    """An op with memory over time, made explicit: ``step(inputs, state) -> (output, state)``.

    Every state tensor has the batch first, so that engines may drop, keep or swap samples by row.
    """

    @abstractmethod
    def state_names(self, arity: int) -> tuple[str, ...]:
        """Names of the state tensors, in order, for a call with ``arity`` inputs."""

    @abstractmethod
    def initial_state(self, *inputs: Tensor) -> State:
        """The state before the first step, for inputs of these shapes."""

    @abstractmethod
    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        """One timestep."""

    def unroll(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        """All timesteps of inputs ``[T, B, ...]`` from ``state``: ``(outputs [T, B, ...], state)``."""
        outputs = []
        for now in zip(*inputs, strict=True):
            output, state = self.step(now, state)
            outputs.append(output)
        return torch.stack(outputs), state


OpClass = TypeVar("OpClass", bound=type[Op])
_REGISTRY: dict[str, type[Op]] = {}


def register(kind: str) -> Callable[[OpClass], OpClass]:
    """Class decorator: adds an op to the closed set under the name that checkpoints use."""

    def add(cls: OpClass) -> OpClass:
        if kind in _REGISTRY:
            raise ValueError(f"op kind {kind!r} is taken by {_REGISTRY[kind].__name__}")
        cls.kind = kind
        _REGISTRY[kind] = cls
        return cls

    return add


def op_kinds() -> tuple[str, ...]:
    """The closed set's names, sorted."""
    return tuple(sorted(_REGISTRY))


def op_class(kind: str) -> type[Op]:
    """The class registered as ``kind``; raises CheckpointError for an op outside the closed set."""
    if kind not in _REGISTRY:
        raise CheckpointError(
            f"unknown op {kind!r}: this version of seenn knows {', '.join(op_kinds())}.{did_you_mean(kind, op_kinds())}"
        )
    return _REGISTRY[kind]


def make_op(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Op:
    """Rebuilds an op from what a checkpoint holds.

    Raises:
        CheckpointError: unknown kind, unknown or missing attribute, or values the op refuses.
    """
    cls = op_class(kind)
    if unknown := sorted(set(config) - set(cls.attributes)):
        raise CheckpointError(f"op {kind!r} has no attribute {', '.join(map(repr, unknown))}")
    if missing := sorted(set(cls.attributes) - set(cls.added) - set(config)):
        raise CheckpointError(f"op {kind!r} lacks the attribute {', '.join(map(repr, missing))}")
    if unknown := sorted(set(tensors) - set(cls.tensor_names)):
        raise CheckpointError(f"op {kind!r} has no tensor {', '.join(map(repr, unknown))}")
    try:
        return cls(**tensors, **config)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"op {kind!r} cannot be built: {error}") from error


def _to_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
