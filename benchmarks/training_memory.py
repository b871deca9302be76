"""Peak memory of backpropagation through time, with and without ``--save-memory``.

    python benchmarks/training_memory.py

``train-direct`` and ``finetune`` go layer by layer through all steps, and keep the spikes behind some layers only; the
rest is computed anew in the backward pass. Each measurement is a process of its own: the largest resident memory during
three training steps, minus what the process held before the first. glibc hands every tensor that is freed back to the
system here (``MALLOC_MMAP_THRESHOLD_``), so that this is what the training holds; with glibc's own settings, which are
measured beside it, freed memory in pieces is kept and counts as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude

PROGRAM = """
import json, resource, sys, time
import torch
from torch.nn import functional as F
from seenn.batch import Batch
from seenn.capture import capture
from seenn.core.ops import LIFNeuron
from seenn.models import build_spiking_model
from seenn.training import DirectConfig, OverTime

save_memory, timesteps, batch = sys.argv[1] == "recompute", int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
size = {"in_chans": 1, "num_classes": 10, "image_size": (28, 28)}
model = build_spiking_model("spiking_resnet19", LIFNeuron, width=0.125, **size)
network = capture(model.train(), torch.zeros(2, 1, 28, 28))
module = OverTime(network, DirectConfig(timesteps=timesteps, save_memory=save_memory))
images, labels = torch.rand(batch, 1, 28, 28), torch.randint(0, 10, (batch,))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def step(images, labels):
    loss = sum(F.cross_entropy(logits, labels) for logits in module(Batch(images)))
    loss.backward()
    module.zero_grad(set_to_none=True)

step(images[:2], labels[:2])  # libraries allocate what they keep
idle = peak()
start = time.perf_counter()
for _ in range(3):
    step(images, labels)
print(json.dumps({"peak": peak() - idle, "seconds": (time.perf_counter() - start) / 3}))
"""


#: Blocks of this many bytes and more are the system's again as soon as they are freed.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def measure(how: str, timesteps: int, batch: int, environment: Mapping[str, str]) -> dict[str, float]:
    """Bytes at the peak beyond an idle process, and seconds a step."""
    command = [sys.executable, "-c", PROGRAM, how, str(timesteps), str(batch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **environment})
    result: dict[str, float] = json.loads(done.stdout)
    return result


@click.command()
@click.option("--batch-size", default=32, show_default=True)
@click.option("--out", default=str(RESULTS / "training_memory"), show_default=True, help="Stem of the result files.")
def main(batch_size: int, out: str) -> None:
    """Measure at T = 8, and T = 2, 4 for the growth."""
    line = f"python benchmarks/training_memory.py --batch-size {batch_size}"
    rows, notes = [], []
    for timesteps in (2, 4, 8):
        plain, saved = (measure(how, timesteps, batch_size, EXACT) for how in ("remember", "recompute"))
        share = 100 * saved["peak"] / plain["peak"]
        name = f"train-direct, T={timesteps}: peak memory with --save-memory, share of that without (%)"
        rows.append(Row.at_most(name, share, 45.0, line) if timesteps == 8 else Row(name, share, None, True, line))
        notes.append(
            f"train-direct, T={timesteps}: {plain['peak'] / 1e6:.0f} MB in {plain['seconds']:.2f} s a step, with "
            f"--save-memory {saved['peak'] / 1e6:.0f} MB in {saved['seconds']:.2f} s (times: for orientation)."
        )
        click.echo(notes[-1], err=True)
    plain, saved = (measure(how, 8, batch_size, {}) for how in ("remember", "recompute"))
    name = "train-direct, T=8: the same with glibc's own settings, which keep freed memory (%)"
    rows.append(Row(name, 100 * saved["peak"] / plain["peak"], None, True, line))
    notes.append("train-direct: ResNet-19 of width 0.125, leaky neurons.")
    title = f"Memory of backpropagation through time, 28×28 images, batch {batch_size}"
    conclude(out, title, rows, notes)


if __name__ == "__main__":
    main()
