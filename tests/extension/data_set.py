"""A data set: ``--data bars``, drawn instead of read."""

from __future__ import annotations

import numpy as np

from seenn.data import DATA_SETS, Request, Source, labelled_arrays, needs

NAMES = ("flat", "upright", "rising", "falling")


@DATA_SETS.register("bars")
@needs("nothing")
def bars(_: Request) -> Source:
    """600 noisy gray images of 8 × 8 pixels, each with one bar in one of four directions."""
    generator = np.random.default_rng(0)
    labels = np.arange(600) % len(NAMES)
    rows, columns = np.mgrid[:8, :8]
    distance = np.stack([rows, columns, (rows + columns) / 2, (rows - columns) / 2 + 3.5])[labels]
    where = generator.uniform(2, 5, (len(labels), 1, 1))
    images = 120.0 * (abs(distance - where) < 0.8) + generator.uniform(0, 135, distance.shape)
    return Source(
        train=labelled_arrays("bars", images.astype(np.uint8)[:, None], labels), class_names=NAMES, chiral=True
    )
