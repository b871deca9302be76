"""Fashion-MNIST: 70,000 pictures of clothes, 28x28 pixels (Xiao et al. 2017)."""

from pathlib import Path

from seenn.data.idx import IdxSet
from seenn.data.registry import DATA_SETS

FASHION_MNIST = IdxSet(
    name="fashion-mnist",
    torchvision_name="FashionMNIST",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mean=0.2860,
    std=0.3530,
    chiral=False,
    system_dir=Path("/usr/share/datasets/fashion-mnist"),
    system_package="dataset-fashion-mnist",
)
DATA_SETS.register("fashion-mnist")(FASHION_MNIST)
