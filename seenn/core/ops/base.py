"""The op set: what a node of a network may be, and nothing else.

An op is a pure function of its inputs whose attributes are JSON values and whose tensors are parameters.
That is all a checkpoint has to hold, so loading one never executes anything from the file.

An op is one file that says everything about it: what it computes, its state and how that starts, its JSON form, what
it costs, where it leaves the channels, how it is lowered for fast engines, and how exporters write it. Whatever a new
op does not say has a default here, with which it runs on every engine that computes in float.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from torch import Tensor, nn

from seenn.core.ops.arguments import NumberOrTensor, OptionalVector, Weight, check_length
from seenn.core.ops.lowering import Lowering, Value
from seenn.errors import CheckpointError
from seenn.registry import load_plugins, unknown

State = tuple[Tensor, ...]
Spans = list[tuple[int, int]]  # of windows along an axis: the first and one behind the last
Traffic = Literal["constant", "spikes", "analog"]  # constant for an input, spikes, or other values in each step


def _is_tensor(kind: Any) -> bool:
    return kind is NumberOrTensor or Tensor in (kind, *get_args(kind))


@dataclass_transform(eq_default=False, field_specifiers=(field,))
class Op(nn.Module, ABC):
    """One operation of the closed set.

    Every op is a dataclass: its annotated fields are what its constructor takes. A field ``Annotated[type, check]``
    (``seenn.core.ops.arguments``) is checked whenever it is set, and is what files hold of the op: a tensor, or an
    attribute, which is a JSON value. ``config()`` and ``tensors()`` read them back, so that
    ``type(op)(**op.tensors(), **op.config())`` is an equal op.

    Attributes:
        attributes, tensor_names: the names of these fields; a class with a constructor of its own lists them itself.
    """

    kind: ClassVar[str]
    attributes: ClassVar[tuple[str, ...]] = ()
    tensor_names: ClassVar[tuple[str, ...]] = ()
    _checks: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {}
    #: Attributes that files of earlier versions lack; reading one of those takes the constructor's default.
    added: ClassVar[tuple[str, ...]] = ()
    #: f(a + b) = f(a) + f(b) up to a constant: may act on one step's current, and over time on its mean.
    affine: ClassVar[bool] = False
    #: f(a·x) = a·f(x) for a > 0.
    homogeneous: ClassVar[bool] = False
    #: Neither affine nor an activation that neurons express: it acts on running means, or is a product of two values.
    island: ClassVar[bool] = False
    #: Takes two inputs and is linear in each: its multiply-accumulates need spikes from both.
    bilinear: ClassVar[bool] = False
    #: A neuron: what it emits in a step is a number of spikes times its threshold.
    fires: ClassVar[bool] = False
    #: Takes any number of inputs; every other op takes ``arity``.
    joins = False
    arity = 1

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(init="__init__" not in vars(cls), eq=False, repr=False)(cls)
        hints = get_type_hints(cls, include_extras=True)
        held = {item.name: hints[item.name] for item in fields(cls) if item.init}  # type: ignore[arg-type]
        held = {name: hint for name, hint in held.items() if get_origin(hint) is Annotated}
        if held:
            cls._checks = {name: hint.__metadata__[0] for name, hint in held.items()}
            cls.tensor_names = tuple(name for name, hint in held.items() if _is_tensor(hint.__origin__))
            cls.attributes = tuple(name for name in held if name not in cls.tensor_names)
        for name in held.keys() & vars(cls).keys():
            delattr(cls, name)  # a default there would hide the parameter

    def __new__(cls, *_: Any, **__: Any) -> Self:
        self = super().__new__(cls)
        nn.Module.__init__(self)  # before the dataclass sets the fields
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        check = self._checks.get(name)
        super().__setattr__(name, value if check is None else check(name, value))

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

    def extra_repr(self) -> str:
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        return ", ".join(f"{name}={value}" for name, value in {**shapes, **self.config()}.items())

    @property
    def analog(self) -> Op | None:
        """What stands here in the network's analog twin; None for a neuron that stands for no activation."""
        return self

    def traffic(self, inputs: Collection[Traffic]) -> Traffic:
        """What flows out where this flows in, in a node that is not constant.

        Spikes stay spikes through sums, averages, concatenation and reshaping.
        """
        return "spikes" if self.affine and set(inputs) == {"spikes"} else "analog"

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """Multiply-accumulates of one call on one image, from shapes without the batch; none by default."""
        return 0

    def fed_by_spikes(self, inputs: Sequence[Traffic]) -> bool:
        """Whether every multiply-accumulate of a step accumulates by spikes where this flows in."""
        return self.affine and set(inputs) == {"spikes"}

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        """Where the output's channels are if those of an input are along ``axis``, the batch counted; 0: it has none.

        ``before`` and ``after`` are the shapes of this input and of the output, without the batch.
        """
        return axis if len(after) == len(before) else min(axis, len(after))

    def written_as(self, format: str) -> object | None:
        """The place for exporters to ask how the op is written in their ``format``.

        None, the default, leaves it to the exporter, which writes what it knows and refuses the rest. What else comes
        back is between the op and that exporter.
        """
        return None

    @abstractmethod
    def first(self, *inputs: Tensor) -> Tensor:
        """The output of the first step."""

    def shaped(self, *inputs: Tensor) -> Tensor:
        """``first`` of tensors that carry nothing but a shape and a type: as little work as that needs."""
        return self.first(*inputs)

    @abstractmethod
    def constant(self, *inputs: Tensor) -> Tensor:
        """The output of every step when the inputs never change; of ops without memory and ``steady`` ones."""

    @abstractmethod
    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        """How fast engines compute the op, in the words of ``lowering``."""


class StatelessOp(Op):
    """``forward(*inputs) -> output``."""

    #: Gives back some of the values that it is given, of the same channel (axis 1), such as the largest.
    selects: ClassVar[bool] = False

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """The op's value."""

    def route(self, *events: Tensor) -> Tensor:
        """For affine ops: how many of the events that enter leave at each output, whatever their weight.

        An average over k inputs passes every one of them on, so it routes the sum.
        """
        return self.forward(*events)

    @property
    def degree(self) -> int | None:
        """n, where f(a·x) = aⁿ·f(x) for a > 0; None for any other function."""
        return 1 if self.homogeneous else 2 if self.bilinear else None

    def windows(self, shape: Sequence[int], out: Sequence[int]) -> tuple[Spans, Spans] | None:
        """Of rows and of columns, whose values ``route`` adds up, from ``[…, H, W]`` to ``[…, H', W']``.

        Without the padding. None, the default: it does not say.
        """
        return None

    def first(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self(*inputs)
        return result

    def constant(self, *inputs: Tensor) -> Tensor:
        return self.first(*inputs)

    def write(self, out: Tensor, *inputs: Tensor) -> None:
        """``forward`` into memory that is there."""
        out.copy_(self(*inputs))

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        if self.selects:
            return lowering.select(self, inputs[0])
        kind = "this kind is not lowered" if self.affine else "it is neither affine, nor a neuron, nor a maximum"
        return lowering.function(self, inputs, kind)


class Rearrangement(StatelessOp):
    """Puts values in other places, any number of times, and zeros in places of its own."""

    affine = True

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.move(self, inputs[0])


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How the weights ``[O, I, ...]`` of a synapse meet its input.

    Attributes:
        channels: axis of the channels of input and output, without the batch: 0 is the first, −1 the last.
        stride, padding, dilation: of a window that slides over the axes behind the channels; empty without one.
        groups: parts of the channels that do not see each other.
    """

    channels: Literal[0, -1]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @property
    def window(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int] | None:
        """``(padding, stride, dilation, groups)`` of a convolution over images; None for anything else."""
        return (self.padding, self.stride, self.dilation, self.groups) if len(self.stride) == 2 else None


class Synapse(StatelessOp):
    """A weighted sum of its one input plus a bias: what spikes travel through, and what costs energy."""

    affine = True
    weight: Weight  # [O, ...]
    bias: OptionalVector = None

    def __post_init__(self) -> None:
        check_length("bias", self.bias, len(self.weight))

    @property
    def geometry(self) -> Geometry | None:
        """For engines that compute it themselves; None where it has to be called."""
        return None

    @abstractmethod
    def response(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same connectivity with other weights: ``response(x, self.weight, self.bias)`` is ``forward``."""

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return self.response(x, self.weight, self.bias)

    def route(self, *events: Tensor) -> Tensor:
        return self.response(events[0], torch.ones_like(self.weight, dtype=events[0].dtype), None)

    def traffic(self, inputs: Collection[Traffic]) -> Traffic:
        """A current, which the next neuron integrates."""
        return "analog"

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        if self.geometry is None:
            return lowering.function(self, inputs, "it does not say how its weights meet its input")
        return lowering.synapse(self, inputs[0])

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """Output elements × weights per output."""
        return math.prod(output) * self.weight[0].numel()


class Initialisation(Protocol):
    """Chooses the state that one op starts from, from what initial steps show."""

    def see(self, state: State, count: Tensor | None) -> None:
        """Looks at the op's state after an initial step, and at the spikes that it fired in it."""

    def start(self) -> State:
        """The state before the first step that answers."""


class StatefulOp(Op):
    """An op with memory over time, made explicit: ``step(inputs, state) -> (output, state)``.

    Every state tensor has the batch first, so that engines may drop, keep or swap samples by row.
    """

    #: While its inputs never change its output does not either; then that is ``constant(*inputs)``.
    steady: ClassVar[bool] = False
    #: The state that a warm start hands on to the next input, as ``carry`` says; all others start afresh.
    carried: ClassVar[str | None] = None

    @abstractmethod
    def state_names(self, arity: int) -> tuple[str, ...]:
        """Names of the state tensors, in order, for a call with ``arity`` inputs."""

    @abstractmethod
    def initial_state(self, *inputs: Tensor) -> State:
        """The state before the first step, for inputs of these shapes."""

    def carry(self, value: Tensor) -> Tensor:
        """What the next input finds in the state ``carried``."""
        return value

    def first(self, *inputs: Tensor) -> Tensor:
        return self.step(inputs, self.initial_state(*inputs))[0]

    @property
    def initial_steps(self) -> int:
        """Steps on the input that initialisation runs before the first that answers; see ``initialisation``."""
        return 0

    def initialisation(self, state: State) -> Initialisation | None:
        """Who watches the initial steps, which begin with ``state``; None where the first step starts from it too."""
        return None

    @abstractmethod
    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        """One timestep."""

    def counted_step(
        self, inputs: tuple[Tensor, ...], state: State, *, in_place: bool = False
    ) -> tuple[Tensor, Tensor | None, State]:
        """One timestep with the spike counts of a neuron: ``(output, counts, state)``.

        ``in_place`` (without autograd) lets the new state take the memory of the one given.
        """
        output, state = self.step(inputs, state)
        return output, None, state

    def unroll(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        """All timesteps of inputs ``[T, B, ...]`` from ``state``: ``(outputs [T, B, ...], state)``."""
        outputs = []
        for now in zip(*inputs, strict=True):
            output, state = self.step(now, state)
            outputs.append(output)
        return torch.stack(outputs), state

    def constant(self, *inputs: Tensor) -> Tensor:
        raise NotImplementedError(f"the output of {self.kind!r} changes while its inputs do not")

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        why = "its state does not stay on a fixed-point scale (a leak, or a reset that is not by subtraction)"
        return lowering.call(self, inputs, why)


_AGAIN = "write the file again"  # whatever is wrong with an op of it

OpClass = TypeVar("OpClass", bound=type[Op])
_REGISTRY: dict[str, type[Op]] = {}


def register(kind: str) -> Callable[[OpClass], OpClass]:
    """Class decorator: adds an op to the set under the name that checkpoints use."""

    def add(cls: OpClass) -> OpClass:
        if kind in _REGISTRY:
            raise ValueError(f"op kind {kind!r} is taken by {_REGISTRY[kind].__name__}")
        cls.kind = kind
        _REGISTRY[kind] = cls
        return cls

    return add


def op_kinds() -> tuple[str, ...]:
    """The names of all ops, sorted."""
    return tuple(sorted(_REGISTRY))


def op_class(kind: str) -> type[Op]:
    """The class registered as ``kind``; raises CheckpointError for an op that there is not."""
    if kind not in _REGISTRY:
        load_plugins()
    if kind not in _REGISTRY:
        raise CheckpointError(unknown("op", kind, _REGISTRY))
    return _REGISTRY[kind]


def make_op(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Op:
    """Rebuilds an op from what a checkpoint holds.

    Raises:
        CheckpointError: unknown kind, unknown or missing attribute, or values the op refuses.
    """
    cls = op_class(kind)
    if unknown := sorted(set(config) - set(cls.attributes)):
        raise CheckpointError(f"op {kind!r} has no attribute {', '.join(map(repr, unknown))}: {_AGAIN}")
    if missing := sorted(set(cls.attributes) - set(cls.added) - set(config)):
        raise CheckpointError(f"op {kind!r} lacks the attribute {', '.join(map(repr, missing))}: {_AGAIN}")
    if unknown := sorted(set(tensors) - set(cls.tensor_names)):
        raise CheckpointError(f"op {kind!r} has no tensor {', '.join(map(repr, unknown))}: {_AGAIN}")
    try:
        return cls(**tensors, **config)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"op {kind!r} cannot be built: {error}; {_AGAIN}") from error


def _to_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
