"""Says so where images are not like those that an exit policy was calibrated on any more."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor

from seenn.distributed import World
from seenn.exits.guarantees.drift import DriftTest, MarginRecord
from seenn.exits.progress import Progress
from seenn.runtime.observer import Observer

log = logging.getLogger(__name__)

ALARM_RATE = 0.01  # probability of a false alarm
EVERY = 16  # samples, at least, from one look at the evidence to the next


class DriftAlarm(Observer):
    """Warns, once, when samples have moved from where an exit policy was calibrated: its guarantee is not for them.

    It may watch any number of runs one after the other, as one stream. See ``seenn.exits.guarantees.drift``.

    Args:
        record: of the calibration samples.
        rate: probability that it ever warns while nothing has moved, over all that it watches; in (0, 1).
        in_order: looks as samples come; else only where it is asked to ``judge``, whatever their order.

    Raises:
        ValueError: ``rate`` out of range.
    """

    def __init__(self, record: MarginRecord, rate: float = ALARM_RATE, *, in_order: bool = True) -> None:
        if not 0.0 < rate < 1.0:
            raise ValueError(f"the rate of false alarms is a probability between 0 and 1, got {rate}")
        self.rate, self._in_order = rate, in_order
        self.test = DriftTest(record, in_order=in_order)
        self.p_value = 1.0  # the smallest so far: 1 / E
        self._new: list[Tensor] = []

    @property
    def raised(self) -> bool:
        """Whether it has warned."""
        return self.p_value <= self.rate

    def scores(self, progress: Progress, samples: Tensor, logits_sum: Tensor) -> None:
        first = progress.point == 1
        if bool(first.any()):
            self._new.append(logits_sum[first])
            if sum(map(len, self._new)) >= EVERY:
                self._see()
                if self._in_order:
                    self.judge()

    def judge(self) -> bool:
        """Looks at the evidence; returns ``raised``."""
        self._see()
        before = self.raised
        self.p_value = min(self.p_value, math.exp(-max(0.0, self.test.log_evidence)))
        if self.raised and not before:
            log.warning(
                "the images, %d so far, are unlike those that exits were calibrated on (false-alarm rate %g): no "
                "guarantee holds for them; run `seenn calibrate-exit` on recent images",
                self.test.samples,
                self.rate,
            )
        return self.raised

    def gather(self, here: World) -> None:
        """Takes in what every process's has seen; of samples in any order."""
        self._see()
        here.sum_(self.test.counts)

    def _see(self) -> None:
        new, self._new = self._new, []
        if new:
            self.test.see(torch.cat(new))

    def to_json(self) -> dict[str, Any]:
        """What it found, and with which rate of false alarms."""
        found = {"alarm": self.raised, "p_value": self.p_value, "false_alarm_rate": self.rate}
        return {**found, "images": self.test.samples}
