"""Options and paths that several commands take, each checked before any work."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cli.common import Console
from cli.errors import usage
from cli.options import (
    AT_ONCE,
    COUNT,
    FOLDER,
    FRACTION,
    PATH,
    PORTION,
    RATIO,
    TIMESTEPS,
    Commas,
    Integer,
    Registered,
    argument,
    option,
)
from cli.output import ReportFolder, output_file
from seenn.data.registry import data_help
from seenn.files import fingerprint

if TYPE_CHECKING:
    from converter.load import ModelSpec
    from seenn.data import DataSplits, Preparation, Stated
    from seenn.runtime import Engine
    from seenn.snn import SNN

log = logging.getLogger(__name__)

NOT_NEEDED = "is not needed any more: every value that is multiplied comes as spikes; leave it out"
SNN_FILE = "snn.safetensors"
ENGINE = Registered("engine", "seenn.runtime.engines", "seenn.runtime.engine:ENGINES", also=("auto",))
NEURON = Registered("neuron", "seenn.neurons", "seenn.neurons:NEURONS")
RULE = Registered("exit rule", "seenn.exits.rules", "seenn.exits.registry:EXIT_RULES", paths=True)


def named(path: Path | str) -> str:
    """A file as the next command has to name it, with a space before; nothing for the one that it takes by itself."""
    return "" if str(path) == SNN_FILE else f" {shlex.quote(str(path))}"


@dataclass(frozen=True, kw_only=True)
class SnnFile:
    """The file of a spiking network."""

    snn: str = argument(metavar="[SNN]", default=SNN_FILE, type=PATH)
    dialect: Literal["any", "norse", "sinabs", "snntorch"] | None = option(
        "Of a NIR file: the library that it was made for.  [default: as seenn recorded beside it]"
    )

    def load(self, *, with_policy: bool = True) -> SNN:
        """What is in it, see ``seenn.load``."""
        import seenn

        with usage():
            return seenn.load(self.snn, with_policy=with_policy, dialect=self.dialect)

    def output(self, path: str | None) -> Path:
        """``path``, or this file, checked before any work."""
        if path is None and Path(self.snn).suffix.lower() == ".onnx":
            raise click.BadParameter(
                f"{self.snn} is a model, not a spiking network: seenn convert --model {self.snn} first",
                param_hint="SNN",
            )
        return output_file(path or self.snn, updates=self.snn)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file; of a folder with NIR, of the file in it."""
        path = Path(self.snn)
        return fingerprint(path / "network.nir" if path.is_dir() else path)


@dataclass(frozen=True, kw_only=True)
class PreparationOptions:
    """How pictures become inputs."""

    input_size: tuple[int, ...] = option(
        "Of the model's input: one side in pixels, H,W or C,H,W.  [default: as recorded, else the library's, else the "
        "data's]",
        metavar="H,W",
        type=Commas(COUNT),
        default=(),
    )
    mean: tuple[float, ...] = option(
        "Of pixel/255, one or one a channel: inputs are (pixel/255 − mean)/std. 0 and 1/255 make inputs from 0 to 255. "
        "Of arrays of floats in their own unit.",
        metavar="M,…",
        type=Commas(RATIO),
        default=(),
    )
    std: tuple[float, ...] = option("Likewise.", metavar="S,…", type=Commas(RATIO), default=())
    crop_pct: float | None = option("Share of the resized image's side that is kept.", type=PORTION)
    interpolation: Literal["bicubic", "bilinear"] | None = option("For resizing.")

    def stated(self, in_chans: int | None = None) -> Stated:
        """What the options say about preprocessing."""
        from seenn.data import Stated

        return Stated(
            input_size=self.input_size or None,
            in_chans=in_chans,
            mean=self.mean or None,
            std=self.std or None,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
        )

    def refuse_other(self, recorded: Preparation | None) -> None:
        """Raises a usage error where the options say otherwise than the network records."""
        stated = self.stated()
        with usage():
            if recorded is not None and stated.over(recorded) != recorded:
                raise ValueError(
                    f"the network records its preprocessing, {recorded}: leave out --input-size, --mean, --std, "
                    "--crop-pct and --interpolation, or convert it again with them"
                )

    def for_pictures(self, snn: SNN) -> SNN:
        """The network, which prepares pictures as it records; where it records nothing, as the options say."""
        from seenn.data import Stated
        from seenn.data.imagenet import IMAGENET

        self.refuse_other(snn.preprocessing)
        stated, shape = self.stated(), snn.network.input_shape
        if snn.preprocessing is not None or not stated.normalisation or len(shape) != 3:
            return snn
        with usage():
            taken = stated.over(Stated(input_size=shape).over(IMAGENET))
        log.warning("the network records no preprocessing: taken is %s", taken)
        return replace(snn, preprocessing=taken)


@dataclass(frozen=True, kw_only=True)
class DataSetOptions:
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
    group_by: str | None = option(
        "Keeps samples in one split that share this: a column of a manifest, an array of an npz file, or the level of "
        "a folder below the class.",
        metavar="COLUMN|LEVEL",
    )


@dataclass(frozen=True, kw_only=True)
class DataOptions(PreparationOptions, DataSetOptions):
    """Which data, and how they become inputs."""

    def splits(
        self, manifest: Mapping[str, Any], preprocessing: Preparation | None, *, in_chans: int | None = None
    ) -> DataSplits:
        """These data, by default those that ``manifest`` records, prepared as the options say and else as given.

        Args:
            manifest: of a network, or the record beside an ANN's weights.
            preprocessing: of the network; None is the data's own.
            in_chans: as its option says.
        """
        from seenn.data.provenance import load_recorded_data

        splits = load_recorded_data(
            manifest,
            preprocessing,
            spec=self.data,
            data_dir=self.data_dir,
            download=self.download,
            split_seed=self.split_seed,
            group_by=self.group_by,
        )
        return self.prepared(splits, splits.preprocessing, in_chans)

    def prepared(
        self, splits: DataSplits, base: Preparation, in_chans: int | None = None, *, source: str = ""
    ) -> DataSplits:
        """``splits`` prepared like ``base``, which is ``source``'s, but for what the options say."""
        import torch

        from seenn.data import Numbers

        stated, guess = self.stated(in_chans), source or splits.guess
        with usage():
            prepared = stated.over(base)
            if isinstance(base, Numbers):
                stated.refuse_pixels(torch.stack([splits.train.raw(i) for i in range(min(16, len(splits.train)))]))
        return splits.with_preprocessing(prepared, guess="" if stated.normalisation or not splits.guess else guess)

    def of(self, snn: SNN) -> tuple[SNN, DataSplits]:
        """The data for a network, prepared as it records. Where it records nothing, it does from now on."""
        from seenn.data import Stated

        recorded = snn.preprocessing
        self.refuse_other(recorded)
        splits = self.splits(snn.manifest, recorded)
        if recorded is None:
            own = Stated(input_size=snn.network.input_shape).over(splits.preprocessing)
            splits = self.prepared(splits, own)
            log.warning("the network records no preprocessing: taken is %s", splits.preprocessing)
        return replace(snn, preprocessing=splits.preprocessing), splits


@dataclass(frozen=True, kw_only=True)
class OwnPolicyOptions:
    """What came before ``--plugin``, for files that hold an exit policy of the user's own."""

    policy: str | None = option("Deprecated: use --plugin MODULE.", metavar="MODULE:CLASS", type=RULE, hidden=True)


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where a changed SNN goes."""

    output: str | None = option("Where to write.  [default: the SNN itself]", short="-o", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Where the report goes."""

    report: str = option(
        "Folder of the report: report.html, figures, tables and plots.", type=ReportFolder(), default="seenn-report"
    )
    open: bool = option("Show report.html in the browser.")

    def show(self, console: Console, page: Path) -> None:
        """Says where ``report.html`` is, and opens it where that was asked for."""
        console.say(f"report: {page}")
        if self.open and console.first:
            click.launch(str(page))


@dataclass(frozen=True, kw_only=True)
class LimitedReport(ReportOptions):
    """On how much is reported, and where."""

    limit: int | None = option("The first so many images of a split only.", type=COUNT)


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """How to compute."""

    engine: str = option(
        "How to compute. int8: integers, the same spikes for any batch; auto: that where the network allows it, "
        "else float32.",
        type=ENGINE,
        default="auto",
    )
    float_sites: tuple[str, ...] = option(
        "Layers that int8 keeps in float: as many levels of weights as stay exact.",
        metavar="NAME,…",
        type=Commas(click.STRING),
        default=(),
    )


@dataclass(frozen=True, kw_only=True)
class StepOptions(EngineChoice):
    """How to compute, and for how long."""

    timesteps: int | None = option(
        "Most steps an image gets.  [default: as the file records]", short="-T", type=TIMESTEPS
    )

    def make(self, console: Console, snn: SNN) -> Engine:
        """The engine for ``snn``, said on stderr. Layers that it lacks are wrong usage.

        Raises:
            UnsupportedError: the engine cannot run this network.
        """
        with usage():
            engine = snn.make_engine(self.engine, timesteps=self.timesteps, float_sites=self.float_sites)
        console.say(f"engine: {engine.name} ({engine.note})")
        return engine


@dataclass(frozen=True, kw_only=True)
class RunOptions(StepOptions):
    """How a network is run over a split."""

    batch_size: int = option("Images run at once.", type=AT_ONCE, default=64)


@dataclass(frozen=True, kw_only=True)
class AlarmOptions:
    """When to warn."""

    drift_alarm: float = option(
        "Warn where images are unlike those that exits were calibrated on, with this probability of a false alarm; "
        "0: never.",
        metavar="RATE",
        type=FRACTION,
        default=0.01,
    )


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
    class_names: str | None = option(
        "What the model's outputs are called, in their order: names, or a file with one a line.", metavar="FILE|A,B,…"
    )
    classes: str | None = option(
        "Which outputs are the classes of the data, in their order: numbers, ranges, or names of --class-names.",
        metavar="0-4,7,…",
    )
    output_name: str | None = option(
        "Of a model with several outputs: the one with the scores, by name or number.", metavar="NAME|INDEX"
    )
    layout: Literal["auto", "nchw", "nhwc"] = option(
        "Of an ONNX file: nhwc has the channels last, as in Keras; auto: found out.", default="auto"
    )
    pretrained: bool = option("Download the library's trained weights.")
    use_ema: bool = option("Of a checkpoint that holds both, take the averaged (EMA) weights.")

    def spec(self, name: str, *, also: Iterable[str] = ()) -> ModelSpec:
        """The model called ``name``, which is known, be it one of ``also``. Wrong values are wrong usage.

        Raises:
            ModelError, CheckpointError: see ``converter.load.check_name``.
        """
        from converter.load import ModelSpec, check_name, parse_classes, parse_model_kwargs, read_class_names

        with usage():
            names = read_class_names(self.class_names) if self.class_names else ()
            classes = parse_classes(self.classes, names) if self.classes else None
            spec = ModelSpec(
                name=name,
                kwargs=parse_model_kwargs(self.model_kwargs),
                num_classes=self.num_classes,
                in_chans=self.in_chans,
                stem=self.stem,
                pretrained=self.pretrained,
                ema=self.use_ema,
                layout=self.layout,
                output=self.output_name,
                classes=classes,
                class_names=names,
            )
        check_name(name, also=also)
        return spec
