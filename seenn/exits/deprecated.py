"""Rules written for 0.1, whose methods take the timesteps ``t`` where a ``Progress`` is given now."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any


def accept_timesteps(cls: type[Any]) -> None:
    """Lets methods of ``cls`` whose first parameter is ``t`` be called with a ``Progress``; warns where there are any.

    Goes with the next version. Harmless for classes that were seen before.
    """
    old = [name for name in ("stop", "score", "limit") if _takes_timesteps(vars(cls).get(name))]
    for name in old:
        setattr(cls, name, _given_progress(vars(cls)[name]))
    if old:
        warnings.warn(
            f"{cls.__qualname__}.{' and '.join(old)}: an exit rule's first parameter is now the Progress of its "
            "samples; call it progress, and read progress.t where t was",
            DeprecationWarning,
            stacklevel=3,
        )


def _takes_timesteps(method: object) -> bool:
    if not inspect.isfunction(method):
        return False
    return list(inspect.signature(method).parameters)[1:2] == ["t"]


def _given_progress(method: Callable[..., Any]) -> Callable[..., Any]:
    def with_timesteps(self: Any, progress: Any, *rest: Any) -> Any:
        return method(self, progress.t, *rest)

    return with_timesteps
