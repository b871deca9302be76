"""What a person holds and a file stores: a spiking network with all that is needed to use it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops.arguments import integer
from seenn.data import Given, Preparation, Preprocessing, Split, as_split, as_splits, told
from seenn.data.arrays import as_numbers, is_array, joined, type_of, with_batch_axis
from seenn.data.encoding import PoissonEncoding
from seenn.data.provenance import Use, check_split
from seenn.errors import DataError, InputError, UnsupportedError
from seenn.exits import ExitPolicy, FixedExit, policy_to_json
from seenn.exits.guarantees.drift import MarginRecord
from seenn.exits.record import check_record
from seenn.runtime import (
    ALARM_RATE,
    ENGINES,
    DriftAlarm,
    Engine,
    EngineOptions,
    Prediction,
    Predictions,
    Request,
    Section,
    Session,
    make_engine,
)

if TYPE_CHECKING:
    from seenn.analysis.report.comparison import Comparison
    from seenn.analysis.report.evaluation import Evaluation
    from seenn.export.exporter import Exported
    from seenn.files import Origin
    from seenn.training import FinetuneConfig
    from seenn.training.heads import HeadsConfig
    from seenn.training.loop import FitOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class SNN:
    """A spiking network, how its inputs are prepared, when it stops, and the evidence for it. Immutable.

    ::

        snn = seenn.load("snn.safetensors")
        answers = snn.predict(images)
        answers.labels, answers.exit_timestep, answers.confidence

    Methods that run the network take ``engine``, a name from ``seenn.runtime.ENGINES``, ``auto`` or one from
    ``make_engine``: the same named engine gives the same answers. ``policy`` says who stops when, ``timesteps`` is T,
    each the network's own where it is None.

    Attributes:
        network: the network itself.
        preprocessing: how a raw image becomes its input; None where that is not known.
        policy: who stops when; None runs every sample for T steps.
        manifest: where the network comes from and what is known about it, as JSON.
        sections: what engines keep about the network, by their names.
        origin: the file that it was loaded from, which ``save`` replaces only where nothing has changed it since.
    """

    network: SpikingNetwork
    preprocessing: Preparation | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    policy: ExitPolicy | None = None
    sections: Mapping[str, Section] = field(default_factory=dict)
    origin: Origin | None = None

    def __repr__(self) -> str:
        shape = list(self.network.input_shape)
        exits = "no exit policy" if self.policy is None else repr(self.policy)
        return f"<SNN: {len(self.network.sites)} neuron sites, inputs {shape}, T = {self.timesteps}, {exits}>"

    @property
    def timesteps(self) -> int:
        """T that the thresholds were chosen for; 8 where the manifest does not say, or says what none can be."""
        value = self.manifest.get("timesteps", 8)
        return value if isinstance(value, int) and 1 <= value <= MOST_TIMESTEPS else 8

    def steps(self, timesteps: int | None) -> int:
        """``timesteps``, or as many as its thresholds were chosen for where none are stated.

        Raises:
            ValueError: less than 1.
        """
        return self.timesteps if timesteps is None else integer("timesteps", timesteps, low=1)

    @property
    def has_ann(self) -> bool:
        """Whether there is an ANN behind the network: it was not trained as a spiking one, and nothing leaks."""
        return "direct" not in self.manifest and self.network.has_analog

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the outputs in order; empty where they are not known."""
        names = self.manifest.get("class_names")
        return tuple(map(str, names)) if isinstance(names, list) else ()

    @property
    def _of_pixels(self) -> Preprocessing | None:
        """The preprocessing, where it makes inputs of pixels, which engines may hold as integers."""
        return self.preprocessing if isinstance(self.preprocessing, Preprocessing) else None

    @property
    def task(self) -> str:
        """What the scores say: ``classes``, or two for a yes or no (``binary``); ``labels``, by signs; ``values``."""
        return str(self.manifest.get("task", "classes"))

    def refuse_other_tasks(self, what: str) -> None:
        """Raises UnsupportedError where the scores are not those of classes, which ``what`` compares."""
        if self.task not in ("classes", "binary"):
            raise UnsupportedError(
                f"{what} compares the scores of classes, and this network gives {self.task}: use `seenn predict`, "
                "or read SNN.predict(…).outputs"
            )

    def to(self, device: torch.device | str) -> SNN:
        """The same; its network is moved to ``device``."""
        self.network.to(device)
        return self

    def make_engine(
        self, engine: str | Engine = "auto", *, timesteps: int | None = None, float_sites: Iterable[str] = ()
    ) -> Engine:
        """The engine of that name, for up to ``timesteps`` steps; see ``seenn.runtime.make_engine``."""
        if not isinstance(engine, str):
            return engine
        return make_engine(
            engine,
            self.network,
            timesteps=self.steps(timesteps),
            preprocessing=self._of_pixels,
            float_sites=float_sites,
            sections=self.sections,
        )

    def session(
        self,
        engine: str | Engine = "auto",
        *,
        policy: ExitPolicy | None = None,
        timesteps: int | None = None,
        slots: int = 64,
    ) -> Session:
        """What runs this network, ``slots`` samples at once; warns where its policy was calibrated on another engine.

        Raises:
            CalibrationError: the own policy was made for another network or T.
            UnsupportedError: an exit policy for scores that are not those of classes.
        """
        steps = self.steps(timesteps)
        if (used := policy or self.policy) is not None and not isinstance(used, FixedExit):
            self.refuse_other_tasks(f"the exit rule {type(used).__name__}")
        runner = self.make_engine(engine, timesteps=steps)
        if policy is None and (sentence := self.check_policy(steps, runner.name)):
            log.warning(sentence)
        return Session(runner, policy or self.policy, steps, slots)

    def check_policy(self, timesteps: int, engine: str | None = None) -> str | None:
        """Refuses an own policy that was made for another network or T; says where it was made on another engine."""
        record = self.manifest.get("exit")
        if self.policy is None or record is None:
            return None
        graph = self.network.graph
        return check_record(record, network=graph.fingerprint(), timesteps=timesteps, engine=engine, heads=graph.heads)

    def drift_alarm(
        self, session: Session, rate: DriftAlarm | float = ALARM_RATE, *, in_order: bool = False
    ) -> DriftAlarm | None:
        """What warns where the images that ``session`` runs are unlike those that the own policy was calibrated on.

        None where nothing is known about those: the policy is another, was not calibrated, or was by an earlier version
        or on another engine. None as well at a rate of 0.

        Args:
            session: of this network.
            rate: probability of a false alarm, over all that it watches; or an alarm that goes on.
            in_order: of time: looks as images come, not only in the end, and for what changes on the way.

        Raises:
            CheckpointError: what the file says about them is damaged.
        """
        if isinstance(rate, DriftAlarm):
            return rate
        record = self.manifest.get("exit")
        if not rate or session.policy is not self.policy or not isinstance(record, Mapping):
            return None
        if "margins" not in record or record.get("engine") != session.engine.name:
            return None
        return DriftAlarm(MarginRecord.from_json(record["margins"]), rate, in_order=in_order)

    def check_split(self, split: Split, *, use: Use) -> None:
        """Refuses samples that this network cannot be judged on: see ``seenn.data.provenance.check_split``.

        Raises:
            DataError: the network, or its figures, have another use for them; or they have more classes than it knows,
                or another shape.
        """
        if split.preprocessing.shape != tuple(self.network.input_shape):
            raise DataError(
                f"the {split.name} split is prepared as {list(split.preprocessing.shape)}, the network takes "
                f"{list(self.network.input_shape)}: prepare it so, by split.with_preprocessing(…)"
            )
        check_split(self.manifest, split, use=use)
        split.check_classes(self.network.shapes[self.network.graph.output][0])

    def batch(self, images: Any) -> Batch:
        """Pictures, paths, arrays or tensors as this network's input; see ``Preprocessing.prepare``.

        Floating-point tensors and arrays are taken as prepared: images ``[B, C, H, W]``, one ``[C, H, W]``, or frames
        ``[T, B, C, H, W]``. Of whatever has labels as well, see ``seenn.data.told``, the samples are taken. Images of a
        network that was trained on Poisson spikes are encoded.

        Raises:
            DataTypeError: something that is no image.
            InputError: another shape, or values that cannot be this network's input.
            DataError: an image cannot be read or prepared; or nothing says how to prepare it.
        """
        if isinstance(images, Batch):
            return images
        if isinstance(images, Split):
            return images.batch()
        given, shape = self._told(images), self.network.input_shape
        samples = given.samples if given.is_stack else list(given.samples)
        if given.is_stack and (frames := as_numbers(samples)) is not None and frames.is_floating_point():
            samples = with_batch_axis(frames, shape)
            if samples.dim() == len(shape) + 2:
                return Batch.of(samples, shape)
        if self.preprocessing is not None:
            batch = Batch.of(self.preprocessing.prepare(samples), shape)
        else:
            parts = [self._prepared(sample, shape) for sample in ([samples] if given.is_stack else samples)]
            batch = Batch.of(joined(parts, shape), shape)
        encoding = self.manifest.get("encoding")
        return batch if encoding is None else Batch.of(PoissonEncoding.from_json(encoding)(batch.inputs), shape)

    def _told(self, images: Any) -> Given:
        """``told``; but several arrays of a sample's number of axes are samples, none the labels of another."""
        rank = len(self.network.input_shape)
        listed = isinstance(images, list | tuple) and len(images) > 0
        return Given([*images]) if listed and all(is_array(x) and x.ndim == rank for x in images) else told(images)

    @staticmethod
    def _prepared(sample: Any, shape: Sequence[int]) -> Tensor:
        """Floats, of which nothing says that they are to be prepared."""
        numbers = as_numbers(sample) if is_array(sample) else None
        if numbers is None or not numbers.is_floating_point():
            raise DataError(
                f"this network does not record how images are prepared, got {type_of(sample)}: give prepared "
                "floating-point tensors or arrays"
            )
        return Batch.of(with_batch_axis(numbers, shape), shape).inputs

    def predict(
        self,
        images: Any,
        *,
        engine: str | Engine = "auto",
        policy: ExitPolicy | None = None,
        timesteps: int | None = None,
        batch_size: int = 64,
        alarm: DriftAlarm | float = ALARM_RATE,
    ) -> Predictions:
        """Labels, exit timesteps and confidences of images, as for ``batch``, in their order; so many at once.

        Warns where they are unlike those that the own policy was calibrated on; ``alarm``: see ``drift_alarm``.
        """
        batch = self.batch(images)
        if not len(batch):
            raise InputError("there are no images to run: got none")
        steps = batch.timesteps if timesteps is None else timesteps
        slots = integer("batch_size", batch_size, low=1)
        session = self.session(engine, policy=policy, timesteps=steps, slots=slots)
        watch = self.drift_alarm(session, alarm)
        found = session.run(batch, observers=[watch] if watch else [])
        if watch:
            watch.judge()
        return found

    def stream(
        self,
        source: Iterable[Any],
        *,
        engine: str | Engine = "auto",
        policy: ExitPolicy | None = None,
        timesteps: int | None = None,
        slots: int = 32,
        ordered: bool = True,
        deadline_ms: float | None = None,
        warm: bool = False,
        alarm: DriftAlarm | float = ALARM_RATE,
    ) -> Iterator[Prediction]:
        """One prediction for each image, in their order or as they are ready.

        An image is taken from ``source`` when a slot is free, so it may be endless; it may be slow as well, which holds
        up no running image. With one slot, each image is answered before the next is taken. Warns when the images are
        not like those any more that the own policy was calibrated on.

        Args:
            source: images, each as for ``batch``, or ``Request`` s of prepared ones with deadlines of their own.
            slots: images that run at once.
            ordered: False gives every answer as soon as it is ready.
            deadline_ms: for images without one of their own: time from handing in the image to its answer, which is
                then the best so far. At least one step is run.
            warm: the images are those of one source in time, such as a camera, that change slowly: each starts from the
                membranes that the one before left, so they run one after the other, whatever ``slots``. What exits were
                calibrated for, and the alarm, are of images that start afresh.
            alarm: see ``drift_alarm``.

        Raises:
            UnsupportedError: warm, and the network has initial steps.
            ValueError: an argument out of range, or an image that cannot be run. Finished answers come first.
            SeennError: more slots than memory allows.
        """
        whole = isinstance(source, str | Mapping) or is_array(source) or not isinstance(source, Iterable)
        images: Any = told(source).samples if whole else source
        if is_array(images) and images.ndim <= len(self.network.input_shape):
            images = [images]  # one alone
        session = self.session(engine, policy=policy, timesteps=timesteps, slots=slots)
        Request(image=torch.zeros(0), deadline_ms=deadline_ms)  # refuses a wrong deadline at once

        def requests() -> Iterator[Request]:
            for number, image in enumerate(images):
                if isinstance(image, Request):
                    yield image
                    continue
                try:
                    samples = list(self.batch(image).samples())
                except (TypeError, ValueError) as error:
                    raise type(error)(f"image {number}: {error}") from error
                if len(samples) != 1:
                    raise InputError(
                        f"image {number} is a batch of {len(samples)}: a stream takes one at a time; give them so"
                    )
                yield Request(image=samples[0], deadline_ms=deadline_ms)

        watch = None if warm else self.drift_alarm(session, alarm, in_order=True)
        if warm:
            log.warning(
                "a warm stream starts each image from the membranes of the last: what exits were calibrated for, or "
                "guarantee, does not hold; judge them on a stream of your own"
            )
        return session.stream(requests(), ordered=ordered, warm=warm, observers=[watch] if watch else [])

    def calibrate_exit(
        self,
        split: Any = None,
        rule: str | ExitPolicy = "confidence",
        *,
        threshold: float | None = None,
        engine: str | Engine = "auto",
        timesteps: int | None = None,
        batch_size: int = 64,
        progress: Callable[[int, int], None] = lambda done, total: None,
        **target: Any,
    ) -> SNN:
        """This network with the exit policy that meets a target on held-out samples, and the record of its figures.

        Args:
            split: samples that nothing else has seen: a split, a data set or loader of torch, or a pair of samples and
                labels, see ``seenn.data.as_split``; without a target, or with ``risk="disagreement"``, also images
                alone, as for ``batch``. It has to be given.
            rule: a name from ``seenn.exits.EXIT_RULES`` or a policy.
            threshold: where a rule by name stays; without one and without a target it has its own.
            progress: is told how many samples are done, and of how many.
            target: fields of ``ExitTarget``: ``max_accuracy_drop``, a fraction, for the fewest timesteps that lose no
                more against full T, with ``confidence`` as a guarantee; or ``target_timesteps`` or
                ``target_energy`` (pJ) for the highest accuracy within that mean. ``risk="disagreement"`` takes the
                answer after T steps for right, whatever the labels.

        Raises:
            DataError: see ``check_split``.
            CalibrationError: unusable data, or a target that no threshold meets.
            TypeError: no samples or no labels, an argument that there is not, or a rule that is none.
            ValueError: an argument out of range.
        """
        from seenn.analysis.calibrate import calibrate_exit

        return calibrate_exit(
            self,
            split,
            rule,
            threshold=threshold,
            engine=engine,
            timesteps=timesteps,
            batch_size=batch_size,
            progress=progress,
            target=target,
        )

    def with_policy(self, policy: ExitPolicy, *, timesteps: int, engine: str, **figures: Any) -> SNN:
        """This network with that exit policy, and the record of what it was made for and with.

        Args:
            timesteps: T, this network's from now on.
            engine: name of the engine whose outputs it was made with.
            figures: whatever else is known about it, as JSON: its data, accuracy, mean timesteps.
        """
        graph = self.network.graph
        made_for = {"network": graph.fingerprint(), "timesteps": timesteps, "engine": engine}
        if graph.heads:
            made_for["heads"] = list(graph.heads)
        record = {"policy": policy_to_json(policy), **made_for, "split": "exit", **figures}
        return replace(self, policy=policy, manifest={**self.manifest, "timesteps": timesteps, "exit": record})

    def evaluate(
        self,
        split: Any,
        *,
        engine: str | Engine = "auto",
        policy: ExitPolicy | None = None,
        timesteps: int | None = None,
        batch_size: int = 64,
        **options: Any,
    ) -> Evaluation:
        """Accuracy, exits, spikes and energy on samples as of :meth:`calibrate_exit`, each measured.

        ``options`` and errors are those of ``seenn.analysis.evaluate.evaluate``.
        """
        from seenn.analysis.evaluate import evaluate

        self.refuse_other_tasks("accuracy")
        session = self.session(engine, policy=policy, timesteps=timesteps, slots=batch_size)
        return evaluate(self, as_split(split, "test", self.preprocessing, self.class_names), session, **options)

    def compare_exits(
        self,
        data: Any,
        rules: Mapping[str, ExitPolicy] | None = None,
        *,
        engine: str | Engine = "auto",
        timesteps: int | None = None,
        batch_size: int = 64,
        **options: Any,
    ) -> Comparison:
        """Exit rules side by side, all with one target, on ``DataSplits`` or what ``seenn.load_data`` makes of it.

        ``options`` and errors are those of ``seenn.analysis.compare.compare_exits``.
        """
        from seenn.analysis.compare import compare_exits

        self.refuse_other_tasks("an exit rule")
        data = as_splits(data, "compare_exits", self.preprocessing)
        session = self.session(engine, timesteps=timesteps, slots=batch_size)
        return compare_exits(self, data, session, rules, **options)

    def finetune(
        self,
        data: Any,
        config: FinetuneConfig | None = None,
        *,
        source: Mapping[str, Any] | None = None,
        **options: Unpack[FitOptions],
    ) -> SNN:
        """Trained on with its exits in the loop, without a policy: see ``seenn.training.finetune``.

        ``data`` are ``DataSplits``, or what ``seenn.load_data`` makes some of; ``source`` says which file this is, for
        the manifest.

        Raises:
            DataError: see ``check_split``, for the calibration split.
        """
        from seenn.training import FinetuneConfig, finetune, finetuned_snn

        data = as_splits(data, "finetune", self.preprocessing)
        self.check_split(data.calibration, use="calibration")
        config = config or FinetuneConfig()
        result = finetune(self.network, data, config, **options)
        tuned = finetuned_snn(self, data, config, result, file=source or {})
        return tuned.prepare(data.calibration.batch(limit=PREPARE_SAMPLES))

    def add_heads(
        self,
        data: Any,
        config: HeadsConfig | None = None,
        *,
        engine: str | Engine = "auto",
        batch_size: int = 64,
        replace_heads: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> SNN:
        """With exits in depth, trained on the train split, and without a policy: see ``seenn.training.heads``.

        Args:
            data: ``DataSplits``, or what ``seenn.load_data`` makes some of.
            replace_heads: leaves out those that it has.

        Raises:
            DataError: see ``check_split``, for the train split.
        """
        from seenn.training.heads import HeadsConfig, add_heads

        self.refuse_other_tasks("a head")
        data = as_splits(data, "add_heads", self.preprocessing)
        self.check_split(data.train, use="train")
        network, config = self.network, config or HeadsConfig()
        if replace_heads and network.graph.heads:
            network = network.without_heads().requires_grad_(False)
        plain = replace(self, network=network, policy=None)
        if network is not self.network:
            plain = plain.prepare(data.calibration.batch(limit=PREPARE_SAMPLES))
        runner = plain.make_engine(engine, timesteps=self.timesteps)
        made = add_heads(
            network,
            data.train,
            config,
            engine=runner,
            timesteps=self.timesteps,
            batch_size=batch_size,
            progress=progress,
        )
        record = {**made.record(config), "data": data.manifest(), "engine": runner.name}
        manifest = {name: value for name, value in self.manifest.items() if name != "exit"}
        manifest = {"data": data.manifest(), **manifest, "timesteps": self.timesteps, "heads": record}
        found = replace(plain, network=made.network, manifest=manifest)
        return found.prepare(data.calibration.batch(limit=PREPARE_SAMPLES))

    def prepare(self, batch: Batch) -> SNN:
        """With what every engine wants to keep about the network, chosen on these calibration samples."""
        options = EngineOptions(timesteps=self.timesteps, preprocessing=self._of_pixels)
        kept = {name: kind.prepare(self.network, batch, options) for name, kind in ENGINES.items()}
        return replace(self, sections={name: section for name, section in kept.items() if section is not None})

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes one ``.safetensors`` file, atomically; ``seenn.load`` reads it. See ``seenn.checkpoint.save``."""
        from seenn.checkpoint import save

        save(path, self, overwrite=overwrite)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder for a model hub: see ``seenn.hub.save_pretrained``; ``seenn.from_pretrained`` reads it."""
        from seenn.hub import save_pretrained

        save_pretrained(self, folder)

    def push_to_hub(self, repository: str, *, private: bool = False) -> str:
        """Uploads that folder to ``user/model`` of the Hugging Face Hub: see ``seenn.hub.push_to_hub``."""
        from seenn.hub import push_to_hub

        return push_to_hub(self, repository, private=private)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        to: str,
        images: Any = None,
        timesteps: int | None = None,
        raw_pixels: bool = False,
        reader: str | None = None,
    ) -> Exported:
        """Writes the network for another program, once that program was seen to run it as the network does.

        ``to`` is one of ``seenn.export.FORMATS``, ``images`` what is compared on, as for ``batch``. Options and errors
        are those of ``seenn.export.exporter.export``.
        """
        from seenn.export.exporter import ExportOptions, export

        options = ExportOptions(raw_pixels=raw_pixels, reader=reader)
        return export(self, path, to, images=images, timesteps=timesteps, options=options)


#: The largest T that a network is made for.
MOST_TIMESTEPS = 4096
#: Calibration samples that engines choose on, at most.
PREPARE_SAMPLES = 64
