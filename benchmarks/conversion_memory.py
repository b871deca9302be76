"""What converting a network of ImageNet's size costs: ResNet-50 at 224 pixels, peak memory and time in ANN passes.

    python benchmarks/conversion_memory.py

torchvision's ResNet-50 with random weights of unit gain, and noise: neither memory nor time depends on what they mean.
The conversion runs in a process of its own, on one thread. Its peak is the whole process's, with Python, torch and the
images; time is the processor's, of ``convert_module``, against that of the ANN over as many images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude

TIMESTEPS, BATCH = 8, 16
MOST_GIB, PASSES = 5.0, 6 + 2 * TIMESTEPS
PROGRAM = """
import json, sys, time
import torch, torchvision
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from random_weights import lsuv_initialise
from converter import ConvertConfig, convert_module

timesteps, count, batch = map(int, sys.argv[2:])
torch.set_num_threads(1)
torch.manual_seed(0)
images = torch.randn(count, 3, 224, 224)
model = lsuv_initialise(torchvision.models.resnet50(), images[:4])

def peak():
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024

start = time.process_time()
with torch.no_grad():
    for part in images.split(batch):
        model(part)
ann, before = time.process_time() - start, peak()
start = time.process_time()
found = convert_module(model, images, ConvertConfig(timesteps=timesteps))
print(json.dumps({
    "ann": ann, "convert": time.process_time() - start, "before": before, "peak": peak(),
    "sites": len(found.network.sites),
}))
"""


@click.command()
@click.option("--images", default=512, show_default=True, help="Calibration images.")
@click.option("--out", default=str(RESULTS / "conversion_memory"), show_default=True, help="Stem of the result files.")
def main(images: int, out: str) -> None:
    """Measure what converting ResNet-50 costs."""
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(TIMESTEPS), str(images), str(BATCH)]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one).stdout)
    line = "python benchmarks/conversion_memory.py" + ("" if images == 512 else f" --images {images}")
    name = f"ResNet-50, 224 pixels, {images} images, T = {TIMESTEPS}"
    rows = [
        Row.at_most(f"{name}: peak resident memory, GiB", found["peak"] / 2**30, MOST_GIB, line),
        Row.at_most(
            f"{name}: CPU time of the conversion / of an ANN pass", found["convert"] / found["ann"], PASSES, line
        ),
    ]
    note = (
        f"CPU seconds on one thread: conversion {found['convert']:.0f}, ANN pass {found['ann']:.1f} ({BATCH} images at "
        f"once). Before the conversion the process held {found['before'] / 2**30:.2f} GiB at most. "
        f"{found['sites']} sites; random weights, noise."
    )
    conclude(out, "Memory and time of converting ResNet-50", rows, [note])


if __name__ == "__main__":
    main()
