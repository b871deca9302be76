"""Recordings of event cameras, divided into frames."""

from seenn.data.events.frames import Events, to_frames
from seenn.data.events.sets import EventSet
from seenn.data.events.tonic import from_tonic

__all__ = ["EventSet", "Events", "from_tonic", "to_frames"]
