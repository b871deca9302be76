"""``nir``: the neuromorphic intermediate representation, for one reader at a time, run by that reader's own package.

NIR has one integrate-and-fire node, and every reader makes another neuron of it. ``--reader`` says which; what NIR
cannot say (reset, initial charge, several spikes, exits, T) is in the metadata and in ``network.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seenn.core.ops import FlooredNeuron, LIFNeuron
from seenn.core.ops.arguments import per_channel
from seenn.errors import ExportError
from seenn.export.about import about
from seenn.export.exporter import FORMATS, Format, Subject
from seenn.export.nir_plan import Plan, Site
from seenn.export.nir_run import reader_of, run
from seenn.export.readers import READERS, Dialect, obstacles
from seenn.export.rounded import Rounded, hold
from seenn.export.witness import Judgement, Witness

ABOUT, NEVER = "network.json", 2.0**30


class _Nir(Format):
    suffix = "-nir"
    takes = ("reader",)
    readers = tuple(READERS)

    def violations(self, subject: Subject) -> Iterable[str]:
        return obstacles(subject, Plan(subject.network), reader_of(subject)[0])

    def write(self, subject: Subject, path: Path) -> None:
        plan, arrays = _plan(subject)
        run(subject, plan, arrays, path, write=True)
        beside = {**plan["about"], "sites": plan["sites"]}
        (path / ABOUT).write_text(json.dumps(beside, indent=2) + "\n", encoding="utf-8")

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        plan, _ = _plan(subject)
        said, found, _ = run(subject, plan, {}, path, write=False)
        name, _ = reader_of(subject)
        if READERS[name].rounded:
            return said, hold(subject, Rounded(Plan(subject.network)), said, found)
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


def _plan(subject: Subject) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the process is told: JSON, and arrays by name."""
    name, _ = reader_of(subject)
    dialect, plan = READERS[name], Plan(subject.network)
    if dialect.rounded:
        return _in_integers(subject, Rounded(plan), name)
    arrays: dict[str, Any] = {}
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
        "nodes": nodes,
        "edges": plan.edges,
        "sites": {site: _rule(own) for site, own in plan.sites.items()},
        "about": {**about(subject), "reader": name},
    }, arrays


def _in_integers(subject: Subject, rounded: Rounded, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same for a reader whose weights are int8.

    A threshold is a little below its integer θ, by less than 1 over all spikes of a neuron: whether the reader fires on
    its threshold or above it, it fires where the membrane, an integer, is θ. Scores are what the membranes of a last
    node hold, which never fires.
    """
    below = 2.0 ** -math.ceil(math.log2(2 * subject.timesteps + 2))
    nodes, arrays = rounded.nodes({layer.name: layer.unit - below for layer in rounded.layers})
    last = rounded.layers[-1]
    nodes["scores"] = ("IF", {"shape": last.after, "v_threshold": NEVER})
    edges = [(a, "scores" if b == "output" else b) for a, b in rounded.plan.edges] + [("scores", "output")]
    sites = {
        layer.name: {"node": layer.site.node, "depth": depth, "unit": layer.unit}
        for depth, layer in enumerate(rounded.layers, 1)
        if layer.site is not None
    }
    scores = {"node": "scores", "depth": len(rounded.layers), "unit": last.unit}
    beside = {**about(subject), "reader": name, "scores": scores}
    return {"nodes": nodes, "edges": edges, "sites": sites, "scores": scores, "about": beside}, arrays


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
