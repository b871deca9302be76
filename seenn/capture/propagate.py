"""Running a traced model on shapes alone: what every call returns, and which value each name stands for by then."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils import _pytree as pytree

from seenn.capture.layout import Layout, one_image
from seenn.capture.state import run_apart, tensors_in
from seenn.core.graph import PROBE_BATCHES, shapes_only
from seenn.core.ops import Neuron


def note_shapes(graphs: tuple[fx.GraphModule, fx.GraphModule], example: Tensor) -> None:
    """Runs both graphs (mostly the same twice) on shapes, each with another number of images like ``example``.

    Notes for every node of the first graph, besides what ``Propagate`` does, the ``layout`` of its value (a tuple of
    them for several), ``one_image``, its shape or value for one image, whether its value ``varies`` with the number
    of images, and ``arguments``, what it is called with for one image.

    Raises:
        ValueError: the two are not the same calls.
    """
    found = []
    for graph, images in reversed(tuple(zip(graphs, PROBE_BATCHES, strict=True))):  # the first one's notes stay
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with shapes_only(mode):
            run = Propagate(graph, mode)
            run.run(example.new_zeros(images, *example.shape[1:]))
        found.append((list(graph.graph.nodes), run.found))
    (others, second), (nodes, first) = found
    if [(n.op, n.name) for n in nodes] != [(n.op, n.name) for n in others]:
        raise ValueError("its calls depend on how many images there are")
    for node, other in zip(nodes, others, strict=True):
        ours, theirs = first[node], second[other]
        node.meta["varies"] = repr(ours) != repr(theirs)
        node.meta["one_image"] = one_image(ours, theirs)
        if isinstance(ours, torch.Size):
            node.meta["layout"] = Layout.of(ours, theirs)
        elif "shape" in node.meta:
            node.meta["layout"] = tuple(a and Layout.of(a, b) for a, b in zip(ours, theirs, strict=True))
        ours, theirs = ((n.args, dict(n.kwargs)) for n in (node, other))
        node.meta["arguments"] = pytree.tree_map(one_image, ours, theirs)


class Propagate(fx.Interpreter):
    """Notes for every node the ``shape`` and ``dtype`` of its value (a tuple of shapes for several), or the
    ``value`` itself where it is a size or a flag, which of the model's tensors it ``changes`` in place, and which of
    its reads are ``stale``.

    Where a call changes a tensor in place and returns it, later reads by an older name are made to read the call:
    eager code would see the change, and so must a graph of values. A read is stale where a change cannot be
    followed so, because it went through a view.

    Attributes:
        found: shapes and values by node.
    """

    def __init__(self, module: fx.GraphModule, mode: FakeTensorMode) -> None:
        super().__init__(module, garbage_collect_values=False)  # shapes only: there is nothing to free
        self.found: dict[fx.Node, Any] = {}
        self._mode = mode
        self._names: dict[int, list[fx.Node]] = {}  # by tensor: the nodes that return it
        self._opaque = False

    def run_node(self, n: fx.Node) -> Any:
        before = {read: _versions(self.env[read]) for read in n.all_input_nodes}
        n.meta["stale"] = [read for read, version in before.items() if read.meta["version"] != version]
        self._opaque = "opaque" in n.meta
        value = super().run_node(n)
        changed = [read for read, version in before.items() if _versions(self.env[read]) != version]
        memory = {_memory(t) for read in changed for t in tensors_in(self.env[read])}
        n.meta["changes"] = [name for name in self.env if name.op == "get_attr" and _memory(self.env[name]) in memory]
        n.meta["version"] = _versions(value)
        self.found[n] = found = _shape_or_value(value)
        n.meta["value" if found is value else "shape"] = found
        if isinstance(value, Tensor):
            n.meta["dtype"] = value.dtype
            self._follow(n, value)
        return value

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Without values, so that a change in place is noted and not made."""
        value = super().get_attr(target, args, kwargs)
        return self._mode.from_tensor(value) if isinstance(value, Tensor) else value

    def _follow(self, n: fx.Node, value: Tensor) -> None:
        names = self._names.setdefault(id(value), [])  # the environment keeps the tensor, and so its id, alive
        for old in names:
            if old.meta["version"] != n.meta["version"]:
                old.replace_all_uses_with(n, lambda user: user not in self.found)
        names.append(n)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs neither neurons nor batch normalisation as they are: a membrane or a statistic would change."""
        module = self.fetch_attr(str(target))
        assert isinstance(module, nn.Module)
        if isinstance(module, Neuron | nn.modules.batchnorm._BatchNorm):
            x = next(iter((*args, *kwargs.values())))
            return module.first(x) if isinstance(module, Neuron) else torch.empty_like(x)
        if self._opaque:
            return _shape_of(module, args, kwargs)
        return module.forward(*args, **kwargs)  # its hooks are calls of their own


def _shape_or_value(value: Any) -> Any:
    """The shape of a tensor, or of each in a tuple; any other value itself."""
    if isinstance(value, Tensor):
        return value.shape
    if isinstance(value, tuple | list) and any(isinstance(item, Tensor) for item in value):
        return tuple(item.shape if isinstance(item, Tensor) else None for item in value)
    return value


def _shape_of(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a module that cannot be traced returns, found by running it on two black images."""

    def black(value: Any) -> Any:
        return torch.zeros(2, *value.shape[1:], dtype=value.dtype) if isinstance(value, Tensor) else value

    with unset_fake_temporarily():
        value = run_apart(module, tuple(map(black, args)), {key: black(item) for key, item in kwargs.items()})
    reference = next(item for item in (*args, *kwargs.values()) if isinstance(item, Tensor))
    return reference.new_zeros(len(reference), *value.shape[1:])


def _versions(value: Any) -> tuple[int, ...]:
    """Of each tensor, how often it or a view of it was changed in place."""
    return tuple(item._version for item in tensors_in(value))


def _memory(value: Any) -> Any:
    """Where a tensor's values would be; views share it."""
    return value.untyped_storage()._cdata if isinstance(value, Tensor) else None
