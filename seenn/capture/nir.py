"""Networks that others trained, from NIR files: one node an op, with the dynamics of the library they come from.

NIR describes neurons by differential equations, and every library makes other steps of them. With ``dt`` the seconds of
a step (``norse`` 1e-3, ``snntorch`` 1e-4), a LIF node is

::

    norse, snntorch    v ← (1 − dt/τ)·v + dt/τ·r·x,  fires at v > θ, reset to 0           (norse takes r as 1)
    sinabs             v ← exp(−1/τ)·v + x,           fires at v ≥ θ, reset by subtraction, several times a step

and an IF node in ``sinabs`` ``v ← max(v + x, −θ)`` with the same rule. A CubaLIF node has a current
``i ← (1 − dt/τ_syn)·i + dt/τ_syn·w_in·x`` before its membrane. Spikes are worth 1: thresholds
go into what charges the membrane.

``any`` is no library: an IF node is ``v ← v + x``, a LIF node ``v ← exp(−1/τ)·v + x`` with τ in steps and a reset to
v_reset; both fire once a step at v ≥ θ, and IF subtracts θ. What NIR cannot say, seenn writes into ``network.json``
beside the file (initial charges, several and negative spikes, resets), and it is read from there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    Add,
    AvgPool2d,
    ChannelAffine,
    Conv2d,
    Flatten,
    FlooredNeuron,
    IFNeuron,
    LIFNeuron,
    Linear,
    Op,
    Scale,
)
from seenn.core.ops.leaky_sum import LeakySum
from seenn.core.ops.neuron import MOST_SPIKES
from seenn.errors import CheckpointError, UnsupportedError, first_line

STEP = {"norse": 1e-3, "snntorch": 1e-4}  # seconds
DIALECTS = ("any", "norse", "sinabs", "snntorch")
FILE, ABOUT = "network.nir", "network.json"  # of a folder that seenn wrote
_ABOVE = float(np.nextafter(np.float32(1), np.float32(2)))  # v ≥ this is v > 1


def read_nir(path: Path, dialect: str | None) -> tuple[SpikingNetwork, Mapping[str, Any]]:
    """The network in a NIR file, as the library ``dialect`` would run it, and what seenn wrote beside it, or nothing.

    Args:
        dialect: one of ``DIALECTS``; None: the reader that seenn wrote the file for.

    Raises:
        UnsupportedError: nodes that are not known, or that this library runs otherwise; lists all.
        CheckpointError: the file is damaged.
        ValueError: no such dialect, or none.
    """
    about = _beside(path)
    dialect = dialect or about.get("reader")
    if about and dialect not in DIALECTS:
        raise ValueError(
            f"{path} was written for {dialect!r}, and is read back for {', '.join(DIALECTS)} alone: export it for one "
            "of these (--reader any)"
        )
    if dialect not in DIALECTS:
        raise ValueError(
            f"{path} holds NIR, which every library runs otherwise: name the one it was made for with dialect= "
            f"(--dialect), one of {', '.join(DIALECTS)}; got {dialect!r}"
        )
    try:
        import nir
    except ImportError as error:
        raise UnsupportedError("reading NIR needs nir, which is not installed: pip install 'seenn[nir]'") from error
    try:
        graph = nir.read(path)
    except Exception as error:  # of HDF5, of types that do not fit
        raise CheckpointError(
            f"{path} is not a readable NIR file ({first_line(error)}): copy or write it again"
        ) from error
    try:
        return _Reader(
            graph, dialect, {site["node"]: site for site in about.get("sites", {}).values()}
        ).network(), about
    except (LookupError, TypeError, ValueError) as error:
        where, again = (path.with_name(ABOUT), "export") if about else (path, "write")
        raise CheckpointError(f"{where} is damaged ({first_line(error)}): {again} it again") from error


def _beside(path: Path) -> Mapping[str, Any]:
    """What seenn wrote beside the file; empty where there is nothing of it."""
    beside = path.with_name(ABOUT)
    if path.name != FILE or not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{beside} is damaged ({first_line(error)}): export it again") from error
    return found if isinstance(found, dict) and isinstance(found.get("sites"), dict) else {}


class _Reader:
    def __init__(self, graph: Any, dialect: str, rules: Mapping[str, Mapping[str, Any]]) -> None:
        self.graph, self.dialect, self.rules = graph, dialect, rules
        self.nodes: list[Node] = []
        self.problems: list[str] = []

    def network(self) -> SpikingNetwork:
        (start,) = self._named("Input")
        (end,) = self._named("Output")
        made = {start: INPUT}
        shape = tuple(int(n) for n in next(iter(self.graph.nodes[start].input_type.values())))
        for name in self._order(start):
            sources = [made[a] for a, b in self.graph.edges if b == name]
            value = sources[0] if len(sources) == 1 else self._put(f"{name}.sum", Add(), *sources)
            made[name] = value if name == end else self._node(name, self.graph.nodes[name], value)
        if self.problems:
            count = "1 node" if len(self.problems) == 1 else f"{len(self.problems)} nodes"
            raise UnsupportedError(f"{count} cannot be read for {self.dialect}: {'; '.join(self.problems)}")
        network = SpikingNetwork(OpGraph(self.nodes, made[end]), shape).eval()
        if len(found := network.shapes[network.graph.output]) != 1:
            flat = self._put("scores", Flatten(), made[end])
            if math.prod(found) != found[0]:
                raise UnsupportedError(f"the output has shape {list(found)}, expected one score per class")
            network = SpikingNetwork(OpGraph(self.nodes, flat), shape).eval()
        return network

    def _named(self, kind: str) -> list[str]:
        found = [name for name, node in self.graph.nodes.items() if type(node).__name__ == kind]
        if len(found) != 1:
            raise UnsupportedError(f"a network has one {kind} node, and this file has {len(found)}: write it again")
        return found

    def _order(self, start: str) -> list[str]:
        """Every node after those that it reads."""
        order, left = [start], [name for name in self.graph.nodes if name != start]
        while left:
            ready = [n for n in left if all(a in order for a, b in self.graph.edges if b == n)]
            if not ready:
                raise UnsupportedError(
                    f"recurrent connections are not read ({', '.join(sorted(left)[:8])}): take them out"
                )
            order.extend(ready)
            left = [name for name in left if name not in ready]
        return order[1:]

    def _put(self, name: str, op: Op, *sources: str) -> str:
        self.nodes.append(Node(name, op, sources))
        return name

    def _node(self, name: str, node: Any, value: str) -> str:
        make = _MAKERS.get(type(node).__name__)
        try:
            if make is None:
                raise UnsupportedError(f"{type(node).__name__} has no op here: take it out")
            return make(self, name, node, value)
        except (UnsupportedError, ValueError) as error:
            if self.rules and not isinstance(error, UnsupportedError):  # of what stands beside it
                raise
            self.problems.append(f"{name}: {error}")
            return value

    def affine(self, name: str, node: Any, value: str) -> str:
        bias = getattr(node, "bias", None)
        return self._put(
            name, Linear(_tensor(node.weight, "weight"), None if bias is None else _tensor(bias, "bias")), value
        )

    def convolution(self, name: str, node: Any, value: str) -> str:
        if isinstance(node.padding, str):
            raise UnsupportedError(f"padding {node.padding!r}: give numbers")
        window = {key: _pair(getattr(node, key)) for key in ("stride", "padding", "dilation")}
        op = Conv2d(_tensor(node.weight, "weight"), _tensor(node.bias, "bias"), groups=int(node.groups), **window)
        return self._put(name, op, value)

    def pool(self, name: str, node: Any, value: str) -> str:
        kernel = _pair(node.kernel_size)
        mean = self._put(name, AvgPool2d(kernel, _pair(node.stride), _pair(node.padding)), value)
        if type(node).__name__ == "AvgPool2d":
            return mean
        return self._put(f"{name}.total", Scale(float(kernel[0] * kernel[1])), mean)

    def flatten(self, name: str, node: Any, value: str) -> str:
        return self._put(name, Flatten(), value)

    def scale(self, name: str, node: Any, value: str) -> str:
        return self._put(name, ChannelAffine(_per_channel(node.scale, "scale")), value)

    def integrate(self, name: str, node: Any, value: str) -> str:
        if self.dialect not in ("any", "sinabs"):
            raise UnsupportedError(
                ("its IF resets to 0, which is no soft reset" if self.dialect == "norse" else "it reads IF as leaky")
                + ": use LIF"
            )
        charge = self._charge(name, node, value)
        start, rule = self._start(name), self.rules.get(name, {})
        if self.dialect == "sinabs" or rule.get("floor") is not None:
            most = MOST_SPIKES if self.dialect == "sinabs" else rule["max_spikes"]
            return self._put(name, FlooredNeuron(1.0, start, max_spikes=most), charge)
        kind = {"max_spikes": rule.get("max_spikes", 1), "signed": rule.get("signed", False)}
        return self._put(name, IFNeuron(1.0, start, **kind), charge)

    def _start(self, name: str) -> Tensor:
        """The membrane before the first step, in thresholds: what stands beside the file, else 0."""
        return torch.tensor(self.rules.get(name, {}).get("charge", 0.0), dtype=torch.float32)

    def _charge(self, name: str, node: Any, value: str, gain: Tensor | float = 1.0) -> str:
        """What charges the membrane, in thresholds."""
        factor = gain / _theta(node)
        return value if bool((factor == 1).all()) else self._put(f"{name}.charge", ChannelAffine(factor), value)

    def leaky(self, name: str, node: Any, value: str) -> str:
        if self.dialect == "any":
            return self._leak_of_any(name, node, value)
        if self.dialect == "sinabs":  # which knows neither r nor v_reset
            _without_leak(node)
            leaks = LIFNeuron(1.0, 0.0, decay=self._decay(node.tau), v_reset=None, max_spikes=MOST_SPIKES)
            return self._put(name, leaks, self._charge(name, node, value))
        gain = self._share(node.tau, "tau")
        r = 1.0 if self.dialect == "norse" else _per_channel(node.r, "r")
        return self._membrane(name, node, value, 1 - gain, gain * r)

    def _leak_of_any(self, name: str, node: Any, value: str) -> str:
        rule = self.rules.get(name, {})
        charge = self._charge(name, node, value, _per_channel(node.r, "r"))
        if rule:
            decay, reset = float(rule["decay"]), rule["v_reset"]
        else:
            decay, reset = self._decay(node.tau), node.v_reset / node.v_threshold
        reset = None if reset is None else _single(reset, "v_reset / v_threshold")
        most = rule.get("max_spikes", 1)
        return self._put(name, LIFNeuron(1.0, self._start(name), decay=decay, v_reset=reset, max_spikes=most), charge)

    def _decay(self, tau: Any) -> float:
        if (steps := _single(tau, "tau")) <= 0:
            raise UnsupportedError(f"tau is {steps:g} steps, and must be above 0: write the file again")
        return math.exp(-1 / steps)

    def current_based(self, name: str, node: Any, value: str) -> str:
        if self.dialect not in STEP:
            raise UnsupportedError(f"{self.dialect} reads no CubaLIF: use IF, or --dialect {' or '.join(STEP)}")
        synapse, gain = self._share(node.tau_syn, "tau_syn"), self._share(node.tau_mem, "tau_mem")
        entering = ChannelAffine(synapse * _per_channel(node.w_in, "w_in"))
        current = self._put(f"{name}.in", entering, value)
        current = self._put(f"{name}.current", LeakySum(decay=1 - synapse), current)
        return self._membrane(name, node, current, 1 - gain, gain * _per_channel(node.r, "r"))

    def _share(self, tau: Any, name: str) -> float:
        """``dt/τ``: what a step moves towards the input; 1 where τ is the step, as float32 has it."""
        step, seconds = STEP[self.dialect], _single(tau, name)
        if seconds < step * (1 - 1e-6):
            fit = [other for other, dt in STEP.items() if dt <= seconds]
            raise UnsupportedError(
                f"{name} is {seconds:g} s, and must be at least a step of {self.dialect}, {step:g} s: "
                f"{f'try --dialect {fit[0]}' if fit else 'write the file with longer times'}"
            )
        return min(step / seconds, 1.0)

    def _membrane(self, name: str, node: Any, value: str, decay: float, gain: Tensor | float) -> str:
        _without_leak(node)
        if bool(np.any(np.asarray(node.v_reset) != 0)):
            raise UnsupportedError(f"{self.dialect} resets to 0 and ignores v_reset: use v_reset = 0")
        charge = self._charge(name, node, value, gain)
        return self._put(name, LIFNeuron(_ABOVE, 0.0, decay=decay, v_reset=0.0), charge)


_MAKERS: Mapping[str, Callable[[_Reader, str, Any, str], str]] = {
    "Affine": _Reader.affine,
    "AvgPool2d": _Reader.pool,
    "Conv2d": _Reader.convolution,
    "CubaLIF": _Reader.current_based,
    "Flatten": _Reader.flatten,
    "IF": _Reader.integrate,
    "LIF": _Reader.leaky,
    "Linear": _Reader.affine,
    "Scale": _Reader.scale,
    "SumPool2d": _Reader.pool,
}


def _without_leak(node: Any) -> None:
    if bool(np.any(np.asarray(node.v_leak) != 0)):
        raise UnsupportedError("a leak towards another value than 0: use v_leak = 0")


def _tensor(values: Any, name: str) -> Tensor:
    found = torch.from_numpy(np.array(values, dtype=np.float32))
    if not bool(found.isfinite().all()):
        raise UnsupportedError(f"{name} is NaN, infinite or beyond float32: write a sound file")
    return found


def _pair(values: Any) -> tuple[int, int]:
    height, width = (int(n) for n in np.broadcast_to(np.asarray(values), 2))
    return height, width


def _theta(node: Any) -> Tensor:
    """``[C]``."""
    found = _per_channel(node.v_threshold, "v_threshold")
    if not bool((found > 0).all()):
        raise UnsupportedError(f"v_threshold is {float(found.min()):g}, and must be above 0: write the file again")
    return found


def _per_channel(values: Any, name: str) -> Tensor:
    """``[C]`` of what is the same all over a channel."""
    found = _tensor(values, name)
    rows = found.reshape(len(found), -1) if found.dim() else found.view(1, 1)
    if not bool((rows == rows[:, :1]).all()):
        raise UnsupportedError(f"{name} differs within a channel: give one a channel")
    return rows[:, 0].contiguous()


def _single(values: Any, name: str) -> float:
    """What is the same everywhere."""
    _tensor(values, name)  # refuses NaN
    found = np.unique(np.asarray(values, dtype=np.float64))
    if len(found) != 1:
        raise UnsupportedError(f"{name} differs between neurons: give one for all")
    return float(found[0])
