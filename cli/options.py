"""Options and paths that several verbs take, each checked before any work."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.common import Session, usage

if TYPE_CHECKING:
    from converter.load import ModelSpec
    from seenn.checkpoint import Checkpoint
    from seenn.data import DataSplits
    from seenn.runtime import Engine

Command = TypeVar("Command", bound=Callable[..., Any])

SNN_FILE = "snn.safetensors"
TIMESTEPS = click.IntRange(1, 4096)
ENGINES = ("auto", "reference", "float32", "bfloat16", "int8")


class FiniteRange(click.FloatRange):
    """A range of numbers without NaN, which every comparison lets through, and without infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def data_options(function: Command) -> Command:
    """``--data``, ``--data-dir``, ``--download``, ``--split-seed``."""
    for option in reversed(
        (
            click.option(
                "--data",
                metavar="SPEC",
                help="digits, fashion-mnist, mnist, cifar10, cifar100, n-mnist, dvs-gesture, cifar10-dvs, "
                "imagefolder:PATH or npz:PATH.  [default: as recorded, else digits]",
            ),
            click.option(
                "--data-dir", metavar="DIR", type=click.Path(file_okay=False), help="Folder with the data set's files."
            ),
            click.option("--download", is_flag=True, help="Fetch a named data set into --data-dir."),
            click.option(
                "--split-seed",
                metavar="N",
                type=click.IntRange(min=0),
                help="Deals held-out images to calibration and exit.  [default: as recorded, else 0]",
            ),
        )
    ):
        function = option(function)
    return function


def recorded_splits(checkpoint: Checkpoint, options: Mapping[str, Any]) -> DataSplits:
    """The data that ``data_options`` name, by default the recorded one, prepared as the network wants it."""
    from seenn.data.recorded import load_recorded_data

    return load_recorded_data(
        checkpoint.manifest,
        checkpoint.preprocessing,
        spec=options["data"],
        data_dir=options["data_dir"],
        download=options["download"],
        split_seed=options["split_seed"],
    )


def own_policy_option(function: Command) -> Command:
    """``--policy package.module:Class``, for checkpoints that hold an exit policy of the user's own."""
    return click.option(
        "--policy",
        "own_policy",
        metavar="MODULE:CLASS",
        help="The class of an exit policy of your own that SNN holds; imports and runs its code.",
    )(function)


def import_own_policy(path: str | None) -> None:
    """Makes the class at ``path`` known to checkpoints; nothing where there is none."""
    if path is not None:
        from converter.load import import_policy

        import_policy(path)


def engine_options(function: Command) -> Command:
    """``--engine``, ``--float-sites``."""
    for option in reversed(
        (
            click.option(
                "--engine",
                type=click.Choice(ENGINES),
                default="reference",
                show_default=True,
                help="How to compute. int8: whole numbers, the same spikes for any batch; auto: that where the "
                "network allows it, else float32.",
            ),
            click.option(
                "--float-sites",
                metavar="NAME,…",
                default="",
                help="Layers that int8 keeps in float: as many levels of weights as stay exact.",
            ),
        )
    ):
        function = option(function)
    return function


def chosen_engine(
    session: Session, checkpoint: Checkpoint, name: str, timesteps: int, float_sites: str
) -> Engine | None:
    """The engine that ``--engine`` names, said on stderr; None for the reference engine.

    Raises:
        UnsupportedError: ``int8`` cannot run this network exactly.
    """
    from seenn.runtime import make_engine

    if name == "reference":
        return None
    sites = [site for site in float_sites.split(",") if site]
    with usage():
        engine = make_engine(
            name,
            checkpoint.network,
            timesteps=timesteps,
            preprocessing=checkpoint.preprocessing,
            float_sites=sites,
            calibration=checkpoint.rounding,
        )
    session.say(f"engine: {engine.name} ({engine.note})")
    return engine


def engine_json(engine: Engine | None) -> dict[str, Any]:
    """Which engine ran, for ``--json``."""
    if engine is None:
        return {"name": "reference", "exact": False, "note": "the network's own float arithmetic"}
    return {"name": engine.name, "exact": engine.exact, "note": engine.note}


def model_options(function: Command) -> Command:
    """``--model-kwargs``, ``--stem``, ``--num-classes``, ``--in-chans``, ``--pretrained``."""
    for option in reversed(
        (
            click.option(
                "--model-kwargs",
                multiple=True,
                metavar="KEY=VALUE,…",
                help="Passed to the model's factory, for example channels=(32,64,128,256).",
            ),
            click.option(
                "--stem",
                type=click.Choice(["auto", "imagenet", "cifar"]),
                default="auto",
                show_default=True,
                help="cifar: 3×3 stride-1 convolution and no max-pool; auto: by the checkpoint's shapes or "
                "the image size.",
            ),
            click.option(
                "--num-classes", metavar="N", type=click.IntRange(min=1), help="Classes; inferred when not given."
            ),
            click.option(
                "--in-chans", metavar="N", type=click.IntRange(min=1), help="Image channels; inferred when not given."
            ),
            click.option("--pretrained", is_flag=True, help="Download the library's trained weights."),
        )
    ):
        function = option(function)
    return function


def model_spec(name: str, options: Mapping[str, Any], **fixed: Any) -> ModelSpec:
    """The model that ``--model`` and the model options name; ``fixed`` fields win over the options."""
    from converter.load import ModelSpec, parse_model_kwargs

    fields = {key: options[key] for key in ("num_classes", "in_chans", "stem", "pretrained")}
    return ModelSpec(name=name, kwargs=parse_model_kwargs(options["model_kwargs"]), **{**fields, **fixed})


def output_file(path: str, *, keep: str | None = None) -> Path:
    """An output path whose folder exists and is writable, checked before any work; never the input ``keep``."""
    target = Path(path)
    if not target.parent.is_dir():
        raise click.BadParameter(f"the folder {target.parent} does not exist", param_hint="-o")
    if target.is_dir():
        raise click.BadParameter(f"{target} is a folder", param_hint="-o")
    if not os.access(target.parent, os.W_OK):
        raise click.BadParameter(f"the folder {target.parent} is not writable", param_hint="-o")
    if keep is not None and target.resolve() == Path(keep).resolve():
        raise click.BadParameter(f"{target} is the input, which would be lost", param_hint="-o")
    return target


def output_folder(path: str, option: str) -> Path:
    """An output folder that exists and is writable or can be made, checked before any work."""
    target = Path(path)
    nearest = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise click.BadParameter(f"{nearest} is not a folder", param_hint=option)
    if not os.access(nearest, os.W_OK):
        raise click.BadParameter(f"the folder {nearest} is not writable", param_hint=option)
    return target
