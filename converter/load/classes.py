"""Which outputs of a model are classes, in which order, and what they are called."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from converter.load.spec import LoadedModel
from seenn.errors import CheckpointError, ModelError, did_you_mean

logger = logging.getLogger(__name__)

_MOST = 1_000_000
#: timm's lists of the classes of ImageNet.
LISTS = ("imagenet-1k", "imagenet-12k", "imagenet-21k", "imagenet-22k")


class ChosenClasses(nn.Module):
    """A classifier's scores for some of its classes, in an order of their own: ``[B, K] -> [B, len(rows)]``."""

    rows: Tensor

    def __init__(self, model: nn.Module, rows: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.pretrained_cfg = getattr(model, "pretrained_cfg", None)
        self.register_buffer("rows", torch.tensor(rows), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.index_select(self.model(images), 1, self.rows)


def with_classes(loaded: LoadedModel) -> LoadedModel:
    """``loaded`` with the outputs that its spec chooses.

    Raises:
        ModelError: the model has no such outputs, or another number of them than it has names.
    """
    spec, outputs = loaded.spec, loaded.spec.num_classes or 0
    if spec.class_names and len(spec.class_names) != outputs:
        raise ModelError(
            f"{spec.name} has {outputs} outputs, --class-names {len(spec.class_names)} names: name every output of the "
            "model, in its order"
        )
    if spec.classes is None:
        return loaded
    if missing := [row for row in spec.classes if row >= outputs]:
        raise ModelError(f"{spec.name} has outputs 0 to {outputs - 1}, --classes names {missing[0]}: choose among them")
    return replace(loaded, module=ChosenClasses(loaded.module, spec.classes).eval())


def in_order_of(loaded: LoadedModel, names: Sequence[str]) -> LoadedModel:
    """``loaded`` with the outputs called ``names``, in their order, where its outputs have all of these names."""
    own, spec = loaded.spec.score_names, loaded.spec
    if not names or own == tuple(names) or not {*names} <= {*own}:
        return loaded
    rows = [own.index(name) for name in names]
    logger.warning("the model's outputs are taken by name, in the order of the data's classes: %s, …", names[0])
    spec = replace(spec, classes=tuple(rows if spec.classes is None else (spec.classes[row] for row in rows)))
    module = ChosenClasses(loaded.module, rows).eval()
    return replace(loaded, module=module, spec=spec, record={**loaded.record, "classes": list(spec.classes or ())})


def read_class_names(text: str) -> tuple[str, ...]:
    """Names of outputs: ``cat,dog``; a file with one a line, a JSON list, or JSON ``{"0": "cat"}``; or of ``LISTS``.

    Raises:
        CheckpointError: the file is no text, or its JSON is something else.
        ValueError: fewer than two names, or one twice.
    """
    path = Path(text)
    if text in LISTS and not path.exists():
        return listed_names(text)
    names = _names_in(path) if path.suffix in (".txt", ".json", ".names", ".csv") or path.is_file() else text.split(",")
    names = [name.strip() for name in names if name.strip()]
    if len(names) < 2 or len({*names}) < len(names):
        raise ValueError(f"--class-names: expected two different names or more, got {len(names)} in {text!r:.80}")
    return tuple(names)


def listed_names(name: str) -> tuple[str, ...]:
    """The classes of one of ``LISTS``: the first name of each, or where others have that too its whole description."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo(name)
    rows = range(info.num_classes())
    short = [info.index_to_description(row).split(",")[0] for row in rows]
    often = Counter(short)
    return tuple(info.index_to_description(row, detailed=True) if often[short[row]] > 1 else short[row] for row in rows)


def _names_in(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else text.splitlines()
        if isinstance(content, dict):  # by number, as in the config of a model on a hub
            content = [content[str(i)] for i in range(len(content))]
        if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
            raise ValueError("expected a list of names, or an object from number to name")
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: no names of classes ({error}); write one a line") from error
    return content


def parse_classes(text: str, names: Sequence[str] = ()) -> tuple[int, ...]:
    """Numbers of outputs from ``0-4,7,cat``: ranges include both ends; names are among ``names``.

    Raises:
        ValueError: something else, or an output twice.
    """
    rows: list[int] = []
    for part in map(str.strip, text.split(",")):
        if part in names:
            rows.append(names.index(part))
        elif found := re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", part):
            rows += range(int(found[1]), int(found[2] or found[1]) + 1)
        else:
            near = did_you_mean(part, names) if names else " Names need --class-names."
            raise ValueError(f"--classes: {part!r} is no number, no range and no name of an output.{near}")
    if not 0 < len(rows) < _MOST or len({*rows}) < len(rows):
        raise ValueError(f"--classes: expected each output once, got {text!r:.80}")
    return tuple(rows)
