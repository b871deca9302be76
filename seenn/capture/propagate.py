"""Running a traced model on shapes alone: what every call returns, and which value each name stands for by then."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from seenn.core.ops import Neuron


class Propagate(fx.Interpreter):
    """Notes for every node the ``shape`` and ``dtype`` of its value (a tuple of shapes for several), or the
    ``value`` itself where it is a size or a flag, which of its reads it ``changes`` in place, and which are ``stale``.

    Where a call changes a tensor in place and returns it, later reads by an older name are made to read the call:
    eager code would see the change, and so must a graph of values. A read is stale where a change cannot be
    followed so, because it went through a view.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)  # shapes only: there is nothing to free
        self._names: dict[int, list[fx.Node]] = {}  # by tensor: the nodes that return it
        self._done: set[fx.Node] = set()
        self._opaque = False

    def run_node(self, n: fx.Node) -> Any:
        before = {read: _versions(self.env[read]) for read in n.all_input_nodes}
        n.meta["stale"] = [read for read, version in before.items() if read.meta["version"] != version]
        self._opaque = "opaque" in n.meta
        value = super().run_node(n)
        n.meta["changes"] = [read for read, version in before.items() if _versions(self.env[read]) != version]
        n.meta["version"] = _versions(value)
        self._done.add(n)
        if isinstance(value, Tensor):
            n.meta["shape"], n.meta["dtype"] = value.shape, value.dtype
            self._follow(n, value)
        elif isinstance(value, tuple | list) and any(isinstance(item, Tensor) for item in value):
            n.meta["shape"] = tuple(item.shape if isinstance(item, Tensor) else None for item in value)
        else:
            n.meta["value"] = value
        return value

    def _follow(self, n: fx.Node, value: Tensor) -> None:
        names = self._names.setdefault(id(value), [])  # the environment keeps the tensor, and so its id, alive
        for old in names:
            if old.meta["version"] != n.meta["version"]:
                old.replace_all_uses_with(n, lambda user: user not in self._done)
        names.append(n)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs neither neurons nor batch normalisation as they are: a membrane or a statistic would change."""
        module = self.fetch_attr(str(target))
        if isinstance(module, Neuron | nn.modules.batchnorm._BatchNorm):
            x = next(iter((*args, *kwargs.values())))
            return module.step((x,), module.initial_state(x))[0] if isinstance(module, Neuron) else torch.empty_like(x)
        if self._opaque:
            return _shape_of(module, args, kwargs)
        return super().call_module(target, args, kwargs)


def _shape_of(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a module that cannot be traced returns, found by running it on two black images."""

    def black(value: Any) -> Any:
        return torch.zeros(2, *value.shape[1:], dtype=value.dtype) if isinstance(value, Tensor) else value

    with unset_fake_temporarily():
        value = module(*map(black, args), **{key: black(item) for key, item in kwargs.items()})
    reference = next(item for item in (*args, *kwargs.values()) if isinstance(item, Tensor))
    return reference.new_zeros(len(reference), *value.shape[1:])


def _versions(value: Any) -> tuple[int, ...]:
    """Of each tensor, how often it or a view of it was changed in place."""
    values = value if isinstance(value, tuple | list) else (value,)
    return tuple(item._version for item in values if isinstance(item, Tensor))
