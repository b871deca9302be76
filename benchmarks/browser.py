"""The page of examples/onnx_in_a_browser in headless Chromium: it answers as the network does for the same pixels.

python benchmarks/browser.py seenn-demo/snn.safetensors --chromium /usr/bin/chromium
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import torch

import seenn

PAGE = Path(__file__).parents[1] / "examples" / "onnx_in_a_browser"


@click.command()
@click.argument("snn", type=click.Path(exists=True, dir_okay=False))
@click.option("--chromium", default="/usr/bin/chromium", show_default=True)
@click.option("--npm", default="npm", show_default=True)
def main(snn: str, chromium: str, npm: str) -> None:
    """SNN is a network for gray 8×8 pictures, as `seenn demo` makes it."""
    network = seenn.load(snn)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PAGE, folder, dirs_exist_ok=True)
        network.export(Path(folder, "snn.onnx"), to="onnx", raw_pixels=True)
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
        done = subprocess.run(["node", "check.mjs", chromium], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(done.stdout)
    pixels = torch.tensor(found["pixels"], dtype=torch.uint8).view(1, 1, *network.network.input_shape[1:])
    own = network.predict(pixels, engine="reference")
    label, steps = map(int, re.findall(r"^(\d+) .*step (\d+)$", found["answer"])[0])
    click.echo(f"the page: {found['answer']}; the network: {int(own.labels)} after {int(own.exit_timestep)} steps")
    if found["problems"] or not pixels.any() or (label, steps) != (int(own.labels), int(own.exit_timestep)):
        sys.exit(f"the page answers otherwise {found['problems']}")


if __name__ == "__main__":
    main()
