"""Differential coding: spikes carry how a running mean changes, so that what has settled falls silent.

Rate coding sends a value again in every step. Here the value of step t is ``c + d_t``: c is what there is where no
neuron fires, of biases and of what the image alone determines, and d moves a running mean (Huang et al., ICML 2025)::

    m_0 = c        m_t = m_{t−1} + d_t / t

One initial step, in which nothing fires, shows every op its c. Affine ops take ``c + d`` as they take any value. A
value r of rate coding is ``d_t = r_t − m_{t−1}`` here, so that m_t is the mean of r in both. On chips the form is known
as sigma-delta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, field
from functools import partial
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from seenn.core.ops.activation import Activation, Identity
from seenn.core.ops.arguments import PerChannel, default, optional, parameter, per_channel
from seenn.core.ops.base import Initialisation, State, StatefulOp, make_op, op_class, register
from seenn.core.ops.cumulative import IncrementalProduct, OverTime
from seenn.core.ops.lowering import Lowering, Value
from seenn.core.ops.membrane import soft_reset
from seenn.core.ops.neuron import IntegratingNeuron

DEAD_ZONE = 0.75  # thresholds


class Differential(StatefulOp):
    """An op that takes one initial step, and goes on from where it ended."""

    @property
    def initial_steps(self) -> int:
        return 1

    def initialisation(self, state: State) -> Initialisation:
        return _Last(state)

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.call(self, inputs, "its running mean is divided by t, which is not an integer")


class _Last:
    """The last state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def see(self, state: State, count: Tensor | None) -> None:
        self._state = state

    def start(self) -> State:
        return self._state


def _take(x: Tensor, constant: Tensor, mean: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """c and m after step t ``[B]`` gave x; both are zero before the initial step, where t is 0."""
    steps = _rows(t, x)
    return torch.where(steps == 0, x, constant), mean + (x - constant) / steps.clamp(min=1)


def _rows(t: Tensor, like: Tensor) -> Tensor:
    return t.view(-1, *[1] * (like.dim() - 1))


def _described(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not isinstance(value.get("op"), str):
        raise ValueError(f"{name} must name an activation, got {value!r}")
    if not issubclass(op_class(value["op"]), Activation):
        raise ValueError(f"{name} must be an activation, got {value['op']!r}")
    return dict(value)


@register("differential_neuron")
class DifferentialNeuron(Differential, IntegratingNeuron):
    """Integrate-and-fire neuron of any activation f that sends how its output's mean o changes.

    With m_t the mean of its input::

        v ← v + t·f(m_t) − (t−1)·f(m_{t−1}) − o
        n = clip(⌊v/θ + ½⌋, −Γ, Γ) where |v| ≥ ¾·θ, else 0
        v ← v − n·θ        o ← o + n·θ/t

    from v = 0, so that ``v = t·(f(m_t) − o_t)``: o is nearer to f(m) than ¾·θ/t while Γ spikes suffice, in whatever
    order the input came. Without the ¾ (theirs too), what is off by half a threshold would fire up and down for ever.

    Args:
        v_threshold, bias, max_spikes, axis: as of every ``IntegratingNeuron``; θ is of either sign's spikes.
        v_init: 0.
        function: f as JSON, ``{"op": kind, attribute: value, …}``.
        parameter: the tensor of f, where it has one.

    State: v; c and m of the input; ``t·f(m_t)``; o; and t, ``[B]``.
    """

    signed = True
    settles = True
    surrogate: None = field(default=None, init=False)
    v_init: PerChannel = default(0.0)
    _: KW_ONLY
    function: Annotated[dict[str, Any], _described]
    parameter: Annotated[Tensor | None, partial(optional, check=parameter, dims=(0, 1))] = None

    def __post_init__(self) -> None:
        if bool((self.v_init != 0).any()):
            raise ValueError("v_init must be 0: the mean output is 0 before the first step")
        config = {name: value for name, value in self.function.items() if name != "op"}
        kind = op_class(self.function["op"])
        tensors = {} if self.parameter is None else dict.fromkeys(kind.tensor_names, self.parameter)
        made = make_op(kind.kind, config, tensors)
        assert isinstance(made, Activation)
        self._activation = made

    @classmethod
    def of(cls, neuron: IntegratingNeuron) -> Self:
        """What stands for the same activation as a neuron of rate coding."""
        f = neuron.activation()
        return cls(
            neuron.v_threshold,
            bias=neuron.bias,
            axis=neuron.axis,
            max_spikes=neuron.max_spikes,
            function={"op": f.kind, **f.config()},
            parameter=next(iter(f.tensors().values()), None),
        )

    @property
    def title(self) -> str:
        return f"differential {self._activation.title} (up to ±{self.max_spikes} spikes)"

    def activation(self) -> Activation:
        return self._activation

    def weight(self, t: Tensor, timesteps: int) -> Tensor:
        return timesteps / t

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("v", "constant", "mean", "value", "output", "t")

    def initial_state(self, *inputs: Tensor) -> State:
        (v,) = super().initial_state(*inputs)
        return v, *(torch.zeros_like(v) for _ in range(4)), v.new_zeros(v.shape[0])

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        v, constant, mean, value, output, t = state
        v_threshold, steps = per_channel(self.v_threshold, x, self.axis), _rows(t, x)
        constant, mean = _take(self.current(x, self.axis), constant, mean, t)
        now = steps * self._activation(mean)
        v = v + (now - value - output)
        count = (v / v_threshold).round().clamp(-self.max_spikes, self.max_spikes)
        count = count * (v.abs() >= DEAD_ZONE * v_threshold)
        output = output + count * v_threshold / steps.clamp(min=1)
        return count, (soft_reset(v, count, v_threshold), constant, mean, now, output, t + 1)


@register("differential_function")
class DifferentialFunction(Differential, OverTime):
    """A function f of running means that hands on how its value changes: ``f(c) + t·(f(m_t) − f(m_{t−1}))``.

    State: c of each input, m of each, f(c), the last f(m), and t, ``[B]``.
    """

    __init__ = OverTime.__init__  # or dataclass would make one

    @property
    def title(self) -> str:
        return f"differential {self.op.title}"

    def state_names(self, arity: int) -> tuple[str, ...]:
        of_inputs = (f"{name}{i}" for name in ("constant", "mean") for i in range(arity))
        return (*of_inputs, "base", "value", "t")

    def initial_state(self, *inputs: Tensor) -> State:
        value, t = torch.zeros_like(self.op(*inputs)), inputs[0].new_zeros(inputs[0].shape[0])
        return (*(torch.zeros_like(x) for _ in range(2) for x in inputs), value, torch.zeros_like(value), t)

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        *kept, base, value, t = state
        half = len(inputs)
        taken = [_take(x, c, m, t) for x, c, m in zip(inputs, kept[:half], kept[half:], strict=True)]
        constants, means = zip(*taken, strict=True)
        now = self.op(*means)
        steps = _rows(t, now)
        base = torch.where(steps == 0, now, base)
        return base + steps * (now - value), (*constants, *means, base, now, t + 1)


@register("differential_product")
class DifferentialProduct(Differential, IncrementalProduct):
    """How the product of two means a and b changes, exactly, by stored numbers that spikes add up.

    With d and e their changes, step t emits ``c·c' + d·b_{t−1} + a_t·e = c·c' + t·(a_t·b_t − a_{t−1}·b_{t−1})``.

    State: c of each input, m of each, the product of both c, and t, ``[B]``.
    """

    __init__ = OverTime.__init__  # or dataclass would make one

    @property
    def title(self) -> str:
        return f"differential {self.op.title}"

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("constant0", "constant1", "mean0", "mean1", "base", "t")

    def initial_state(self, *inputs: Tensor) -> State:
        kept = (torch.zeros_like(x) for _ in range(2) for x in inputs)
        return *kept, torch.zeros_like(self.op(*inputs)), inputs[0].new_zeros(inputs[0].shape[0])

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        (x, y), (c, e, a, b, base, t) = inputs, state
        (c_after, a_after), (e_after, b_after) = _take(x, c, a, t), _take(y, e, b, t)
        output = base + self.op(x - c, b) + self.op(a_after, y - e)  # in the initial step that of c and e
        base = torch.where(_rows(t, output) == 0, output, base)
        return output, (c_after, e_after, a_after, b_after, base, t + 1)


@register("differential_readout")
class DifferentialReadout(Differential):
    """Back to rate coding: ``m_{t−1} + d_t``, which adds up to t·m_t, as sums of outputs do everywhere.

    State: c, m, and t, ``[B]``.
    """

    @property
    def analog(self) -> Identity:
        return Identity()

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("constant", "mean", "t")

    def initial_state(self, *inputs: Tensor) -> State:
        (x,) = inputs
        return torch.zeros_like(x), torch.zeros_like(x), x.new_zeros(x.shape[0])

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        (x,), (constant, before, t) = inputs, state
        constant_after, mean = _take(x, constant, before, t)
        return before + (x - constant), (constant_after, mean, t + 1)
