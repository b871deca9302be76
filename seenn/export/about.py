"""What goes with a file: when to stop, how images are prepared, and what the classes are called."""

from __future__ import annotations

from typing import Any

from seenn.exits import policy_to_json
from seenn.export.exporter import Subject
from seenn.export.parts import Names


def about(subject: Subject) -> dict[str, Any]:
    """Of every format, as JSON."""
    return {
        "timesteps": subject.timesteps,
        "policy": policy_to_json(subject.policy),
        "preprocessing": None if subject.snn.preprocessing is None else subject.snn.preprocessing.to_json(),
        "raw_pixels": subject.options.raw_pixels,
        "class_names": list(subject.snn.class_names),
    }


def stepwise(subject: Subject) -> dict[str, Any]:
    """Of formats that leave the loop to the host: also what passes from one call to the next."""
    names = Names.of(subject.network)
    return {
        **about(subject),
        "currents": list(names.currents),
        "states": [{"input": name, "output": f"next.{name}"} for name in names.states],
        "spikes": list(names.spikes),
    }
