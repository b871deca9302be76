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

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude

COMMAND = "make browser SNN=seenn-demo/snn.safetensors"
PAGE = Path(__file__).parents[1] / "examples" / "onnx_in_a_browser"


@click.command()
@click.argument("snn", type=click.Path(exists=True, dir_okay=False))
@click.option("--chromium", default="/usr/bin/chromium", show_default=True)
@click.option("--npm", default="npm", show_default=True)
@click.option("--out", default=str(RESULTS / "browser"), show_default=True, help="Result files, without ending.")
def main(snn: str, chromium: str, npm: str, out: str) -> None:
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
    expected = int(own.labels), int(own.exit_timestep)
    wrong = len(found["problems"]) + (not pixels.any()) + ((label, steps) != expected)
    row = Row.at_most("page in headless Chromium: problems and answers that differ", wrong, 0.0, COMMAND)
    said = (
        f"the page: {found['answer']}; the network: {expected[0]} after {expected[1]} steps. {found['problems'] or ''}"
    )
    conclude(out, "The exported network in a browser", [row], [said.strip()])


if __name__ == "__main__":
    main()
