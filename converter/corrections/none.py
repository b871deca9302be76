"""No correction."""

from __future__ import annotations

from converter.corrections import CORRECTIONS, Correction

CORRECTIONS.register("none")(Correction())
