"""Hooks on modules: what changes values is traced with the model, what only observes them is left out of the trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from seenn.capture.state import WorkingCopy, run_apart, tensors_in
from seenn.core.graph import GLOBAL_HOOKS
from seenn.errors import UnsupportedError

Place = tuple[str, bool, int]  # a module's path, whether before its forward, and the key of the hook


def leave_out_observers(model: nn.Module, example: Tensor) -> None:
    """Takes off the hooks that return nothing, change nothing and are not needed for the outputs, in place.

    Hooks of the backward pass go, too. Which hooks only observe is found by running copies on random images.

    Raises:
        UnsupportedError: a hook on all modules, of any model, changes values.
    """
    for module in model.modules():
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    places = dict(_hooks(model))
    if not places and not any(GLOBAL_HOOKS):
        return
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(example.shape, generator=generator).to(example) for _ in range(2)]
    changing: dict[Place, str] = {}
    with WorkingCopy(model) as copied, _noting(copied.model, changing):
        try:
            expected = [run_apart(copied.model, (images,)) for images in batches]
        except Exception:  # which hooks do what cannot be seen, and the trace says more
            return
    if shared := next((name for (path, _, _), name in changing.items() if path == "*"), None):
        raise UnsupportedError(
            f"{shared} is a hook on all modules that changes their values, those of the network too: remove it "
            "(its handle's remove()), and write what it does into the model"
        )
    observers = places.keys() - changing.keys()
    with WorkingCopy(model) as copied:
        _remove(copied.model, observers)
        try:
            found = [run_apart(copied.model, (images,)) for images in batches]
        except Exception:  # the model reads what they note
            return
    if all(torch.equal(a, b) for a, b in zip(*map(tensors_in, (expected, found)), strict=True)):
        _remove(model, observers)


def is_hooked(module: nn.Module) -> bool:
    """Whether hooks are called before or after its forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def held_by(module: nn.Module) -> dict[str, tuple[Any, int]]:
    """The tensors that a module itself has, by name, and how often each was changed in place."""
    own = {**vars(module), **module._parameters, **module._buffers}
    return {key: (value, _version(value)) for key, value in own.items() if isinstance(value, Tensor | fx.Proxy)}


def is_written(module: nn.Module, before: Mapping[str, tuple[Any, int]]) -> bool:
    """Whether it has other tensors by now, be their values the same: training would not reach them."""
    now = held_by(module)
    same = (now[key][0] is value and now[key][1] == version for key, (value, version) in before.items() if key in now)
    return now.keys() != before.keys() or not all(same)


def _hooks(model: nn.Module) -> Iterator[tuple[Place, Callable[..., Any]]]:
    for path, module in model.named_modules():
        for first, table in ((True, module._forward_pre_hooks), (False, module._forward_hooks)):
            for key, hook in table.items():
                yield (path, first, key), hook


def _remove(model: nn.Module, places: set[Place]) -> None:
    for path, first, key in places:
        module = model.get_submodule(path)
        del (module._forward_pre_hooks if first else module._forward_hooks)[key]


@contextmanager
def _noting(model: nn.Module, changing: dict[Place, str]) -> Iterator[None]:
    """Inside, hooks that return or change something are noted, with their names."""
    tables: list[tuple[str, bool, Any]] = [("*", not i, table) for i, table in enumerate(GLOBAL_HOOKS)]
    for path, module in model.named_modules():
        tables += [(path, True, module._forward_pre_hooks), (path, False, module._forward_hooks)]
    before = [dict(table) for _, _, table in tables]
    for path, first, table in tables:
        for key, hook in table.items():
            table[key] = _noted(hook, (path, first, key), changing)
    try:
        yield
    finally:
        for (_, _, table), hooks in zip(tables, before, strict=True):
            table.update(hooks)


def _noted(hook: Callable[..., Any], place: Place, changing: dict[Place, str]) -> Callable[..., Any]:
    def call(module: nn.Module, *values: Any) -> Any:
        seen = tensors_in(list(values))
        versions = [_version(tensor) for tensor in seen]
        own = held_by(module)
        returned = hook(module, *values)
        written = place[1] and is_written(module, own)  # such as a weight that is computed before each call
        if returned is not None or written or versions != [_version(tensor) for tensor in seen]:
            changing[place] = getattr(hook, "__name__", type(hook).__name__)
        return returned

    return call


def _version(tensor: Tensor | fx.Proxy) -> int:
    return tensor._version if isinstance(tensor, Tensor) and not tensor.is_inference() else 0
