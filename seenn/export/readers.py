"""What readers of NIR make of a node, and which networks they therefore cannot have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from seenn.core.ops import FlooredNeuron, IFNeuron, LIFNeuron, Neuron
from seenn.core.ops.arguments import per_channel
from seenn.export.exporter import Subject
from seenn.export.nir_plan import Plan
from seenn.export.rounded import Rounded, sees_spikes
from seenn.export.witness import Witness


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What a reader makes of a node.

    Attributes:
        integrates: why its IF is not ours; None where it is.
        subtracts, resets: why a leaky neuron with such a reset cannot be had.
        several: fires as often in a step as the membrane holds.
        floored: the membrane goes no lower than −θ.
        strict: fires above the threshold and not on it.
        starts: a membrane may be charged before the first step.
        deep: nodes run in the order of a walk that goes deep first, whether their inputs are there or not.
        step: seconds; None where a step has no unit.
        scaled: what the input of a leaky neuron is multiplied by, ``dt/τ``, has to be undone in the weights.
        rounded: weights are int8, inputs are spikes, and each layer's arrive a step later.
    """

    integrates: str | None = None
    subtracts: str | None = None
    resets: str | None = None
    several: bool = False
    floored: bool = False
    strict: bool = False
    starts: bool = False
    deep: bool = False
    step: float | None = None
    scaled: bool = False
    rounded: bool = False


READERS: Mapping[str, Dialect] = {
    "any": Dialect(starts=True),
    "sinabs": Dialect(resets="its LIF resets by subtraction only", several=True, floored=True, starts=True, deep=True),
    "norse": Dialect(
        integrates="its IF resets to 0 and loses what is above the threshold",
        subtracts="its LIF resets to a value only",
        strict=True,
        step=1e-3,
        scaled=True,
        deep=True,
    ),
    "snntorch": Dialect(
        integrates="version 1.0.0 reads IF as a leaky neuron with a decay of 0.9, whatever the file says",
        subtracts="it reads LIF with a reset to 0 only",
        strict=True,
        step=1e-4,
    ),
    "spinnaker2": Dialect(rounded=True),
}


def obstacles(subject: Subject, plan: Plan, name: str) -> Iterable[str]:
    """All that keeps the reader ``name`` from running the network, by node."""
    dialect = READERS[name]
    yield from plan.problems
    for site, own in plan.sites.items():
        yield from (f"{site}: {problem}" for problem in _of_neuron(own.neuron, name, dialect))
    for node in early(plan.edges) if dialect.deep else ():
        yield f"{node}: nirtorch runs it before all that it adds is there: use shortcuts without layers"
    if subject.network.initial_steps:
        yield f"{subject.network.initial_steps} initial steps: convert with another --correction than cos or srp"
    if dialect.several and not plan.problems:
        yield from _crossings(subject, name)
    if dialect.rounded and not plan.problems:
        yield from _late(subject, plan, name)


def early(edges: Sequence[tuple[str, str]]) -> list[str]:
    """Nodes that nirtorch runs before all their inputs: it walks each branch to its end before the next."""
    order: list[str] = []
    left = ["input"]
    while left:
        if (node := left.pop()) not in order:
            order.append(node)
            left.extend(b for a, b in reversed(edges) if a == node)
    return [node for node in order if any(order.index(a) > order.index(node) for a, b in edges if b == node)]


def _of_neuron(neuron: Neuron, name: str, dialect: Dialect) -> Iterable[str]:
    if isinstance(neuron, IFNeuron | FlooredNeuron):
        if dialect.integrates:
            yield f"{name} has no such neuron: {dialect.integrates}; use --reader sinabs or any, or --to onnx"
            return
        if getattr(neuron, "signed", False) and name != "any":
            yield f"{name} fires no negative spikes: convert with --neuron if or burst"
    elif isinstance(neuron, LIFNeuron):
        reason = dialect.subtracts if neuron.v_reset is None else dialect.resets
        if reason:
            yield f"{name} has no such neuron: {reason}; use --reader any, or --to onnx"
        elif neuron.max_spikes > 1 and name not in ("any", "sinabs"):
            yield f"{name} fires once a step, and this neuron up to {neuron.max_spikes} times: use --reader any"
        elif neuron.v_reset and name != "any":
            yield f"{name} resets to 0, and this neuron to {neuron.v_reset}: train with a reset to 0"
    if bool((neuron.v_init != 0).any()) and not dialect.starts:
        yield f"{name} has no membrane to charge before the first step: train with an initial membrane of 0"


def _late(subject: Subject, plan: Plan, name: str) -> Iterable[str]:
    """What is not the same where weights are int8 and spikes arrive a step later."""
    if not sees_spikes(subject, 1):
        yield f"{name} sees single spikes, and this network other inputs: train it with --encoding poisson"
    yield from Rounded(plan).problems
    for node, (_, fields) in plan.nodes.items():
        if "bias" in fields and bool((fields["bias"] != 0).any()):
            yield f"{node}: a bias, which acts there before the spikes of its layer arrive: train layers without biases"
    for site, own in plan.sites.items():
        if not isinstance(own.neuron, IFNeuron) or own.neuron.max_spikes > 1:
            yield f"{site} ({own.neuron.title}): {name} fires once a step, without a floor: train with --neuron if"


def _crossings(subject: Subject, name: str) -> Iterable[str]:
    """Sites that a reader of several spikes a step lets fire more often than the network may."""
    times: dict[str, int] = {}
    witness = Witness(subject.network)
    for moment in witness.moments(subject.batch, subject.timesteps):
        for site, counts in moment.counts.items():
            neuron = witness.neuron(site)
            left = moment.after[subject.network.state_layout.index((site, "v"))]
            most = getattr(neuron, "max_spikes", 1)
            theta = per_channel(neuron.v_threshold, left, neuron.axis)
            times[site] = times.get(site, 0) + int(((counts == most) & (left >= theta)).sum())
    for site, count in times.items():
        if count:
            most = getattr(witness.neuron(site), "max_spikes", 1)
            yield (
                f"{site} ({count} times): {name} fires as often as the membrane holds, and the network at most {most}: "
                "convert with --neuron burst and more --levels"
            )
