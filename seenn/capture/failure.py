"""Why a model failed as it was run or traced: where in its code, in whose words, and what to do about it."""

from __future__ import annotations

import re
import traceback
from typing import Any

from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from seenn.capture.counted import Loops, OfImages, count_dependence
from seenn.capture.places import is_own, place
from seenn.device import is_out_of_memory, out_of_memory
from seenn.errors import SeennError, UnsupportedError, first_line

_BRANCHES = (
    "Its forward must take one image batch, and must not branch on the values in it, nor take them out of tensors "
    "(.item(), .tolist(), .numpy(), int()): choose with torch.where, compute in torch, and leave checks of values out."
)
_LOOPS = "Give whole batches to its layers: write it without a loop over x.shape[0], or over x itself."
_COUNTED = "A network takes any number of images: take out what depends on the batch size."
_BATCH_SIZE = r"shape\[0\]|size\(0\)|size\(\)\[0\]|\blen\(|batch"
_LAYERS = "Keep layers in nn.ModuleList or nn.ModuleDict, or as attributes of a module"
_REPLACED = "Put the {} that was assigned to {} into a subclass: one that holds another model cannot be followed."
_WRITES = "Write y[mask] = … as torch.where(mask, …, y), torch.clamp, F.leaky_relu or y.masked_fill(y < 0, 0)."
_COUNTS = "How much comes out depends on values: keep indices, made in __init__, instead of masks and counts."
#: By what torch says: advice for models that fail as they run.
_SAID = {
    "NoneType": (
        "images are given to the first argument of its forward: wrap it in a module that passes them on by name, "
        "self.model(NAME=x)"
    ),
    r"CUDA|NVIDIA|same device|on device|meta tensor|device type": (
        "leave devices to seenn, which runs it on the CPU: take .cuda() and .to(device) out of its forward"
    ),
    r"scalar type|index tensor|[Tt]ensors? used as indices|Long.*Int": (
        "it takes whole numbers, such as those of tokens, and images are floats: convert the part behind its embedding"
    ),
    r"should be the same$|same dtype|to have the same|dtype": (
        "it mixes kinds of numbers: cast to those of its weights, x.to(self.weight.dtype), or not at all"
    ),
    r"shape|size|channel|dimension|broadcast|elements|out of range|must match": (
        "give it the channels, size and layout that it was trained on"
    ),
}


def failing(model: nn.Module, example: Tensor, error: Exception) -> SeennError:
    """The error for a model that fails on ``example`` as it is, before it is traced."""
    if is_out_of_memory(error):
        return out_of_memory(f"running {type(model).__name__} on input of shape {list(example.shape)}", error)
    asked = ("a list", "[x]") if "tuple of Tensors" in str(error) else _input_asked_for(model)
    advice = f"it takes {asked[0]}: {wrapped(asked[1])}" if asked else _advice(example, error)
    return UnsupportedError(
        f"{type(model).__name__} fails on input of shape {list(example.shape)}{place(error)} ({first_line(error)}): "
        f"{advice}"
    )


def untraceable(model: nn.Module, example: Tensor, error: Exception) -> SeennError:
    """The error for a model that fails while it is traced."""
    if is_out_of_memory(error):
        return out_of_memory(f"tracing {type(model).__name__}", error)
    said, advice = explained(model, error)
    if advice is _BRANCHES and not depends_on_values(error):
        found = error if isinstance(error, OfImages) else count_dependence(model, example)
        if found is not None:
            said, advice = str(found), _LOOPS if isinstance(found, Loops) else _COUNTED
            return UnsupportedError(f"{type(model).__name__} cannot be traced: {said}. {advice}")
    where = f"{type(model).__name__} cannot be traced on input of shape {list(example.shape)}{place(error)}"
    return UnsupportedError(f"{where}: {said}. {advice}")


def explained(model: nn.Module, error: Exception, name: str = "the model") -> tuple[str, str]:
    """Why a module, called ``name``, cannot be followed, and what to do about it."""
    if "forward" in vars(model) and isinstance(error, fx.proxy.TraceError):
        return "it cannot be followed", _REPLACED.format("forward", name)
    if isinstance(error, NameError) and "not installed as a submodule" in str(error):  # of torch.fx
        for path, module in model.named_modules():
            for key, value in vars(module).items():
                if callable(value) and not isinstance(value, nn.Module) and hasattr(type(module), key):
                    return "it calls another model", _REPLACED.format(key, path or name)
        lists = ", ".join(list(lists_of_layers(model))[:8])
        held = f"those in {lists} are" if lists else "those in a list or dict, or made outside of __init__, are"
        return "it calls a layer that is not part of the model", f"{_LAYERS}: {held} not."
    if isinstance(error, TypeError) and "support item assignment" in str(error):  # of a traced value
        return "it writes into a tensor where values of the image say", _WRITES
    if isinstance(error, DynamicOutputShapeException):
        return first_line(error), _COUNTS
    if isinstance(error, GuardOnDataDependentSymNode | DataDependentOutputException):
        return "Python asks for a value of the image", _BRANCHES
    return first_line(error), _BRANCHES


def lists_of_layers(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The lists and dictionaries of modules that are not part of the model, as paths, and these modules."""
    parts, found = set(map(id, model.modules())), {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if key != "_modules" and (own := [layer for layer in _layers_in(value) if id(layer) not in parts]):
                found[f"{type(model).__name__}.{f'{path}.' * bool(path)}{key}"] = own
    return found


def _layers_in(value: Any) -> list[nn.Module]:
    if isinstance(value, nn.Module):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [layer for item in value for layer in _layers_in(item)] if isinstance(value, list | tuple) else []


def depends_on_values(error: BaseException | None) -> bool:
    """Whether a trace ended because Python asked for values of the image, and not for how torch.fx follows code."""
    kinds = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode, ValueTaken)
    return isinstance(error, kinds)


class ValueTaken(RuntimeError):
    """Python code takes values of a tensor that has none while it is traced."""


def wrapped(call: str) -> str:
    """The advice to put a module around one that does not take images by position."""
    return f"wrap it in a module whose forward takes the images alone, def forward(self, x): return self.model({call})"


def _advice(example: Tensor, error: Exception) -> str:
    """What to do about a model that fails as it runs: by its own check, by what torch says, or anything else."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = is_own(last.filename) and re.search(r"\b(raise|assert)\b", last.line or "")
    if own and re.search(_BATCH_SIZE, last.line or ""):
        return f"it was run on {len(example)}: {_COUNTED.lower()[:-1]}"
    if own or isinstance(error, AssertionError):
        return "the model's own code refuses this: give it input that it takes, or take the check out"
    said = next((fix for words, fix in _SAID.items() if re.search(words, str(error))), None)
    shape = ", ".join(map(str, example.shape))
    return said or f"mend the model until model.eval()(torch.zeros({shape})) runs"


class _Asked(Exception):
    """What a forward does with its input first, which tensors have not."""


class _Probe:
    """Stands for an input, to find out what a forward takes it for."""

    def __getattr__(self, name: str) -> Any:
        if hasattr(dict, name) and not hasattr(Tensor, name):
            raise _Asked("a dict", "{NAME: x}")
        raise _Asked(*(("an object", f"SimpleNamespace({name}=x)") if not hasattr(Tensor, name) else ()))

    def __getitem__(self, key: Any) -> Any:
        raise _Asked(
            *(("a dict", f"{{{key!r}: x}}") if isinstance(key, str) else ("a list", "[x]") if key == 0 else ())
        )

    def __iter__(self) -> Any:
        raise _Asked("a list", "[x]")


def _input_asked_for(model: nn.Module) -> tuple[str, str] | None:
    """What a model takes in place of a tensor, and how it is made of one; None where it does not show."""
    try:
        model.forward(_Probe())
    except _Asked as error:
        return (error.args[0], error.args[1]) if error.args else None
    except Exception:
        return None
    return None
