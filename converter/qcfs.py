"""QCFS activations in any traced model: trained as an ANN, converted with the thresholds it has learned.

The activations are swapped at call sites: a ReLU module that a block uses twice becomes two, each with a
threshold of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from converter.calibrate import calibrate
from converter.config import ConvertConfig
from converter.conversion import activations_of, canonical_graph
from converter.images import CalibrationImages
from converter.trace import trace_fx
from seenn.capture.build import SITE, to_graph
from seenn.core.ops import QCFS

#: θ of a network that starts from scratch: far above what normalised activations reach (Bu et al. 2022).
SCRATCH = 4.0


def with_qcfs(model: nn.Module, example: Tensor, *, levels: int, images: Tensor | None = None) -> fx.GraphModule:
    """A copy of ``model`` with a QCFS activation, per channel, at every call of a ReLU.

    Everything else stays as it is: batch normalisation learns, dropout drops, weights keep their names. The
    thresholds are ``<site>.v_threshold`` in its state dict.

    Args:
        model: traceable, with ReLU or ReLU6 activations.
        example: a batch of images, for shapes.
        levels: L.
        images: ``[N, C, H, W]``, at least 16, preprocessed: thresholds start where they round and clip the
            activations on these with the least squared error. None starts them at 4, for training from scratch.

    Raises:
        UnsupportedError: the model cannot be traced or converted (lists every offender), or has no ReLU.
        CalibrationError: ``images`` do not determine the thresholds.
    """
    model = copy.deepcopy(model).eval()  # flags that depend on the mode are traced as in evaluation
    traced = trace_fx(model, example)
    graph = to_graph(traced, strict=False)  # refuses now what could not be converted after the training
    sites = set(activations_of(graph))
    start = {} if images is None else _fitted(model, images, levels)
    taken = {name for name, _ in traced.named_modules()}
    for node in list(traced.graph.nodes):
        site = node.meta.get(SITE)
        if site not in sites:
            continue
        sites.remove(site)  # a dropout behind it goes by the same name
        threshold = start[site] if images is not None else torch.full((node.meta["shape"][1],), SCRATCH)
        name = site.replace("#", "_")
        while name in taken and name != node.target:
            name += "_"
        taken.add(name)
        traced.add_submodule(name, QCFS(threshold, levels=levels))
        with traced.graph.inserting_after(node):
            swapped = traced.graph.call_module(name, (node.all_input_nodes[0],))
        node.replace_all_uses_with(swapped)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def _fitted(model: nn.Module, images: Tensor, levels: int) -> Mapping[str, Tensor]:
    """Thresholds by site with the least squared error of L levels on the model's activations, ``[C]`` each."""
    found = CalibrationImages.of(images)
    graph = canonical_graph(model, found.first(2)).graph
    config = ConvertConfig(neuron="if", correction="none", timesteps=levels)
    return {
        site: neuron.v_threshold.detach().clone() for site, neuron in calibrate(graph, found, config).neurons.items()
    }
