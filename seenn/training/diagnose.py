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
    names = dict(_names(module))
    hooks = []
    for part, name in names.items():

        def look(part: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            if not first and isinstance(output, Tensor) and not bool(output.isfinite().all()):
                first.append((name, part))

        if not any(part.children()):
            hooks.append(part.register_forward_hook(look))
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


def _names(module: nn.Module) -> list[tuple[nn.Module, str]]:
    """Every submodule with its name: its path, or the name of its node where it is part of a graph."""
    named = {part: name or type(part).__name__ for name, part in module.named_modules()}
    for part in module.modules():
        if isinstance(part, OpGraph):
            named |= {node.op: node.name for node in part}
    return list(named.items())
