"""Every format for every network: verified, or refused with a list; test images; faults; and what an exit saves.

    python benchmarks/export.py --make nets --ckpt half-width.safetensors   # trains and converts what is not there yet
    python benchmarks/export.py nets/*.safetensors --reader norse=/path/to/python
    python benchmarks/export.py --answers nets/fashion-if.safetensors --faults nets/burst-digits.safetensors
    python benchmarks/export.py --timed nets/resnet18-digits.safetensors

A command goes on where it was stopped: what lies in OUT-parts.json is not measured again. Networks that record no exit
rule stop where the confidence is 90 %.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import torch
from torch import nn

import seenn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row, write_results
from common import RESULTS

from seenn.data.provenance import load_recorded_data
from seenn.errors import ExportError, SeennError, UnsupportedError
from seenn.exits import ConfidenceExit, FixedExit
from seenn.export.exporter import FORMATS, ExportOptions, export
from seenn.snn import SNN

TEST_IMAGES, CHUNK, TIMED, MEAN_STEPS = 2000, 50, 60, 1.1
MOST_TIES, MOST_TIME = 0.2, 0.25
FULL_DISK = 4096  # bytes that a file may have

_VIT = "vit_tiny_patch16_224 --model-kwargs img_size=8,patch_size=2,embed_dim=48,depth=2,num_heads=3"
_HALF = (
    "convert --model resnet18 --model-kwargs channels=(32,64,128,256),stem_width=32 --stem cifar --ckpt CKPT "
    "--data fashion-mnist --neuron {} -T 8 --calibration-images 128 --check-images 200"
)
#: Names of networks, and the commands that make them; each but the last writes a file that the next one reads.
NETWORKS: dict[str, tuple[str, ...]] = {
    "resnet18-digits": (
        "train-ann --model resnet18 --epochs 5",
        "convert --model resnet18 --neuron if --ckpt BEFORE",
    ),
    "fashion-if": (_HALF.format("if"),),
    "fashion-burst": (_HALF.format("burst"),),
    "fashion-signed": (_HALF.format("signed"),),
    "lif-digits": ("train-direct --data digits --neuron lif --epochs 10",),
    "floored-digits": ("train-direct --data digits --neuron floored --epochs 10",),
    "burst-digits": ("train-direct --data digits --neuron burst --levels 8 --epochs 10 -T 2",),
    "poisson-digits": ("train-direct --data digits --neuron floored --encoding poisson --width 0.5 --epochs 15 -T 8",),
    "bare-digits": (
        "train-direct --model export:without_biases --data digits --neuron if --encoding poisson --epochs 15 -T 8",
    ),
    "mobilenetv2-digits": (
        "train-ann --model mobilenetv2_050 --data digits --input-size 32 --epochs 120 --opt adamw --lr 0.003",
        "convert --model mobilenetv2_050 --data digits --levels 15 --ckpt BEFORE",
    ),
    "vit-digits": (
        f"train-ann --model {_VIT} --data digits --epochs 60 --opt adamw --lr 0.004",
        f"convert --model {_VIT} --data digits --ckpt BEFORE",
    ),
}


def without_biases(in_chans: int, num_classes: int) -> nn.Module:
    """Two convolutions and a linear layer for images of 8 pixels, as SpiNNaker2 can run them."""
    return nn.Sequential(
        nn.Conv2d(in_chans, 16, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, num_classes, bias=False),
    )


def network(path: str) -> SNN:
    """What is in the file, with an exit rule."""
    snn = seenn.load(path)
    return (
        snn
        if snn.policy
        else snn.with_policy(ConfidenceExit(threshold=0.9), timesteps=snn.timesteps, engine="reference")
    )


class Parts:
    """What has been measured, by name, in a file that is written after every part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def of(self, name: str, measure: Callable[[], Any]) -> Any:
        """What ``measure`` gives, or gave."""
        if name not in self.found:
            self.found[name] = measure()
            self._path.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
            click.echo(f"{name}: {str(self.found[name])[:160]}")
        return self.found[name]


def make(folder: Path, ckpt: str | None) -> None:
    """Trains and converts the networks that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, commands in NETWORKS.items():
        before = ckpt
        for index, command in enumerate(commands):
            last = index == len(commands) - 1
            target = folder / f"{name}{'.safetensors' if last else '.pth'}"
            if "CKPT" in command and ckpt is None:
                click.echo(f"{name} is left out: give --ckpt")
                break
            if not target.exists():
                words = [str(before) if word in ("BEFORE", "CKPT") else word for word in command.split()]
                program = [sys.executable, "-c", "from cli.main import main; main()"]
                paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
                words += ["-o", str(target), "--quiet"]
                subprocess.run([*program, *words], check=True, env={**os.environ, "PYTHONPATH": paths})
            before = str(target)


def cell(snn: SNN, format: str, reader: str | None, images: int | None) -> dict[str, str]:
    """A format's outcome: ``verified`` with its figures, or ``refused`` with its list; ``wrong`` is neither."""
    limit = images or FORMATS.get(format).images
    batch = load_recorded_data(snn.manifest, snn.preprocessing).calibration.batch(limit=limit)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, f"net{FORMATS.get(format).suffix}")
        try:
            found = export(snn, target, format, images=batch, options=ExportOptions(reader=reader))
            outcome, said = "verified", json.dumps({"reader": found.reader, **found.compared})
        except ExportError as error:
            outcome, said = "refused by its reader", str(error)
        except SeennError as error:
            outcome, said = "refused", str(error)
        if outcome != "verified" and list(Path(folder).iterdir()):
            outcome = "wrong: something was left behind"
    return {"outcome": outcome, "said": said}


def matrix(parts: Parts, networks: tuple[str, ...], readers: dict[str, str], images: int | None) -> None:
    """Every format of every network."""
    kinds = {"onnx-qdq": ("onnxruntime", "openvino"), "speck": ("sinabs",)}
    for path in networks:
        snn = network(path)
        for format in FORMATS.names():
            for reader in {**kinds, "nir": ("any", "spinnaker2", *readers)}.get(format, ("",)):
                place = readers.get(reader)
                asked = f"{reader.partition('-')[0]}={place}" if place else reader or None
                name = f"cell {Path(path).stem} {format} {reader}".strip()
                parts.of(name, lambda s=snn, f=format, r=asked: cell(s, f, r, images))


def loop(snn: SNN, folder: str, name: str) -> onnxruntime.InferenceSession:
    """The network as one file, opened with one thread."""
    path = Path(folder, f"{name}.onnx")
    export(snn, path, "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers(parts: Parts, path: str) -> None:
    """Labels and exits of the file beside those of ``predict --engine reference``: how many of each chunk differ."""
    snn, name = network(path), Path(path).stem
    test = load_recorded_data(snn.manifest, snn.preprocessing).test
    count = min(TEST_IMAGES, len(test))
    images = test.batch(limit=count).inputs
    with tempfile.TemporaryDirectory() as folder:
        session: list[onnxruntime.InferenceSession] = []

        def chunk(start: int) -> list[int]:
            session.extend([] if session else [loop(snn, folder, "answers")])
            part = images[start : start + CHUNK]
            labels, exits = (torch.from_numpy(a) for a in session[0].run(None, {"images": part.numpy()})[:2])
            own = snn.predict(part, engine="reference")
            return [int(((labels != own.labels) | (exits != own.exit_timestep)).sum()), len(part)]

        for start in range(0, count, CHUNK):
            parts.of(f"answers {name} {start}", lambda s=start: chunk(s))


def faults(parts: Parts, path: str, readers: dict[str, str]) -> None:
    """What a cut file, a full disk, and a reader that is missing end in: the error, or what is wrong."""
    snn = seenn.load(path)
    batch = load_recorded_data(snn.manifest, snn.preprocessing).calibration.batch(limit=2)
    for format in FORMATS.names():
        asked = {"nir": "any", "speck": f"sinabs={readers.get('sinabs', sys.executable)}"}.get(format)
        parts.of(f"fault disk {format}", lambda f=format, a=asked: full(path, f, a))
        parts.of(f"fault cut {format}", lambda f=format, a=asked: cut(snn, batch, f, a))
    parts.of("fault reader", lambda: cell(snn, "nir", f"any={without()}", 2)["said"])


def without() -> str:
    """A Python that finds no packages."""
    script = Path(tempfile.mkdtemp(), "python")
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    script.chmod(0o755)
    return str(script)


def full(path: str, format: str, reader: str | None) -> str:
    """An export whose files may have a few kilobytes, as on a disk that is full; in a process of its own."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_DISK, FULL_DISK))

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, f"net{FORMATS.get(format).suffix}")
        program = [sys.executable, "-c", "from cli.main import main; main()", "export", path, "--to", format]
        words = ["-o", str(target), "--images", "2", *(["--reader", reader] if reader else [])]
        done = subprocess.run([*program, *words], capture_output=True, text=True, check=False, preexec_fn=limit)
        said = done.stderr.strip().splitlines()
        if done.returncode != 1 or len(said) != 1 or not said[0].startswith("error: "):
            return f"wrong: exit {done.returncode}, {done.stderr[-300:]}"
        return f"wrong: left {target.name}" if list(Path(folder).iterdir()) else said[0].replace(folder, "")


def cut(snn: SNN, batch: Any, format: str, reader: str | None) -> str:
    """What the reader says of each file that has lost its second half."""
    kind, said = FORMATS.get(format), []
    verify = type(kind).verify

    def broken(self: Any, subject: Any, path: Path) -> Any:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            whole = file.read_bytes()
            file.write_bytes(whole[: len(whole) // 2])
            try:
                verify(self, subject, path)
                said.append(f"{file.name}: not read" if file.suffix == ".json" else f"wrong: {file.name} is taken")
            except ExportError as error:
                said.append(str(error))
            file.write_bytes(whole)
        return verify(self, subject, path)

    type(kind).verify = broken  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            export(snn, Path(folder, f"net{kind.suffix}"), format, images=batch, options=ExportOptions(reader=reader))
            return " | ".join(said).replace(folder, "")
    except UnsupportedError as error:
        return str(error)
    finally:
        type(kind).verify = verify  # type: ignore[method-assign]


def exit_time(snn: SNN) -> dict[str, float]:
    """Milliseconds an image."""
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
                    steps.append(int(np.asarray(found[1])[0]))
    return {
        "steps": statistics.fmean(steps),
        "timesteps": early.timesteps,
        "with": 1e3 * statistics.fmean(seconds[True]),
        "without": 1e3 * statistics.fmean(seconds[False]),
        "images": len(images),
    }


@click.command()
@click.argument("networks", nargs=-1, type=click.Path(exists=True, dir_okay=False))
@click.option("--make", "folder", type=click.Path(path_type=Path), help="Make the networks of the list in this folder.")
@click.option("--ckpt", type=click.Path(exists=True), help="Half-width ResNet-18 for Fashion-MNIST, for --make.")
@click.option(
    "--reader", "readers", multiple=True, metavar="NAME=PYTHON",
    help="Readers of NIR to try; NAME-VERSION is another of one.",
)  # fmt: skip
@click.option("--images", type=int, help="Images that each cell is compared on.  [default: as of seenn export]")
@click.option("--answers", "asked", type=click.Path(exists=True), help="Network whose file answers test images.")
@click.option("--faults", "hurt", type=click.Path(exists=True), help="Network whose files are cut and find no space.")
@click.option("--timed", type=click.Path(exists=True), help="Network whose file is timed with and without exits.")
@click.option("--out", default=str(RESULTS / "export"), show_default=True, help="Result files, without ending.")
def main(
    networks: tuple[str, ...], folder: Path | None, ckpt: str | None, readers: tuple[str, ...], images: int | None,
    asked: str | None, hurt: str | None, timed: str | None, out: str,
) -> None:  # fmt: skip
    """Measures what is asked for, and writes OUT.md and OUT.json of all that has been measured."""
    if folder is not None:
        make(folder, ckpt)
    parts, places = Parts(Path(f"{out}-parts.json")), dict(reader.split("=", 1) for reader in readers)
    matrix(parts, networks, places, images)
    if asked:
        answers(parts, asked)
    if hurt:
        faults(parts, hurt, places)
    if timed:
        parts.of(f"time {Path(timed).stem}", lambda: exit_time(seenn.load(timed)))
    rows, notes = report(parts.found)
    for written in write_results(out, "Export", rows, notes=notes):
        click.echo(f"wrote {written}")


def report(found: dict[str, Any]) -> tuple[list[Row], list[str]]:
    """Rows and notes of everything that has been measured."""
    command, notes = "python benchmarks/export.py", []
    kinds: dict[str, dict[str, Any]] = {}
    for name, value in found.items():
        kind, _, rest = name.partition(" ")
        kinds.setdefault(kind, {})[rest] = value
    cells = kinds.get("cell", {})
    wrong = sum(one["outcome"].startswith("wrong") for one in cells.values())
    what = f"of {len(cells)} cells, those that are neither verified nor refused with a list"
    rows = [Row.at_most(what, float(wrong), 0.0, f"{command} NETWORKS")]
    chunks: dict[str, list[list[int]]] = {}
    for name, value in kinds.get("answers", {}).items():
        chunks.setdefault(name.rpartition(" ")[0], []).append(value)
    for name, pairs in chunks.items():
        differ, count = (sum(column) for column in zip(*pairs, strict=True))
        what = f"{name}: labels or exits that differ from predict --engine reference, % of {count} test images"
        rows.append(Row.at_most(what, 100 * differ / count, MOST_TIES, f"{command} --answers {name}.safetensors"))
    for name, one in kinds.get("time", {}).items():
        what = f"{name}: time of the onnx file at batch 1, over the same file without exits"
        ratio = one["with"] / one["without"]
        rows.append(Row.at_most(what, ratio, MOST_TIME, f"{command} --timed {name}.safetensors"))
        notes.append(
            f"{name}: {one['steps']:.2f} of {one['timesteps']} steps on average; {one['with']:.2f} ms with exits, "
            f"{one['without']:.2f} without, over {one['images']} images at batch 1, one thread"
        )
    if ends := kinds.get("fault", {}):
        bad = sum("wrong" in end for end in ends.values())
        what = f"of {len(ends)} faults, those that do not end in clear errors with nothing left behind"
        rows.append(Row.at_most(what, float(bad), 0.0, f"{command} --faults NETWORK"))
        notes.extend(f"{fault}: {end[:300]}" for fault, end in ends.items())
    notes.extend(f"{name}: {one['outcome']}. {one['said'][:300]}" for name, one in sorted(cells.items()))
    return rows, notes


if __name__ == "__main__":
    main()
