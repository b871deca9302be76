"""Small data in the real formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Arrays = dict[str, NDArray[np.generic]]


@pytest.fixture
def write_npz(tmp_path: Path) -> Callable[..., str]:
    """Writes arrays and returns the spec; by default 60 RGB images of 5x7 pixels in 3 classes."""

    def write(**arrays: NDArray[np.generic]) -> str:
        random = np.random.default_rng(0)
        default: Arrays = {
            "images": random.integers(0, 256, (60, 3, 5, 7), dtype=np.uint8),
            "labels": np.arange(60) % 3,
        }
        np.savez_compressed(tmp_path / "data.npz", **(arrays or default))
        return f"npz:{tmp_path / 'data.npz'}"

    return write


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[[dict[str, int]], Path]:
    """Writes ``{"train/cat": 5}``: five PNG files in that folder, no two alike."""

    def write(counts: dict[str, int]) -> Path:
        random = np.random.default_rng(0)
        for name, count in counts.items():
            (tmp_path / "set" / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / name / f"{index:03}.png")
        return tmp_path / "set"

    return write
