"""The files of event data sets, one reader a format. Sizes are checked, and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seenn.data.events.frames import Events
from seenn.data.reading import reading
from seenn.errors import DataError

_OVERFLOW_Y, _OVERFLOW_US = 240, 1 << 13  # of N-MNIST: an event that says that the clock went round


def read_bin(path: Path) -> Events:
    """N-MNIST (Orchard et al. 2015): 5 bytes an event, x, y, and polarity (1 bit) with microseconds (23 bits)."""
    with reading(path):
        raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        if len(raw) % 5:
            raise DataError(f"{path}: {len(raw)} bytes are no whole number of events of 5 bytes; fetch it again")
        x, y, first, middle, last = raw.reshape(-1, 5).T.astype(np.int64)
        overflow = y == _OVERFLOW_Y
        t = ((first & 127) << 16 | middle << 8 | last) + _OVERFLOW_US * overflow.cumsum()
        return Events(x=x[~overflow], y=y[~overflow], t=t[~overflow], p=(first >> 7)[~overflow])


def read_npy(path: Path) -> Events:
    """DVS128 Gesture, cut into one file a gesture: an array ``[N, 4]`` of x, y, polarity and milliseconds."""
    with reading(path):
        array = np.load(path, allow_pickle=False, mmap_mode="r")
        if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iuf":
            raise DataError(f"{path}: holds {array.dtype} of shape {list(array.shape)}, expected numbers [N, 4]")
        x, y, p, t = np.asarray(array).T
        return Events(x=x, y=y, p=p, t=t)


def read_aedat4(path: Path) -> Events:
    """CIFAR10-DVS (Li et al. 2017) in AEDAT 4, through the package ``aedat``.

    Raises:
        DataError: also where that package is not installed.
    """
    try:
        import aedat
    except ImportError as error:
        raise DataError(f"{path}: reading AEDAT files needs the package aedat: pip install 'seenn[events]'") from error
    with reading(path):
        decoder = aedat.Decoder(str(path))
        streams = [number for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"]
        if not streams:
            raise DataError(f"{path}: has no stream of events: fetch it again")
        packets = [packet["events"] for packet in decoder if packet["stream_id"] == min(streams)]
        if not packets:
            raise DataError(f"{path}: there are no events in it; leave the recording out, or fetch it again")
        parts = {name: np.concatenate([packet[name] for packet in packets]) for name in ("x", "y", "t", "on")}
        return Events(x=parts["x"], y=parts["y"], t=parts["t"], p=parts["on"])
