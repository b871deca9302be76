"""Whether a forward pass draws at random: by the generators that programs share, and not by its answers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seenn.capture.state import WorkingCopy, run_apart
from seenn.errors import UnsupportedError


def refuse_draws(model: nn.Module, example: Tensor) -> None:
    """Raises UnsupportedError for a model that draws from the generators of torch, Python or numpy as it runs."""
    first: list[str] = []
    moved = False
    with WorkingCopy(model) as copied:
        for path, module in copied.model.named_modules():
            if path:
                _watch(module, f", first in {path} ({type(module).__name__})", first)
        before = _generators()
        try:
            run_apart(copied.model, (example[:1],))
        finally:
            moved = not _same(before, _generators())
    if moved:
        raise UnsupportedError(
            f"{type(model).__name__} draws at random in its forward{first[0] if first else ''}, so that an image has "
            "no one answer: leave that out for inference, or draw once, in __init__"
        )


def _watch(module: nn.Module, said: str, first: list[str]) -> None:
    """Notes ``said`` where generators are others after a call of the module than before."""
    before: list[Any] = []
    module.register_forward_pre_hook(lambda *_: before.append(_generators()), prepend=True)

    def compare(*_: Any) -> None:
        if not _same(before.pop(), _generators()):
            first.append(said)

    module.register_forward_hook(compare)


def _generators() -> tuple[Any, ...]:
    _, numbers, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - the one that all share
    return torch.get_rng_state(), torch.as_tensor(np.asarray(numbers).copy()), (random.getstate(), rest)


def _same(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    return torch.equal(before[0], after[0]) and torch.equal(before[1], after[1]) and before[2] == after[2]
