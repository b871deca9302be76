"""DVS128 Gesture: 11 gestures before an event camera, cut into one file a gesture (Amir et al. 2017)."""

from seenn.data.events import EventSet
from seenn.data.events.read import read_npy
from seenn.data.registry import DATA_SETS

DVS_GESTURE = EventSet(
    name="dvs-gesture",
    folder="DVSGesture",
    parts=("ibmGestureTrain", "ibmGestureTest"),
    suffix=".npy",
    read=read_npy,
    side=128,
    class_names=(
        "Hand clapping",
        "Right hand wave",
        "Left hand wave",
        "Right arm clockwise",
        "Right arm counter-clockwise",
        "Left arm clockwise",
        "Left arm counter-clockwise",
        "Arm roll",
        "Air drums",
        "Air guitar",
        "Other gestures",
    ),
    label=lambda path: path.stem,
    labels=tuple(map(str, range(11))),
    chiral=True,
)
DATA_SETS.register("dvs-gesture")(DVS_GESTURE)
