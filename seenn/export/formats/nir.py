"""``nir``: the neuromorphic intermediate representation, for one reader at a time, run by that reader's own package.

NIR has one integrate-and-fire node, and every reader makes another neuron of it. ``--reader`` says which; what NIR
cannot say (reset, initial charge, several spikes, exits, T) is in the metadata and in ``network.json``.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seenn.core.ops import FlooredNeuron, IFNeuron, LIFNeuron, Neuron
from seenn.core.ops.arguments import per_channel
from seenn.errors import ExportError, UnsupportedError
from seenn.export.about import about
from seenn.export.exporter import FORMATS, Format, Subject
from seenn.export.nir_plan import Plan, Site
from seenn.export.witness import Judgement, Witness

FILE, ABOUT = "network.nir", "network.json"
SCRIPT = Path(__file__).parents[1] / "nir_process.py"  # imported here it would want nir


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
}


class _Nir(Format):
    suffix = "-nir"
    takes = ("reader",)

    def violations(self, subject: Subject) -> Iterable[str]:
        name, _ = reader_of(subject)
        dialect = READERS[name]
        plan = Plan(subject.network)
        yield from plan.problems
        for site, own in plan.sites.items():
            yield from (f"{site}: {problem}" for problem in _problems(own.neuron, name, dialect))
        for node in _early(plan.edges) if dialect.deep else ():
            yield f"{node}: nirtorch runs it before all that it adds is there: use shortcuts without layers"
        if subject.network.initial_steps:
            yield f"{subject.network.initial_steps} initial steps: convert with another --correction than cos or srp"
        if dialect.several and not plan.problems:
            yield from _crossings(subject, name)

    def write(self, subject: Subject, path: Path) -> None:
        _process(subject, path, write=True)

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        said, found = _process(subject, path, write=False)
        name, _ = reader_of(subject)
        judgement = Judgement(witness=Witness(subject.network), reader=said)
        clean = torch.ones(len(subject.batch), dtype=torch.bool)
        cut = torch.zeros_like(clean)
        for moment in judgement.witness.moments(subject.batch, subject.timesteps):
            counts = {site: found[f"spikes.{site}"][moment.t - 1] for site in moment.counts}
            logits = found["logits"][moment.t - 1]
            clean = judgement.see(moment, counts, logits, clean=clean & ~cut, steps=moment.t)
            if READERS[name].floored:  # a membrane that is lower here is another there from now on
                for (site, _), state in zip(subject.network.state_layout, moment.after, strict=True):
                    neuron = judgement.witness.neuron(site)
                    theta = per_channel(neuron.v_threshold.detach(), state, neuron.axis)
                    cut |= (state < -theta).flatten(1).any(1)
        compared = int((~cut).sum())
        if not compared:
            raise ExportError(
                f"{said} cuts membranes off at −θ, and each of the {len(cut)} images has one that goes below within "
                f"{subject.timesteps} steps: train with --neuron floored, or use --reader any"
            )
        figures = {"images": len(cut), "images_compared_to_the_end": compared, "timesteps": subject.timesteps}
        return said, {**figures, **judgement.figures}


def reader_of(subject: Subject) -> tuple[str, str]:
    """The reader's name, and the Python that has it: ``sinabs=/path/to/python``, by default this one.

    Raises:
        UnsupportedError: there is no such reader.
    """
    name, _, python = (subject.options.reader or "any").partition("=")
    if name == "spinnaker2":
        raise UnsupportedError("spinnaker2: its compiler needs the board's own software, so nothing could be compared")
    if name not in READERS:
        raise UnsupportedError(f"no reader {name!r} of NIR is known: choose one of {', '.join(READERS)}")
    return name, python or sys.executable


def _problems(neuron: Neuron, name: str, dialect: Dialect) -> Iterable[str]:
    if isinstance(neuron, IFNeuron | FlooredNeuron):
        if dialect.integrates:
            yield f"{name} has no such neuron: {dialect.integrates}; use --reader sinabs or any, or --to onnx"
            return
        if getattr(neuron, "signed", False) and name != "any":
            yield f"{name} fires no negative spikes: convert with --neuron if or burst"
    elif isinstance(neuron, LIFNeuron):
        reason = dialect.subtracts if neuron.v_reset is None else dialect.resets
        if reason:
            yield f"{name} has no such neuron: {reason}"
        elif neuron.v_reset and name != "any":
            yield f"{name} resets to 0, and this neuron to {neuron.v_reset}: train with a reset to 0"
    if bool((neuron.v_init != 0).any()) and not dialect.starts:
        yield f"{name} has no membrane to charge before the first step: train with an initial membrane of 0"


def _early(edges: Sequence[tuple[str, str]]) -> list[str]:
    """Nodes that nirtorch runs before all their inputs: it walks each branch to its end before the next."""
    order: list[str] = []
    left = ["input"]
    while left:
        if (node := left.pop()) not in order:
            order.append(node)
            left.extend(b for a, b in reversed(edges) if a == node)
    return [node for node in order if any(order.index(a) > order.index(node) for a, b in edges if b == node)]


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
                f"{site}: {name} fires as often as the membrane holds, {count} times more than the {most} "
                "that the network may: convert with --neuron burst and more --levels"
            )


def _process(subject: Subject, path: Path, *, write: bool) -> tuple[str, dict[str, Tensor]]:
    """Has the reader's Python write the file, or read and run it."""
    name, python = reader_of(subject)
    plan, arrays = _plan(subject, name)
    with TemporaryDirectory() as folder:
        Path(folder, "plan.json").write_text(json.dumps({**plan, "write": write}), encoding="utf-8")
        np.savez(Path(folder, "arrays.npz"), **arrays)
        if not write:
            shutil.copy(path / FILE, Path(folder, FILE))
        done = subprocess.run(
            [python, "-I", "-W", "ignore", str(SCRIPT), folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            missing = f"pip install 'seenn[{'nir' if name == 'any' else name}]', or --reader {name}=/path/to/python"
            if "ModuleNotFoundError" in said:
                raise UnsupportedError(f"the reader {name} is not installed for {python} ({said}): {missing}")
            raise ExportError(f"{name} cannot run what was written: {said}")
        if write:
            shutil.copy(Path(folder, FILE), path / FILE)
            beside = {**plan["about"], "sites": plan["sites"]}
            (path / ABOUT).write_text(json.dumps(beside, indent=2) + "\n", encoding="utf-8")
        with np.load(Path(folder, "found.npz")) as file:
            shapes = {"logits": subject.network.shapes[subject.network.graph.output]}
            shapes |= {f"spikes.{site}": subject.network.shapes[site] for site in plan["sites"]}
            found = {
                key: torch.from_numpy(file[key]).reshape(subject.timesteps, -1, *shapes[key]) for key in file.files
            }
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return f"{answer['reader']} (nir {answer['nir']})", found


def _plan(subject: Subject, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the process is told: JSON, and arrays by name."""
    dialect, plan = READERS[name], Plan(subject.network)
    batch = subject.batch
    arrays: dict[str, Any] = {"inputs": (batch.inputs if batch.is_sequence else batch.inputs[None]).numpy()}
    sites = {own.node: own for own in plan.sites.values()}
    nodes: dict[str, tuple[str, dict[str, Any]]] = {}
    for node, (kind, fields) in plan.nodes.items():
        given: dict[str, Any] = {}
        if node in sites:
            fields = {**fields, **_units(sites[node], dialect)}
        for key, value in fields.items():
            if isinstance(value, Tensor):
                scale = _gain(plan, node, sites, dialect)
                arrays[f"{node}.{key}"] = (value * scale).numpy()
                given[key] = f"{node}.{key}"
            else:
                given[key] = value
        nodes[node] = (kind, given)
    return {
        "reader": name,
        "timesteps": subject.timesteps,
        "nodes": nodes,
        "edges": plan.edges,
        "sites": {site: _rule(own) for site, own in plan.sites.items()},
        "about": {**about(subject), "reader": name},
    }, arrays


def _units(site: Site, dialect: Dialect) -> dict[str, Any]:
    threshold = float(np.nextafter(np.float32(1), np.float32(0))) if dialect.strict else 1.0
    if not isinstance(site.neuron, LIFNeuron):
        return {"v_threshold": threshold}
    if dialect.step is None:  # exp(−1/τ)
        return {"v_threshold": threshold, "tau": -1 / math.log(site.decay) if site.decay else 1e-9, "r": 1.0}
    tau = dialect.step / (1 - site.decay)
    return {"v_threshold": threshold, "tau": tau, "r": 1.0 if dialect.scaled else tau / dialect.step}


def _gain(plan: Plan, node: str, sites: Mapping[str, Site], dialect: Dialect) -> float:
    """What the weights into a leaky neuron are multiplied by, so that its reader's ``dt/τ`` is undone."""
    fed = [sites[b] for a, b in plan.edges if a == node and b in sites]
    leaks = [own for own in fed if isinstance(own.neuron, LIFNeuron)]
    return 1 / (1 - leaks[0].decay) if leaks and dialect.scaled else 1.0


def _rule(site: Site) -> dict[str, Any]:
    """What NIR does not say of a neuron, in thresholds."""
    neuron = site.neuron
    theta = neuron.v_threshold.detach().double().expand(site.shape[0])
    reset = getattr(neuron, "v_reset", None)
    return {
        "node": site.node,
        "shape": list(site.shape),
        "charge": site.charge.tolist(),
        "decay": site.decay,
        "max_spikes": getattr(neuron, "max_spikes", 1),
        "signed": bool(getattr(neuron, "signed", False)),
        "floor": -1.0 if isinstance(neuron, FlooredNeuron) else None,
        "v_reset": None if reset is None else (reset / theta).tolist(),
        "v_threshold": theta.tolist(),
    }


FORMATS.register("nir")(_Nir())
