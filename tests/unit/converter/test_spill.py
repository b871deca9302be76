"""Tensors that wait: the same bits from memory and from disk, within the bound, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from converter.spill import Series, Spill
from seenn.errors import CalibrationError


def tensors() -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    floats = torch.randn(5, 3, 7, generator=random)
    return [
        floats,
        (100 * floats).to(torch.int8),
        floats.transpose(0, 2),
        floats[:0],
        torch.tensor([float("nan"), -0.0]),
    ]


@pytest.mark.parametrize("memory", [0, 500, 1 << 20])
def test_what_was_appended_is_read_bit_for_bit(memory: int) -> None:
    series = Series(Spill(memory))
    for tensor in tensors():
        series.append(tensor)
    assert len(series) == 5
    for _ in range(2):
        for tensor, found in zip(tensors(), series, strict=True):
            assert found.dtype == tensor.dtype
            torch.testing.assert_close(found, tensor, rtol=0, atol=0, equal_nan=True)
    series.close()


def test_the_memory_of_all_series_together_is_bounded_and_given_back() -> None:
    spill = Spill(1000)
    first, second = Series(spill), Series(spill)
    first.append(torch.zeros(200))
    second.append(torch.zeros(200))  # to disk
    assert spill.free == 200
    second.append(torch.zeros(50))
    assert spill.free == 0
    first.close()
    assert spill.free == 800
    second.close()
    assert spill.free == 1000


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    series = Series(Spill(0, str(tmp_path / "gone")))
    with pytest.raises(CalibrationError, match=r"temporary file in .*gone: No such file .*; free space there, name"):
        series.append(torch.zeros(3))
