"""The version of this package, and of what it runs on."""

from __future__ import annotations

import platform

import torch

__version__ = "0.2.0"


def versions() -> dict[str, str]:
    """What ran, for reports and manifests."""
    return {"seenn": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
