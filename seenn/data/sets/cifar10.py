"""CIFAR-10: 60,000 colour pictures of 10 classes, 32x32 pixels (Krizhevsky 2009)."""

from seenn.data.cifar import CifarSet
from seenn.data.registry import DATA_SETS

CIFAR10 = CifarSet(
    name="cifar10",
    torchvision_name="CIFAR10",
    num_classes=10,
    label_bytes=1,
    binary_folder="cifar-10-batches-bin",
    python_folder="cifar-10-batches-py",
    train_files=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test_file="test_batch.bin",
    names_file="batches.meta.txt",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
DATA_SETS.register("cifar10")(CIFAR10)
