"""What a reader is held to: the network's own steps, and how far another order of additions may lead from them.

Two programs that compute in float32 round differently, and a membrane that comes to lie on its threshold then fires in
one of them. So every step is judged on its own, from the reference's state. With x the current that charges a site
and r the largest difference between float32 and float64 there, a reader's spikes may be any between those of
``x − 8·r`` and ``x + 8·r``. A spike that differs and is excused so is a tie; what it changes later in the same step of
the same image is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.graph import Node
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Neuron, State, StatefulOp
from seenn.errors import ExportError
from seenn.export.exporter import REPORT, Subject

ROUNDINGS = 8  # times its own rounding that another program may be away
EPS = torch.finfo(torch.float32).eps
BATCHES = (1, 7)  # sizes in which readers run


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """One step: all of it by node name.

    Attributes:
        t: the timestep, from 1.
        currents: what ``encode`` gives, in its order.
        state: before the step, in the network's order.
        after: after it.
        logits: the step's outputs.
        charges: what arrives at every site.
        counts: its spikes.
        bounds: how far another program may be from ``charges``, ``after`` (by ``node.name``) and ``logits``.
    """

    t: int
    currents: State
    state: State
    after: State
    logits: Tensor
    charges: Mapping[str, Tensor]
    counts: Mapping[str, Tensor]
    bounds: Mapping[str, float]


class Witness:
    """Runs a network step by step, in float32 and, from the same states, in float64."""

    def __init__(self, network: SpikingNetwork) -> None:
        self._network = network
        self._exact = copy.deepcopy(network).double()

    def moments(self, batch: Batch, timesteps: int) -> Iterator[Moment]:
        """All steps of all samples."""
        network = self._network
        state: State | None = None
        for t in range(1, timesteps + 1):
            frame = batch.frame(t)
            currents = network.encode(frame)
            state = network.start(currents) if state is None else state
            logits, after, charges, counts = _step(network, frame, state)
            exact = _step(self._exact, frame.double(), tuple(s.double() for s in state))
            agree = torch.ones(len(frame), dtype=torch.bool)
            bounds: dict[str, float] = {}
            for site in network.sites:
                bounds[site] = _bound(charges[site], exact[2][site], agree)
                agree &= ~_rows(counts[site] != exact[3][site])
            for (node, name), own, other in zip(network.state_layout, after, exact[1], strict=True):
                bounds[f"{node}.{name}"] = _bound(own, other, agree)
            bounds["logits"] = _bound(logits, exact[0], agree)
            yield Moment(
                t=t,
                currents=currents,
                state=state,
                after=after,
                logits=logits,
                charges=charges,
                counts=counts,
                bounds=bounds,
            )
            state = after

    def neuron(self, site: str) -> Neuron:
        """The neuron of a site."""
        op = self._network.graph[site].op
        assert isinstance(op, Neuron)
        return op

    def states_of(self, site: str, moment: Moment) -> State:
        """Those of a site's neuron before the step."""
        layout = self._network.state_layout
        return tuple(s for (node, _), s in zip(layout, moment.state, strict=True) if node == site)


@dataclass(kw_only=True)
class Judgement:
    """Compares what a reader computed in a step, and keeps count.

    Raises:
        ExportError: spikes, outputs or states that rounding does not explain.
    """

    witness: Witness
    reader: str
    figures: dict[str, Any] = field(
        default_factory=lambda: {"spikes": 0, "ties": 0, "largest_difference": 0.0, "tolerance": 0.0}
    )

    def see(
        self,
        moment: Moment,
        counts: Mapping[str, Tensor],
        logits: Tensor | None = None,
        after: State = (),
        clean: Tensor | None = None,
        steps: int = 1,
    ) -> Tensor:
        """Which samples came through this step without a tie, bool ``[B]``; those not in ``clean`` are left out.

        ``steps`` is how many the reader has taken from a state of the reference: so often may it have rounded.
        """
        clean = torch.ones(len(moment.logits), dtype=torch.bool) if clean is None else clean.clone()
        for site, own in moment.counts.items():
            theirs = counts[site].to(own.dtype)
            if theirs.shape != own.shape:
                raise ExportError(
                    f"{self.reader}: {site} has spikes of shape {list(theirs.shape)}, expected {list(own.shape)}"
                )
            differ = (theirs != own) & clean.view(-1, *[1] * (own.dim() - 1))
            self.figures["spikes"] += int(own[clean].numel())
            if bool(differ.any()):
                self._excuse(moment, site, theirs, differ, steps)
                clean &= ~_rows(differ)
        if logits is not None:
            self._near(moment, "logits", logits, moment.logits, clean, steps)
        if after:
            layout = self.witness._network.state_layout
            for (node, name), theirs, own in zip(layout, after, moment.after, strict=True):
                self._near(moment, f"{node}.{name}", theirs, own, clean, steps)
        return clean

    def _excuse(self, moment: Moment, site: str, theirs: Tensor, differ: Tensor, steps: int) -> None:
        neuron, state, x = self.witness.neuron(site), self.witness.states_of(site, moment), moment.charges[site]
        bound = steps * moment.bounds[site]
        below, above = (neuron.fire(x + shift, state)[0] for shift in (-bound, bound))
        wrong = differ & ((theirs < torch.minimum(below, above)) | (theirs > torch.maximum(below, above)))
        if bool(wrong.any()):
            at = tuple(wrong.nonzero()[0].tolist())
            raise ExportError(
                f"{self.reader} fires otherwise: {int(wrong.sum())} of {wrong.numel()} neurons at {site} in step "
                f"{moment.t}, the first {list(at)} with {theirs[at].item():g} spikes where the network has "
                f"{moment.counts[site][at].item():g}: {REPORT}"
            )
        self.figures["ties"] += int(differ.sum())

    def _near(self, moment: Moment, name: str, theirs: Tensor, own: Tensor, clean: Tensor, steps: int) -> None:
        bound = steps * moment.bounds[name]
        away = float(_distance(theirs[clean], own[clean]).max()) if bool(clean.any()) else 0.0
        if not away <= bound:
            raise ExportError(
                f"{self.reader} computes otherwise: {name} in step {moment.t} is {away:.2e} away, and rounding "
                f"explains {bound:.2e}: {REPORT}"
            )
        if name == "logits":
            self.figures["largest_difference"] = max(self.figures["largest_difference"], away)
            self.figures["tolerance"] = max(self.figures["tolerance"], bound)


Batches = Sequence[Mapping[str, Tensor]]  # what a reader computed, by name


def parts_of(count: int, size: int) -> list[slice]:
    """Batches of ``size`` among so many samples."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def joined(parts: Batches, name: str) -> Tensor:
    """One output of several batches."""
    return torch.cat([part[name] for part in parts])


def free_runs(subject: Subject, reader: str, runs: Sequence[Batches]) -> tuple[list[Tensor], dict[str, Any]]:
    """Which images come through all steps of each run without a tie, bool ``[N]``, from the reader's own start.

    Args:
        subject: the network.
        reader: what errors call it.
        runs: of every batch ``spikes.SITE`` and, where it has them, ``logits``, ``[T', B, ...]`` in as many steps as it
            ran.

    Raises:
        ExportError: spikes that rounding does not explain.
    """
    judgement = Judgement(witness=Witness(subject.network), reader=reader)
    clean = [torch.ones(len(subject.batch), dtype=torch.bool) for _ in runs]
    for moment in judgement.witness.moments(subject.batch, subject.timesteps):
        for index, run in enumerate(runs):
            counts = {site: _of_step(run, f"spikes.{site}", own, moment.t) for site, own in moment.counts.items()}
            logits = _of_step(run, "logits", moment.logits, moment.t) if "logits" in run[0] else None
            clean[index] = judgement.see(moment, counts, logits, clean=clean[index], steps=moment.t)
    return clean, judgement.figures


def _of_step(parts: Batches, name: str, own: Tensor, t: int) -> Tensor:
    """Of batches that are over, what the network has: nobody looks at it any more."""
    found, start = [], 0
    for part in parts:
        stop = start + part[name].shape[1]
        found.append(part[name][t - 1] if t <= len(part[name]) else own[start:stop])
        start = stop
    return torch.cat(found)


def _step(
    network: SpikingNetwork, frame: Tensor, state: State
) -> tuple[Tensor, State, dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, states after, what charged each site, and its spikes."""
    before: dict[str, list[Tensor]] = {}
    for (name, _), tensor in zip(network.state_layout, state, strict=True):
        before.setdefault(name, []).append(tensor)
    after: list[Tensor] = []
    charges: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Tensor:
        if node.name in network.prefix:
            return node.op.constant(*inputs)
        if not isinstance(node.op, StatefulOp):
            return node.op.first(*inputs)
        output, fired, own = node.op.counted_step(inputs, tuple(before[node.name]))
        after.extend(own)
        if fired is not None:
            charges[node.name], counts[node.name] = inputs[0], fired
        return output

    output = network.graph.output
    return network.graph.evaluate(frame, {output}, visit)[output], tuple(after), charges, counts


def _rows(differ: Tensor) -> Tensor:
    return differ.flatten(1).any(1)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """How far apart, 0 where both are the same infinity."""
    return torch.where(a == b, 0.0, (a - b).abs()).flatten()


def _bound(found: Tensor, exact: Tensor, rows: Tensor) -> float:
    finite = found[found.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    rounding = float(_distance(found[rows].double(), exact[rows]).max()) if bool(rows.any()) else 0.0
    return ROUNDINGS * max(rounding, EPS * largest)
