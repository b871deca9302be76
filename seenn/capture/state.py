"""What a model keeps between calls: traced on a copy, and refused by name where a network would lose it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Self

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from seenn.core.ops import Neuron
from seenn.errors import UnsupportedError, first_line

CONSTANT = "_tensor_constant"  # where torch.fx keeps what a forward pass makes, from nothing, for itself
LOST = "updated in forward, which a network would lose"
STATE_FIX = "use seenn.IFNeuron or seenn.LIFNeuron for membranes, or return it"
_COUNT_FIX = "answer alike in every call, and do not read it: what only counts calls is left out"


class WorkingCopy:
    """A copy of a model to run or trace in a ``with`` block, after which the model is as it was, whatever happens.

    Parameters and buffers are the model's own, everything else is apart.

    Attributes:
        seen: paths of what was seen to change, inside ``watched``.

    Raises:
        UnsupportedError: an attribute cannot be copied; the message names it.
    """

    def __init__(self, model: nn.Module) -> None:
        memo: dict[int, Any] = {}
        for module in model.modules():
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None:
                    memo[id(tensor)] = tensor
        self.model = deep_copy(model, memo)
        self._buffers = [(b, b.detach().clone(), _version(b)) for b in model.buffers()]
        self._before = pictures(self.model)
        self.seen: list[str] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, each call of the copy is looked at as it ends: ``torch.export`` takes back what is assigned."""
        before: dict[str, Any] = {}
        hooks = (
            self.model.register_forward_pre_hook(lambda *_: before.update(pictures(self.model))),
            self.model.register_forward_hook(lambda *_: self.seen.extend(changed_in(before, self.model))),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def refuse_changes(self) -> None:
        """Raises UnsupportedError where attributes hold other tensors or numbers by now, or buffers were changed."""
        if changed := list(dict.fromkeys([*self.seen, *changed_in(self._before, self.model)])):
            are = "is" if len(changed) == 1 else "are"
            name = type(self.model).__name__
            listed = ", ".join(f"{name}.{path}" for path in changed[:8])
            counted = all(isinstance(self._before.get(path), int | float) for path in changed)
            raise UnsupportedError(f"{listed} {are} {LOST}: {_COUNT_FIX if counted else STATE_FIX}")

    def replace(self, path: str, value: Any) -> None:
        """Puts something else in the place of an attribute or buffer, which is no change then."""
        owner, _, key = path.rpartition(".")
        module = self.model.get_submodule(owner)
        module._buffers.pop(key, None)
        object.__setattr__(module, key, value)
        self._before[path] = value

    def name_kept(self, traced: fx.GraphModule) -> None:
        """Notes at the nodes that read a tensor which the model keeps, or a part of one, its path (``kept``)."""
        paths = {_memory(t): path for path, value in _attributes(self.model) for t in tensors_in(value)}
        for node in traced.graph.nodes:
            if node.op == "get_attr" and isinstance(value := attrgetter(str(node.target))(traced), Tensor):
                node.meta["kept"] = paths.get(_memory(value))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the buffers that were changed in place the values that they had."""
        with torch.no_grad():
            for buffer, values, version in self._buffers:
                if _version(buffer) != version:
                    buffer.copy_(values)


def deep_copy(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy, but for what ``memo`` has by id, also of what a forward pass has left on the model.

    Raises:
        UnsupportedError: an attribute cannot be copied, or a module has no weights yet; the message names it.
    """
    if lazy := [path or type(model).__name__ for path, module in model.named_modules() if _is_lazy(module)]:
        raise UnsupportedError(
            f"{', '.join(lazy[:8])} {'is' if len(lazy) == 1 else 'are'} lazy and never ran, so without weights: call "
            "the model once on a batch, model(images[:2]), then train it or load its weights"
        )
    for module in model.modules():
        for value in vars(module).values():
            for tensor in tensors_in(value):
                if isinstance(tensor, Tensor) and not isinstance(tensor, nn.Parameter):
                    memo.setdefault(id(tensor), _apart(tensor))  # which may have a history
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever an attribute raises
        raise UnsupportedError(
            f"{_uncopied(model, memo)} cannot be copied ({first_line(error)}), and tracing must not change "
            "the model: make it copyable, or take it off the model"
        ) from error


def _is_lazy(module: nn.Module) -> bool:
    """Whether it makes its weights in its first call, which was not yet."""
    own = (*module._parameters.values(), *module._buffers.values())
    return any(tensor is not None and is_lazy(tensor) for tensor in own)


@contextmanager
def assignable_buffers() -> Iterator[None]:
    """Inside, a traced value may be assigned to a buffer, so that it can be named afterwards."""
    original = nn.Module.__setattr__

    def assign(self: nn.Module, name: str, value: Any) -> None:
        if isinstance(value, fx.Proxy):
            object.__setattr__(self, name, value)
        else:
            original(self, name, value)

    nn.Module.__setattr__ = assign  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__setattr__ = original  # type: ignore[method-assign]


_TORCH = ("_parameters", "_buffers", "_modules")


def _attributes(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every attribute, parameter and buffer of every module, with its path, and numbers, tensors, lists and tables of
    its class; neurons and batch normalisation excepted, which have handlers for what they keep."""
    for name, module in model.named_modules():
        if isinstance(module, Neuron | nn.modules.batchnorm._BatchNorm):
            continue
        own = {key: value for key, value in vars(module).items() if key not in _TORCH}
        for key, value in {**_of_classes(type(module)), **module._parameters, **module._buffers, **own}.items():
            if key.startswith(CONSTANT):
                continue
            yield (f"{name}.{key}" if name else key), value


def _of_classes(kind: type[nn.Module]) -> dict[str, Any]:
    """What instances of a class share and may change, the classes of torch excepted."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith(("torch.", "builtins")):
            found |= {key: value for key, value in vars(base).items() if isinstance(value, _SHARED)}
    return {key: value for key, value in found.items() if not key.startswith("__")}


_SHARED = (int, float, Tensor, list, dict)


def pictures(model: nn.Module) -> dict[str, Any]:
    """What every attribute of a model is by now, by its path: to be compared later."""
    return {path: _picture(value) for path, value in _attributes(model)}


def changed_in(before: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Paths of what holds other tensors or numbers than before."""
    return [path for path, now in pictures(model).items() if _differs(before.get(path), now)]


def tensors_in(value: Any) -> list[Any]:
    """The tensors, and the values of a trace, in nested containers."""
    if isinstance(value, Tensor | fx.Proxy):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in tensors_in(item)] if isinstance(value, list | tuple | set) else []


def _picture(value: Any) -> Any:
    """What a value is by now: tensors and objects themselves, tensors with how often they were changed in place."""
    if isinstance(value, Tensor):
        return value, _version(value)
    if isinstance(value, dict):
        return {key: _picture(item) for key, item in value.items()}
    return [_picture(item) for item in value] if isinstance(value, list | tuple) else value


def _differs(before: Any, now: Any) -> bool:
    """Whether tensors or numbers were replaced by others, changed, added or taken away.

    Tables that a model makes of its weights, once or anew with the same values, do not count.
    """
    if isinstance(before, list) and isinstance(now, list):
        return len(before) != len(now) or any(map(_differs, before, now))
    if isinstance(before, dict) and isinstance(now, dict):
        return any(_differs(before.get(key), value) for key, value in now.items())
    if isinstance(before, tuple) and isinstance(now, tuple):
        (old, version), (new, now_version) = before, now
        return version != now_version if old is new else not (_is_plain(old, new) and torch.equal(old, new))
    if isinstance(before, int | float) and isinstance(now, int | float):
        return before != now
    return before is not now and bool(tensors_in(before) or not _is_plain(*tensors_in(now)))


def _is_plain(*tensors: Any) -> bool:
    """Whether they have values: what is traced has not."""
    return all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)


def run_apart(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> Any:
    """Calls a module without gradients, on copies of its parameters, its buffers and what it is given."""
    tensors = {name: t.detach().clone() for name, t in (*module.named_parameters(), *module.named_buffers())}
    given = tuple(value.clone() if isinstance(value, Tensor) else value for value in args)
    with torch.no_grad():
        return functional_call(module, tensors, given, dict(kwargs or {}))


def _memory(tensor: Any) -> Any:
    """Where a tensor's values are; views share it."""
    return tensor.untyped_storage().data_ptr() if isinstance(tensor, Tensor) and tensor.numel() else tensor


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _apart(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad and tensor.is_leaf)


def _uncopied(model: nn.Module, memo: Mapping[int, Any]) -> str:
    """The first attribute that cannot be copied."""
    for path, value in _attributes(model):
        try:
            copy.deepcopy(value, dict(memo))
        except Exception:
            return f"{type(model).__name__}.{path}"
    return type(model).__name__
