"""Answers as images come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from seenn.core.network import SpikingNetwork
from seenn.core.ops.arguments import integer, number
from seenn.data.preprocessing import Preprocessing
from seenn.exits import FixedExit
from seenn.exits.policy import ExitPolicy
from seenn.runtime import Engine, Prediction, Request, make_engine, run_slots
from seenn.runtime.lowering import Rounding


def stream(
    network: SpikingNetwork | Engine,
    images: Iterable[Tensor | Request],
    policy: ExitPolicy | None = None,
    timesteps: int = 8,
    *,
    engine: str = "auto",
    preprocessing: Preprocessing | None = None,
    slots: int = 32,
    ordered: bool = True,
    deadline_ms: float | None = None,
    rounding: Rounding | None = None,
) -> Iterator[Prediction]:
    """One prediction for each image, in the images' order or as they are ready.

    ::

        for prediction in seenn.stream(network, images, policy, timesteps=8):
            print(prediction.label, prediction.exit_timestep)

    An image is taken from ``images`` when a slot is free, so it may be endless. With one slot, each image is
    answered before the next is taken.

    Args:
        network: or an engine made from one, which saves making it again.
        images: preprocessed, ``[C, H, W]`` each; or requests with deadlines of their own.
        policy: who stops when; None runs every image for all ``timesteps``.
        timesteps: T, the most steps any image gets.
        engine: by name, see ``seenn.runtime.make_engine``.
        preprocessing: how the images were prepared, if they were: makes 8-bit pixels exact integers.
        slots: images that run at once.
        ordered: False gives every answer as soon as it is ready.
        deadline_ms: for images without one of their own: time from taking the image to its answer, which is
            then the best so far. At least one step is run.
        rounding: ``seenn.load(path).rounding``, so that int8 runs the whole numbers that the commands run.

    Raises:
        ValueError: an argument out of range, or an image of another size. Finished answers come first.
        SeennError: more slots than memory allows.
    """
    integer("slots", slots, low=1)
    if deadline_ms is not None:
        number("deadline_ms", deadline_ms, above=0.0)
    integer("timesteps", timesteps, low=1)
    if isinstance(network, SpikingNetwork):
        network = make_engine(engine, network, timesteps=timesteps, preprocessing=preprocessing, calibration=rounding)
    requests = (i if isinstance(i, Request) else Request(image=i, deadline_ms=deadline_ms) for i in images)
    found = run_slots(network, network.open(slots), requests, policy or FixedExit(), timesteps)
    return _in_order(found) if ordered else found


def _in_order(predictions: Iterator[Prediction]) -> Iterator[Prediction]:
    """Holds back what is ready too early; when it ends in an error, nothing that is ready is lost."""
    waiting: dict[int, Prediction] = {}
    expected = 0
    for prediction in predictions:
        waiting[prediction.index] = prediction
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
