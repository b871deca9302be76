"""An ordinary model as a spiking network to be trained: every activation call becomes a neuron."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from converter.convert import refuse_neurons
from converter.place import sites_of
from converter.trace import trace_model
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Neuron


def with_neurons(model: nn.Module, example: Tensor, make_neuron: Callable[[], Neuron]) -> SpikingNetwork:
    """``model`` with a neuron of its own at every activation call, its weights and normalisation as they are.

    The network shares the model's parameters. Normalisation stays in it, in training mode, so that it learns;
    ``converter.direct.finish`` folds it afterwards. Max pooling acts on the spikes of each step.

    Args:
        model: takes ``[B, C, H, W]`` and returns logits ``[B, K]``.
        example: a batch of images, for shapes.
        make_neuron: makes one neuron; called once a site.

    Raises:
        UnsupportedError: lists every call that cannot be expressed, or there is no activation.
        ModelError: the model holds neurons already.
    """
    refuse_neurons(model)
    graph = trace_model(model.train(), example)
    neurons = {site: make_neuron() for site in sites_of(graph)}
    return SpikingNetwork(graph.replace(neurons), tuple(example.shape[1:])).train()
