"""A network as functions of tensors that a compiler can follow: what runs once an image, and what runs once a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import cast

import torch
from torch import Tensor, nn

from seenn.core.network import SpikingNetwork
from seenn.core.ops import StatefulOp
from seenn.data.preprocessing import Preprocessing
from seenn.exits import ExitPolicy, Progress
from seenn.export.exporter import ExportOptions, Subject

Tensors = tuple[Tensor, ...]
STAND = ("t", "running", "logits_sum")  # where a sample stands


class Part(nn.Module):
    """Tensors to tensors, each with a name.

    Attributes:
        inputs, outputs: their names, in order.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __init__(self, network: SpikingNetwork, nodes: Sequence[str]) -> None:
        super().__init__()
        # The network itself is no child, so that only the weights of these nodes are this part's.
        object.__setattr__(self, "network", network)
        self.network: SpikingNetwork
        for name in nodes:
            self.add_module(name.replace(".", "_") + "_", network.graph[name].op)

    def forward(self, *values: Tensor) -> Tensors:
        """``outputs`` from ``inputs``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Names:
    """What passes between the parts."""

    currents: tuple[str, ...]
    states: tuple[str, ...]
    spikes: tuple[str, ...]
    rule: tuple[str, ...]

    @classmethod
    def of(cls, network: SpikingNetwork, policy: ExitPolicy | None = None) -> Names:
        """Those of a network, and of what its policy remembers."""
        rule = () if policy is None else policy.start(torch.zeros(2, *network.input_shape))
        return cls(
            currents=tuple(f"current.{name}" for name in network.boundary),
            states=tuple(f"state.{node}.{name}" for node, name in network.state_layout),
            spikes=tuple(f"spikes.{site}" for site in network.sites),
            rule=tuple(f"rule.{index}" for index in range(len(rule))),
        )


class Encode(Part):
    """Images to the currents that stay constant and the membranes before the first step.

    With a policy also where every sample stands then: t, who runs, the sums, and what the policy remembers.
    """

    def __init__(self, subject: Subject, policy: ExitPolicy | None = None) -> None:
        network = subject.network
        everything = network.initial_steps > 0
        super().__init__(
            network,
            [n.name for n in network.graph if everything or n.name in network.prefix or isinstance(n.op, StatefulOp)],
        )
        self._pixels: Preprocessing | None = subject.pixels if subject.options.raw_pixels else None
        self._policy = policy
        names = Names.of(network, policy)
        self.inputs = ("images",)
        self.outputs = (*names.currents, *names.states, *(() if policy is None else (*STAND, *names.rule)))

    def forward(self, *values: Tensor) -> Tensors:
        (images,) = values
        if self._pixels is not None:
            images = self._pixels(images.permute(0, 3, 1, 2))
        currents = self.network.encode(images)
        states = self.network.start(currents)
        if self._policy is None:
            return (*currents, *states)
        t = images.new_zeros(images.shape[0], dtype=torch.int64)
        logits_sum = images.new_zeros(images.shape[0], *self.network.shapes[self.network.graph.output])
        return (*currents, *states, t, t == 0, logits_sum, *self._policy.start(images))


class Step(Part):
    """One timestep: currents and states to the step's outputs, the new states, and every site's spike counts."""

    def __init__(self, subject: Subject) -> None:
        network = subject.network
        super().__init__(network, [node.name for node in network.graph if node.name not in network.prefix])
        names = Names.of(network)
        self._currents = len(names.currents)
        self.inputs = (*names.currents, *names.states)
        self.outputs = ("logits", *(f"next.{name}" for name in names.states), *names.spikes)

    def forward(self, *values: Tensor) -> Tensors:
        counts: dict[str, Tensor] = {}
        output, state = self.network.advance(values[: self._currents], values[self._currents :], counts.__setitem__)
        return (output, *state, *(counts[site] for site in self.network.sites))


class StepWithExit(Part):
    """One timestep of the samples that still run, and who stops after it.

    A sample that has stopped keeps its timestep and its sum; what its membranes do then is of no consequence.
    """

    def __init__(self, subject: Subject) -> None:
        network = subject.network
        super().__init__(network, [node.name for node in network.graph if node.name not in network.prefix])
        self._policy = subject.policy
        self._last_asked = max(1, subject.timesteps - 1)
        names = Names.of(network, subject.policy)
        self._counts = (len(names.states), len(names.rule), len(names.currents))
        kept = (*STAND, *names.states, *names.rule)
        self.inputs = (*kept, *names.currents)
        self.outputs = ("any_running", *(f"next.{name}" for name in kept), *names.spikes)

    def forward(self, *values: Tensor) -> Tensors:
        left = iter(values)
        t, running, logits_sum = islice(left, 3)
        states, rule, currents = (tuple(islice(left, count)) for count in self._counts)
        counts: dict[str, Tensor] = {}
        output, states = self.network.advance(currents, states, counts.__setitem__)
        t = t + running.to(t.dtype)
        logits_sum = torch.where(running[:, None], logits_sum + output, logits_sum)
        asked = t.clamp(max=self._last_asked)  # rules have no numbers for T, where everybody stops
        stop, rule = self._policy.stop(Progress.after(asked, self.network.initial_steps), logits_sum, rule)
        running = running & ~stop
        spikes = (counts[site] for site in self.network.sites)
        return (running.any(), t, running, logits_sum, *states, *rule, *spikes)


class Answer(Part):
    """What a user reads: labels, the policy's confidence, and the mean of the outputs up to the exit."""

    inputs = ("t", "logits_sum")
    outputs = ("labels", "exit_timestep", "confidence", "logits")

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject.network, ())
        self._policy = subject.policy

    def forward(self, *values: Tensor) -> Tensors:
        t, logits_sum = values
        confidence = self._policy.confidence(Progress.after(t, self.network.initial_steps), logits_sum)
        return logits_sum.argmax(-1), t, confidence, logits_sum / t[:, None].to(logits_sum.dtype)


class Together(Part):
    """Several parts as one: each name begins with that of its part."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        nn.Module.__init__(self)
        self._parts = nn.ModuleDict(parts)
        self.inputs = tuple(f"{name}/{value}" for name, part in parts.items() for value in part.inputs)
        self.outputs = tuple(f"{name}/{value}" for name, part in parts.items() for value in part.outputs)

    def forward(self, *values: Tensor) -> Tensors:
        left = iter(values)
        found = (part(*islice(left, len(part.inputs))) for part in cast(list[Part], [*self._parts.values()]))
        return tuple(chain.from_iterable(found))


def example(part: Part, subject: Subject, rows: int = 3) -> dict[str, Tensor]:
    """Values that a part can be run on."""
    images = torch.zeros(rows, *subject.network.input_shape)
    begin = Encode(replace(subject, options=ExportOptions()), subject.policy)
    known = {**dict(zip(begin.outputs, begin(images), strict=True)), "images": images}
    if subject.options.raw_pixels:
        known["images"] = images.permute(0, 2, 3, 1).to(torch.uint8)
    return {name: known[name].contiguous() for name in part.inputs}
