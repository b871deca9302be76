from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from seenn.data.events import Events, from_tonic, to_frames
from seenn.errors import DataError


def _events(*rows: tuple[int, int, int, int]) -> Events:
    x, y, t, p = np.array(rows).reshape(-1, 4).T
    return Events(x=x, y=y, t=t, p=p)


def test_each_event_is_counted_once_where_and_when_it_was() -> None:
    frames = to_frames(
        "r", _events((0, 1, 100, 0), (2, 0, 109, 1), (2, 0, 105, 1), (2, 0, 104, 1)), 2, height=2, width=3
    )
    expected = torch.zeros(2, 2, 2, 3, dtype=torch.uint8)
    expected[0, 0, 1, 0] = 1  # t = 100 to 104
    expected[0, 1, 0, 2] = 1
    expected[1, 1, 0, 2] = 2  # t = 105 to 109
    assert torch.equal(frames, expected)


@pytest.mark.parametrize("frames", [1, 3, 7])
def test_no_event_is_lost(frames: int) -> None:
    generator = np.random.default_rng(0)
    n = 500
    events = Events(
        x=generator.integers(0, 5, n),
        y=generator.integers(0, 4, n),
        t=generator.integers(0, 99, n),
        p=generator.integers(0, 2, n),
    )
    assert int(to_frames("r", events, frames, height=4, width=5).sum()) == n


def test_one_event_and_all_at_the_same_time_fall_into_the_first_frame() -> None:
    frames = to_frames("r", _events((0, 0, 7, 1), (1, 0, 7, 1)), 4, height=1, width=2)
    assert frames.sum((1, 2, 3)).tolist() == [2, 0, 0, 0]


def test_more_events_than_a_byte_counts_are_said_to_be_cut(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        frames = to_frames("r", _events(*[(0, 0, t, 0) for t in range(300)]), 1, height=1, width=1)
    assert frames.flatten().tolist() == [255, 0]
    assert "r: 1 pixels have more than 255 events in a frame and count 255" in caplog.text


def test_what_is_no_recording_of_the_sensor_is_refused() -> None:
    with pytest.raises(DataError, match="r: there are no events in it; leave the recording out"):
        to_frames("r", _events(), 2, height=2, width=2)
    with pytest.raises(
        DataError, match=r"r: 1 of 2 events are not of a sensor of 3×2 pixels, the first at x = 3, y = 1"
    ):
        to_frames("r", _events((0, 0, 0, 0), (3, 1, 0, 0)), 2, height=2, width=3)
    with pytest.raises(DataError, match="with polarity 2"):
        to_frames("r", _events((0, 0, 0, 2)), 2, height=2, width=3)
    with pytest.raises(ValueError, match="frames is 0, expected 1 or more"):
        to_frames("r", _events((0, 0, 0, 0)), 0, height=2, width=2)


class _Tonic:
    """As tonic's data sets are: structured events and a label by index."""

    sensor_size = (3, 2, 2)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        dtype = [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)]
        return np.array([(index, 0, 5, True), (2, 1, 9, False)], dtype=dtype), index + 4


def test_a_tonic_data_set_becomes_sequences() -> None:
    sequences, labels = from_tonic(_Tonic(), frames=3)
    assert sequences.shape == (3, 2, 2, 2, 3)
    assert labels.tolist() == [4, 5]
    assert sequences[:, 1].nonzero().tolist() == [[0, 1, 0, 1], [2, 0, 1, 2]]
    assert len(from_tonic(_Tonic(), frames=3, limit=1)[1]) == 1
    with pytest.raises(ValueError, match="there are no recordings in the data set"):
        from_tonic(_Tonic(), frames=3, limit=0)
