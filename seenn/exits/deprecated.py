"""Rules written for 0.1, whose methods take the timesteps ``t`` where a ``Progress`` is given now, or logits a run."""

from __future__ import annotations

import inspect
import warnings
from typing import Any


def accept_timesteps(cls: type[Any]) -> None:
    """Lets methods of ``cls`` whose first parameter is ``t`` be called with a ``Progress``; warns where there are any.

    Goes with the next version. Harmless for classes that were seen before.
    """
    methods = {name: vars(cls).get(name) for name in ("stop", "score", "limit", "confidence")}
    old = {
        name: m for name, m in methods.items() if inspect.isfunction(m) and [*inspect.signature(m).parameters][1] == "t"
    }
    for name, method in old.items():
        setattr(cls, name, lambda self, progress, *rest, method=method: method(self, progress.t, *rest))
    fitted = vars(cls).get("fitted")
    if inspect.isfunction(fitted) and len(inspect.signature(fitted).parameters) == 3:
        cls.fitted = lambda self, run: fitted(self, run.logits_sum, run.labels)
        warnings.warn(
            f"{cls.__qualname__}.fitted: it is now given one CachedRun; read run.logits_sum and run.labels",
            DeprecationWarning,
            stacklevel=3,
        )
    if old:
        warnings.warn(
            f"{cls.__qualname__}.{' and '.join(old)}: an exit rule's first parameter is now the Progress of its "
            "samples; call it progress, and read progress.t where t was",
            DeprecationWarning,
            stacklevel=3,
        )
