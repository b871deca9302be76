"""Why a model failed as it was run or traced: where in its code, in whose words, and what to do about it."""

from __future__ import annotations

import re
import textwrap
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from seenn.device import is_out_of_memory, out_of_memory
from seenn.errors import SeennError, UnsupportedError, first_line

#: Where the code lies that runs models, which is never where a model's own mistake is.
_SEENN, _PYTHON = Path(__file__).parents[1], Path(textwrap.__file__).parent
_RUNNERS = (*map(str, (Path(torch.__file__).parent, _SEENN, _SEENN.parent / "converter")), "<eval_with_key>", "<frozen")
_BRANCHES = (
    "Its forward must take one image batch, and must not branch on the values in it, nor take them out of tensors "
    "(.item(), .tolist(), .numpy(), int()): choose with torch.where, compute in torch, and leave checks of values out."
)
_LAYERS_OUTSIDE = "Keep layers in nn.ModuleList or nn.ModuleDict: those in a list or dict are not part of the model."
_REPLACED = "Put the forward that was assigned to {} into a subclass: one that holds another model cannot be followed."
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
    advice = _BRANCHES
    if isinstance(error, NameError) and "not installed as a submodule" in str(error):  # of torch.fx
        replaced = [path or "the model" for path, module in model.named_modules() if "forward" in vars(module)]
        advice = _REPLACED.format(replaced[0]) if replaced else _LAYERS_OUTSIDE
    if isinstance(error, DynamicOutputShapeException):
        advice = _COUNTS
    where = f"{type(model).__name__} cannot be traced on input of shape {list(example.shape)}{place(error)}"
    said = (
        "Python asks for a value of the image" if isinstance(error, GuardOnDataDependentSymNode) else first_line(error)
    )
    return UnsupportedError(f"{where}: {said}. {advice}")


def depends_on_values(error: BaseException | None) -> bool:
    """Whether a trace ended because Python asked for values of the image, and not for how torch.fx follows code."""
    kinds = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode, ValueTaken)
    return isinstance(error, kinds)


class ValueTaken(RuntimeError):
    """Python code takes values of a tensor that has none while it is traced."""


def place(error: BaseException) -> str:
    """``" at layer, net.py:12 (its line)"``: the innermost module and line of the model's code; "" if none is known."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    modules = [m for frame, _ in frames if isinstance(m := frame.f_locals.get("self"), nn.Module)]
    named = {id(module): name for module in reversed(modules) for name, module in module.named_modules()}
    names = [name for module in modules if (name := named.get(id(module)))]
    found = [name for last in names[-1:] if (name := last.removeprefix("_export_root").lstrip("."))]  # torch.export's
    own = [one for one in traceback.extract_tb(error.__traceback__) if _is_own(one.filename)]
    if own:
        code = f" (`{textwrap.shorten(own[-1].line, 80, placeholder=' …')}`)" if own[-1].line else ""
        found.append(f"{Path(own[-1].filename).name}:{own[-1].lineno}{code}")
    return f" at {', '.join(found)}" if found else ""


def _is_own(filename: str) -> bool:
    return not filename.startswith(_RUNNERS) and Path(filename).parent != _PYTHON


def wrapped(call: str) -> str:
    """The advice to put a module around one that does not take images by position."""
    return f"wrap it in a module whose forward takes the images alone, def forward(self, x): return self.model({call})"


def _advice(example: Tensor, error: Exception) -> str:
    """What to do about a model that fails as it runs: by its own check, by what torch says, or anything else."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = _is_own(last.filename) and re.search(r"\b(raise|assert)\b", last.line or "")
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
