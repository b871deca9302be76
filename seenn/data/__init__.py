"""Labelled images in four disjoint splits: train, calibration, exit and test.

::

    splits = load_data("fashion-mnist")
    for batch in splits.train.batches(128, order=torch.randperm(len(splits.train))):
        batch.inputs, batch.labels
    snn = convert(model, splits)

**Why four.** Thresholds of neurons are fitted on ``calibration``, the exit policy on ``exit``, and figures
are reported on ``test``; a network trained on ``train`` has seen none of them.

**The rule when the source has its own test part** (Fashion-MNIST, MNIST, CIFAR, most folders). That part is
``test``, whole and in file order. The last sixth of the training part (of each class, where it is sorted by
class, as folders are) is held out; ``train`` is the rest in file order, the same for every seed. The held-out
images are shuffled with the seed and dealt class by class, one in five to ``calibration``, the others to ``exit``.

**The rule when there is one part only** (digits, a folder of classes, a plain npz file). All images are
shuffled with the seed and dealt class by class: 50 % train, 10 % calibration, 20 % exit, 20 % test.

Dealt splits stay in their shuffled order, so that their first n images are a fair sample. What a split holds
is told by its ``fingerprint``, a hash of images and labels that does not depend on the order.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seenn.data.given import Given as Given
    from seenn.data.given import told as told
    from seenn.data.load import as_split as as_split
    from seenn.data.load import as_splits as as_splits
    from seenn.data.load import load_data as load_data
    from seenn.data.numbers import Numbers as Numbers
    from seenn.data.preprocessing import Preparation as Preparation
    from seenn.data.preprocessing import Preprocessing as Preprocessing
    from seenn.data.provenance import check_split as check_split
    from seenn.data.provenance import check_splits as check_splits
    from seenn.data.registry import DATA_SETS as DATA_SETS
    from seenn.data.registry import Request as Request
    from seenn.data.registry import needs as needs
    from seenn.data.source import Source as Source
    from seenn.data.source import labelled_arrays as labelled_arrays
    from seenn.data.split import DataSplits as DataSplits
    from seenn.data.split import Split as Split
    from seenn.data.stated import Stated as Stated

_NAMES = {
    "given": "Given told",
    "load": "as_split as_splits load_data",
    "numbers": "Numbers",
    "preprocessing": "Preparation Preprocessing",
    "provenance": "check_split check_splits",
    "registry": "DATA_SETS Request needs",
    "source": "Source labelled_arrays",
    "split": "DataSplits Split",
    "stated": "Stated",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and no more: the names of the data sets are known without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
