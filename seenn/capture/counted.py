"""Whether a forward pass makes other calls for other numbers of images, as one that loops over them does.

It is run on shapes alone, with few images first: what loops over many of them would be traced for minutes.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.overrides import TorchFunctionMode

from seenn.capture.places import is_own, place, where
from seenn.capture.state import WorkingCopy, run_apart
from seenn.core.graph import PROBE_BATCHES, shapes_only
from seenn.errors import first_line

_FEW = (2, 3, 4)
_OF_VALUES = (DataDependentOutputException, DynamicOutputShapeException)


class OfImages(RuntimeError):
    """What a forward pass does depends on how many images there are: it loops over them, or refuses other numbers."""


class Loops(OfImages):
    """It loops over them."""


def count_dependence(model: nn.Module, example: Tensor) -> OfImages | None:
    """How the calls of ``model`` depend on how many images like ``example`` there are; None where it does not show."""
    counts: list[int] = []
    for images in _FEW:
        calls = _Calls()
        if (error := _run(model, example, images, calls)) is not None:
            return _refusal(error, images) if counts else None
        counts.append(len(calls.names))
    step = counts[1] - counts[0]
    loops = step > 0 and counts[2] - counts[1] == step
    calls = _Calls(counts[2], counts[2] + step) if loops else _Calls()
    error = _run(model, example, PROBE_BATCHES[0], calls)
    if loops:
        return Loops(f"it loops over the images of a batch{calls.place()}")
    return None if error is None else _refusal(error, PROBE_BATCHES[0])


def branches(model: nn.Module, example: Tensor) -> bool:
    """Whether the calls for one image are others than those for two."""
    one, two = _Calls(), _Calls()
    failed = [_run(model, example, images, calls) for images, calls in ((1, one), (2, two))]
    return failed == [None, None] and one.names != two.names


def _run(model: nn.Module, example: Tensor, images: int, calls: _Calls) -> Exception | None:
    """Runs a copy on shapes; what it raised."""
    with WorkingCopy(model) as copied, shapes_only():
        given = example.new_zeros(images, *example.shape[1:])
        try:
            with calls:
                run_apart(copied.model, (given,))
        except Exception as error:  # of the model, whatever it is
            return error
    return None


def _refusal(error: Exception, images: int) -> OfImages | None:
    """The model's own error for this number of images, where it is its own and not one of values that are not there."""
    if not isinstance(error, AssertionError | ValueError | RuntimeError) or isinstance(error, _OF_VALUES):
        return None
    return OfImages(f"it takes {_FEW[0]} images and refuses {images}{place(error)} ({first_line(error)})")


class _Calls(TorchFunctionMode):
    """Notes the names of all calls, and from the first on to the last of two numbers of them, where they are made."""

    def __init__(self, first: int = sys.maxsize, last: int = sys.maxsize) -> None:
        super().__init__()
        self.names: list[str] = []
        self._first, self._last = first, last
        self._frames: list[FrameType] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(getattr(func, "__name__", str(func)))
        if self._first <= len(self.names) <= self._last:
            here = set(stack := _stack(sys._getframe(1)))
            self._frames = [frame for frame in self._frames if frame in here] if self._frames else stack
        if len(self.names) == self._last:
            raise Loops
        return func(*args, **(kwargs or {}))

    def place(self) -> str:
        """``" at net.py:12 (its line)"``: the innermost line of the model's code that all these calls are made from."""
        own = next((frame for frame in self._frames or () if is_own(frame.f_code.co_filename)), None)
        return f" at {where(own.f_code.co_filename, own.f_lineno)}" if own else ""


def _stack(frame: FrameType | None) -> list[FrameType]:
    """A frame and those of the model that have called it, innermost first."""
    found = []
    while frame is not None and frame.f_code is not _run.__code__:
        found.append(frame)
        frame = frame.f_back
    return found
