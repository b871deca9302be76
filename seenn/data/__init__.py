"""Labelled images in four disjoint splits: train, calibration, exit and test.

::

    splits = load_data("fashion-mnist")
    for batch in splits.train.batches(128, order=torch.randperm(len(splits.train))):
        batch.inputs, batch.labels
    network = convert(model, splits.calibration.images(limit=512))

**Why four.** Thresholds of neurons are fitted on ``calibration``, the exit policy on ``exit``, and figures
are reported on ``test``; a network trained on ``train`` has seen none of them.

**The rule when the source has its own test part** (Fashion-MNIST, MNIST, CIFAR, most folders). That part is
``test``, whole and in file order. The last sixth of the training part in file order is held out; ``train``
is the rest in file order, so it is the same for every seed. The held-out images are shuffled with the seed
and dealt class by class, one in five to ``calibration`` and four in five to ``exit``. Where a training part
is sorted by class, as folders are, its last sixth would be its last classes: there the last sixth *of each
class* is held out.

**The rule when there is one part only** (digits, a folder of classes, a plain npz file). All images are
shuffled with the seed and dealt class by class: 50 % train, 10 % calibration, 20 % exit, 20 % test.

Dealt splits stay in their shuffled order, so that their first n images are a fair sample. What a split holds
is proven by its ``fingerprint``, a hash of pixels and labels that does not depend on the order.
"""

from __future__ import annotations

from seenn.data.load import DATA_HELP, load_data
from seenn.data.preprocessing import Preprocessing
from seenn.data.split import DataSplits, Split

__all__ = ["DATA_HELP", "DataSplits", "Preprocessing", "Split", "load_data"]
