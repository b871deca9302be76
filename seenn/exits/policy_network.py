"""The small network with which a policy looks at an image: an ordinary ANN over the closed op set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.core.graph import OpGraph, macs
from seenn.core.ops import StatelessOp
from seenn.core.serialisation import graph_from_json, graph_to_json


@dataclass(frozen=True, eq=False)
class PolicyNetwork:
    """Images ``[B, C, H, W]`` of any size to scores ``[B, A]``; shrunk to its own input first.

    A graph and not a module, so that a checkpoint that holds it needs none of the code that it came from.

    Raises:
        ValueError: the graph has neurons or other state, or does not fit the input shape.
    """

    graph: OpGraph
    input_shape: tuple[int, ...]  # (C, h, w)

    def __post_init__(self) -> None:
        if stateful := [node.name for node in self.graph if not isinstance(node.op, StatelessOp)]:
            raise ValueError(f"a policy network has no state, but these nodes do: {', '.join(stateful[:8])}")
        if len(self.input_shape) != 3:
            raise ValueError(f"a policy network takes images (C, H, W), got an input of {list(self.input_shape)}")
        self.graph.eval().requires_grad_(False)

    @classmethod
    def from_json(cls, description: Any, tensors: dict[str, Tensor], prefix: str) -> PolicyNetwork:
        """What ``to_json`` described; raises as ``graph_from_json``."""
        return cls(*graph_from_json(description, tensors, prefix))

    def to_json(self, tensors: dict[str, Tensor], prefix: str) -> Any:
        """Its graph; adds its tensors to ``tensors``, see ``graph_to_json``."""
        return graph_to_json(self.graph, self.input_shape, tensors, prefix)

    @property
    def outputs(self) -> int:
        """A, the number of scores."""
        return self.graph.shapes(self.input_shape)[self.graph.output][0]

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        shapes = self.graph.shapes(self.input_shape)
        return sum(macs(node, shapes) for node in self.graph)

    def summary(self) -> dict[str, Any]:
        """Its size, for reports."""
        parameters = sum(parameter.numel() for parameter in self.graph.parameters())
        return {"input_shape": list(self.input_shape), "parameters": parameters, "macs": self.macs}

    def __call__(self, images: Tensor) -> Tensor:
        """The scores, on the images' device."""
        self.graph.to(images.device)
        weight = next(self.graph.parameters())
        with torch.no_grad():
            scores: Tensor = self.graph(shrink(images, self.input_shape[1:]).to(weight.dtype))
        return scores


def shrink(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """``[B, C, H, W]`` to ``[B, C, *size]``, bilinear and antialiased; images of that size stay as they are."""
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)
