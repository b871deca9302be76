"""What becomes of a traced module: a graph over the closed op set, and all that stands in the way of one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from seenn.core.graph import OpGraph, prune
from seenn.core.ops import StatelessOp
from seenn.errors import UnsupportedError


@dataclass(frozen=True)
class Offender:
    """A call that cannot be expressed, or (``analog``) not by affine ops and neurons alone."""

    name: str
    what: str
    reason: str
    fix: str
    analog: bool = False

    def __str__(self) -> str:
        hint = f" — {self.fix}" if self.fix else ""
        what = "" if self.what == self.name.rpartition(".")[2] else f" ({self.what})"
        return f"{self.name}{what}: {self.reason}{hint}"


class Unsupported(StatelessOp):
    """Stands for a call that cannot be expressed, so that what comes after it can still be looked at."""

    kind = "unsupported"
    joins = True

    def __init__(self, what: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.what, self.shape = what, shape

    @property
    def title(self) -> str:
        return self.what

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].new_zeros(len(inputs[0]), *self.shape)


class Passing(StatelessOp):
    """A part of what is written out, recognised as a whole: an op that no network has."""

    reason: ClassVar[str]  # why it is refused where it is part of nothing
    fix: ClassVar[str]


@dataclass(frozen=True)
class CapturedGraph:
    """Every call of a model as a node, those that cannot be expressed as ``Unsupported``."""

    graph: OpGraph
    offenders: tuple[Offender, ...]  # in the order of the calls
    cause: Exception | None = None  # the first that was raised where no call should raise, if any was

    def refused(self, *, strict: bool, left_out: Collection[str] = ()) -> tuple[Offender, ...]:
        """The offenders that stand in the way, where nothing but affine ops and neurons is allowed or not.

        Args:
            left_out: nodes that will not be in the network.
        """
        out = tuple(left_out)
        return tuple(
            o for o in self.offenders if not o.analog or (strict and not any(n.startswith(o.name) for n in out))
        )

    def checked(
        self, *, strict: bool = True, left_out: Collection[str] = (), also: Collection[Offender] = ()
    ) -> OpGraph:
        """The graph of what the output needs; arguments as of ``refused``, and what else is refused.

        Raises:
            UnsupportedError: lists every call that has no equivalent, or (``strict``) none of affine ops and neurons,
                with the reason and a fix.
        """
        if offenders := (*self.refused(strict=strict, left_out=left_out), *also):
            listed = "\n".join(f"  {offender}" for offender in offenders)
            calls = "1 call is" if len(offenders) == 1 else f"{len(offenders)} calls are"
            raise UnsupportedError(f"{calls} outside what a spiking network can express:\n{listed}") from self.cause
        return OpGraph(prune(self.graph, self.graph.output), self.graph.output)
