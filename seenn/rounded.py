"""How a checkpoint's weights are rounded to int8: chosen once, so that every command runs the same integers."""

from __future__ import annotations

import math
from dataclasses import replace

from seenn.batch import Batch
from seenn.checkpoint import Checkpoint
from seenn.data import Split
from seenn.runtime.lowering import choose_rounding

IMAGES = 64  # at most: a few dozen are enough to judge rounding by
BYTES = 1 << 30  # of the values that they have in the network, which are kept


def with_rounding(checkpoint: Checkpoint, calibration: Split) -> Checkpoint:
    """``checkpoint`` with the rounding of least error on the calibration split; as it is where nothing is lowered.

    Recordings of events are not lowered by images, and keep rounding by the largest weight.
    """
    network = checkpoint.network
    found = None
    if not calibration.is_sequence and len(calibration):
        each = 4 * sum(math.prod(shape) for shape in network.shapes.values())
        images = calibration.images(limit=max(1, min(IMAGES, BYTES // each))).to(network.device)
        found = choose_rounding(
            network, Batch(images), timesteps=checkpoint.timesteps, preprocessing=checkpoint.preprocessing
        )
    return replace(checkpoint, rounding=found)
