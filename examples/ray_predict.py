"""The answers of ``seenn predict`` over Ray Data: files read, decoded and answered by as many actors as there are.

    pip install 'ray[data]'
    python examples/ray_predict.py snn.safetensors photos/ answers/

Each actor loads the network once and answers blocks of file contents; unreadable pictures are rows with an error.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

import seenn
from seenn.answers import COLUMNS, Picture, answer_pictures
from seenn.data.picture import SUFFIXES, decode_picture


class Predict:
    """What ``map_batches`` calls: columns ``path`` and ``bytes`` to the columns of an answers file."""

    def __init__(self, file: str, engine: str = "auto", slots: int = 64) -> None:
        snn = seenn.load(file)
        self._answer = partial(answer_pictures, snn, snn.session(engine, slots=slots), workers=0)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        named = zip(batch["path"], batch["bytes"], strict=True)
        pictures = (Picture(path, partial(decode_picture, path, BytesIO(content))) for path, content in named)
        rows = list(self._answer(pictures))
        return {name: np.array([row[name] for row in rows], dtype=object) for name in COLUMNS}


def main(file: str, pictures: str, answers: str) -> None:
    """Answers every file below ``pictures``, and writes Parquet files into ``answers``."""
    import ray

    endings = [suffix.removeprefix(".") for suffix in sorted(SUFFIXES)]
    files = ray.data.read_binary_files(pictures, include_paths=True, file_extensions=endings)
    predict = {"fn_constructor_args": (str(Path(file).resolve()),), "batch_size": 256, "concurrency": 1}
    files.map_batches(Predict, **predict).write_parquet(answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
