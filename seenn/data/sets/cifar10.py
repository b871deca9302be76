"""CIFAR-10: 60,000 colour pictures of 10 classes, 32x32 pixels (Krizhevsky 2009)."""

from seenn.data.cifar import CifarSet
from seenn.data.registry import DATA_SETS

CIFAR10 = CifarSet(
    name="cifar10",
    torchvision_name="CIFAR10",
    folder="cifar-10-batches-py",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
DATA_SETS.register("cifar10")(CIFAR10)
