"""Where a loss stopped being a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seenn.core.graph import OpGraph


@torch.no_grad()
def where_not_finite(module: nn.Module, loss: Callable[[nn.Module], Tensor]) -> str:
    """Runs ``loss(module)`` again and names the first layer whose output is NaN or infinite, as a clause."""
    first: list[tuple[str, nn.Module]] = []
    names = {part: name or type(part).__name__ for name, part in module.named_modules()}
    for graph in (part for part in module.modules() if isinstance(part, OpGraph)):
        names |= {node.op: node.name for node in graph}

    def look(part: nn.Module, inputs: Any, output: Any) -> None:
        if not first and isinstance(output, Tensor) and not bool(output.isfinite().all()):
            first.append((names[part], part))

    hooks = [part.register_forward_hook(look) for part in names if not any(part.children())]
    try:
        loss(module)
    finally:
        for hook in hooks:
            hook.remove()
    if not first:
        return "every layer's output is finite, so it is the loss itself that is not"
    name, part = first[0]
    sick = [key for key, value in part.named_parameters() if not bool(value.isfinite().all())]
    because = f", whose {' and '.join(sick)} is not finite either" if sick else ""
    return f"the first output that is not finite is that of layer {name}{because}"
