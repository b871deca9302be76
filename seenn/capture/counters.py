"""Counters of calls that nothing reads, which a network has no use for: left out of the trace."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from seenn.capture.state import WorkingCopy, run_apart, tensors_in


class Unread:
    """Stands for a number that is only added to: whatever reads it fails."""

    def add(self, other: Any, **options: Any) -> Unread:
        """Itself, whatever is added."""
        return self

    add_ = sub = sub_ = __add__ = __iadd__ = __sub__ = __isub__ = add

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError("a counter is read")

    __eq__ = __ne__ = __bool__ = __hash__ = __str__ = __format__ = _refuse


def leave_out_counters(copied: WorkingCopy, example: Tensor) -> None:
    """Puts ``Unread`` in the place of numbers and tensors that change in a call, where the model answers all the same.

    They are found by running copies on a few images.
    """
    images = example[:2]
    with WorkingCopy(copied.model) as watching:
        try:
            with watching.watched():
                expected = run_apart(watching.model, (images,))
        except Exception:  # the trace says more
            return
    for path in watching.seen:
        if _is_number(copied.model, path) and _answers(copied.model, path, images, expected):
            copied.replace(path, Unread())


def _is_number(model: nn.Module, path: str) -> bool:
    owner, _, key = path.rpartition(".")
    value = getattr(model.get_submodule(owner), key, None)
    return isinstance(value, int | float | Tensor) and not isinstance(value, bool | nn.Parameter)


def _answers(model: nn.Module, path: str, images: Tensor, expected: Any) -> bool:
    """Whether the model answers the same where nothing can be read at ``path``."""
    with WorkingCopy(model) as copied:
        copied.replace(path, Unread())
        try:
            found = tensors_in(run_apart(copied.model, (images,)))
        except Exception:  # it is read
            return False
    answers = tensors_in(expected)
    return len(found) == len(answers) and all(map(torch.equal, found, answers))
