"""The site's figures, drawn when it is built: from results in the checkout, and from the toolkit itself."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import seenn

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SIZE = (7.0, 3.4)


def conversion(axes: Axes) -> None:
    """Points that conversion alone loses, by neuron and T."""
    _bars(axes, "conversion", " points below the ANN", "points below the ANN")


def training(axes: Axes) -> None:
    """Points that remain after training for few steps."""
    _bars(axes, "training", " points below the ANN", "points below the ANN")


def neuron(axes: Axes) -> None:
    """What an integrate-and-fire neuron adds up to over T steps, against the ReLU that it stands for."""
    current = torch.linspace(-0.5, 1.5, 401)
    axes.plot(current, current.clamp(min=0), color="gray", linestyle="--", label="ReLU")
    network = seenn.capture(seenn.IFNeuron(v_threshold=1.0), current.view(1, -1))
    for timesteps in (1, 2, 4, 8):
        spikes = network(current.view(1, -1), timesteps)[0].detach() * timesteps
        axes.step(current, spikes / timesteps, where="mid", label=f"T = {timesteps}")
    axes.set_xlabel("input current, in thresholds")
    axes.set_ylabel("mean output")
    axes.legend()


FIGURES: dict[str, Callable[[Axes], None]] = {"conversion": conversion, "training": training, "neuron": neuron}


def drawn(draw: Callable[[Axes], None]) -> str:
    """The figure as SVG; the same for the same results."""
    plt.rcParams |= {"svg.hashsalt": "seenn", "svg.fonttype": "none"}
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    draw(axes)
    axes.grid(alpha=0.3)
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    plt.close(figure)
    return written.getvalue()


def _bars(axes: Axes, results: str, ending: str, label: str) -> None:
    rows = json.loads((RESULTS / f"{results}.json").read_text(encoding="utf-8"))
    found = {row["name"].removesuffix(ending).rstrip(":"): row["value"] for row in rows if row["name"].endswith(ending)}
    if not found:
        raise ValueError(f"{results}.json has no row that ends in {ending!r}")
    places = range(len(found))
    axes.barh(places, list(found.values()), color="#3f51b5")
    axes.set_yticks(places, list(found))
    axes.invert_yaxis()
    axes.set_xlabel(label)
