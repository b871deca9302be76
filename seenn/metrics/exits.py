"""When samples stopped: mean, spread, percentiles and histogram of the exit timesteps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seenn.metrics.checks import check_integers


@dataclass(frozen=True, kw_only=True)
class ExitStatistics:
    """Exit timesteps of ``n`` samples, in steps."""

    mean: float
    std: float  # of the population: divided by n
    p50: int  # the first timestep by which half of the samples had exited
    p95: int  # the first timestep by which 95 % of the samples had exited
    histogram: tuple[int, ...]  # samples that exited at t = 1..T
    n: int

    @property
    def timesteps(self) -> int:
        """T, the most a sample could take."""
        return len(self.histogram)

    def to_json(self) -> dict[str, Any]:
        """The fields by name, ready for ``json.dumps``."""
        return asdict(self)


def exit_statistics(exit_timestep: Tensor, timesteps: int) -> ExitStatistics:
    """Summarises ``exit_timestep`` ``[N]``, integers in ``1..timesteps``.

    Raises:
        ValueError: no samples, not integers, or exits outside ``1..timesteps``.
    """
    where = "exit_statistics"
    check_integers(where, "exit_timestep", exit_timestep)
    low, high = int(exit_timestep.min()), int(exit_timestep.max())
    if low < 1 or high > timesteps:
        raise ValueError(f"{where}: exits range from {low} to {high}; expected 1 to timesteps = {timesteps}")
    counts = torch.bincount(exit_timestep.cpu().long(), minlength=timesteps + 1)[1:].tolist()
    exits = exit_timestep.cpu().double().numpy()
    p50, p95 = np.quantile(exits, (0.5, 0.95), method="inverted_cdf")  # nearest rank: always a real timestep
    return ExitStatistics(
        mean=float(exits.mean()),
        std=float(exits.std()),
        p50=int(p50),
        p95=int(p95),
        histogram=tuple(counts),
        n=len(exits),
    )
