"""Compiled code for tests."""

from __future__ import annotations

import shutil
from typing import Literal

import pytest

from seenn import native
from seenn.native.library import Library


def compiled_for(part: Literal["engine", "training"]) -> Library:
    """Skips only where there is no compiler: code that its own trial refuses is a failure here."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler here")
    found = native.load(part)
    assert found is not None, "what the compiler made is not what torch computes"
    return found
