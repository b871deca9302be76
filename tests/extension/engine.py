"""An engine: ``--engine one-by-one``, each sample by itself in double precision, and what it keeps in a file."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from seenn import Batch, CheckpointError, SpikingNetwork, UnsupportedError
from seenn.core.ops import State
from seenn.runtime import ENGINES, Engine, EngineKind, EngineOptions, Section, SlotObserver


class OneByOne:
    """See ``seenn.runtime.Engine``."""

    name = "one-by-one"
    exact = False  # the number of threads may round a sum otherwise
    max_timesteps: int | None = None
    initial_steps = 0
    exit_costs = (1.0,)  # it runs no heads

    def __init__(self, network: SpikingNetwork, samples: int) -> None:
        self.network = copy.deepcopy(network).double().eval()
        self.note = f"in float64; it was shown {samples} samples"
        self.input_shape = network.input_shape
        self.no_frames = network.no_frames
        self.device = network.device

    def open(self, slots: int) -> _Slots:
        return _Slots(self.network, slots)

    def check(self, sample: Tensor) -> None:
        """Every input can be run."""


@dataclass
class _Sample:
    """What one slot holds."""

    current: State = ()
    state: State | None = None
    logits_sum: Tensor = field(default_factory=lambda: torch.zeros(()))


class _Slots:
    """See ``seenn.runtime.Slots``."""

    def __init__(self, network: SpikingNetwork, capacity: int) -> None:
        self.capacity = capacity
        self._network = network
        self._running: list[_Sample] = [_Sample()] * capacity

    def load(self, rows: Tensor, inputs: Tensor, *, warm: bool = False) -> None:
        for row in rows.tolist():
            left = self._running[row].state if warm else None
            self._running[row] = _Sample(state=None if left is None else self._network.warm_state(left))
        self.feed(rows, inputs)

    @torch.no_grad()
    def feed(self, rows: Tensor, inputs: Tensor) -> None:
        for row, image in zip(rows.tolist(), inputs, strict=True):
            self._running[row].current = self._network.encode(image[None].double())

    @torch.no_grad()
    def step(self, rows: Tensor, segment: int = 1, observe: SlotObserver | None = None) -> Tensor:
        stepped = [self._running[row] for row in rows.tolist()]
        for number, sample in enumerate(stepped):
            see = None if observe is None else partial(_seen, observe, number)
            output, sample.state = self._network.advance(sample.current, sample.state, see)
            sample.logits_sum = sample.logits_sum + output[0]
        return torch.stack([sample.logits_sum for sample in stepped]).float()

    def keep(self, rows: Tensor) -> None:
        self._running[: len(rows)] = [self._running[row] for row in rows.tolist()]


def _seen(observe: SlotObserver, number: int, site: str, counts: Tensor) -> None:
    observe(site, number, counts.float())


class _OneByOne(EngineKind):
    def make(self, network: SpikingNetwork, options: EngineOptions) -> Engine:
        if network.initial_steps:
            raise UnsupportedError("the one-by-one engine runs no initial steps: use the reference engine")
        return OneByOne(network, 0 if options.section is None else options.section.json["samples"])

    def prepare(self, network: SpikingNetwork, batch: Batch, options: EngineOptions) -> Section:
        """Keeps how many samples it was shown; an engine that rounds would keep how."""
        return Section(json={"samples": len(batch)})

    def check(self, section: Section, network: SpikingNetwork) -> None:
        if not isinstance(section.json, dict) or not isinstance(section.json.get("samples"), int):
            raise CheckpointError(f"the one-by-one engine keeps a number of samples, got {section.json!r}")


ENGINES.register(OneByOne.name)(_OneByOne())
