"""Exit rules: logits and progress in, decisions out. What it offers is loaded when it is used (see ``api``)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seenn.exits.api import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        return getattr(importlib.import_module("seenn.exits.api"), name)
