"""``seenn predict``: labels of image files, each with the steps it took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cli.common import Console, command
from cli.groups import OwnPolicyOptions, RunOptions, SnnFile
from cli.options import FILE, argument


@dataclass(frozen=True, kw_only=True)
class PredictFiles(SnnFile):
    """The network, which has to be named before the images."""

    snn: str = argument(required=True, type=FILE)
    images: tuple[str, ...] = argument(required=True, nargs=-1, type=FILE)


@command("Classify image files.")
def predict(console: Console, files: PredictFiles, own: OwnPolicyOptions, how: RunOptions) -> None:
    """Classify image files with the spiking network SNN."""
    from seenn.errors import CheckpointError

    snn = files.load().to(console.device)
    if "frames" in (snn.manifest.get("data") or {}):
        raise CheckpointError(
            f"{files.snn} reads recordings of events, not image files: use seenn.load(…).predict in Python"
        )
    engine = how.make(console, snn)
    answers = snn.predict(
        [Path(image) for image in files.images],
        engine=engine,
        timesteps=how.timesteps or snn.timesteps,
        batch_size=how.batch_size,
    )
    names, columns = snn.class_names, (answers.labels, answers.confidence, answers.exit_timestep)
    rows = [
        {
            "image": path,
            "label": label,
            "class": names[label] if label < len(names) else str(label),
            "confidence": confidence,
            "exit_timestep": snn.network.initial_steps + t,
        }
        for path, label, confidence, t in zip(files.images, *(column.tolist() for column in columns), strict=True)
    ]
    text = "\n".join(
        f"{row['image']}: {row['class']}  (confidence {row['confidence']:.3f}, {row['exit_timestep']} steps)"
        for row in rows
    )
    console.answer({"predictions": rows}, text, engine=engine)
