"""Readers of files from elsewhere, on damaged ones: a result or one clear error, in bounded time and memory.

    python benchmarks/fuzz.py --work WORK

Cases run in child processes with a limit on memory, one after another; a child that dies or stands still is a fault,
and another goes on behind it. A case is its kind and number: ``--kind onnx --first 812 --count 1`` runs it again. A run
that goes on tries its faults again. Seconds are those that a case computes for: on a busy machine others pass as well.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import selectors
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from damage import damaged

COMMAND = "python benchmarks/fuzz.py --work WORK"
SECONDS, MEMORY = 10, 2 << 30  # that one case may take
KINDS = {"safetensors": 100_000, "onnx": 20_000, "pth": 5_000, "inputs": 5_000}
BATCH = 5_000  # cases of a child, which takes seconds to start
READY = "ready"  # what a child says before its first case
SILENCE, START = 30 * SECONDS, 600  # seconds without a word after which one stands still, and before its first

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Original:
    """A whole file and what reads it; ``header``: it is of safetensors."""

    name: str
    content: bytes
    read: Read
    header: bool = False


def safetensors() -> list[Original]:
    """Spiking networks: of dense layers, of convolutions with every kind of neuron, and weights."""
    import torch
    from torch import nn

    import seenn
    from converter import convert_module
    from converter.config import ConvertConfig
    from converter.load.weights import read_weights, write_weights
    from seenn.data import Preprocessing
    from seenn.snn import SNN

    torch.manual_seed(0)

    def stored(neuron: str) -> bytes:
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, stride=2),
            nn.GELU(), nn.Flatten(), nn.Linear(4, 3),
        ).eval()  # fmt: skip
        images = torch.rand(16, 1, 8, 8)
        network = convert_module(model, images, ConvertConfig(neuron=neuron, timesteps=2)).network
        snn = SNN(
            network=network,
            preprocessing=Preprocessing(channels=1, height=8, width=8, mean=(0.2,), std=(0.5,)),
            manifest={"timesteps": 2, "class_names": ["a", "b", "c"]},
            policy=seenn.ConfidenceExit(threshold=0.7),
        )
        return _bytes(lambda path: snn.save(path), ".safetensors")

    def answer(path: Path) -> object:
        """The network of a file, if it is one, on the images that it asks for."""
        snn = seenn.load(path)
        shape = snn.network.input_shape
        return snn.predict(torch.zeros(2, *shape), engine="reference").labels

    files = [Original(f"snn-{name}", stored(name), answer, header=True) for name in ("if", "signed", "burst")]
    weights = _bytes(
        lambda path: write_weights(path, nn.Linear(4, 3).state_dict(), {"model": {"name": "resnet18"}}), ".safetensors"
    )
    return [*files, Original("weights", weights, read_weights, header=True)]


def onnx() -> list[Original]:
    """Small models of torch: convolutions, and attention."""
    import torch
    from torch import nn

    from converter.load import ModelSpec, load_model

    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.head, self.norm = nn.Linear(8, 24), nn.Linear(8, 3), nn.LayerNorm(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(self.norm(x.flatten(1, 2))).chunk(3, -1)
            return self.head(((q @ k.transpose(1, 2)).softmax(-1) @ v).mean(1))

    convolutions = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, groups=2), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip

    def written(model: nn.Module) -> bytes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _bytes(
                lambda path: torch.onnx.export(
                    model.eval(), (torch.rand(2, 1, 8, 8),), str(path), dynamo=False, input_names=["x"],
                    dynamic_axes={"x": {0: "batch"}},
                ),
                ".onnx",
            )  # fmt: skip

    def read(path: Path) -> object:
        return load_model(ModelSpec(name=str(path)))

    return [Original("convolutions", written(convolutions), read), Original("attention", written(Attention()), read)]


def pth() -> list[Original]:
    """State dicts of torch, new and old, with plain data beside them."""
    import argparse

    import torch
    from torch import nn

    from converter.load.weights import read_weights

    torch.manual_seed(0)
    state = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)).state_dict()
    wrapped = {"state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}}}

    def saved(content: object, **options: object) -> bytes:
        return _bytes(lambda path: torch.save(content, path, **options), ".pth")  # type: ignore[arg-type]

    return [
        Original("plain", saved(state), read_weights),
        Original("wrapped", saved(wrapped), read_weights),
        Original("protocol 4", saved(wrapped, pickle_protocol=4), read_weights),
        Original(
            "old, protocol 4", saved(state, _use_new_zipfile_serialization=False, pickle_protocol=4), read_weights
        ),
        Original("old", saved(state, _use_new_zipfile_serialization=False), read_weights),
    ]


def inputs() -> list[Original]:
    """Pictures, arrays and idx files."""
    import gzip
    import struct

    import numpy as np
    from PIL import Image

    from seenn.data import load_data
    from seenn.data.idx import read_idx
    from seenn.data.picture import read_picture

    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)

    def picture(kind: str, mode: str) -> bytes:
        written = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(written, kind)
        return written.getvalue()

    def archive() -> bytes:
        written = io.BytesIO()
        np.savez_compressed(
            written, x=draw.integers(0, 256, (400, 6, 6), dtype=np.uint8), y=np.arange(400) % 3
        )  # fmt: skip
        return written.getvalue()

    idx = struct.pack(">HBBIII", 0, 8, 3, 40, 6, 6) + draw.integers(0, 256, 40 * 36, dtype=np.uint8).tobytes()
    kinds = (("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("GIF", "P"), ("BMP", "L"), ("WEBP", "RGB"), ("TIFF", "L"))
    return [
        *(Original(f"{kind} {mode}", picture(kind, mode), read_picture) for kind, mode in kinds),
        Original("npz", archive(), lambda path: load_data(f"npz:{path}").test.images()),
        Original("idx", idx, lambda path: read_idx(path, 3)),
        Original("idx.gz", gzip.compress(idx, mtime=0), lambda path: read_idx(path, 3)),
    ]


SUFFIX = {"safetensors": ".safetensors", "onnx": ".onnx", "pth": ".pth", "inputs": ""}
ORIGINALS: Mapping[str, Callable[[], list[Original]]] = {
    "safetensors": safetensors, "onnx": onnx, "pth": pth, "inputs": inputs,
}  # fmt: skip


def _bytes(write: Callable[[Path], object], suffix: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"original{suffix}"
        write(path)
        return path.read_bytes()


def child(kind: str, first: int, count: int, folder: Path) -> None:
    """Runs cases and says of each, in a line, its number and what became of it: read, refused, or a fault."""
    import logging

    from seenn.errors import SeennError

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    originals = ORIGINALS[kind]()
    for original in originals:  # whole files are read, or nothing is shown by what follows
        path = folder / f"{kind}{_suffix(kind, original)}"
        path.write_bytes(original.content)
        original.read(path)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    signal.signal(signal.SIGPROF, _too_long)
    print(READY, flush=True)
    for number in range(first, first + count):
        draw = random.Random(f"{kind} {number}")
        original = draw.choice(originals)
        path = folder / f"{kind}{_suffix(kind, original)}"
        path.write_bytes(damaged(original.content, draw, header=original.header))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            original.read(path)
            told = "read"
        except SeennError:
            told = "refused"
        except BaseException as error:  # anything at all is a fault, and is told
            told = f"fault {original.name}: {''.join(traceback.format_exception_only(error)).strip()}"
            told += f" at {traceback.extract_tb(error.__traceback__)[-1].filename}" if error.__traceback__ else ""
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        print(number, json.dumps(told), flush=True)


def _suffix(kind: str, original: Original) -> str:
    return SUFFIX[kind] or f".{original.name.split()[0].lower().replace('jpeg', 'jpg')}"


def _too_long(*_: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")


def campaign(kind: str, first: int, count: int, folder: Path, told: Callable[[int, str], None]) -> None:
    """All cases, in children; ``told`` hears what became of each."""
    due = first
    while due < first + count:
        size = min(BATCH, first + count - due)
        command = [sys.executable, __file__, "--work", str(folder), "--kind", kind, "--first", str(due)]
        command += ["--count", str(size), "--child"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started, lines = due, _Lines(process)
        for line in lines:
            if line == READY:
                continue
            number, _, text = line.partition(" ")
            told(int(number), json.loads(text))
            due = int(number) + 1
        code = process.wait()
        if due < started + size:
            if not lines.ready:
                raise click.ClickException(f"the reader of whole {kind} files fails: run {' '.join(command)}")
            told(due, f"fault: the process ended with {code}" + (", standing still" if lines.stuck else ""))
            due += 1


class _Lines:
    """The lines of a child, which is killed once it has said nothing for much longer than a case may take."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self.stuck, self.ready = process, False, False

    def __iter__(self):  # type: ignore[no-untyped-def]
        assert self._process.stdout is not None
        left, descriptor = b"", self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while True:
                if not selector.select(SILENCE if self.ready else START):
                    self.stuck = True
                    self._process.kill()
                piece = os.read(descriptor, 1 << 16)
                *lines, left = (left + piece).split(b"\n")
                self.ready |= bool(lines)
                yield from (line.decode() for line in lines)
                if not piece:
                    return


@click.command()
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder for files and what is known.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="All when not given.")
@click.option("--first", default=0, show_default=True, help="Number of the first case.")
@click.option("--count", type=click.IntRange(min=1), help="Cases of a kind; as many as the bar asks for if not given.")
@click.option("--child", "is_child", is_flag=True, hidden=True)
@click.option("--out", help="Stem of the result files; benchmarks/results/fuzz where all cases run.")
def main(work: str, kinds: Sequence[str], first: int, count: int | None, is_child: bool, out: str | None) -> None:
    """Damage files, read them, write the table; a run that was cut off goes on."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    if is_child:
        assert count is not None
        child(kinds[0], first, count, folder)
        return
    rows: list[Row] = []
    faults: list[str] = []
    for kind in kinds or KINDS:
        known = _Known(folder / f"{kind}-{first}.json")
        total = count or KINDS[kind]
        for number in known.again():
            campaign(kind, number, 1, folder, known.add)
        campaign(kind, first + known.done, total - known.done, folder, known.add)
        known.save()
        faults += [f"- {kind} {number}: {text}" for number, text in known.faults.items()]
        name = f"{kind}: {total:,} damaged files"
        rows += [
            Row.at_most(f"{name}: faults", len(known.faults), 0, COMMAND),
            Row(f"{name}: read all the same, share", known.read / total, None, True, COMMAND),
        ]
    click.echo("\n".join(faults) or "no faults")
    if out is None and not (kinds or count or first):
        out = "fuzz"
    if out is not None:
        from common import RESULTS, conclude

        conclude(str(RESULTS / out), "Damaged files", rows, [])
    elif faults:
        raise SystemExit(1)


class _Known:
    """What became of the cases so far, kept in a file."""

    def __init__(self, path: Path) -> None:
        kept = json.loads(path.read_text()) if path.is_file() else {}
        self._path, self.done, self.read = path, kept.get("done", 0), kept.get("read", 0)
        self.faults: dict[str, str] = kept.get("faults", {})

    def again(self) -> list[int]:
        """The cases that were faults, which are none any more."""
        numbers = list(map(int, self.faults))
        self.done -= len(numbers)
        self.faults = {}
        return numbers

    def add(self, number: int, told: str) -> None:
        self.done += 1
        self.read += told == "read"
        if told.startswith("fault"):
            self.faults[str(number)] = told
        if self.done % BATCH == 0:
            self.save()

    def save(self) -> None:
        self._path.write_text(json.dumps({"done": self.done, "read": self.read, "faults": self.faults}))


if __name__ == "__main__":
    main()
