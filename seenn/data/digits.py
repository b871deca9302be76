"""scikit-learn's 1,797 handwritten digits, 8x8 pixels; they come with the package."""

from __future__ import annotations

import numpy as np

from seenn.data.source import Source, labelled_arrays


def load_digits() -> Source:
    """The digits, their 17 gray levels (0 to 16) spread over 0 to 255."""
    from sklearn.datasets import load_digits as load_bundled

    bundle = load_bundled()
    pixels = np.rint(bundle.images * (255 / 16)).astype(np.uint8)
    train = labelled_arrays("digits", pixels[:, np.newaxis], bundle.target, num_classes=10)
    return Source(train=train, test=None, class_names=tuple("0123456789"), preprocessing=None)
