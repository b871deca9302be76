"""Tracing by ``torch.export``: for models whose Python an fx trace cannot follow.

Shapes are concrete here, so that branches, loops and arithmetic on sizes run as ordinary Python, and opaque helper
modules are seen through. The graph that comes out calls ``aten`` operators; the handlers know those too.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seenn.capture.failure import ValueTaken
from seenn.capture.multihead import attend_by_image


def export_graph(model: nn.Module, images: Tensor) -> fx.GraphModule:
    """The graph of ``model`` for batches of exactly this shape; its weights are the model's own.

    Raises whatever ``torch.export`` does for control flow that depends on values.
    """
    with _quiet(), torch.no_grad(), _KeepingValues(), _ApartImages():
        program = torch.export.export(model, (images,), strict=False)
        if any(node.op == "call_function" and not node.users for node in program.graph.nodes):
            program = program.run_decompositions({})  # what is written through views becomes values
        traced = program.module()
    assert isinstance(traced, fx.GraphModule)
    _inline_regions(traced)
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and not node.users:  # its own check of the inputs' shapes
            traced.graph.erase_node(node)
        elif node.op == "output" and program.call_spec.out_spec.is_leaf():  # one tensor comes in a tuple
            node.args = tuple(node.args[0])
    return traced


_MOST_VALUES = 64  # each makes a symbol, and every one costs more than that before
_TAKING = (Tensor.item, Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__)


class _KeepingValues(TorchFunctionMode):
    """Refuses what takes many values out of tensors, such as ``tolist``, which would be traced for hours."""

    taken = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.taken += func in _TAKING
        if func is Tensor.numpy or (func in _TAKING and self.taken > _MOST_VALUES):
            raise ValueTaken("it takes values out of tensors")
        return func(*args, **(kwargs or {}))


class _ApartImages(TorchFunctionMode):
    """Keeps the axis of images where torch merges it with another."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.multi_head_attention_forward:
            made = attend_by_image(*args, **(kwargs or {}))
            if made is not NotImplemented:
                return made
        return func(*args, **(kwargs or {}))


def _inline_regions(traced: fx.GraphModule) -> None:
    """Puts the calls of regions that only set a mode (autocast off, no gradients) in the place of the region."""
    for node in list(traced.graph.nodes):
        if not str(node.target).startswith("wrap_with_"):
            continue
        place = next(i for i, arg in enumerate(node.args) if isinstance(arg, fx.Node))
        held = node.args[place]
        assert isinstance(held, fx.Node)
        region = traced.get_submodule(str(held.target))
        assert isinstance(region, fx.GraphModule)
        _inline_regions(region)
        inputs = [inner for inner in region.graph.nodes if inner.op == "placeholder"]
        values = dict(zip(inputs, node.args[place + 1 :], strict=True))
        for name, weight in [*region.named_parameters(recurse=False), *region.named_buffers(recurse=False)]:
            traced.register_buffer(f"{node.name}_{name}", weight)
        with traced.graph.inserting_before(node):
            found = traced.graph.graph_copy(region.graph, values)
        for user in list(node.users):  # they pick one of its values
            user.replace_all_uses_with(found[user.args[1]])  # type: ignore[index]
            traced.graph.erase_node(user)
        traced.graph.erase_node(node)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences hints to whoever writes models; what goes wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # it also prints what it has of a graph
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
