"""Recordings of event cameras, divided into frames."""

from seenn.data.events.frames import Events, from_tonic, to_frames
from seenn.data.events.sets import EventSet

__all__ = ["EventSet", "Events", "from_tonic", "to_frames"]
