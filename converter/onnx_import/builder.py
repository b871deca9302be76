"""Growing an fx graph call by call, each checked to keep the batch first and images apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.node import map_aggregate

from converter.onnx_import.limits import MAX_VALUES
from converter.onnx_import.values import Array, BatchSizes, Traced
from seenn.capture import Refused


class FxBuilder:
    """An fx graph under construction; every call runs on the meta device at both batch sizes."""

    def __init__(self, batch: BatchSizes, input_shape: tuple[int, ...]) -> None:
        self.batch = batch
        self._graph = fx.Graph()
        self._root = nn.Module()
        node = self._graph.placeholder("images")
        self.grids: dict[fx.Node, tuple[Array, Array]] = {}  # scale and zero point of quantised values
        self._traced: dict[fx.Node, Traced] = {}
        self._orders: dict[fx.Node, tuple[Traced, tuple[int, ...]]] = {}  # permuted values: of what, and how
        self.images = self._checked(node, *(torch.empty(size, *input_shape, device="meta") for size in batch.sizes))

    def module(self, name: str, module: nn.Module, x: Traced) -> Traced:
        """``module(x)``, the module under a name made from ``name``."""
        module.eval()
        tensors = {key: tensor.to("meta") for key, tensor in module.state_dict().items()}
        first, second = (cast(Tensor, functional_call(module, tensors, (meta,))) for meta in x.meta)
        target = self._free(name)
        self._root.add_module(target, module)
        return self._checked(self._graph.call_module(target, (x.node,)), first, second)

    def function(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Traced:
        """``function(*args, **kwargs)``, where arguments may hold ``Traced`` values at any depth."""
        first, second = (self._run(function, args, kwargs, i) for i in (0, 1))
        return self._checked(self._call(name, function, args, kwargs), first, second)

    def made_by(self, x: Traced) -> nn.Module | None:
        """The module that returned ``x``; None where a function did."""
        return self._root.get_submodule(str(x.node.target)) if x.node.op == "call_module" else None

    def input_of(self, x: Traced) -> Traced:
        """The first value that went into the call that returned ``x``."""
        return self._traced[x.node.all_input_nodes[0]]

    def permute(self, name: str, x: Traced, order: tuple[int, ...]) -> Traced:
        """``x`` with its axes in another order; of two in a row one is left, or none."""
        source, before = self._orders.get(x.node, (x, tuple(range(len(order)))))
        order = tuple(before[axis] for axis in order)
        if order == tuple(range(len(order))):
            return source
        made = self.function(name, torch.permute, source, order)
        self._orders[made.node] = (source, order)
        return made

    def buffer(self, name: str, tensor: Tensor) -> Traced:
        """A constant as an argument of ``function``; it must broadcast along the batch."""
        target = self._free(name)
        self._root.register_buffer(target, tensor)
        meta = tensor.to("meta")
        return Traced(self._graph.get_attr(target), (meta, meta))

    def repeated(self, name: str, tensor: Tensor) -> Traced:
        """A constant ``[1, ...]`` as a value that every image has."""
        one, count = self.buffer(name, tensor), self._graph.call_method("size", (self.images.node, 0))
        sizes = (-1,) * (tensor.dim() - 1)
        first, second = (meta.expand(size, *sizes) for meta, size in zip(one.meta, self.batch.sizes, strict=True))
        return self._checked(self._graph.call_method("expand", (one.node, count, *sizes)), first, second)

    def finish(self, output: Traced) -> fx.GraphModule:
        """The graph that returns ``output``, in eval mode."""
        self._graph.output(output.node)
        module = fx.GraphModule(self._root, self._graph, class_name="ImportedClassifier").eval()
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()
        return module

    def _call(self, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> fx.Node:
        nodes: Any = map_aggregate((args, kwargs), lambda v: v.node if isinstance(v, Traced) else v)
        return self._graph.create_node("call_function", function, nodes[0], nodes[1], name=_identifier(name))

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], i: int) -> Tensor:
        metas: Any = map_aggregate((args, kwargs), lambda v: v.meta[i] if isinstance(v, Traced) else v)
        return cast(Tensor, function(*metas[0], **metas[1]))

    def _checked(self, node: fx.Node, first: Tensor, second: Tensor) -> Traced:
        sizes = self.batch.sizes
        found = (first.shape[:1], second.shape[:1])
        if found != (sizes[:1], sizes[1:]) or first.shape[1:] != second.shape[1:]:
            raise Refused(
                f"turns batches of {sizes[0]} and {sizes[1]} images into {list(first.shape)} and {list(second.shape)}",
                "keep the batch as the first axis and images independent of each other",
            )
        if first[:1].numel() > MAX_VALUES:
            raise Refused(
                f"has {first[:1].numel():,} values per image, expected at most {MAX_VALUES:,}",
                "export the model for smaller images",
            )
        return self._traced.setdefault(node, Traced(node, (first, second)))

    def _free(self, name: str) -> str:
        name = candidate = _identifier(name)
        count = 1
        while hasattr(self._root, candidate):
            count += 1
            candidate = f"{name}_{count}"
        return candidate


def _identifier(name: str) -> str:
    """``/layer1/conv/Conv`` as ``layer1_conv_Conv``."""
    cleaned = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:80]
    return cleaned if cleaned[:1].isalpha() else f"node_{cleaned}"
