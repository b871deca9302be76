"""Options and paths that several commands take, each checked before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cli.common import Console
from cli.errors import usage
from cli.options import File, Integer, Registered, argument, option
from seenn.data.registry import data_help
from seenn.files import FileVersion, check_output, version_of

if TYPE_CHECKING:
    from converter.load import ModelSpec
    from seenn.data import DataSplits, Preprocessing
    from seenn.runtime import Engine
    from seenn.snn import SNN

SNN_FILE = "snn.safetensors"
FILE, FOLDER = File(dir_okay=False), File(file_okay=False)
COUNT, TIMESTEPS = Integer(1), Integer(1, 4096, "T")
ENGINE = Registered("engine", "seenn.runtime.engines", "seenn.runtime.engine:ENGINES", also=("auto",))
NEURON = Registered("neuron", "seenn.neurons", "seenn.neurons:NEURONS")


def timesteps_option(default: str) -> Any:
    """``--timesteps``, where the file records a T."""
    return option(f"Most steps an image gets.  [default: {default}]", short="-T", type=TIMESTEPS)


def batch_size_option() -> Any:
    """``--batch-size`` of commands that run networks."""
    return option("Images run at once.", type=COUNT, default=64)


def limit_option(what: str) -> Any:
    """``--limit``."""
    return option(f"The first so many {what} only.", type=COUNT)


def report_option(what: str) -> Any:
    """``--report``."""
    return option(f"Folder of {what}.", metavar="DIR", default="seenn-report")


@dataclass(frozen=True, kw_only=True)
class SnnFile:
    """The file of a spiking network."""

    snn: str = argument(metavar="[SNN]", default=SNN_FILE, type=FILE)

    def load(self, *, with_policy: bool = True) -> SNN:
        """What is in it, see ``seenn.load``."""
        import seenn

        _ = self.version
        return seenn.load(self.snn, with_policy=with_policy)

    def output(self, path: str | None) -> Path:
        """``path``, or this file, checked before any work."""
        return output_file(path or self.snn)

    def save(self, snn: SNN, target: Path) -> None:
        """Writes ``snn``; in place of this file only where it is still the one that was read."""
        same = target.resolve() == Path(self.snn).resolve()
        snn.save(target, expected=self.version if same else None)

    @cached_property
    def version(self) -> FileVersion | None:
        """Of the file when it was first asked for; None where there was none."""
        return version_of(self.snn) if Path(self.snn).is_file() else None


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data."""

    data: str | None = option(
        f"{data_help()}.  [default: as recorded, else digits]",
        metavar="SPEC",
    )
    data_dir: str | None = option("Folder with the data set's files.", type=FOLDER)
    download: bool = option("Fetch a named data set into --data-dir.")
    split_seed: int | None = option(
        "Deals held-out images to calibration and exit.  [default: as recorded, else 0]",
        type=Integer(0),
    )

    def splits(self, manifest: Mapping[str, Any], preprocessing: Preprocessing | None) -> DataSplits:
        """These data, by default those that ``manifest`` records, prepared as a network wants them."""
        from seenn.data.recorded import load_recorded_data

        return load_recorded_data(
            manifest,
            preprocessing,
            spec=self.data,
            data_dir=self.data_dir,
            download=self.download,
            split_seed=self.split_seed,
        )


@dataclass(frozen=True, kw_only=True)
class OwnPolicyOptions:
    """For files that hold an exit policy of the user's own."""

    policy: str | None = option(
        "The class of an exit policy of your own that SNN holds; imports and runs its code.", metavar="MODULE:CLASS"
    )

    def load(self) -> None:
        """Makes the class known to files; nothing where there is none."""
        if self.policy is not None:
            from converter.load import import_policy

            import_policy(self.policy)


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How to compute."""

    engine: str = option(
        "How to compute. int8: integers, the same spikes for any batch; auto: that where the network allows it, "
        "else float32.",
        type=ENGINE,
        default="auto",
    )
    float_sites: str = option(
        "Layers that int8 keeps in float: as many levels of weights as stay exact.", metavar="NAME,…", default=""
    )

    def make(self, console: Console, snn: SNN, timesteps: int) -> Engine:
        """The engine for ``snn``, said on stderr. Layers that it lacks are wrong usage.

        Raises:
            UnsupportedError: the engine cannot run this network.
        """
        with usage():
            engine = snn.make_engine(
                self.engine,
                timesteps=timesteps,
                float_sites=[site for site in self.float_sites.split(",") if site],
            )
        console.say(f"engine: {engine.name} ({engine.note})")
        return engine


def engine_json(engine: Engine) -> dict[str, Any]:
    """Which engine ran, for ``--json``."""
    return {"name": engine.name, "exact": engine.exact, "note": engine.note}


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model of another library is built."""

    model_kwargs: tuple[str, ...] = option(
        "Passed to the model's factory, for example channels=(32,64,128,256).", metavar="KEY=VALUE,…"
    )
    stem: Literal["auto", "imagenet", "cifar"] = option(
        "cifar: 3×3 stride-1 convolution and no max-pool; auto: by the checkpoint's shapes or the image size.",
        default="auto",
    )
    num_classes: int | None = option("Classes; inferred when not given.", type=COUNT)
    in_chans: int | None = option("Image channels; inferred when not given.", type=COUNT)
    pretrained: bool = option("Download the library's trained weights.")

    def spec(self, name: str, *, num_classes: int | None = None) -> ModelSpec:
        """The model called ``name``; ``num_classes`` where the options do not say. Wrong values are wrong usage."""
        from converter.load import ModelSpec, parse_model_kwargs

        with usage():
            return ModelSpec(
                name=name,
                kwargs=parse_model_kwargs(self.model_kwargs),
                num_classes=self.num_classes or num_classes,
                in_chans=self.in_chans,
                stem=self.stem,
                pretrained=self.pretrained,
            )


def output_file(path: str, *, keep: str | None = None) -> Path:
    """An output path that can be written, checked before any work; never the input ``keep``."""
    try:
        return check_output(path, keep=keep)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="-o") from error


def output_folder(path: str, name: str) -> Path:
    """An output folder that exists and is writable or can be made, checked before any work."""
    target = Path(path)
    nearest = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise click.BadParameter(f"{nearest} is not a folder", param_hint=name)
    if not os.access(nearest, os.W_OK):
        raise click.BadParameter(f"the folder {nearest} is not writable", param_hint=name)
    return target
