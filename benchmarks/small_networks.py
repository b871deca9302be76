"""Small networks of the kinds that people bring, trained on Fashion-MNIST: what their spiking networks lose.

    python benchmarks/small_networks.py --work WORK

Trains a ViT, a ConvNeXt, a MobileNetV3 and an EfficientNet of reduced width and depth with ``seenn train-ann``, then
converts each at T = 8 and 4. Beside the spiking network stand the ANN, the ANN whose activations are rounded to the
same T·Γ levels, and a network of binary spikes. What is done is kept in the work folder, so that a run that was cut off
goes on.

    python benchmarks/small_networks.py --work WORK --steps

measures instead what a step of the ViT and the MobileNetV3 takes beside a forward of their ANN, with ``seenn bench``;
nothing else should run meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude
from subjects import scores

from converter import convert
from converter.load import ModelSpec, load_model, parse_model_kwargs
from seenn.core.graph import Node
from seenn.core.network import SpikingNetwork
from seenn.core.ops import IntegratingNeuron
from seenn.core.ops.arguments import per_channel
from seenn.data import DataSplits, load_data
from seenn.files import write_text

COMMAND = "python benchmarks/small_networks.py --work WORK"
DATA, ENGINE, BATCH = "fashion-mnist", "float32", 128
LEVELS, LOST = 15, {8: 0.005, 4: 0.01}  # most points that a network may lose at T
LEAST = 0.90  # accuracy of the ANN
STEPS, LONGEST, BATCHES = ("vit", "mobilenetv3"), 1.5, (1, 32)  # ANN forwards that a step may take
SEENN = (sys.executable, "-c", "from cli.main import main; main()")
CONVERSIONS = {
    f"T = {timesteps}{kind}": {"timesteps": timesteps, **own}
    for timesteps in LOST
    for kind, own in {
        "": {"levels": LEVELS, "encoder_levels": LEVELS},
        ", binary": {"neuron": "if", "encoder_levels": 1},
    }.items()
}


@dataclass(frozen=True, kw_only=True)
class Small:
    """A network and how it is trained."""

    title: str
    model: str
    options: tuple[str, ...] = ()  # of the model's factory
    epochs: int
    size: int = 28

    def train(self, file: Path) -> None:
        """Trains it into ``file``, from where an earlier run was cut off."""
        runs = file.with_suffix("")
        command = ["train-ann", *self.named, "--data", DATA]
        command += ["--epochs", str(self.epochs), "--opt", "adamw", "--lr", "0.002", "--weight-decay", "0.05"]
        command += ["--batch-size", "128", "--shift", "1", "--input-size", f"1,{self.size},{self.size}"]
        command += ["-o", str(file), "--run-dir", str(runs), *(["--resume"] if runs.is_dir() else [])]
        subprocess.run([*SEENN, *command], check=True)

    @property
    def named(self) -> list[str]:
        """How a command is told the model."""
        return ["--model", self.model, *(word for option in self.options for word in ("--model-kwargs", option))]

    def step(self, file: Path) -> Mapping[str, Any]:
        """What ``seenn bench`` finds, on one thread, of what ``seenn convert`` makes of the trained ``file``."""
        snn, report = file.with_suffix(".safetensors"), str(file.with_name(f"{file.stem}-report"))
        command = ["convert", *self.named, "--ckpt", str(file), "-o", str(snn), "--report", report]
        subprocess.run([*SEENN, *command], check=True, stdout=sys.stderr)
        command = ["bench", str(snn), "--threads", "1", "--json", "--report", report]
        found = subprocess.run([*SEENN, *command], check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(found)  # type: ignore[no-any-return]


_MOBILE = "timm.models.efficientnet:_gen_efficientnet"
NETWORKS = {
    "vit": Small(
        title="ViT (4 blocks, 64 wide, patches of 4)",
        model="vit_tiny_patch16_224",
        options=("img_size=28,patch_size=4,embed_dim=64,depth=4,num_heads=4,class_token=False,global_pool=avg",),
        epochs=20,
    ),
    "convnext": Small(
        title="ConvNeXt (5 blocks, 32 to 128 wide, stem of 2)",
        model="convnext_atto",
        options=("patch_size=2,depths=(1,1,2,1),dims=(32,64,128,128),ls_init_value=1.0",),
        epochs=12,
        size=32,
    ),
    "mobilenetv3": Small(title="MobileNetV3-small (half width)", model="mobilenetv3_small_050", epochs=12, size=56),
    "efficientnet": Small(
        title="EfficientNet-B0 (0.25 wide, 0.5 deep)",
        model=_MOBILE,
        options=("variant=efficientnet_b0,channel_multiplier=0.25,depth_multiplier=0.5",),
        epochs=12,
        size=56,
    ),
}


def rounded(network: SpikingNetwork, timesteps: int) -> nn.Module:
    """The ANN that the network stands for, each activation rounded to as many levels as its neuron tells apart."""

    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            graph = network.graph
            return graph.evaluate(x, {graph.output}, self.visit)[graph.output]

        def visit(self, node: Node, inputs: tuple[Tensor, ...]) -> Tensor:
            op = node.op
            if not isinstance(op, IntegratingNeuron):
                return op.constant(*inputs)
            x = op.activation()(inputs[0])
            step = per_channel(op.v_threshold, x, op.axis) / timesteps
            most = timesteps * op.max_spikes
            return step * (x / step).round().clamp(-most, most)

    return Rounded()


def measure(model: nn.Module, splits: DataSplits, **chosen: Any) -> Mapping[str, float]:
    """Accuracy of one conversion, of the ANN and of the rounded ANN, and the share of MACs that spikes feed."""
    snn = convert(model, splits, **chosen)
    found = snn.session(ENGINE, slots=BATCH).run(splits.test.batches(BATCH))
    return {
        "ann": accuracy(scores(model, splits.test, BATCH), splits),
        "right": accuracy(found.logits_sum, splits),
        "rounded": accuracy(scores(rounded(snn.network, snn.timesteps), splits.test, BATCH), splits),
        "spiking_mac_share": snn.manifest["spiking"]["spiking_mac_share"],
    }


def accuracy(answers: Tensor, splits: DataSplits) -> float:
    """On the test split."""
    return float((answers.argmax(-1) == splits.test.labels).double().mean())


def rows_of(network: Small, known: Mapping[str, Mapping[str, float]], name: str) -> list[Row]:
    """All rows of one network."""
    ann = known[f"{name}, T = 8"]["ann"]
    rows = [Row.at_least(f"{network.title}: accuracy of the ANN", ann, LEAST, COMMAND)]
    for timesteps, lost in LOST.items():
        found, binary = known[f"{name}, T = {timesteps}"], known[f"{name}, T = {timesteps}, binary"]
        label = f"{network.title}, T = {timesteps}"
        rows += [
            Row.at_most(f"{label}, {LEVELS} levels: lost against the ANN", ann - found["right"], lost, COMMAND),
            Row.at_least(f"{label}: share of MACs fed by spikes", found["spiking_mac_share"], 1.0, COMMAND),
            Row(f"{label}: lost by the ANN at as many levels", ann - found["rounded"], None, True, COMMAND),
            Row(f"{label}, binary spikes: lost against the ANN", ann - binary["right"], None, True, COMMAND),
        ]
    return rows


def step_rows(network: Small, found: Mapping[str, Any]) -> tuple[list[Row], str]:
    """How long a step takes, and what it was measured on."""
    medians = {name: {size: each["median_s"] for size, each in times.items()} for name, times in found["step"].items()}
    engine, rows = found["engines"][0], []
    for batch in BATCHES:
        step, label = medians[engine][str(batch)], f"{network.title}: a step of {engine} / a forward of the ANN in"
        name = f"{label} torch float32, batch {batch}"
        rows.append(Row.at_most(name, step / medians["torch float32"][str(batch)], LONGEST, f"{COMMAND} --steps"))
        other = "onnxruntime float32"
        if other in medians:
            name = f"{label} {other}, batch {batch}"
            rows.append(Row(name, step / medians[other][str(batch)], None, True, f"{COMMAND} --steps"))
    machine = found["machine"]
    runs = found["step"][engine]["1"]["runs"]
    return rows, (
        f"{network.title}: medians of {runs} runs in turn, one thread, {machine['cpu']}, {machine['capability']}, "
        f"int8: {', '.join(machine['int8']) or 'none'}."
    )


@click.command()
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder for networks and what is known.")
@click.option("--network", "chosen", multiple=True, type=click.Choice(sorted(NETWORKS)), help="All when not given.")
@click.option("--train-only", is_flag=True, help="Only train.")
@click.option("--steps", is_flag=True, help="Measure what a step takes instead.")
@click.option("--out", help="Stem of the result files.  [default: small_networks, small_networks_steps]")
def main(work: str, chosen: tuple[str, ...], train_only: bool, steps: bool, out: str | None) -> None:
    """Train, convert and evaluate the networks, write the table."""
    folder = Path(work)
    if steps:
        measured = [step_rows(NETWORKS[name], NETWORKS[name].step(folder / f"{name}.pth")) for name in chosen or STEPS]
        rows = [row for own, _ in measured for row in own]
        stem = out or str(RESULTS / "small_networks_steps")
        conclude(stem, "Steps of small networks beside their ANN", rows, [note for _, note in measured])
        return
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "known.json"
    known: dict[str, Mapping[str, float]] = json.loads(kept.read_text()) if kept.is_file() else {}
    rows = []
    for name in chosen or NETWORKS:
        network, file = NETWORKS[name], folder / f"{name}.pth"
        if not file.is_file():
            network.train(file)
        if train_only:
            continue
        loaded = load_model(ModelSpec(name=network.model, kwargs=parse_model_kwargs(network.options)), file)
        splits = load_data(DATA, preprocessing=loaded.preprocessing)
        for what, own in CONVERSIONS.items():
            if (key := f"{name}, {what}") not in known:
                known[key] = measure(loaded.module, splits, **own)
                write_text(kept, json.dumps(known, indent=2) + "\n")
                click.echo(f"{key}: {known[key]}")
        rows += rows_of(network, known, name)
    if not train_only:
        conclude(out or str(RESULTS / "small_networks"), "Small networks of many kinds on Fashion-MNIST", rows, [])


if __name__ == "__main__":
    main()
