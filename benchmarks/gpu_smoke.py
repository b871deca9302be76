"""Whether all of seenn works on a CUDA device: the tests that are marked ``gpu``, and the time of a step by engine.

    python benchmarks/gpu_smoke.py

Runs from a bare checkout in a few minutes. Without a GPU, ``--device cpu`` runs the same tests and figures there.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude

from converter import convert
from converter.load import ModelSpec, build_model
from seenn.analysis.bench.ann import ann_contenders
from seenn.analysis.bench.timing import alternate, step_of
from seenn.exits import GapExit
from seenn.runtime import ENGINES, Predictions, SpikeSums
from seenn.snn import SNN

ROOT = Path(__file__).parents[1]
BATCH, IMAGES, T, MOST_MINUTES = 64, 256, 4, 5.0
TESTS = ("tests/e2e/test_matrix.py", "tests/unit/seenn/test_device.py")


@click.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--repeats", default=5, show_default=True, help="Runs of every timing.")
@click.option(
    "--out", default=str(RESULTS / "gpu_smoke"), show_default=True, help="Path of the result files, no suffix."
)
def main(device: str, repeats: int, out: str) -> None:
    """Write what failed, what differs from the CPU, and how fast a step is."""
    command, start = f"python benchmarks/gpu_smoke.py --device {device}", time.perf_counter()
    code, counted = run_tests(device)
    rows = [Row.at_most("exit code of the tests", code, 0, command)]
    network, images = subject()
    snn = convert(network, images, timesteps=T, neuron="signed", device=device)
    rows += differences(snn, images, device, command)
    rows += steps(snn, images, device, repeats, command)
    minutes = (time.perf_counter() - start) / 60
    rows.append(Row.at_most("minutes in all", minutes, MOST_MINUTES, command))
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    notes = [
        f"{name}, torch {torch.__version__}; tests: {counted}",
        f"ResNet-18 with random weights on 3×32×32 images, batch {BATCH}, T = {T}.",
    ]
    conclude(out, f"seenn on {device}", rows, notes)


def run_tests(device: str) -> tuple[int, str]:
    """The exit code of pytest, and the line in which it counts."""
    chosen = ("-m", "gpu" if device == "cuda" else "not gpu")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "default", "-rf", *chosen, *TESTS]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True, check=False
    )
    click.echo(done.stdout)
    return done.returncode, next(line for line in reversed(done.stdout.splitlines()) if line.strip())


def subject() -> tuple[torch.nn.Module, Tensor]:
    """An ANN of some size with random weights, and images."""
    torch.manual_seed(0)
    model = build_model(
        ModelSpec(name="resnet18", num_classes=10, kwargs={"channels": (32, 64, 128, 256)}), (3, 32, 32)
    )
    images = torch.randn(IMAGES, 3, 32, 32)
    return model.module.eval(), images


def answers(snn: SNN, images: Tensor, engine: str, device: str) -> tuple[Predictions, dict[str, Tensor]]:
    """With exits, and the spikes of each site."""
    spikes = SpikeSums(len(images))
    session = snn.to(device).session(engine, policy=GapExit(threshold=0.02), slots=BATCH)
    found = session.run(snn.batch(images).split(BATCH), observers=[spikes])
    return found, {site: counts.cpu() for site, counts in spikes.sums.items()}


def differences(snn: SNN, images: Tensor, device: str, command: str) -> list[Row]:
    """Each engine's answers there and on the CPU."""
    rows = []
    for engine in ENGINES.names():
        (there, spikes), (here, expected) = (answers(snn, images, engine, where) for where in (device, "cpu"))
        unlike = (there.labels != here.labels) | (there.exit_timestep != here.exit_timestep)
        share = 100 * float(unlike.double().mean())
        most = {"int8": 0.0, "bfloat16": 10.0}.get(engine, 2.0)
        rows.append(Row.at_most(f"{engine}: % of labels or exits unlike the CPU's", share, most, command))
        if engine == "int8":
            wrong = sum(int((spikes[site] != expected[site]).sum()) for site in expected)
            rows.append(Row.at_most("int8: neurons with other spikes than on the CPU", wrong, 0, command))
    return rows


def steps(snn: SNN, images: Tensor, device: str, repeats: int, command: str) -> list[Row]:
    """One step of each engine, and one forward pass of the ANN."""
    snn, batch = snn.to(device), images[:BATCH]
    work = {f"{name}: one step": step_of(snn.make_engine(name), batch) for name in ENGINES.names()}
    for ann in ann_contenders(copy.deepcopy(snn.network.analog()), images[:32], device):
        work[f"ANN, {ann.name}: one forward pass"] = lambda run=ann.run: run(batch)  # type: ignore[misc]
    timed = alternate(work, repeats)
    return [Row(f"{name}, ms", 1000 * timing.median, None, True, command) for name, timing in timed.items()]


if __name__ == "__main__":
    main()
