"""Metrics for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seenn.errors import UnsupportedError


class Board:
    """Writes lines of metrics as TensorBoard events into ``folder``."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UnsupportedError(
                "TensorBoard is not installed: pip install tensorboard, or leave out --tensorboard (metrics.jsonl and "
                "curves.png hold the same figures)"
            ) from error
        self._writer = SummaryWriter(str(folder))

    def add(self, line: Mapping[str, Any]) -> None:
        """One line: every number but the step itself."""
        for key, value in line.items():
            if key not in ("step", "epoch", "epochs", "seconds") and isinstance(value, int | float):
                name = f"epoch/{key}" if "epoch" in line else f"step/{key}"
                self._writer.add_scalar(name, value, line["step"])
        self._writer.flush()
