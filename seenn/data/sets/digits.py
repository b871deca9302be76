"""scikit-learn's 1,797 handwritten digits, 8x8 pixels; they come with the package."""

from __future__ import annotations

import numpy as np

from seenn.data.registry import DATA_SETS, Request, needs
from seenn.data.source import Source, labelled_arrays


@DATA_SETS.register("digits")
@needs("nothing")
def digits(_: Request) -> Source:
    """The digits, their 17 gray levels (0 to 16) spread over 0 to 255."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = np.rint(bundle.images * (255 / 16)).astype(np.uint8)
    train = labelled_arrays("digits", pixels[:, np.newaxis], bundle.target, num_classes=10)
    return Source(train=train, class_names=tuple("0123456789"), chiral=True)
