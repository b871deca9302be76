"""Models by timm name, from its registry, the Hugging Face hub or a local folder."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn

from converter.load.spec import ModelSpec
from seenn.data import Preprocessing
from seenn.errors import ModelError, did_you_mean

HUB_PREFIXES = ("hf-hub:", "hf_hub:", "local-dir:")


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
    kwargs: dict[str, Any] = dict(spec.kwargs)
    try:
        return timm.create_model(
            spec.name,
            pretrained=spec.pretrained,
            num_classes=spec.num_classes,
            in_chans=spec.in_chans,
            **kwargs,
        )
    except OSError as error:
        raise ModelError(unreachable(spec.name, error)) from error
    except Exception as error:  # whatever a model's constructor raises
        raise ModelError(f"timm cannot build {spec.name!r} with {kwargs}: {type(error).__name__}: {error}") from error


def unreachable(name: str, error: Exception) -> str:
    """The message for weights or configurations that could not be fetched."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"the files of {name!r} cannot be fetched ({reason}). Without a network, download its weights "
        f"elsewhere and pass them with --ckpt FILE, without --pretrained"
    )


def _check_tag(name: str) -> None:
    if name.startswith(HUB_PREFIXES) or "." not in name:
        return
    import timm

    architecture, tag = name.split(".", 1)
    tags = [known.split(".", 1)[1] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag not in tags:
        raise ModelError(f"unknown pretrained tag {tag!r} of {architecture!r}.{did_you_mean(tag, tags)}")


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
