"""Whether frames of a video need fewer steps where each starts from the membranes that the last one left.

python benchmarks/warm.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import click
import torch
import torch.nn.functional as F
from bars import Row
from common import RESULTS, conclude
from torch import Tensor, nn

import seenn
from converter import convert
from seenn import SNN, FixedExit
from seenn.core.ops.lif import LIFNeuron
from seenn.data import DataSplits, Preprocessing, load_data
from seenn.exits import ExitPolicy
from seenn.training import DirectConfig, OptimConfig, TrainConfig, train_ann, train_direct

FRAMES = 16  # of a scene, in which its picture goes round once
DROP = 0.005  # that exits may cost on single images


def video(splits: DataSplits, scenes: int) -> tuple[Tensor, Tensor]:
    """Frames ``[F, C, H, W]`` and labels: each scene is a test image on a circle one pixel wide that fades to 60 %."""
    images, labels = splits.test.images()[:scenes], splits.test.labels[:scenes]
    preprocessing = splits.preprocessing
    assert isinstance(preprocessing, Preprocessing)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    frames = []
    for number in range(FRAMES):
        angle = 2 * math.pi * number / FRAMES
        x, y = math.cos(angle) / images.shape[-1], math.sin(angle) / images.shape[-2]
        moved = torch.tensor([[1.0, 0.0, x], [0.0, 1.0, y]]).expand(len(images), 2, 3)
        grid = F.affine_grid(moved, list(images.shape), align_corners=False)
        pixels = F.grid_sample(images * std + mean, grid, align_corners=False) * (0.8 + 0.2 * math.cos(angle))
        frames.append(((255 * pixels).round() / 255 - mean) / std)
    return torch.stack(frames, 1).flatten(0, 1), labels.repeat_interleave(FRAMES)


def layers(preprocessing: Preprocessing, neuron: Callable[[], nn.Module]) -> nn.Module:
    """A small convolutional network."""
    last = 32 * -(-preprocessing.height // 2) * -(-preprocessing.width // 2)
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(preprocessing.channels, 16, 3, padding=1), neuron()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), neuron()),
        *(nn.Flatten(), nn.Linear(last, 64), neuron(), nn.Linear(64, 10)),
    )


def subjects(splits: DataSplits, epochs: float) -> Iterator[tuple[str, SNN, str]]:
    """Name, network and engine: two that were converted, and one that was trained with its neurons."""
    preprocessing, config = splits.preprocessing, TrainConfig(epochs=epochs, optim=OptimConfig(opt="adamw", lr=0.003))
    assert isinstance(preprocessing, Preprocessing)
    ann = layers(preprocessing, nn.ReLU)
    train_ann(ann, splits, config)
    for neuron in ("if", "signed"):
        yield f"converted, {neuron}, T = 8", convert(ann.eval(), splits, timesteps=8, neuron=neuron), "int8"
    network = seenn.capture(layers(preprocessing, LIFNeuron), splits.train.images(limit=2))
    train_direct(network, splits, config, DirectConfig(timesteps=4))
    trained = SNN(network=network.eval().requires_grad_(False), preprocessing=preprocessing, manifest={"timesteps": 4})
    yield "trained, lif, T = 4", trained, "float32"


def rows_of(
    name: str, snn: SNN, engine: str, frames: Tensor, labels: Tensor, policy: ExitPolicy | None, command: str
) -> list[Row]:
    """Mean steps and accuracy of a video, cold and warm."""
    cold = snn.predict(frames, engine=engine, policy=policy, alarm=0)
    warm = list(snn.stream(iter(frames), engine=engine, policy=policy, warm=True))
    steps = {"cold": cold.exit_timestep, "warm": torch.tensor([answer.exit_timestep for answer in warm])}
    found = {"cold": cold.labels, "warm": torch.tensor([answer.label for answer in warm])}
    rows = []
    for start in ("cold", "warm"):
        accuracy = 100 * float((found[start] == labels).double().mean())
        rows += [
            Row(f"{name}: mean steps, {start}", float(steps[start].double().mean()), None, True, command),
            Row(f"{name}: accuracy, {start}, %", accuracy, None, True, command),
        ]
    return rows


@click.command()
@click.option("--data", default="digits", show_default=True)
@click.option("--data-dir", help="Folder with the data set's files.")
@click.option("--scenes", default=100, show_default=True, help="Test images, of which each is a scene.")
@click.option("--epochs", default=20.0, show_default=True)
@click.option("--out", default=str(RESULTS / "warm"), show_default=True, help="Stem of the result files.")
def main(data: str, data_dir: str | None, scenes: int, epochs: float, out: str) -> None:
    """Train, convert, calibrate exits on single images, and run one video cold and warm."""
    splits = load_data(data, data_dir=data_dir)
    frames, labels = video(splits, scenes)
    command = f"python benchmarks/warm.py --data {data} --scenes {scenes} --epochs {epochs:g}"
    rows, verdicts = [], []
    for name, snn, engine in subjects(splits, epochs):
        calibrated = snn.calibrate_exit(splits.exit, max_accuracy_drop=DROP, engine=engine)
        own = rows_of(f"{name}, with exits", calibrated, engine, frames, labels, None, command)
        once = rows_of(f"{name}, 1 step", calibrated, engine, frames, labels, FixedExit(timesteps=1), command)
        rows += own + once
        steps, accuracy = own[2].value / own[0].value, own[3].value - own[1].value
        verdicts.append(f"{name}: {steps:.2f} × the steps, {accuracy:+.2f} points")
    notes = [
        f"{len(frames):,} frames: {scenes} {data} test images that go round in a circle one pixel wide and fade to "
        f"60 %, {FRAMES} frames each. Exits were calibrated on single images for a drop of at most {100 * DROP:g} "
        "points.",
        f"Warm against cold, with exits: {'; '.join(verdicts)}.",
    ]
    conclude(out, "Warm streams", rows, notes)


if __name__ == "__main__":
    main()
