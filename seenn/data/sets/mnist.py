"""MNIST: 70,000 handwritten digits, 28x28 pixels (http://yann.lecun.com/exdb/mnist)."""

from seenn.data.idx import IdxSet
from seenn.data.registry import DATA_SETS

MNIST = IdxSet(
    name="mnist",
    torchvision_name="MNIST",
    class_names=tuple("0123456789"),
    mean=0.1307,
    std=0.3081,
    chiral=True,
)
DATA_SETS.register("mnist")(MNIST)
