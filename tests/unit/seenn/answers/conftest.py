"""A network that is small and real, its pictures, and how they are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_snn import tiny_snn

from seenn.answers import Picture, Row, answer_pictures
from seenn.snn import SNN

Answer = Callable[[Iterable[Picture]], Iterator[Row]]


@pytest.fixture(scope="session")
def snn() -> SNN:
    return tiny_snn()


@pytest.fixture(scope="session")
def answer(snn: SNN) -> Answer:
    return partial(answer_pictures, snn, snn.session("float32", slots=8), workers=0)


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Thirty of them, of several sizes and kinds, of which two cannot be read."""
    random, paths = np.random.default_rng(0), []
    for number in range(30):
        size = (8, 8) if number % 2 else (11, 9, 3)
        path = tmp_path / "pictures" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(path)
        paths.append(str(path))
    for number in (0, 17):
        Path(paths[number]).write_bytes(b"damaged")
    return paths
