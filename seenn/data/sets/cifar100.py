"""CIFAR-100: 60,000 colour pictures of 100 classes, 32x32 pixels; the fine labels (Krizhevsky 2009)."""

from seenn.data.cifar import CifarSet
from seenn.data.registry import DATA_SETS

CIFAR100 = CifarSet(
    name="cifar100",
    torchvision_name="CIFAR100",
    num_classes=100,
    label_bytes=2,
    binary_folder="cifar-100-binary",
    python_folder="cifar-100-python",
    train_files=("train.bin",),
    test_file="test.bin",
    names_file="fine_label_names.txt",
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)
DATA_SETS.register("cifar100")(CIFAR100)
