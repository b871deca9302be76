"""Writes and runs NIR files in a process with the reader's own packages: ``python -I nir_process.py FOLDER``.

Nothing here is imported from seenn, whose versions of torch and nir need not be the reader's. ``FOLDER`` holds
``plan.json`` and ``arrays.npz``; the graph goes to ``network.nir`` and the reader's spikes to ``found.npz``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import nir
import numpy as np
import torch

DT = {"norse": 1e-3, "snntorch": 1e-4}  # seconds of a step, as each reader has it


def write(plan: dict[str, Any], arrays: dict[str, Any], path: str) -> None:
    """The graph, in the units of the reader."""
    nodes = {name: made(kind, fields, arrays, plan["reader"]) for name, (kind, fields) in plan["nodes"].items()}
    edges = [tuple(edge) for edge in plan["edges"]]
    graph = nir.NIRGraph(nodes=nodes, edges=edges)
    graph.metadata = {"seenn": json.dumps(plan["about"])}
    nir.write(path, graph)


def made(kind: str, fields: dict[str, Any], arrays: dict[str, Any], reader: str) -> Any:
    """One node."""
    given = {key: arrays[value] if isinstance(value, str) else value for key, value in fields.items()}
    if kind == "Input":
        return nir.Input(input_type={"input": np.array(given["shape"])})
    if kind == "Output":
        return nir.Output(output_type={"output": np.array(given["shape"])})
    if kind == "SumPool2d":
        return nir.SumPool2d(**{key: np.array(value) for key, value in given.items()})
    if kind == "Affine":
        return nir.Affine(weight=given["weight"], bias=given["bias"])
    if kind == "Conv2d":
        keys = ("stride", "padding", "dilation")
        window = {key: tuple(given[key]) for key in keys}
        return nir.Conv2d(input_shape=tuple(given["input_shape"]), weight=given["weight"], bias=given["bias"],
                          groups=given["groups"], **window)  # fmt: skip
    shape = tuple(given["shape"])
    ones, threshold = np.ones(shape, np.float32), np.full(shape, given["v_threshold"], np.float32)
    if kind == "IF":
        return nir.IF(r=ones, v_threshold=threshold)
    tau = np.full(shape, given["tau"], np.float32)
    return nir.LIF(tau=tau, r=ones * np.float32(given["r"]), v_leak=0 * ones, v_threshold=threshold)


class Sinabs:
    """sinabs: layers with a membrane of their own."""

    def __init__(self, graph: Any, plan: dict[str, Any], batch: int) -> None:
        from sinabs.nir import from_nir

        self.net = from_nir(graph, batch_size=batch)
        for site, own in plan["sites"].items():
            layer = self.net.get_submodule(own["node"])
            layer.init_state_with_shape((batch, *own["shape"]))
            charge = torch.tensor(own["charge"]).view(-1, *[1] * (len(own["shape"]) - 1))
            layer.v_mem.data[:] = charge
            if "lowest" in own:
                layer.min_v_mem = torch.nn.Parameter(torch.tensor(float(own["lowest"])), requires_grad=False)
            watch(self.net, own["node"], site)

    def __call__(self, x: Any) -> Any:
        found = self.net(x)
        return found[0] if isinstance(found, tuple) else found


class Stateful:
    """Norse and snnTorch: the state is handed from step to step."""

    def __init__(self, graph: Any, plan: dict[str, Any], batch: int) -> None:
        if plan["reader"] == "norse":
            from norse.torch.utils.import_nir import from_nir

            self.net = from_nir(graph, dt=DT["norse"])
        else:
            from snntorch.import_nir import import_from_nir

            self.net = import_from_nir(graph)
        self.state: Any = None
        for site, own in plan["sites"].items():
            watch(self.net, own["node"], site)

    def __call__(self, x: Any) -> Any:
        found, self.state = self.net(x, self.state)
        return found


def stateless(node: Any, x: Any) -> Any:
    """What a node without a membrane makes of its input."""
    kind = type(node).__name__
    if kind == "Affine":
        return torch.nn.functional.linear(x, tensor(node.weight), tensor(node.bias))
    if kind == "Conv2d":
        keys = ("stride", "padding", "dilation")
        window: Any = {key: tuple(int(n) for n in np.broadcast_to(getattr(node, key), 2)) for key in keys}
        weight, bias, groups = tensor(node.weight), tensor(node.bias), int(node.groups)
        return torch.nn.functional.conv2d(x, weight, bias, groups=groups, **window)
    if kind == "SumPool2d":
        kernel, stride = (tuple(int(n) for n in v) for v in (node.kernel_size, node.stride))
        return torch.nn.functional.avg_pool2d(x, kernel, stride, divisor_override=1)
    if kind == "Output":
        return x
    raise ValueError(f"{kind} has no rule")


class Rules:
    """No reader: the nodes as NIR and the metadata beside them say."""

    def __init__(self, graph: Any, plan: dict[str, Any], batch: int) -> None:
        self.graph, self.rules = graph, {own["node"]: own for own in plan["sites"].values()}
        self.v: dict[str, Any] = {}
        self.sites = {own["node"]: site for site, own in plan["sites"].items()}
        self.net_counts: dict[str, Any] = {}

    def __call__(self, x: Any) -> Any:
        values = {"input": x}

        def value(name: str) -> Any:
            if name not in values:
                sources = [value(a) for a, b in self.graph.edges if b == name]
                node, x = self.graph.nodes[name], sum(sources[1:], sources[0])
                values[name] = self.neuron(name, x) if name in self.rules else stateless(node, x)
            return values[name]

        return value("output")

    def neuron(self, name: str, x: Any) -> Any:
        """v ← max(decay·v + x, floor), n = clip(⌊v⌋, −min(Γ, S), Γ), and a reset by subtraction or to a value."""
        rule = self.rules[name]
        if name not in self.v:
            charge = torch.tensor(rule["charge"], dtype=x.dtype).view(-1, *[1] * (x.dim() - 2))
            self.v[name], self.net_counts[name] = charge.expand(x.shape), torch.zeros_like(x)
        v = rule["decay"] * self.v[name] + x
        if rule["floor"] is not None:
            v = v.clamp(min=rule["floor"])
        low = -self.net_counts[name].clamp(max=rule["max_spikes"]) if rule["signed"] else torch.zeros_like(v)
        count = torch.maximum(torch.minimum(torch.floor(v), torch.tensor(float(rule["max_spikes"]))), low)
        self.net_counts[name] = self.net_counts[name] + count
        reset = rule["v_reset"]
        if reset is None:
            self.v[name] = v - count
        else:
            value = torch.tensor(reset, dtype=x.dtype).view(-1, *[1] * (x.dim() - 2))
            self.v[name] = torch.where(count > 0, value, v)
        SPIKES[self.sites[name]] = count
        return count


class SpiNNaker2:
    """The published rules of s2_nir (py-spinnaker2): the file says all, and every projection takes a step.

    A node IF is a population that integrates spikes times int8 weights and the bias of its layer, fires once where it
    comes over its threshold, and subtracts that.
    """

    def __init__(self, graph: Any, plan: dict[str, Any], batch: int) -> None:
        self.graph, self.sites = graph, {own["node"]: site for site, own in plan["sites"].items()}
        self.last: dict[str, Any] = {}
        self.v: dict[str, Any] = {}
        for name, node in graph.nodes.items():
            if type(node).__name__ in ("Input", "IF"):
                self.last[name] = torch.zeros(batch, *next(iter(node.output_type.values())))
                self.v[name] = self.last[name].clone()
            elif hasattr(node, "weight"):
                assert (node.weight == node.weight.astype(np.int8)).all(), "weights are int8"

    def __call__(self, x: Any) -> Any:
        fired = {"input": x}
        for name in self.v:
            if name != "input":
                theta = float(self.graph.nodes[name].v_threshold.flat[0])
                v = self.v[name] + self.arriving(name)
                fired[name] = (v >= theta).float()
                self.v[name] = v - fired[name] * theta
        self.last = fired
        SPIKES.update({site: fired[node] for node, site in self.sites.items()})
        return self.v["scores"]

    def arriving(self, name: str) -> Any:
        """What a node is given, from what neurons fired a step ago."""
        found: list[Any] = [self.last[a] if a in self.last else self.layer(a) for a, b in self.graph.edges if b == name]
        return sum(found[1:], found[0])

    def layer(self, name: str) -> Any:
        """What a node without a membrane gives."""
        return stateless(self.graph.nodes[name], self.arriving(name))


def in_time(found: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """Each site's spikes when they would be fired without delays, and what each step adds to the scores."""
    steps, scores = plan["timesteps"], plan["scores"]
    depths = {f"spikes.{site}": own["depth"] for site, own in plan["sites"].items()}
    aligned = {name: found[name][depth : depth + steps] for name, depth in depths.items()}
    sums = found["logits"][scores["depth"] - 1 :]
    return {**aligned, "logits": np.diff(sums, axis=0) / scores["unit"]}


def chip(net: Any, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """What sinabs' builder makes of the layers for the cores of a chip, and on which core it puts each.

    The package around the builder wants samna, which drives the device and is fetched from elsewhere; the builder
    itself computes without, and so it is imported without the package.
    """
    import sinabs.backend
    import sinabs.layers as sl

    for name in ("dynapcnn", "dynapcnn.chips"):
        package = ModuleType(f"sinabs.backend.{name}")
        package.__path__ = [str(Path(sinabs.backend.__path__[0], *name.split(".")))]
        sys.modules[package.__name__] = package
    sys.modules["samna"] = ModuleType("samna")
    from sinabs.backend.dynapcnn.chips.dynapcnn import DynapcnnConfigBuilder
    from sinabs.backend.dynapcnn.dynapcnn_layer import DynapcnnLayer
    from sinabs.backend.dynapcnn.mapping import get_valid_mapping

    made = {}
    for index, own in enumerate(layers):
        neurons = net.get_submodule(own["neurons"])
        spiking = sl.IAFSqueeze(
            batch_size=1, spike_threshold=torch.tensor(float(own["unit"])), min_v_mem=torch.tensor(float(own["lowest"]))
        )
        spiking.init_state_with_shape((1, *own["after"]))
        spiking.v_mem.data[:] = torch.tensor(own["charge"]).view(-1, 1, 1)
        assert neurons.spike_threshold.unique().tolist() == [own["unit"]]
        pools = [(pool, pool) for pool in own["pools"]]
        layer = net.get_submodule(own["layer"])
        made[index] = DynapcnnLayer(layer, spiking, tuple(own["before"]), pools, discretize=False)
    cores = get_valid_mapping(made, DynapcnnConfigBuilder.get_constraints())
    found = [
        DynapcnnConfigBuilder.get_dynapcnn_layer_config_dict(made[index], cores, own["targets"])
        for index, own in enumerate(layers)
    ]
    for config in found:
        config["leak_enable"] = bool(config["leak_enable"])
    memory = [{key: int(value) for key, value in layer.memory_summary().items()} for layer in made.values()]
    return {"cores": list(cores.values()), "layers": found, "memory": memory}


SPIKES: dict[str, Any] = {}
READERS: dict[str, Callable[[Any, dict[str, Any], int], Any]] = {
    "any": Rules, "sinabs": Sinabs, "norse": Stateful, "snntorch": Stateful, "spinnaker2": SpiNNaker2
}  # fmt: skip
PACKAGES = {"any": "nir"}
RULES = {"spinnaker2": "the published rules of s2_nir"}


def watch(net: Any, name: str, site: str) -> None:
    """Keeps what a layer fires."""

    def keep(module: Any, inputs: Any, output: Any) -> None:
        SPIKES[site] = (output[0] if isinstance(output, tuple) else output).detach().clone()

    net.get_submodule(name).register_forward_hook(keep)


def tensor(values: Any) -> Any:
    """An array of the file."""
    return torch.from_numpy(np.array(values)).float()


def stacked(found: dict[str, list[Any]]) -> dict[str, Any]:
    """One array of all steps for each name."""
    return {name: np.stack([value.numpy() for value in values]) for name, values in found.items()}


def main(folder: str) -> None:
    """Writes the graph, reads it again, and runs every step."""
    plan = json.loads(Path(folder, "plan.json").read_text())
    with np.load(Path(folder, "arrays.npz")) as file:
        arrays = {name: file[name] for name in file.files}
    path = str(Path(folder, "network.nir"))
    if plan["write"]:
        write(plan, arrays, path)
    frames = torch.from_numpy(arrays["inputs"])  # [T or 1, N, C, H, W]
    found: dict[str, list[Any]] = {}
    late = plan["scores"]["depth"] if "scores" in plan else 0  # steps that spikes need to come through
    with torch.no_grad():
        net = READERS[plan["reader"]](nir.read(path), plan, frames.shape[1])
        for t in range(plan["timesteps"] + late):
            logits = net(frames[min(t, len(frames) - 1)] if t < plan["timesteps"] else torch.zeros_like(frames[0]))
            for name, values in {"logits": logits, **{f"spikes.{k}": v for k, v in SPIKES.items()}}.items():
                found.setdefault(name, []).append(values)
    arrays = stacked(found)
    np.savez(Path(folder, "found.npz"), **(in_time(arrays, plan) if late else arrays))
    assert "seenn" not in sys.modules
    package = PACKAGES.get(plan["reader"], plan["reader"])
    name = RULES.get(plan["reader"]) or f"{package} {version(package)}"
    answer: dict[str, Any] = {"reader": name, "nir": version("nir")}
    if "chip" in plan:
        answer["chip"] = chip(net.net, plan["chip"])
    Path(folder, "answer.json").write_text(json.dumps(answer, default=int))


if __name__ == "__main__":
    main(sys.argv[1])
