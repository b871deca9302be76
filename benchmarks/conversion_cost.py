"""What conversion and running cost: time in ANN passes, and memory against T.

python benchmarks/conversion_cost.py --ckpt ann.pth
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch

import seenn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, Subject, conclude, load_subject, subject_options

from converter import ConvertConfig, convert_module
from seenn.snn import SNN

TIMESTEPS, IMAGES, BATCH, REPEATS = 8, 512, 64, 5


def time_row(subject: Subject, command: str) -> tuple[Row, str]:
    """Conversion against one ANN pass and T steps over the same images; medians of alternating runs."""
    images = subject.splits.calibration.images(limit=IMAGES)
    config = ConvertConfig(timesteps=TIMESTEPS)
    network = convert_module(subject.model, images, config).network
    ann, steps, whole = [], [], []
    with torch.no_grad():
        for _ in range(REPEATS):
            ann.append(_seconds(lambda: [subject.model(x) for x in images.split(BATCH)]))
            steps.append(_seconds(lambda: [network(x, TIMESTEPS) for x in images.split(BATCH)]))
            whole.append(_seconds(lambda: convert_module(subject.model, images, config)))
    ratios = sorted((w - s) / a for a, s, w in zip(ann, steps, whole, strict=True))
    note = (
        f"CPU seconds, minimum to maximum of {REPEATS} alternating runs over {IMAGES} images: "
        f"conversion {_range(whole)}, "
        f"ANN pass {_range(ann)}, {TIMESTEPS} SNN steps {_range(steps)}; ratio {ratios[0]:.2f} to {ratios[-1]:.2f}."
    )
    name = f"(conversion time - {TIMESTEPS} SNN steps) / ANN pass, {IMAGES} images, median"
    return Row.at_most(name, ratios[REPEATS // 2], 6.0, command), note


def memory_row(subject: Subject, command: str) -> tuple[Row, str]:
    """Peak resident memory of a run at T=64 over one at T=8, each in a process that only loads and runs."""
    images = subject.splits.calibration.images(limit=BATCH)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snn.safetensors"
        SNN(network=convert_module(subject.model, images).network).save(path)
        runs = [{t: _peak(path, t) for t in (0, 8, 64)} for _ in range(REPEATS)]  # in turn
    peak = {t: statistics.median(run[t] for run in runs) for t in runs[0]}
    growth = (peak[64] - peak[0]) / (peak[8] - peak[0])
    spread = {t: f"{min(run[t] for run in runs) / 1024:.0f} to {max(run[t] for run in runs) / 1024:.0f}" for t in peak}
    note = (
        f"Peak resident MiB, batch {BATCH}, minimum to maximum of {REPEATS} runs in turn: {spread[8]} at T=8, "
        f"{spread[64]} at T=64, and {spread[0]} for a process that loads the network and runs nothing. The medians "
        "enter the row, the last one subtracted from both."
    )
    return Row.at_most(f"peak memory of a run at T=64 / T=8, batch {BATCH}", growth, 1.05, command), note


def _peak(path: Path, timesteps: int) -> int:
    """KiB, as a fresh process of this script sees itself."""
    done = subprocess.run([sys.executable, __file__, "--run", path, "--timesteps", str(timesteps)],
                          check=True, capture_output=True, text=True)  # fmt: skip
    return int(done.stdout)


def _run(path: str, timesteps: int) -> None:
    snn = seenn.load(path)
    images = torch.randn(BATCH, *snn.network.input_shape, generator=torch.Generator().manual_seed(0))
    if timesteps:
        snn.predict(images, engine="reference", timesteps=timesteps, batch_size=BATCH)
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count the parent's peak too
    click.echo(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def _seconds(work: Callable[[], object]) -> float:
    """Of the processor, over all threads: what else the machine does is not counted."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _range(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f}"


@click.command()
@subject_options
@click.option("--out", default=str(RESULTS / "conversion_cost"), show_default=True, help="Stem of the result files.")
def main(ckpt: str, model: str, model_kwargs: tuple[str, ...], data: str, data_dir: str | None, out: str) -> None:
    """Measure what conversion costs."""
    subject = load_subject(ckpt, model, model_kwargs, data, data_dir)
    kwargs = "".join(f" --model-kwargs '{item}'" for item in model_kwargs)
    command = f"python benchmarks/conversion_cost.py --ckpt {Path(ckpt).name}{kwargs}"
    rows, notes = zip(*(measure(subject, command) for measure in (memory_row, time_row)), strict=True)
    conclude(out, f"Cost of converting {Path(ckpt).stem}, {data}", rows, notes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        _run(sys.argv[2], int(sys.argv[4]))
    else:
        main()
