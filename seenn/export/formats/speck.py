"""``speck``: what runs on SynSense's Speck, as a NIR file in integers and as the configuration of its nine cores.

A core holds one convolution of spikes and the neurons that it charges: weights in int8, one threshold, membranes of
16 bits, and sums over squares on the way to the next core. The last layer of weights stays with the host, which adds up
its rows as spikes come. Everything is checked before it is written, and run by sinabs, whose own builder makes the
configuration; limits are those of sinabs 3.1 (``sinabs.backend.dynapcnn``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from seenn.core.ops import FlooredNeuron
from seenn.errors import ExportError
from seenn.export.about import about
from seenn.export.exporter import FORMATS, REPORT, Format, Subject
from seenn.export.nir_plan import Plan
from seenn.export.nir_run import run
from seenn.export.readers import obstacles
from seenn.export.rounded import Layer, Rounded, hold, sees_spikes

ABOUT = "speck.json"
MOST_KERNEL, STRIDES, POOLS, MOST_FEATURES, TARGETS = 16, (1, 2, 4, 8), (1, 2, 4), 1024, 2
LOWEST, HIGHEST = -(2**15), 2**15 - 1  # of a membrane
KERNEL = [k << 10 for k in (16, 16, 16, 32, 32, 64, 64, 16, 16)]  # words of each core
NEURONS = [k << 10 for k in (64, 64, 64, 32, 32, 16, 16, 16, 16)]


class _Speck(Format):
    suffix = "-speck"
    takes = ("reader",)
    readers = ("sinabs",)
    images = 100

    def violations(self, subject: Subject) -> Iterable[str]:
        plan = Plan(subject.network)
        if not sees_spikes(subject):
            yield "Speck sees spikes, and this network images: train it with --encoding poisson, or on recorded events"
        problems = [*obstacles(subject, plan, "sinabs")]
        yield from problems
        if problems:
            return
        rounded = Rounded(plan)
        yield from rounded.problems
        layers = [layer for layer in rounded.layers if layer.site is not None]
        for layer in layers:
            yield from (f"{layer.name}: {problem}" for problem in _misfits(layer, rounded.layers))
        if not rounded.problems:
            yield from _placement(layers)
            yield from _membranes(subject, rounded)

    def write(self, subject: Subject, path: Path) -> None:
        rounded = Rounded(Plan(subject.network))
        plan, arrays = _plan(subject, rounded)
        _, _, chip = run(subject, plan, arrays, path, write=True, default="sinabs")
        layers = [layer for layer in rounded.layers if layer.site is not None]
        report = [
            {"site": layer.name, "core": core, "unit": layer.unit, **memory}
            for layer, core, memory in zip(layers, chip["cores"], chip["memory"], strict=True)
        ]
        last = rounded.layers[-1]
        readout = {
            "source": last.source,
            "unit": last.unit,
            "pooling": last.pool,
            "weight": last.weight.tolist(),
            "bias": last.bias.tolist(),
            **{key: list(value) for key, value in last.fields.items()},
        }
        beside = {**about(subject), "report": report, "cnn_layers": chip["layers"], "readout": readout}
        (path / ABOUT).write_text(json.dumps(beside) + "\n", encoding="utf-8")

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        rounded = Rounded(Plan(subject.network))
        plan, _ = _plan(subject, rounded)
        said, found, chip = run(subject, plan, {}, path, write=False, default="sinabs")
        written = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        if written["cnn_layers"] != chip["layers"]:
            raise ExportError(f"{said}: its builder configures the cores otherwise than what was written: {REPORT}")
        for layer, config in zip(rounded.layers, chip["layers"], strict=False):
            weight = torch.tensor(config["weights"]).transpose(2, 3)
            if not torch.equal(weight, layer.weight.long()) or config["threshold_high"] != layer.unit:
                raise ExportError(f"{said}: the weights of {layer.name} are not those of the network in int8: {REPORT}")
        return said, {**hold(subject, rounded, said, found), "cores": [row["core"] for row in written["report"]]}


def _misfits(layer: Layer, others: Sequence[Layer]) -> Iterable[str]:
    """Why no core holds the layer."""
    height, width = layer.weight.shape[2:]
    if height != width or height > MOST_KERNEL:
        yield f"a kernel of {height}×{width}, and Speck has squares of up to {MOST_KERNEL}: pool before it"
    if len({*layer.fields["stride"]}) > 1 or layer.fields["stride"][0] not in STRIDES:
        yield f"a stride of {layer.fields['stride']}, and Speck has {', '.join(map(str, STRIDES))}: use one of them"
    if {*layer.fields["dilation"]} != {1}:
        yield "dilation, which Speck has not: use a larger kernel"
    if len(layer.weight) > MOST_FEATURES:
        yield f"{len(layer.weight)} features, and Speck has {MOST_FEATURES}: use fewer channels"
    if layer.pool not in POOLS or (layer.pool > 1 and layer.source is None):
        yield f"sums over {layer.pool}×{layer.pool}, and Speck over {', '.join(map(str, POOLS))}: use one of them"
    kernel, neurons, _ = layer.memory()
    if not any(kernel <= k and neurons <= n for k, n in zip(KERNEL, NEURONS, strict=True)):
        yield (
            f"{kernel:,} words of weights and {neurons:,} of membranes, and no core has more than "
            f"{max(KERNEL):,} with {min(NEURONS):,} or {min(KERNEL):,} with {max(NEURONS):,}: "
            "use fewer channels or pixels"
        )
    if sum(other.source == layer.name for other in others) > TARGETS:
        yield f"more than {TARGETS} layers read its spikes: take shortcuts out"


def _placement(layers: Sequence[Layer]) -> Iterable[str]:
    """Whether every layer gets a core of its own."""
    fits = [
        [kernel <= k and neurons <= n for k, n in zip(KERNEL, NEURONS, strict=True)]
        for kernel, neurons, _ in (layer.memory() for layer in layers)
    ]
    placed = maximum_bipartite_matching(csr_array(np.array(fits, dtype=int)), "column")
    if any(map(any, fits)) and all(map(any, fits)) and (missing := int((placed < 0).sum())):
        sizes = ", ".join(f"{layer.name} {layer.memory()[0]:,}/{layer.memory()[1]:,}" for layer in layers)
        yield (
            f"{missing} of {len(layers)} layers find no free core of {len(KERNEL)}: use fewer layers or channels; "
            f"words of weights/membranes are {sizes}"
        )


def _membranes(subject: Subject, rounded: Rounded) -> Iterable[str]:
    """Layers whose membranes leave their 16 bits on the verifying inputs."""
    network = rounded.network(subject.network.input_shape)
    state = None
    units = {layer.name: layer.unit for layer in rounded.layers}
    far: set[str] = set()
    for t in range(1, subject.timesteps + 1):
        _, state = network.advance(network.encode(subject.batch.frame(t)), state)
        for (site, _), v in zip(network.state_layout, state, strict=True):
            if bool((v * units[site] < LOWEST).any() | (v * units[site] > HIGHEST).any()):
                far.add(site)
    yield from (f"{site}: a membrane leaves its 16 bits: run fewer --timesteps" for site in sorted(far))


def _plan(subject: Subject, rounded: Rounded) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the process is told: the plan in integers, and its layers as cores."""
    nodes, arrays = rounded.nodes({layer.name: float(layer.unit) for layer in rounded.layers})
    layers = [layer for layer in rounded.layers if layer.site is not None]
    numbers = {layer.name: index for index, layer in enumerate(layers)}
    chip, sites = [], {}
    for layer in layers:
        assert layer.site is not None
        targets = [other for other in layers if other.source == layer.name]
        floored = isinstance(layer.site.neuron, FlooredNeuron)
        shared = {"lowest": -layer.unit if floored else LOWEST, "charge": layer.charge.tolist()}
        sites[layer.name] = {"node": layer.site.node, "shape": list(layer.site.shape), **shared}
        chip.append({
            "neurons": layer.site.node, "layer": layer.node, "unit": layer.unit, "before": layer.before,
            "after": layer.after, "targets": [numbers[other.name] for other in targets],
            "pools": [other.pool for other in targets], **shared,
        })  # fmt: skip
    return {"nodes": nodes, "edges": rounded.plan.edges, "sites": sites, "about": about(subject), "chip": chip}, arrays


FORMATS.register("speck")(_Speck())
