"""What a person holds and a file stores: a spiking network with all that is needed to use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.data import DataSplits, Preprocessing, Split
from seenn.data.encoding import PoissonEncoding
from seenn.data.recorded import check_split
from seenn.errors import DataError
from seenn.exits import ExitPolicy, check_record, exit_record, find_exit, make_rule
from seenn.runtime import ENGINES, Engine, Prediction, Predictions, Request, Section, Session, make_engine

if TYPE_CHECKING:
    from seenn.analysis.report.comparison import Comparison
    from seenn.analysis.report.evaluation import Evaluation
    from seenn.files import FileVersion
    from seenn.training import FinetuneConfig, Run

Progress = Callable[[int, int], None]  # samples done, and all


def _quiet(done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SNN:
    """A spiking network, how its inputs are prepared, when it stops, and the evidence for it. Immutable.

    ::

        snn = seenn.load("snn.safetensors")
        answers = snn.predict(images)
        answers.labels, answers.exit_timestep, answers.confidence

    Every method that runs the network takes ``engine``: a name from ``seenn.runtime.ENGINES``, or ``auto``. The same
    named engine gives the same answers.

    Attributes:
        network: the network itself.
        preprocessing: how a raw image becomes its input; None where that is not known.
        policy: who stops when; None runs every sample for T steps.
        manifest: where the network comes from and what is known about it, as JSON.
        sections: what engines keep about the network, by their names.
    """

    network: SpikingNetwork
    preprocessing: Preprocessing | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    policy: ExitPolicy | None = None
    sections: Mapping[str, Section] = field(default_factory=dict)

    @property
    def timesteps(self) -> int:
        """T that the thresholds were chosen for; 8 where the manifest does not say."""
        value = self.manifest.get("timesteps", 8)
        return value if isinstance(value, int) and value >= 1 else 8

    @property
    def has_ann(self) -> bool:
        """Whether there is an ANN behind the network: it was not trained as a spiking one, and nothing leaks."""
        return "direct" not in self.manifest and self.network.has_analog

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the outputs in order; empty where they are not known."""
        names = self.manifest.get("class_names")
        return tuple(map(str, names)) if isinstance(names, list) else ()

    def to(self, device: torch.device | str) -> SNN:
        """The same; its network is moved to ``device``."""
        self.network.to(device)
        return self

    def make_engine(
        self, name: str = "auto", *, timesteps: int | None = None, float_sites: Iterable[str] = ()
    ) -> Engine:
        """An engine for up to ``timesteps`` steps (None: the network's own T); see ``seenn.runtime.make_engine``."""
        return make_engine(
            name,
            self.network,
            timesteps=timesteps or self.timesteps,
            preprocessing=self.preprocessing,
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
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> Session:
        """A session with this network's own policy and T, where no others are given.

        Args:
            warn: is told where the policy was calibrated on another engine than the one that runs.

        Raises:
            CalibrationError: the network's own policy was made for another network or T.
        """
        steps = timesteps or self.timesteps
        runner = self.make_engine(engine, timesteps=steps) if isinstance(engine, str) else engine
        if policy is None and self.policy is not None:
            if sentence := self.check_policy(steps, runner.name):
                warn(sentence)
            policy = self.policy
        return Session(runner, policy, steps, slots)

    def check_policy(self, timesteps: int, engine: str | None = None) -> str | None:
        """Refuses an own policy that was made for another network or T; says where it was made on another engine.

        Raises:
            CalibrationError: which of the two, and what to do.
        """
        record = self.manifest.get("exit")
        if self.policy is None or not isinstance(record, Mapping):
            return None
        return check_record(record, network=self.network.graph.fingerprint(), timesteps=timesteps, engine=engine)

    def batch(self, images: Any) -> Batch:
        """Pictures, paths, arrays or tensors as this network's input; see ``Preprocessing.prepare``.

        Floating-point tensors are taken as prepared: images ``[B, C, H, W]``, one ``[C, H, W]``, or frames
        ``[T, B, C, H, W]``. Images of a network that was trained on Poisson spikes are encoded.

        Raises:
            TypeError: something that is no image.
            ValueError: another shape, or values that cannot be this network's input.
            DataError: an image cannot be read or prepared; or nothing says how to prepare it.
        """
        if isinstance(images, Batch):
            return images
        shape = self.network.input_shape
        if isinstance(images, Tensor) and images.is_floating_point() and images.dim() == len(shape):
            images = images.unsqueeze(0)
        if isinstance(images, Tensor) and images.is_floating_point() and images.dim() == len(shape) + 2:
            return Batch.of(images, shape)
        if self.preprocessing is not None:
            images = self.preprocessing.prepare(images)
        elif not (isinstance(images, Tensor) and images.is_floating_point()):
            raise DataError(
                f"this network does not record how images are prepared, got {type(images).__name__}: give prepared "
                "floating-point tensors"
            )
        batch = Batch.of(images, shape)
        encoding = self.manifest.get("encoding")
        return batch if encoding is None else Batch.of(PoissonEncoding.from_json(encoding)(batch.inputs), shape)

    def predict(
        self,
        images: Any,
        *,
        engine: str | Engine = "auto",
        policy: ExitPolicy | None = None,
        timesteps: int | None = None,
        batch_size: int = 64,
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> Predictions:
        """Labels, exit timesteps and confidences, in the images' order.

        Args:
            images: as for ``batch``.
            policy: None is the network's own.
            timesteps: T; None is the network's own.
            batch_size: images at once.

        Raises:
            TypeError, ValueError, DataError: as ``batch``.
            CalibrationError: the policy was made for another network or T.
        """
        batch = self.batch(images)
        if not len(batch):
            raise ValueError("there are no images to run: got none")
        steps = timesteps or batch.timesteps
        return self.session(engine, policy=policy, timesteps=steps, slots=batch_size, warn=warn).run(
            batch.split(batch_size)
        )

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
    ) -> Iterator[Prediction]:
        """One prediction for each image, in their order or as they are ready.

        An image is taken from ``source`` when a slot is free, so it may be endless; it may be slow as well, which holds
        up no running image. With one slot, each image is answered before the next is taken.

        Args:
            source: images, each as for ``batch``, or ``Request`` s of prepared ones with deadlines of their own.
            slots: images that run at once.
            ordered: False gives every answer as soon as it is ready.
            deadline_ms: for images without one of their own: time from handing in the image to its answer, which is
                then the best so far. At least one step is run.

        Raises:
            ValueError: an argument out of range, or an image that cannot be run. Finished answers come first.
            SeennError: more slots than memory allows.
        """
        session = self.session(engine, policy=policy, timesteps=timesteps, slots=slots)
        Request(image=torch.zeros(0), deadline_ms=deadline_ms)  # refuses a wrong deadline at once

        def requests() -> Iterator[Request]:
            for number, image in enumerate(source):
                if isinstance(image, Request):
                    yield image
                    continue
                try:
                    (prepared,) = self.batch(image).samples()
                except (TypeError, ValueError) as error:
                    raise type(error)(f"image {number}: {error}") from error
                yield Request(image=prepared, deadline_ms=deadline_ms)

        return session.stream(requests(), ordered=ordered)

    def calibrate_exit(
        self,
        split: Split,
        rule: str | ExitPolicy = "confidence",
        *,
        threshold: float | None = None,
        max_accuracy_drop: float | None = None,
        target_timesteps: float | None = None,
        target_energy: float | None = None,
        confidence: float | None = None,
        guarantee: Literal["marginal", "conditional"] | None = None,
        engine: str | Engine = "auto",
        timesteps: int | None = None,
        batch_size: int = 64,
        progress: Progress = _quiet,
    ) -> SNN:
        """This network with the exit policy that meets a target on held-out samples, and the record of its figures.

        Args:
            split: samples that nothing else has seen.
            rule: a name from ``seenn.exits.EXIT_RULES`` or a policy. Give one of:
            threshold: leave it there;
            max_accuracy_drop: the fewest timesteps that lose at most this against full T, as a fraction;
            target_timesteps, target_energy: the highest accuracy within this mean of timesteps, or of pJ.
            confidence: with ``max_accuracy_drop``: it holds for new samples with this probability (Learn-then-Test).
            guarantee: with ``confidence``: ``marginal`` or ``conditional``.
            timesteps: T; None is the network's own.

        Raises:
            DataError: the split holds samples that the network, or its figures, have another use for.
            CalibrationError: unusable data, or a target that no threshold meets.
            ValueError: an argument out of range.
        """
        from seenn.analysis.collect import collect_run, start_states

        check_split(self.manifest, split, use="exit")
        steps = timesteps or self.timesteps
        chosen = make_rule(rule, threshold=threshold) if isinstance(rule, str) else rule
        runner = self.make_engine(engine, timesteps=steps) if isinstance(engine, str) else engine
        run = collect_run(self.network, split, steps, engine=runner, batch_size=batch_size, progress=progress)
        found = find_exit(
            run,
            chosen,
            state=start_states(chosen, split) if getattr(chosen, "macs", 0) else None,
            max_accuracy_drop=max_accuracy_drop,
            target_timesteps=target_timesteps,
            target_energy=target_energy,
            confidence=confidence,
            guarantee=guarantee,
        )
        record = exit_record(
            found.policy,
            network=self.network.graph.fingerprint(),
            timesteps=steps,
            engine=runner.name,
            data={} if split.data is None else split.data.manifest(),
            max_accuracy_drop=max_accuracy_drop,
            target_timesteps=target_timesteps,
            target_energy=target_energy,
            confidence=confidence,
            guarantee=guarantee,
            threshold=getattr(found.policy, "threshold_value", None),
            samples=found.samples,
            accuracy=found.accuracy,
            full_accuracy=found.full_accuracy,
            mean_timesteps=found.mean_timesteps,
            mean_energy_pj=found.mean_energy_pj,
        )
        return replace(self, policy=found.policy, manifest={**self.manifest, "timesteps": steps, "exit": record})

    def evaluate(
        self,
        split: Split,
        *,
        engine: str | Engine = "auto",
        policy: ExitPolicy | None = None,
        timesteps: int | None = None,
        batch_size: int = 64,
        limit: int | None = None,
        name: str = "spiking network",
        seed: int = 0,
        command: str = "",
        progress: Progress = _quiet,
    ) -> Evaluation:
        """Accuracy, exits, spikes and energy on a split, each measured: see ``seenn.analysis.evaluate.evaluate``."""
        from seenn.analysis.evaluate import evaluate

        session = self.session(engine, policy=policy, timesteps=timesteps, slots=batch_size)
        return evaluate(self, split, session, limit=limit, name=name, seed=seed, command=command, progress=progress)

    def compare_exits(
        self,
        data: DataSplits,
        rules: Mapping[str, ExitPolicy] | None = None,
        *,
        max_accuracy_drop: float | None = None,
        target_timesteps: float | None = None,
        target_energy: float | None = None,
        engine: str | Engine = "auto",
        timesteps: int | None = None,
        batch_size: int = 64,
        limit: int | None = None,
        latency_images: int = 0,
        latency_batch: int = 1,
        name: str = "spiking network",
        seed: int = 0,
        command: str = "",
        progress: Progress = _quiet,
    ) -> Comparison:
        """Exit rules side by side, all with one target: see ``seenn.analysis.compare.compare_exits``."""
        from seenn.analysis.compare import compare_exits

        return compare_exits(
            self,
            data,
            self.session(engine, timesteps=timesteps, slots=batch_size),
            rules,
            max_accuracy_drop=max_accuracy_drop,
            target_timesteps=target_timesteps,
            target_energy=target_energy,
            limit=limit,
            latency_images=latency_images,
            latency_batch=latency_batch,
            name=name,
            seed=seed,
            command=command,
            progress=progress,
        )

    def finetune(
        self,
        data: DataSplits,
        config: FinetuneConfig | None = None,
        *,
        source: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        run: Run | None = None,
        on_step: Progress | None = None,
    ) -> SNN:
        """Trained on with its exits in the loop, without a policy: see ``seenn.training.finetune``.

        Args:
            source: which file this is, for the manifest.
        """
        from seenn.training import FinetuneConfig, finetune, finetuned_snn

        config = config or FinetuneConfig()
        result = finetune(self.network, data, config, device=device, run=run, on_step=on_step)
        tuned = finetuned_snn(self, data, config, result, file=source or {})
        return tuned.prepare(data.calibration.batch(limit=PREPARE_SAMPLES))

    def prepare(self, batch: Batch) -> SNN:
        """With what every engine wants to keep about the network, chosen on these calibration samples."""
        found: dict[str, Section] = {}
        for name, kind in ENGINES.items():
            section = kind.prepare(self.network, batch, timesteps=self.timesteps, preprocessing=self.preprocessing)
            found |= {} if section is None else {name: section}
        return replace(self, sections=found)

    def save(self, path: str | os.PathLike[str], *, expected: FileVersion | None = None) -> None:
        """Writes one ``.safetensors`` file, atomically; ``seenn.load`` reads it.

        Args:
            expected: the version of the file that this network was read from, see ``seenn.files.version_of``.

        Raises:
            OutputError: the file cannot be written.
            CheckpointError: it could not be read back, or is not the ``expected`` version any more.
            ValueError: the manifest is not JSON.
        """
        from seenn.checkpoint import save

        save(path, self, expected=expected)


#: Calibration samples that engines choose on, at most.
PREPARE_SAMPLES = 64
