"""Runs a file of integers with NumPy alone: the reference for whoever reads it on other hardware.

``python interpreter.py snn.npz`` runs the test vectors that lie in the file. Nothing here is imported from seenn; the
file is described in docs/export.md. Every value is an integer; float64 holds them exactly.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray[Any, np.dtype[Any]]


class Network:
    """What is in the file.

    Attributes:
        graph: the JSON object.
    """

    def __init__(self, path: str) -> None:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            self.arrays: dict[str, Array] = {name: file[name] for name in file.files if name != "graph.json"}
            self.graph: dict[str, Any] = json.loads(file["graph.json"])

    def run(self, inputs: Array, timesteps: int) -> tuple[dict[str, list[Array]], list[Array]]:
        """Spike counts of every site and outputs, one of each a step, of integer inputs ``[N, C, H, W]``."""
        values: dict[str, Array] = {}
        for name, buffer in self.graph["buffers"].items():
            if buffer["life"] == "state":
                start = np.zeros(()) if buffer["start"] is None else self.arrays[buffer["start"]].astype(np.float64)
                values[name] = np.broadcast_to(start, (len(inputs), *buffer["shape"])).copy()
        values["input"] = inputs.astype(np.float64)
        counts: dict[str, list[Array]] = {site: [] for site in self.graph["sites"]}
        outputs = []
        for instruction in self.graph["encode"]:
            self.do(instruction, values)
        for _ in range(timesteps):
            for instruction in self.graph["step"]:
                self.do(instruction, values)
            for site, found in counts.items():
                found.append(values[site].copy())
            outputs.append(values[self.graph["output"]].copy())
        return counts, outputs

    def do(self, instruction: dict[str, Any], values: dict[str, Array]) -> None:
        """One instruction."""
        getattr(self, instruction["do"])(instruction, values)

    def sum(self, i: dict[str, Any], values: dict[str, Array]) -> None:
        """target ← Σ terms + constant, or target += …"""
        shape = self.graph["buffers"][i["target"]]["shape"]
        total = np.zeros((len(values["input"]), *shape))
        for term in i["terms"]:
            source = values[term["source"]]
            if "gain" in term:
                total += source * self.number(term["gain"])
            else:
                total += convolve(source, self.number(term["weight"]) * self.unit(term), term)
        if i["constant"] is not None:
            total += self.number(i["constant"])
        values[i["target"]] = values[i["target"]] + total if i["accumulate"] else total

    def fire(self, i: dict[str, Any], values: dict[str, Array]) -> None:
        """n = clip(⌊v/θ⌋, fewest, most), no less than −S; v −= n·θ; S += n."""
        if i["current"] is not None:
            self.sum(i["current"], values)
        threshold = self.number(i["threshold"])
        count = np.clip(np.floor(values[i["membrane"]] / threshold), i["fewest"], i["most"])
        if i["taken_back"] is not None:
            count = np.maximum(count, values[i["taken_back"]])
            values[i["taken_back"]] = values[i["taken_back"]] - count
        values[i["membrane"]] = values[i["membrane"]] - count * threshold
        values[i["target"]] = count

    def gather(self, i: dict[str, Any], values: dict[str, Array]) -> None:
        """Values of the sources, one after the other, by index; −1 is a zero."""
        rows = np.concatenate([values[name].reshape(len(values["input"]), -1) for name in i["sources"]], 1)
        rows = np.concatenate([rows, np.zeros((len(rows), 1))], 1)
        values[i["target"]] = rows[:, self.arrays[i["index"]]].reshape(-1, *self.graph["buffers"][i["target"]]["shape"])

    def add_up(self, i: dict[str, Any], values: dict[str, Array]) -> None:
        """The sum over every window, times a factor."""
        total = windows(values[i["source"]], i["windows"], 0.0).sum((-2, -1))
        values[i["target"]] = self.shaped(i, total) * (1.0 if i["factor"] is None else self.number(i["factor"]))

    def max(self, i: dict[str, Any], values: dict[str, Array]) -> None:
        """The largest of every window."""
        values[i["target"]] = self.shaped(i, windows(values[i["source"]], i["windows"], -math.inf).max((-2, -1)))

    def max_difference(self, i: dict[str, Any], values: dict[str, Array]) -> None:
        """What the step adds to the largest of every window's sums over time."""
        values[i["total"]] = values[i["total"]] + values[i["source"]]
        now = self.shaped(i, windows(values[i["total"]], i["windows"], -math.inf).max((-2, -1)))
        values[i["target"]], values[i["before"]] = now - values[i["before"]], now

    def leak(self, i: dict[str, Any], values: dict[str, Array]) -> None:
        """target += f(charge) − before; before ← f(charge); f(c) = c + round(factor·min(c, 0)), in float64 if wide."""
        charge: Array = values[i["source"]]
        kind = np.float64 if i.get("wide") else np.float32
        below: Array = np.minimum(charge, 0).astype(kind) * self.arrays[i["factor"]]
        now = charge + np.round(below).astype(np.float64)
        values[i["target"]] = values[i["target"]] + now - values[i["before"]]
        values[i["before"]] = now

    def number(self, name: str) -> Array:
        """An array of the file."""
        return self.arrays[name].astype(np.float64)

    def unit(self, term: dict[str, Any]) -> Array:
        """By how much the weights of each output channel are multiplied, [O, 1, …]."""
        weight = self.arrays[term["weight"]]
        return self.number(term["unit"]).reshape(-1, *[1] * (weight.ndim - 1))

    def shaped(self, i: dict[str, Any], values: Array) -> Array:
        """As the target has its axes."""
        return values.reshape(-1, *self.graph["buffers"][i["target"]]["shape"])


def convolve(x: Array, weight: Array, term: dict[str, Any]) -> Array:
    """[N, …, C] by a matrix, or [N, C, H, W] by a window; integers stay integers."""
    if not term["stride"]:
        return x @ weight.T if term["channels"] == -1 else np.moveaxis(np.moveaxis(x, 1, -1) @ weight.T, -1, 1)
    (top, left), (down, right), groups = term["padding"], term["dilation"], term["groups"]
    x = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    kernel = [(size - 1) * step + 1 for size, step in zip(weight.shape[2:], (down, right), strict=True)]
    seen = sliding_window_view(x, kernel, (2, 3))[:, :, :: term["stride"][0], :: term["stride"][1], ::down, ::right]
    n, channels, height, width = seen.shape[:4]
    parts = []
    for group, own in enumerate(np.split(weight, groups)):
        each = channels // groups
        columns = seen[:, group * each : (group + 1) * each].transpose(0, 2, 3, 1, 4, 5).reshape(n * height * width, -1)
        parts.append((columns @ own.reshape(len(own), -1).T).reshape(n, height, width, len(own)))
    return np.concatenate(parts, -1).transpose(0, 3, 1, 2)


def windows(x: Array, how: dict[str, Any], border: float) -> Array:
    """[N, C, H, W] as [N, C, H', W', k, k]; outside the image is ``border``."""
    if how["everything"]:  # of a channel
        return x.reshape(*x.shape[:2], 1, 1, -1, 1)
    (top, left), (height, width), (down, right) = how["padding"], how["kernel"], how["dilation"]
    (rows, columns), (y, x_stride) = how["size"], how["stride"]
    below = max(top, (rows - 1) * y + (height - 1) * down + 1 - x.shape[2] - top)
    beside = max(left, (columns - 1) * x_stride + (width - 1) * right + 1 - x.shape[3] - left)
    x = np.pad(x, ((0, 0), (0, 0), (top, below), (left, beside)), constant_values=border)
    seen = sliding_window_view(x, ((height - 1) * down + 1, (width - 1) * right + 1), (2, 3))
    return seen[:, :, ::y, ::x_stride, ::down, ::right][:, :, :rows, :columns]


def check(path: str) -> str:
    """Runs the test vectors; raises ValueError where a spike or an output is another."""
    network = Network(path)
    arrays, timesteps = network.arrays, network.graph["timesteps"]
    counts, outputs = network.run(arrays["vectors/inputs"], timesteps)
    for site, found in {**counts, network.graph["output"]: outputs}.items():
        if not np.array_equal(np.stack(found), arrays[f"vectors/{site}"]):
            raise ValueError(f"{path}: the spikes of {site} are not those of the test vectors")
    return f"{len(arrays['vectors/inputs'])} inputs, {timesteps} steps, {len(counts)} sites: equal"


if __name__ == "__main__":
    print(check(sys.argv[1]))
