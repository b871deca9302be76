"""CIFAR10-DVS: 10,000 pictures of CIFAR-10 moved before an event camera (Li et al. 2017)."""

from seenn.data.events import EventSet
from seenn.data.events.read import read_aedat4
from seenn.data.registry import DATA_SETS

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_DVS = EventSet(
    name="cifar10-dvs",
    folder="CIFAR10DVS",
    parts=("",),
    suffix=".aedat4",
    read=read_aedat4,
    side=128,
    class_names=CLASSES,
    label=lambda path: path.parent.name,
    labels=CLASSES,
    chiral=False,
)
DATA_SETS.register("cifar10-dvs")(CIFAR10_DVS)
