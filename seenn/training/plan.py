"""Which images and which random numbers every step sees: a function of the seed and the step's own number alone.

So a run that is taken up in the middle draws what it would have drawn, without any generator's state on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from seenn.batch import Batch
from seenn.data import Split
from seenn.distributed import World
from seenn.training.config import TrainConfig


def derived_seed(seed: int, *address: object) -> int:
    """A 63-bit seed for one use at one place, for example ``derived_seed(0, "order", epoch)``."""
    digest = hashlib.blake2b(repr((seed, *address)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *address: object) -> torch.Generator:
    """A CPU generator with :func:`derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *address))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of a run on ``train``, in epochs."""

    config: TrainConfig
    train: Split

    @property
    def steps_per_epoch(self) -> int:
        """A last, incomplete batch is left out."""
        return len(self.train) // self.config.batch_size

    @property
    def total_steps(self) -> int:
        """Of the run."""
        return max(1, round(self.config.epochs * self.steps_per_epoch))

    @property
    def epochs(self) -> int:
        """The last may be a part of one."""
        return -(-self.total_steps // self.steps_per_epoch)

    def last_step_of(self, epoch: int) -> int:
        """How many steps of the run are done when ``epoch`` (from 1) is."""
        return min(epoch * self.steps_per_epoch, self.total_steps)

    def batches(self, epoch: int, step: int, here: World) -> Iterator[Batch]:
        """This process's part of the batches of ``epoch`` that are left after ``step`` steps of the run."""
        config, size = self.config, self.config.batch_size
        order = torch.randperm(len(self.train), generator=generator(config.seed, "order", epoch))
        rows = here.part(size)
        first = (epoch - 1) * self.steps_per_epoch
        steps = range(step - first, self.last_step_of(epoch) - first)
        mine = torch.cat([order[k * size : (k + 1) * size][rows] for k in steps])
        for number, batch in enumerate(self.train.batches(size // here.size, order=mine), step):
            batch = config.augment(batch, generator(config.seed, "augment", number), rows, size)
            if config.transform is not None:
                batch = config.transform(batch, generator(config.seed, "transform", number, here.rank))
            yield batch
