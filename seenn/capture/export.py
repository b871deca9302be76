"""Tracing by ``torch.export``: for models whose Python an fx trace cannot follow.

Shapes are concrete here, so that branches, loops and arithmetic on sizes run as ordinary Python, and opaque helper
modules are seen through. The graph that comes out calls ``aten`` operators; the handlers know those too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn


def export_graph(model: nn.Module, images: Tensor) -> fx.GraphModule:
    """The graph of ``model`` for batches of exactly this shape; its weights are the model's own.

    Raises whatever ``torch.export`` does for control flow that depends on values.
    """
    with _quiet(), torch.no_grad():
        program = torch.export.export(model, (images,), strict=False)
        traced = program.module()
    assert isinstance(traced, fx.GraphModule)
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and not node.users:  # its own check of the inputs' shapes
            traced.graph.erase_node(node)
        elif node.op == "output" and program.call_spec.out_spec.is_leaf():  # one tensor comes in a tuple
            node.args = tuple(node.args[0])
    return traced


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences hints to whoever writes models; what goes wrong is raised."""
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
