"""An export format: what it cannot hold, how it is written, and what its reader makes of the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seenn.core.ops import Neuron
from seenn.errors import ExportError
from seenn.export import FORMATS, Format, Subject


def thresholds(subject: Subject) -> dict[str, float]:
    """Of the sites."""
    ops = {site: subject.network.graph[site].op for site in subject.network.sites}
    return {site: float(op.v_threshold.mean()) for site, op in ops.items() if isinstance(op, Neuron)}


class _Thresholds(Format):
    """The mean threshold of every site, as JSON."""

    suffix = ".json"

    def violations(self, subject: Subject) -> Iterable[str]:
        return [f"{name} is analog: use --to onnx" for name in subject.network.running_means]

    def write(self, subject: Subject, path: Path) -> None:
        path.write_text(json.dumps(thresholds(subject)), encoding="utf-8")

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != thresholds(subject):
            raise ExportError(f"the thresholds are {found}")
        return "json", {"sites": len(found)}


FORMATS.register("thresholds")(_Thresholds())
