"""Recordings of event cameras, divided into frames: N-MNIST, DVS128 Gesture, CIFAR10-DVS, and any tonic data set."""

from seenn.data.events.frames import Events, to_frames
from seenn.data.events.sets import CIFAR10_DVS, DVS_GESTURE, N_MNIST, EventSet, load_event_set
from seenn.data.events.tonic import from_tonic

__all__ = [
    "CIFAR10_DVS",
    "DVS_GESTURE",
    "N_MNIST",
    "EventSet",
    "Events",
    "from_tonic",
    "load_event_set",
    "to_frames",
]
