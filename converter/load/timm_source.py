"""Models by timm name, from its registry, the Hugging Face hub or a local folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn

from converter.load.spec import HUB_PREFIXES, ModelSpec, build_error
from seenn.data import Preprocessing
from seenn.errors import ModelArgumentError, ModelError, did_you_mean, first_line


@cache
def timm_names() -> frozenset[str]:
    """Every architecture that timm can build, without pretrained tags."""
    import timm

    return frozenset(timm.list_models())


def is_timm_name(name: str) -> bool:
    """Whether timm knows the architecture, be it under an older name."""
    import timm

    return timm.is_model(name)


def build_timm(spec: ModelSpec) -> nn.Module:
    """``timm.create_model`` with the fields of ``spec``.

    Raises:
        ModelError: the pretrained tag is unknown, the model refuses its arguments, or its files cannot be
            had.
    """
    import timm

    _check_tag(spec.name)
    options: dict[str, Any] = {"num_classes": spec.num_classes, "in_chans": spec.in_chans, **spec.kwargs}
    with building(spec):
        return timm.create_model(spec.name, pretrained=spec.pretrained, **options)


@contextmanager
def building(spec: ModelSpec) -> Iterator[None]:
    """Whatever a library raises inside, as it builds the model of ``spec`` or fetches its files, is a ModelError."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"the files of {spec.name!r} cannot be fetched ({first_line(error)}). Without a network, download its "
            "weights elsewhere and pass them with --ckpt FILE, without --pretrained"
        ) from error
    except Exception as error:
        raise build_error(spec, error)(
            f"cannot build {spec.name!r} with {dict(spec.kwargs)}: {first_line(error)}; change --model-kwargs"
        ) from error


def _check_tag(name: str) -> None:
    if name.startswith(HUB_PREFIXES) or "." not in name:
        return
    import timm

    architecture, tag = name.split(".", 1)
    tags = [known.split(".", 1)[1] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag not in tags:
        raise ModelArgumentError(f"unknown pretrained tag {tag!r} of {architecture!r}.{did_you_mean(tag, tags)}")


def timm_preprocessing(module: nn.Module) -> Preprocessing | None:
    """What the model's pretrained weights expect; None where that is no centre crop."""
    from timm.data.config import resolve_model_data_config

    config = resolve_model_data_config(module)
    if config["crop_mode"] != "center":
        return None
    channels, height, width = config["input_size"]
    return Preprocessing(
        channels=channels,
        height=height,
        width=width,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop=config["crop_pct"],
    )
