"""An ANN in, a spiking network out, with the evidence for it: calibrated, checked, and where it comes from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from converter.calibrate import Calibration
from converter.chance import refuse_chance
from converter.checks import CheckReport, check, images_at_once
from converter.config import ConvertConfig
from converter.conversion import convert_module
from converter.images import MIN_IMAGES, CalibrationImages, refuse_few
from converter.known import fitted
from converter.load import LoadedModel, ModelSpec, load_model
from converter.load.classes import in_order_of
from converter.load.onnx_source import is_onnx
from converter.load.weights import read_weights
from converter.search import Attempt, Goal, candidates, cheapest
from seenn.analysis.synops import spiking_report
from seenn.batch import Batch
from seenn.capture.plain import Substitutes
from seenn.core.graph import OpGraph
from seenn.core.network import SpikingNetwork
from seenn.data import DataSplits, Numbers, Preparation, Preprocessing, Split, as_split, load_data, told
from seenn.data.arrays import as_numbers, is_array, type_of
from seenn.data.given import Given
from seenn.data.labels import Task, strata, task_of
from seenn.data.objects import images_of
from seenn.data.parts import has_parts
from seenn.data.preprocessing import refuse_other_unit
from seenn.data.provenance import load_recorded_data
from seenn.data.remembered import remember
from seenn.data.rule import hold_out
from seenn.data.source import Images
from seenn.data.split import pixel_digests, refuse_more_classes
from seenn.device import naming_memory, own_precision, resolve_device
from seenn.errors import CalibrationError, DataError, DataTypeError, ModelTypeError, SeennError, kind_of
from seenn.runtime import Session
from seenn.snn import PREPARE_SAMPLES, SNN
from seenn.version import versions

log = logging.getLogger(__name__)

DEFAULT_CALIBRATION_IMAGES = 512
DEFAULT_CHECK_IMAGES = 1000
_BATCH = 64  # images checked at once
#: What scores say where labels that are no classes go with them.
TASK_OF_LABELS: dict[Task, str] = {"multi-label": "labels", "regression": "values"}


@naming_memory("converting")
@own_precision()
def convert(
    model: str | Path | ModelSpec | LoadedModel | nn.Module,
    data: Any = None,
    config: ConvertConfig | None = None,
    *,
    weights: str | Path | None = None,
    output: str | int | None = None,
    task: str | None = None,
    activations: Substitutes | None = None,
    preprocessing: Preparation | None = None,
    force: bool = False,
    min_agreement: float | None = None,
    max_accuracy_drop: float | None = None,
    calibration_images: int | None = None,
    check_images: int = DEFAULT_CHECK_IMAGES,
    session: Callable[[SpikingNetwork], Session] | None = None,
    device: torch.device | str = "cpu",
    memory: int | None = None,
    seed: int = 0,
    progress: Callable[[str, int], None] = lambda site, total: None,
    **options: Any,
) -> SNN:
    """Converts a trained classifier into a spiking network, and checks it against the original.

    ::

        snn = convert("resnet18", weights="ann.pth", data=seenn.load_data("fashion-mnist"))
        snn = convert(module, images, timesteps=4, neuron="burst")

    Args:
        model: a module, which is not changed; or a name as on the command line: of timm, ``torchvision:NAME``,
            ``package.module:factory``, or a ``.onnx`` file.
        data: of ``DataSplits``, calibration takes the calibration split and the check the exit split; the test split
            is not touched. What is named, as ``digits`` or a path, is loaded so, and so is a mapping
            ``{"train": …, "test": …}``. Of images ``[N, C, H, W]`` (or
            signals, vectors), a batch, a split, a ``Dataset`` or ``DataLoader`` of torch, a pair of samples and labels
            or a list of pairs, a fifth is held out for the check, as long as 16 are left, and of the others some
            calibrate: each with its share of every class, drawn in the same way every time. None: the data that
            ``weights`` record.
        config: how to convert; or its fields as ``options``.
        weights: a file with the weights of a model by name.
        output, task, activations: which of several tensors that the model returns; what its scores say; what stands in
            place of modules that have no equivalent. See ``convert_module``.
        preprocessing: how raw images become the input of a module of your own; of a data set it is known.
        force: go on with a model that is not shown to be better than chance.
        min_agreement, max_accuracy_drop: shares. Of ``levels``, ``encoder_levels`` and ``timesteps`` those that
            ``options`` leave out are chosen: the fewest spikes with which ANN and SNN agree on at least so many of the
            images of the check, or the accuracy on them falls by no more.
        calibration_images: how many; None takes 512, or all where there are fewer.
        check_images: how many compare ANN and SNN, at most.
        session: makes the session that the check runs on, for T steps without exits; None: the reference engine.
        device: where to calibrate, and where the network is left.
        memory: bytes for what waits between layers, beyond which calibration writes temporary files; None takes 1 GiB,
            or half of what is free. The result does not depend on it.
        seed: recorded; conversion itself draws nothing at random.
        progress: called with each calibrated site and their total number.
        options: fields of ``ConvertConfig``; what is left out goes with the rest and with the model.

    Raises:
        ModelError, CheckpointError: the model or its weights cannot be loaded, or are not finite.
        UnsupportedError: the model cannot be expressed (lists every offender), or has no activation at all.
        CalibrationError: the images do not determine the thresholds, or are not those of the model.
        ConversionError: the graph is not the model; or what is asked of it cannot be reached.
        ModelError: also for a model that is not shown to be better than chance on the images of the check.
        SeennError: memory ran out.
        ValueError: options that are out of range or do not go together.
    """
    if config is not None and (options or min_agreement is not None or max_accuracy_drop is not None):
        given = sorted(options) or ["min_agreement and max_accuracy_drop with other choices"]
        raise ValueError(f"give config, or {', '.join(given)} as options, not both")
    device = resolve_device(str(device))
    loaded = isinstance(data, str | Path) or has_parts(data)
    if loaded:
        data = load_data(data)
    output = None if output is None else str(output)
    if data is not None and _is_onnx(model):  # which may leave the size of images to the data
        data = _read(data, preprocessing)
    source, recorded = _load(model, weights, data, output)
    output = source.output if output is None or isinstance(model, str | Path | ModelSpec) else output
    config = config or ConvertConfig.suited(qcfs_levels=source.spec.levels, **options)
    if data is None:
        if "data" not in recorded:
            raise CalibrationError("nothing records the data of this model: give images, or a data set, with data=")
        data = load_recorded_data(recorded, source.preprocessing)
    known = preprocessing or source.preprocessing
    if isinstance(preprocessing, Preprocessing):
        refuse_other_unit(preprocessing.mean, preprocessing.std)
    guess = ""
    if isinstance(data, DataSplits) and known is None and (loaded or not isinstance(model, nn.Module)):
        data = data.with_preprocessing(fitted(source, data.preprocessing), guess=data.guess)
        guess = data.guess and f"{data.preprocessing}, {data.guess}"
    goal = Goal(min_agreement=min_agreement, max_accuracy_drop=max_accuracy_drop)
    choices = [config]
    if goal:
        choices = candidates(config, fixed={name for name, value in options.items() if value is not None})
    shares = _share(data, known, calibration_images, check_images)
    source = in_order_of(source, shares.class_names)
    shares.refuse_other_models(source)
    if goal and not shares.check_samples:
        raise CalibrationError(f"{shares.name} leaves no image to judge the conversion on: give more images")
    accepted: list[str] = []  # once for all attempts

    def accept(graph: OpGraph, task: str) -> None:
        if shares.check_samples and not accepted:
            (outputs,) = graph.shapes(tuple(shares.calibration.shape))[graph.output]
            shares.refuse_other_labels(outputs, task)
            refuse_chance(graph, shares.check(_BATCH), task=task, guess=guess, force=force)
        accepted.append(task)

    def attempt(config: ConvertConfig) -> Attempt:
        conversion = convert_module(
            source.module,
            shares.calibration,
            config,
            output=output,
            task=task or TASK_OF_LABELS.get(shares.labels),
            activations=activations,
            device=device,
            accept=accept,
            memory=memory,
            progress=progress,
        )
        network, report = conversion.network, CheckReport()
        if shares.check_samples:
            runner = None if session is None else session(network)
            batches = shares.check(min(_BATCH, images_at_once(network)))
            report = check(network, batches, config.timesteps, task=conversion.task, session=runner)
        return Attempt(config, conversion, report)

    chosen, tried = cheapest(goal, choices, attempt)
    config, conversion, report = chosen.config, chosen.conversion, chosen.report
    network = conversion.network
    manifest = {
        "source": source.record,
        **shares.record,
        **({"preprocessing_guess": guess} if guess else {}),
        "class_names": list(source.spec.score_names or shares.class_names),
        "conversion": config.to_json(),
        "task": conversion.task,
        "outputs": {"head": conversion.head, "name": output},
        "activations": [f"{kind.__module__}.{kind.__qualname__}" for kind in activations or ()],
        "timesteps": config.timesteps,
        "calibration_images": len(shares.calibration),
        "seed": seed,
        "versions": versions(),
        "check": {
            "split": shares.check_split,
            **report.to_json(),
            "float64_difference": conversion.float64_difference,
        },
        **({"goal": {**asdict(goal), "tried": [one.to_json() for one in tried]}} if goal else {}),
        "per_site": per_site(conversion.calibration, report),
        "spiking": {**spiking_report(network), **report.spikes},
    }
    snn = SNN(network=network, preprocessing=shares.preprocessing, manifest=manifest)
    return snn.prepare(Batch(shares.calibration.first(PREPARE_SAMPLES)).to(device))


def _load(
    model: str | Path | ModelSpec | LoadedModel | nn.Module,
    weights: str | Path | None,
    data: Any,
    output: str | None,
) -> tuple[LoadedModel, Mapping[str, Any]]:
    """The ANN, and what its weights record beside themselves."""
    if isinstance(model, nn.Module):
        if weights is not None:
            raise ValueError("weights go with a model by name: load them into the module, or name the model")
        name = f"module:{type(model).__qualname__}"
        return LoadedModel(model, ModelSpec(name=name), None, {"name": name}), {}
    if not isinstance(model, LoadedModel):
        if not isinstance(model, str | Path | ModelSpec):
            raise ModelTypeError(f"model is {kind_of(model)}; expected a torch.nn.Module or the name of a model")
        spec = model if isinstance(model, ModelSpec) else ModelSpec(name=str(model))
        spec = spec if output is None else replace(spec, output=output)
        model = load_model(spec, weights, image_size=_size_of(data) if _is_onnx(spec) else None)
    if weights is None:
        return model, {}
    return replace(model, record={**model.record, "file": Path(weights).name}), read_weights(weights).record


def _sized(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _is_onnx(model: object) -> bool:
    """Whether it names an ONNX file."""
    name = model.name if isinstance(model, ModelSpec) else model
    return isinstance(name, str | Path) and is_onnx(str(name))


@dataclass(frozen=True)
class _Unlabelled:
    """Samples as they were given, and prepared."""

    given: Images | None  # None: not as a test could have them
    batch: Batch

    @classmethod
    def of(cls, samples: Any, preprocessing: Preparation | None) -> _Unlabelled:
        """``samples``, which are prepared as stated; without, floats that are."""
        batch = Batch(_prepared(samples) if preprocessing is None else preprocessing.prepare(samples))
        try:
            given = images_of(Given(samples), batch.inputs.shape[1])
        except SeennError:
            given = None
        return cls(given if len(samples) == len(batch) else None, batch)


def _read(data: Any, preprocessing: Preparation | None) -> DataSplits | Split | Batch | _Unlabelled:
    """Data in any form as one of these; samples without labels are prepared."""
    if isinstance(data, DataSplits | Split | Batch | _Unlabelled):
        return data
    given = told(data)
    if given.labels is not None:
        return as_split(given, "given", preprocessing)
    return _Unlabelled.of(given.samples if given.is_stack else list(given.samples), preprocessing)


def _size_of(data: DataSplits | Split | Batch | _Unlabelled | None) -> tuple[int, ...]:
    """Of one sample, where there are data."""
    if data is None:
        return ()
    data = data.batch if isinstance(data, _Unlabelled) else data
    return tuple(data.inputs.shape[1:]) if isinstance(data, Batch) else data.preprocessing.shape


@dataclass(frozen=True, kw_only=True)
class _Shares:
    """What calibrates and what checks; nothing is in both."""

    name: str  # of the data
    calibration: CalibrationImages
    check: Callable[[int], Iterable[Batch]]  # in batches of this size
    check_samples: int
    labels: Task = "classes"
    check_split: str = "held out"
    preprocessing: Preparation | None
    class_names: tuple[str, ...] = ()
    classes: int = 0  # that labels tell apart; 0 where there are none
    splits: DataSplits | None = None
    digests: str = ""  # of the images that calibrate, where no data set has a name for them

    @property
    def record(self) -> dict[str, Any]:
        """What a manifest says of the data."""
        if self.splits is not None:
            return {"data": self.splits.manifest()}
        return {"digests": {"calibration": self.digests}}

    def refuse_other_models(self, source: LoadedModel) -> None:
        """Raises CalibrationError for a model of other images or other classes; None in its spec is not known."""
        spec, shape = source.spec, tuple(self.calibration.shape)
        channels, known = shape[0], len(self.class_names) if self.labels == "classes" else 0
        if len(shape) > 1 and spec.in_chans not in (None, channels):  # a vector has features instead
            stated = f"state --in-chans {spec.in_chans} with its --mean and --std"
            if isinstance(self.preprocessing, Numbers):
                stated = "store samples with their channels first, [N, C, …]"
            raise CalibrationError(
                f"the model takes inputs of {spec.in_chans} channels, {self.name} is prepared with {channels}: "
                f"{stated}, or name data of those channels with --data"
            )
        if spec.scores is not None and 1 < spec.scores < known:
            raise CalibrationError(
                f"the model knows {spec.scores} classes, {self.name} has {known}: name data of its own classes "
                "with --data, or train it on these"
            )
        if source.input_shape not in (None, shape):
            stated = f"state --input-size {','.join(map(str, source.input_shape))}, or prepare it so"
            if isinstance(self.preprocessing, Numbers):
                stated = "numbers are not resized: prepare them so"
            raise CalibrationError(
                f"the model takes {_sized(source.input_shape)}, {self.name} is prepared as {_sized(shape)}: {stated}"
            )
        if spec.scores is not None and 1 < known < spec.scores:
            raise CalibrationError(
                f"the model gives {spec.scores} scores, {self.name} has {known} classes: say which outputs these are, "
                f"in the order of the data's, with --classes (0-{known - 1} for the first)"
            )

    def refuse_other_labels(self, outputs: int, task: str) -> None:
        """Raises CalibrationError where the data has other than one value, or one label, for each output.

        DataError: of classes there are more than outputs tell apart; one tells two.
        """
        if self.splits is None and 1 < len(self.class_names) < outputs:
            raise CalibrationError(
                f"the model gives {outputs} scores, {self.name} has labels of {len(self.class_names)} names: give "
                "numbers in the order of the outputs"
            )
        if self.labels == "classes" and task in ("classes", "binary"):
            refuse_more_classes(self.name, self.classes, max(2, outputs), "the model")
        labels = None if self.labels == "classes" else next(iter(self.check(1))).labels
        if labels is not None and labels[0].numel() != outputs:
            raise CalibrationError(
                f"the model gives {outputs} numbers, {self.name} has {labels[0].numel()} a sample, of the kind "
                f"{self.labels}: store classes as integers (labels.astype(int)), anything else as one for each output"
            )


def _share(data: Any, preprocessing: Preparation | None, wanted: int | None, most_checked: int) -> _Shares:
    """Divides the data as ``convert`` says.

    Raises:
        CalibrationError: fewer images than wanted, or frames over time.
        TypeError: something that is no data.
    """
    if isinstance(data, DataSplits | Split) and preprocessing is not None:
        data = data.with_preprocessing(preprocessing)
    if isinstance(data, DataSplits):
        if wanted is None:
            refuse_few(data)
        name = f"the calibration split of {data.spec}"
        return _Shares(
            name=data.spec,
            calibration=_calibrating(data.calibration, torch.arange(len(data.calibration)), wanted, name),
            check=partial(data.exit.batches, limit=most_checked),
            check_samples=min(most_checked, len(data.exit)),
            labels=data.train.task,
            check_split="exit",
            preprocessing=data.preprocessing,
            class_names=data.class_names,
            classes=data.num_classes,
            splits=data,
        )
    data, given = _read(data, preprocessing), None
    if isinstance(data, _Unlabelled):
        data, given = data.batch, data.given
    name, total = f"the {data.name} split" if isinstance(data, Split) else "the data given", len(data)
    spare = min(total // 5, total - MIN_IMAGES) if wanted is None else total - wanted
    balanced = torch.zeros(total, dtype=torch.int64) if data.labels is None else strata(data.labels.cpu())
    kept, rest = hold_out(balanced, max(0, min(most_checked, spare)))
    if not len(rest):
        log.warning("all %d images calibrate, and none is left to check the conversion on: give more", total)
    calibration = _calibrating(data, kept, wanted, name)
    chosen = kept[: len(calibration)]
    return _Shares(
        name=name,
        calibration=calibration,
        digests=remember(_digests(data, given, chosen)),
        check=partial(data.batches, order=rest) if isinstance(data, Split) else data[rest].split,
        check_samples=len(rest),
        labels="classes" if data.labels is None else task_of(data.labels),
        classes=0 if data.labels is None or task_of(data.labels) != "classes" else int(data.labels.max()) + 1,
        preprocessing=data.preprocessing if isinstance(data, Split) else preprocessing,
        class_names=data.names if isinstance(data, Split) else (),
    )


def _digests(data: Split | Batch, given: Images | None, chosen: Tensor) -> Tensor:
    """Of these samples as they were given: that is how those of a test are compared."""
    if isinstance(data, Split):
        return data.pixel_digests(chosen)
    blocks = [data.inputs[chosen]] if given is None else given.blocks(chosen)
    return torch.cat([pixel_digests(block) for block in blocks])


def _prepared(samples: Any) -> Tensor:
    """Floats, of which nothing says that they are to be prepared: an array, or a list of samples or of batches."""
    parts = []
    for part in samples if isinstance(samples, list) else [samples]:
        numbers = as_numbers(part) if is_array(part) else None
        if numbers is not None and numbers.dtype in (torch.int16, torch.int32, torch.int64):
            raise DataTypeError(
                f"the data are whole numbers, {type_of(part)}, and calibration takes floats: give values as floats, "
                "pixels with preprocessing=, and of tokens what the model's embedding makes of them, with the part "
                "behind it as the model"
            )
        if numbers is None or not numbers.is_floating_point():
            raise DataTypeError(
                "calibration takes floats [N, ...], a Batch, Split, DataSplits, Dataset, DataLoader or a pair of "
                f"samples and labels, got {type_of(part)}; give preprocessing= as well for pictures and raw pixels"
            )
        parts.append(numbers.to("cpu", torch.float32))
    if not isinstance(samples, list):
        return parts[0]
    if len({part.shape for part in parts}) == 1 and parts[0].dim() < 4:
        return torch.stack(parts)
    if len({part.shape[1:] for part in parts}) > 1 or parts[0].dim() < 2:
        raise DataError(f"samples differ in shape, as {_sized(parts[0].shape)} and others: give each of one shape")
    return torch.cat(parts)


def _calibrating(data: Split | Batch, order: Tensor, wanted: int | None, name: str) -> CalibrationImages:
    """The first ``wanted`` images of ``order``."""
    available = len(order)
    count = min(DEFAULT_CALIBRATION_IMAGES, available) if wanted is None else wanted
    if count > available:
        raise CalibrationError(
            f"{count} calibration images were asked for and {name} has {available}: ask for at most {available}"
        )
    if data.is_sequence:
        raise CalibrationError(
            f"{name} comes as frames over time, and an ANN is converted on constant images: train a spiking network "
            "on it with `seenn train-direct`"
        )
    return CalibrationImages(data, order[:count])


def per_site(calibration: Calibration, report: CheckReport) -> list[dict[str, Any]]:
    """Each site's thresholds, and its error on images that calibration did not see (None without a check)."""
    return [
        {
            **asdict(site),
            "calibration_error": site.relative_error,
            "relative_error": report.relative_error.get(site.site),
        }
        for site in calibration.reports
    ]
