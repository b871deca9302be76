"""Functions of running means, whatever they take beside the function in two passes over memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seenn.native.library import Library
from seenn.native.memory import address, is_dense, order, struct

_Input = struct("_Input", pointers="sum mean x", sizes="length")
_Gather = struct("_Gather", pointers="inputs t", sizes="input_count samples", integers="threads")
_Change = struct("_Change", pointers="now value target t", sizes="samples length power", integers="threads")


class Cumulative:
    """One step of ``t·f(S_t/t)`` as differences, bound to memory; call it to take the step.

    ::

        t ← t + 1;  S ← S + x;  now = t·f(S/t);  target = now − value;  value ← now

    Args:
        library: from ``load``.
        function: f.
        degree: n, where f(a·x) = aⁿ·f(x): then it acts on the sums. None: on one mean, which lies in ``target``
            meanwhile.
        target, value: float32 ``[B, …]``, dense in the same order.
        inputs: each x with its sum S, likewise.
        t: float32 ``[B]``.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        function: Callable[..., Tensor],
        degree: int | None,
        target: Tensor,
        value: Tensor,
        inputs: Sequence[tuple[Tensor, Tensor]],
        t: Tensor,
    ) -> None:
        self._library, self._function = library, function
        self._kept = (target, value, *inputs, t)  # alive for as long as their addresses are used
        self._given = [total for _, total in inputs] if degree is not None else [target]
        self._order, self._shape = order(target), target.shape
        means = [None] * len(inputs) if degree is not None else [target]
        self._inputs = (_Input * len(inputs))(
            *(
                _Input(
                    sum=_dense(total, total),
                    mean=None if mean is None else _dense(mean, total),
                    x=_dense(x, total),
                    length=math.prod(total.shape[1:]),
                )
                for (x, total), mean in zip(inputs, means, strict=True)
            )
        )
        times = address(t, torch.float32, dense=t.is_contiguous())
        self._gather = _Gather(
            inputs=ctypes.addressof(self._inputs), t=times, input_count=len(inputs), samples=len(target)
        )
        self._change = _Change(
            value=_dense(value, target),
            target=_dense(target, target),
            t=times,
            samples=len(target),
            length=math.prod(target.shape[1:]),
            power=1 if degree is None else 1 - degree,
        )

    @staticmethod
    def fits(degree: int | None, target: Tensor, value: Tensor, inputs: Sequence[tuple[Tensor, Tensor]]) -> bool:
        """Whether these can be bound: what lies otherwise is left to torch."""
        alike = [(target, value), *inputs]
        if degree is None:
            if len(inputs) != 1 or inputs[0][0].shape != target.shape:
                return False
            alike.append((target, inputs[0][1]))
        return all(a.shape == b.shape and is_dense(a, b) and is_dense(b, b) for a, b in alike)

    def __call__(self) -> None:
        self._gather.threads = self._change.threads = torch.get_num_threads()
        self._library.seenn_gather(ctypes.byref(self._gather))
        now = self._function(*self._given).contiguous(memory_format=self._order)
        assert now.shape == self._shape, now.shape
        self._change.now = now.data_ptr()
        self._library.seenn_change(ctypes.byref(self._change))


def _dense(values: Tensor, like: Tensor) -> int:
    return address(values, torch.float32, dense=is_dense(values, like))


def matches_torch(library: Library) -> bool:
    """Tries every power of t, on samples at different steps."""
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    cases: list[tuple[int | None, Callable[..., Tensor]]] = [(None, torch.tanh), (1, torch.relu), (2, torch.mul)]
    for degree, function in cases:
        inputs = [(numbers(3, 37), numbers(3, 37)) for _ in range(2 if degree == 2 else 1)]
        value, t, target = numbers(3, 37), torch.tensor([0.0, 1.0, 6.0]), torch.empty(3, 37)
        after, sums = (t + 1)[:, None], [total + x for x, total in inputs]
        now = function(sums[0] / after) * after if degree is None else function(*sums)
        now = now / after if degree == 2 else now
        expected = now - value
        Cumulative(library, function, degree, target, value, inputs, t)()
        found = [target, value, t, *(total for _, total in inputs)]
        if not all(map(torch.equal, found, [expected, now, after[:, 0], *sums])):
            return False
    return True
