"""A model as it computes, apart from the original: without what PyTorch wraps around modules, and around weights."""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from seenn.capture.hooks import is_hooked
from seenn.capture.state import deep_copy, tensors_in
from seenn.core.ops.arguments import scale as check_scale
from seenn.errors import UnsupportedError, first_line

log = logging.getLogger(__name__)

Substitutes = Mapping[type[nn.Module], Callable[[Any], nn.Module]]

_INTEGER = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.quantizable", "torch.nn.quantized")


def plain_copy(model: nn.Module, substitutes: Substitutes | None = None) -> nn.Module:
    """A deep copy in evaluation mode on the CPU, whose weights and modules are what the model computes with.

    Taken off: ``torch.compile``, data parallelism, old weight and spectral norms, prune masks, and what observes values
    for ``torch.ao``; its fake quantisation is written out. Half precision becomes float32, which is said.

    Args:
        substitutes: by class, what makes the module that takes the place of each of its modules.

    Raises:
        UnsupportedError: TorchScript, modules that compute with integers, complex weights, hooks on what is taken off,
            or an attribute that cannot be copied; a substitute that cannot be made.
        TypeError: ``substitutes`` is not by classes of modules, or not of functions.
    """
    name = type(_inner(model)).__name__
    for path, module in model.named_modules():
        where = f"{name}.{path}" if path else name
        if _inner(module) is not module and is_hooked(module):
            raise UnsupportedError(
                f"{where} has forward hooks on {type(module).__name__}, which is taken off: register them on the "
                "module inside it"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedError(
                f"{where} is TorchScript, which cannot be traced: give the nn.Module that it was made from, or an ONNX "
                "file of it (torch.onnx.export)"
            )
        if type(module).__module__.startswith(_INTEGER):
            raise UnsupportedError(
                f"{where} ({type(module).__name__}) computes with integers of torch.ao: give the model as it was "
                "before torch.ao.quantization.convert or quantize_dynamic; fake-quantised ones are taken"
            )
        if any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__):
            raise UnsupportedError(
                f"{where} is sharded by fully_shard: gather its weights with get_model_state_dict "
                "(full_state_dict=True), and load them into the plain model"
            )
    if any(tensor.is_meta for tensor in _tensors(model)):
        raise UnsupportedError(f"{name} has weights without values, on the device meta: load its checkpoint first")
    named = (*model.named_parameters(), *model.named_buffers())
    if found := [path for path, tensor in named if tensor.is_complex()]:
        raise UnsupportedError(
            f"{name} has complex weights ({', '.join(found[:8])}), and spikes carry real numbers: write their real and "
            "imaginary parts as two real layers"
        )
    with _gathered(model):
        memo: dict[int, Any] = {}
        for module in reversed(list(model.modules())):  # what is inside first
            if (inner := _inner(module)) is not module:
                memo[id(module)] = deep_copy(inner, memo)
        copied = deep_copy(_inner(model), memo).cpu().eval()
    for module in list(copied.modules()):
        _compute_weights(module)
    for kind, substitute in (substitutes or {}).items():
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)) or not _makes(substitute):
            raise TypeError(
                f"activations: {{{kind!r}: {type(substitute).__name__}}} is not {{a class of modules: a function of "
                "such a module}, as in {MyAct: lambda m: nn.ReLU()}"
            )
    return _widened(_rebuilt("", copied, {**_torch_ao(), **(substitutes or {})}, {}))


def _makes(substitute: Any) -> bool:
    return callable(substitute) and not isinstance(substitute, nn.Module)


def _inner(module: nn.Module) -> nn.Module:
    """What a wrapper wraps, be it several times; any other module itself."""
    while isinstance(inner := getattr(module, "_orig_mod", None), nn.Module) or isinstance(module, _wrappers()):
        found = inner if isinstance(inner, nn.Module) else module.module
        assert isinstance(found, nn.Module)
        module = found
    return module


def _wrappers() -> tuple[type[nn.Module], ...]:
    return (nn.DataParallel, nn.parallel.DistributedDataParallel, *_fsdp())


def _fsdp() -> tuple[Any, ...]:
    """The class of modules whose weights several processes share, where it is in use."""
    loaded = sys.modules.get("torch.distributed.fsdp")
    return () if loaded is None else (loaded.FullyShardedDataParallel,)


def _gathered(model: nn.Module) -> AbstractContextManager[Any]:
    """Inside, weights that several processes share are whole."""
    for kind in _fsdp():
        if any(isinstance(module, kind) for module in model.modules()):
            return kind.summon_full_params(model, writeback=False)  # type: ignore[no-any-return]
    return nullcontext()


def _compute_weights(module: nn.Module) -> None:
    """Puts the weights that are computed in every call, by hooks or by ``torch.ao``, in their place."""
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
    if isinstance(fake := getattr(module, "weight_fake_quant", None), nn.Module):
        # In single precision, as it was trained: the largest weight of a channel lies between two of its levels.
        fake.apply(torch.ao.quantization.disable_observer)
        weight, norm = cast(Tensor, module.weight).detach(), getattr(module, "bn", None)
        scale = torch.ones(()) if norm is None else norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        scale = scale.view(-1, *[1] * (weight.dim() - 1))
        module.weight = nn.Parameter(torch.where(scale == 0, weight, fake(weight * scale).detach() / scale))
        module.weight_fake_quant = nn.Identity()


def _torch_ao() -> Substitutes:
    from torch.ao.quantization import FakeQuantizeBase, ObserverBase

    return {FakeQuantizeBase: _quantiser, ObserverBase: lambda observer: nn.Identity()}


def _rebuilt(path: str, module: nn.Module, substitutes: Substitutes, done: dict[int, nn.Module]) -> nn.Module:
    """The module with substitutes inside, and with what hooks of ``torch.ao`` call as modules before or after it."""
    if id(module) in done:
        return done[id(module)]
    done[id(module)] = module
    for kind, substitute in substitutes.items():
        if isinstance(module, kind):
            if "forward" in vars(module):
                raise UnsupportedError(
                    f"{path} ({type(module).__name__}) has a forward of its own, and another module would stand for "
                    "it: put that forward into a subclass"
                )
            where = f"{path} ({type(module).__name__})"
            try:
                found = substitute(module)
            except ValueError as error:
                raise UnsupportedError(f"{where}: {error}") from error
            except Exception as error:
                raise UnsupportedError(
                    f"{where}: what should make a module in its place fails ({first_line(error)}): mend that function "
                    "of activations"
                ) from error
            if not isinstance(found, nn.Module):
                raise UnsupportedError(
                    f"{where}: what should make a module in its place returns {type(found).__name__}: return a module, "
                    "as lambda m: nn.ReLU() does"
                )
            done[id(module)] = found
            return found
    for name, child in list(module._modules.items()):  # one child may have several names
        if child is not None:
            module._modules[name] = _rebuilt(f"{path}.{name}" if path else name, child, substitutes, done)
    for hooks, order in ((module._forward_pre_hooks, -1), (module._forward_hooks, 1)):
        for key, hook in list(hooks.items()):
            if getattr(hook, "__name__", "").startswith("_observer_forward"):
                del hooks[key]
                parts = {"module": module, "activation_post_process": module._modules.pop("activation_post_process")}
                done[id(module)] = nn.Sequential(OrderedDict(list(parts.items())[::order]))  # type: ignore[arg-type]
    return done[id(module)]


def _quantiser(module: Any) -> nn.Module:
    """The op of a fake-quantising module, with the scale that it has by now.

    Raises:
        ValueError: it has none, or none of a quantiser.
    """
    if not int(module.fake_quant_enabled[0]):
        return nn.Identity()
    observer = getattr(module, "activation_post_process", module)
    if not bool(torch.as_tensor(getattr(observer, "min_val", 0.0)).isfinite().all()):
        raise ValueError("it has seen no values and has no scale: train the model first")
    source = observer if hasattr(observer, "quant_min") else module
    zero = module.zero_point.float().round().squeeze()
    return FakeQuantised(
        module.scale.float().squeeze(), zero, source.quant_min, source.quant_max, max(0, module.ch_axis)
    )


class FakeQuantised(nn.Module):
    """``s · (clip(round(x/s) + z, low, high) − z)``; s and z are numbers, or have one for each entry along ``axis``.

    Halves are rounded to even, as torch does. Written out: of activations a ``Quantiser`` is recognised in it, and of
    weights it is computed once.
    """

    def __init__(self, scale: Tensor, zero: Tensor, low: int, high: int, axis: int) -> None:
        super().__init__()
        self.register_buffer("scale", check_scale("scale", scale, positive=True).detach())
        self.register_buffer("zero", zero.detach())
        self.low, self.high, self.axis = low, high, axis

    def forward(self, x: Tensor) -> Tensor:
        scale, zero = cast(Tensor, self.scale), cast(Tensor, self.zero)
        if scale.dim() == 0:
            return ((x / scale).round() + zero).clamp(self.low, self.high).sub(zero) * scale
        levels = ((x.movedim(self.axis, -1) / scale).round() + zero).clamp(self.low, self.high)
        return ((levels - zero) * scale).movedim(-1, self.axis)


def _widened(model: nn.Module) -> nn.Module:
    """Half precision as float32."""
    kinds = {str(t.dtype).removeprefix("torch.") for t in _tensors(model) if t.is_floating_point() and t.itemsize < 4}
    if not kinds:
        return model
    log.warning("the weights are in %s: converted, and computed with, in float32", " and ".join(sorted(kinds)))
    return in_precision(model, torch.float32)


def in_precision(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """The model, in place, with all real numbers that it holds in this precision.

    ``nn.Module.to`` passes over tensors that are plain attributes, or lie in lists and dictionaries.
    """
    registered = {id(tensor) for tensor in _tensors(model)}

    def cast(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value if id(value) in registered or not value.is_floating_point() else value.to(precision)
        if isinstance(value, dict):
            return type(value)((key, cast(item)) for key, item in value.items())
        return type(value)(map(cast, value)) if type(value) in (list, tuple) else value

    for module in model.modules():
        own = {key: value for key, value in vars(module).items() if not key.startswith("_") and tensors_in(value)}
        vars(module).update({key: cast(value) for key, value in own.items()})
    return model.to(precision)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
