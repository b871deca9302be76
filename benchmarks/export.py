"""Every format for every network: verified, or refused with a list; answers on test images; and what an exit saves.

python benchmarks/export.py resnet18.safetensors lif.safetensors --reader norse=/path/to/python
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import onnxruntime
import torch

import seenn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row, write_results
from common import RESULTS

from seenn.data.provenance import load_recorded_data
from seenn.errors import ExportError, SeennError
from seenn.exits import FixedExit
from seenn.export.exporter import FORMATS, ExportOptions, export
from seenn.snn import SNN

TEST_IMAGES, TIMED, MEAN_STEPS = 2000, 60, 1.1
MOST_TIES, MOST_TIME = 0.2, 0.25


def cells(name: str, snn: SNN, readers: tuple[str, ...], images: int) -> Iterator[dict[str, object]]:
    """Each format's outcome: ``verified`` with its figures, or ``refused`` with its list; ``wrong`` is neither."""
    splits = load_recorded_data(snn.manifest, snn.preprocessing)
    batch = splits.calibration.batch(limit=images)
    for format in FORMATS.names():
        for reader in ("any", *readers) if format == "nir" else (None,):
            options = ExportOptions(reader=reader)
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder, f"net{FORMATS.get(format).suffix}")
                try:
                    found = export(snn, target, format, images=batch, options=options)
                    outcome, said = "verified", json.dumps({"reader": found.reader, **found.compared})
                except ExportError as error:
                    outcome, said = "refused by its reader", str(error)
                except SeennError as error:
                    outcome, said = "refused", str(error)
                if outcome != "verified" and list(Path(folder).iterdir()):
                    outcome = "wrong: something was left behind"
            own = (reader or "").partition("=")[0]
            yield {"network": name, "format": f"{format} {own}".strip(), "outcome": outcome, "said": said,
                   "seconds": round(time.perf_counter() - start, 1)}  # fmt: skip


def loop(snn: SNN, folder: str, name: str) -> onnxruntime.InferenceSession:
    """The network as one file, opened with one thread."""
    path = Path(folder, f"{name}.onnx")
    export(snn, path, "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers_row(name: str, snn: SNN, command: str) -> Row:
    """Labels and exits of the file beside those of ``predict --engine reference``."""
    test = load_recorded_data(snn.manifest, snn.preprocessing).test
    images = test.batch(limit=min(TEST_IMAGES, len(test))).inputs
    with tempfile.TemporaryDirectory() as folder:
        file = loop(snn, folder, "answers")
        parts = [file.run(None, {"images": part.numpy()}) for part in images.split(50)]
    labels, exits = (torch.from_numpy(np.concatenate([part[i] for part in parts])) for i in (0, 1))
    own = snn.predict(images, engine="reference")
    differ = (labels != own.labels) | (exits != own.exit_timestep)
    what = f"{name}: labels or exits that differ from predict --engine reference, % of {len(images)} test images"
    return Row.at_most(what, 100 * float(differ.double().mean()), MOST_TIES, command)


def time_row(name: str, snn: SNN, command: str) -> tuple[Row, str]:
    """Batch 1, one thread, alternating: the file with exits over the file without."""
    splits = load_recorded_data(snn.manifest, snn.preprocessing)
    early = snn.calibrate_exit(splits.exit, "gap", engine="reference", target_timesteps=MEAN_STEPS)
    never = early.with_policy(FixedExit(), timesteps=early.timesteps, engine="reference")
    images = [image.numpy() for image in splits.test.batch(limit=TIMED).inputs.split(1)]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    steps: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        files = {True: loop(early, folder, "early"), False: loop(never, folder, "never")}
        for image in images:
            for exits, file in files.items():
                start = time.perf_counter()
                found = file.run(None, {"images": image})
                seconds[exits].append(time.perf_counter() - start)
                if exits:
                    steps.append(int(found[1][0]))
    ratio = statistics.fmean(seconds[True]) / statistics.fmean(seconds[False])
    note = (
        f"{name}: {statistics.fmean(steps):.2f} of {early.timesteps} steps on average; "
        f"{1e3 * statistics.fmean(seconds[True]):.2f} ms with exits, {1e3 * statistics.fmean(seconds[False]):.2f} "
        f"without, over {len(images)} images at batch 1, one thread"
    )
    what = f"{name}: time of the onnx file at batch 1, over the same file without exits"
    return Row.at_most(what, ratio, MOST_TIME, command), note


@click.command()
@click.argument("networks", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--reader", "readers", multiple=True, metavar="NAME=PYTHON", help="Readers of NIR to try.")
@click.option("--images", default=14, show_default=True, help="Images that each cell is compared on.")
@click.option("--timed/--no-timed", default=True, help="Test images and time, of the first network.")
@click.option("--out", default=str(RESULTS / "export"), show_default=True, help="Result files, without ending.")
def main(networks: tuple[str, ...], readers: tuple[str, ...], images: int, timed: bool, out: str) -> None:
    """Writes OUT.md and OUT.json, and OUT-cells.json after every cell."""
    command = "python benchmarks/export.py " + " ".join(Path(path).name for path in networks)
    found: list[dict[str, object]] = []
    for path in networks:
        for cell in cells(Path(path).stem, seenn.load(path), readers, images):
            found.append(cell)
            click.echo(f"{cell['network']:24} {cell['format']:14} {cell['outcome']} ({cell['seconds']} s)")
            Path(f"{out}-cells.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    wrong = sum(str(cell["outcome"]).startswith("wrong") for cell in found)
    rows = [Row.at_most("cells that are neither verified nor refused with a list", float(wrong), 0.0, command)]
    notes = [f"{cell['network']}, {cell['format']}: {cell['outcome']}. {str(cell['said'])[:300]}" for cell in found]
    if timed:
        first = seenn.load(networks[0])
        rows.append(answers_row(Path(networks[0]).stem, first, command))
        row, note = time_row(Path(networks[0]).stem, first, command)
        rows.append(row)
        notes.append(note)
    for written in write_results(out, "Export", rows, notes=notes):
        click.echo(f"wrote {written}")


if __name__ == "__main__":
    main()
