"""``seenn predict``: labels of image files, each with the steps it took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cli.common import Console, command
from cli.groups import FILE, EngineOptions, OwnPolicyOptions, SnnFile, engine_json, timesteps_option
from cli.options import argument


@dataclass(frozen=True, kw_only=True)
class PredictFile(SnnFile):
    """The file, which has to be named before the images."""

    snn: str = argument(required=True, type=FILE)


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Which images."""

    images: tuple[str, ...] = argument(required=True, nargs=-1, type=FILE)
    timesteps: int | None = timesteps_option("as recorded")


@command("Classify image files.")
def predict(
    console: Console, file: PredictFile, options: PredictOptions, own: OwnPolicyOptions, how: EngineOptions
) -> None:
    """Classify image files with the spiking network SNN."""
    from seenn.errors import CheckpointError

    own.load()
    snn = file.load().to(console.device)
    if "frames" in (snn.manifest.get("data") or {}):
        raise CheckpointError(
            f"{file.snn} reads recordings of events, not image files: use seenn.load(…).predict in Python"
        )
    steps = options.timesteps or snn.timesteps
    engine = how.make(console, snn, steps)
    answers = snn.predict([Path(image) for image in options.images], engine=engine, timesteps=steps)
    names = snn.class_names
    rows = [
        {
            "image": path,
            "label": label,
            "class": names[label] if label < len(names) else str(label),
            "confidence": confidence,
            "exit_timestep": snn.network.initial_steps + t,
        }
        for path, label, confidence, t in zip(
            options.images,
            answers.labels.tolist(),
            answers.confidence.tolist(),
            answers.exit_timestep.tolist(),
            strict=True,
        )
    ]
    text = "\n".join(
        f"{row['image']}: {row['class']}  (confidence {row['confidence']:.3f}, {row['exit_timestep']} steps)"
        for row in rows
    )
    console.answer({"predictions": rows, "engine": engine_json(engine)}, text)
