"""How the neurons of a site fire: by torch operations, or in one compiled pass. The numbers are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from seenn.native import Firing, Joined
from seenn.runtime.kernels.synapses import Action, Copies, Views, interiors
from seenn.runtime.lowering.program import EXACT_LIMIT, Fire, GainTerm, Program


@dataclass(frozen=True)
class Neurons:
    """``n = clip(⌊v/θ⌋, fewest, most)``, no less than −S where those are counted, then ``v −= n·θ``."""

    program: Program
    fire: Fire
    device: torch.device

    def by_torch(self, views: Views) -> Iterator[Action]:
        """By torch's operations, one after the other."""
        threshold, inverse = self._number(self.fire.threshold), self._inverse()
        v, count = views[self.fire.membrane], views[self.fire.target]
        if wide := not v.is_floating_point():
            threshold = threshold.to(v.dtype)
        if (self.fire.fewest, self.fire.most) == (0, 1):
            yield partial(torch.ge, v, threshold, out=count)
        else:
            if wide:
                yield partial(torch.div, v, threshold, rounding_mode="floor", out=count)
            elif inverse is None:
                yield partial(torch.div, v, threshold, out=count)
            else:
                yield partial(torch.addcmul, inverse / 2, v, inverse, out=count)
            yield count.floor_
            yield partial(count.clamp_, self.fire.fewest, self.fire.most)
            if self.fire.taken_back is not None:
                taken_back = views[self.fire.taken_back]
                yield partial(torch.maximum, count, taken_back, out=count)
                yield partial(taken_back.sub_, count)
        if wide:
            yield lambda: v.sub_(threshold.mul(count.to(v.dtype)))
        else:
            yield partial(v.addcmul_, count, threshold, value=-1)

    def in_one_pass(
        self,
        library: CDLL,
        joined: Sequence[GainTerm],
        views: Views,
        copies: Copies,
        *,
        keep_floats: bool,
        current: Tensor | None = None,
        fresh: Tensor | None = None,
        slots: Tensor | None = None,
        kept: frozenset[str] = frozenset(),
    ) -> list[Action]:
        """Adds ``current`` and ``joined`` to the membrane first, and writes the counts as floats and as bytes.

        As floats with ``keep_floats`` only. The first of several copies in bytes is written in the pass; the others are
        copied from it. With ``fresh``, the states of those rows are started in it too. With ``slots``, states and
        what is ``kept`` lie there.
        """
        fire = self.fire
        wanted = interiors(copies, fire.target)
        firing = Firing(
            library,
            views[fire.membrane],
            self._number(fire.threshold),
            self._inverse(),
            fire.fewest,
            fire.most,
            taken_back=None if fire.taken_back is None else views[fire.taken_back],
            counts=views[fire.target] if keep_floats else None,
            whole=wanted[0] if wanted else None,
            low=self._low(fire.target) if wanted else 0,
            joined=[self._join(term, views, copies, term.source in kept) for term in joined],
            current=current,
            fresh=fresh,
            start=None if fresh is None else self._start(fire.membrane),
            start_back=None if fresh is None or fire.taken_back is None else self._start(fire.taken_back),
            slots=slots,
        )
        return [firing, *(partial(other.copy_, wanted[0]) for other in wanted[1:])]

    def _join(self, term: GainTerm, views: Views, copies: Copies, kept: bool) -> Joined:
        """A term, read from bytes where there are any."""
        gain = self._number(term.gain)
        if integers := interiors(copies, term.source):
            return Joined(gain=gain, source=integers[0], low=self._low(term.source))
        return Joined(gain=gain, source=views[term.source], kept=kept)

    def _inverse(self) -> Tensor | None:
        """1/θ, where multiplying by it is exact.

        On integers below 2^24, ⌊v/θ⌋ is ``⌊v·r + r/2⌋`` with r = 1/θ rounded, where three roundings cannot
        reach the next integer, which is half a step of 1/θ away.
        """
        largest = float(self.fire.threshold.max()) * (self.fire.most + 1)
        exact = self.program.exact and 6 * largest < EXACT_LIMIT
        return 1 / self._number(self.fire.threshold) if exact else None

    def _start(self, name: str) -> Tensor:
        buffer = self.program.buffers[name]
        assert buffer.start is not None
        return buffer.start.to(self.device, buffer.dtype)

    def _low(self, name: str) -> int:
        return int(self.program.buffers[name].low)

    def _number(self, value: Tensor) -> Tensor:
        return value.to(self.device, torch.float32)
