"""Small recordings in the formats of the published data sets."""

from __future__ import annotations

import struct
from pathlib import Path

import flatbuffers
import numpy as np

Event = tuple[int, int, int, int]  # x, y, t, p


def write_bin(path: Path, events: list[Event], *, overflow_at: int | None = None) -> None:
    """N-MNIST: 5 bytes an event; ``overflow_at`` puts the event that says that the clock went round before that one."""
    raw = bytearray()
    for index, (x, y, t, p) in enumerate(events):
        if index == overflow_at:
            raw += bytes((0, 240, 0, 0, 0))
        raw += bytes((x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


def write_npy(path: Path, events: list[Event]) -> None:
    """DVS128 Gesture: an array of x, y, polarity, milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array([(x, y, p, t) for x, y, t, p in events], dtype=np.float64).reshape(-1, 4))


def write_aedat4(path: Path, events: list[Event], *, side: int = 128) -> None:
    """CIFAR10-DVS: AEDAT 4, not compressed, one stream of events in packets of three."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        '<node name="0" path="/mainloop/Recorder/outInfo/0/"><attr key="typeIdentifier" type="string">EVTS</attr>'
        '<node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
        f'<attr key="sizeX" type="int">{side}</attr><attr key="sizeY" type="int">{side}</attr>'
        "</node></node></node></dv>"
    )
    builder = flatbuffers.Builder()
    node = builder.CreateString(info)
    builder.StartObject(3)  # IOHeader: compression, dataTablePosition, infoNode
    builder.PrependInt32Slot(0, 0, -1)
    builder.PrependInt64Slot(1, -1, 0)
    builder.PrependUOffsetTRelativeSlot(2, node, 0)
    builder.FinishSizePrefixed(builder.EndObject(), file_identifier=b"IOHE")
    written = b"#!AER-DAT4.0\r\n" + bytes(builder.Output())
    for start in range(0, len(events), 3):
        packet = _packet(events[start : start + 3])
        written += struct.pack("<ii", 0, len(packet)) + packet
    path.write_bytes(written)


def _packet(events: list[Event]) -> bytes:
    builder = flatbuffers.Builder()
    builder.StartVector(16, len(events), 8)
    for x, y, t, p in reversed(events):  # struct: int64 timestamp, int16 x, int16 y, bool on
        builder.Prep(8, 16)
        builder.Pad(3)
        builder.PrependBool(bool(p))
        builder.PrependInt16(y)
        builder.PrependInt16(x)
        builder.PrependInt64(t)
    elements = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, elements, 0)
    builder.FinishSizePrefixed(builder.EndObject(), file_identifier=b"EVTS")
    return bytes(builder.Output())
