"""N-MNIST: the digits of MNIST before a moving event camera (Orchard et al. 2015)."""

from seenn.data.events import EventSet
from seenn.data.events.read import read_bin
from seenn.data.registry import DATA_SETS

DIGITS = tuple("0123456789")
N_MNIST = EventSet(
    name="n-mnist",
    folder="NMNIST",
    parts=("Train", "Test"),
    suffix=".bin",
    read=read_bin,
    side=34,
    class_names=DIGITS,
    label=lambda path: path.parent.name,
    labels=DIGITS,
    chiral=True,
)
DATA_SETS.register("n-mnist")(N_MNIST)
