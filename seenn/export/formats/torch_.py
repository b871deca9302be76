"""``torch``: the parts as programs of ``torch.export``, for processes that have torch and not seenn."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from seenn.errors import ExportError
from seenn.export.about import stepwise
from seenn.export.exporter import FORMATS, REPORT, Format, Subject
from seenn.export.graphs import program
from seenn.export.parts import Encode, Step, example
from seenn.export.witness import BATCHES, free_runs, parts_of

READER = f"torch {torch.__version__} in a process of its own"

#: Runs the programs of the current folder on the batches of a file, and says whether seenn had a part in it.
SCRIPT = """
import json, sys, torch
source, target = sys.argv[1:]
about = json.load(open("network.json"))
encode, step = (torch.export.load(name).module() for name in ("encode.pt2", "step.pt2"))
found = []
for frames in torch.load(source, weights_only=True):
    steps, states = [], None
    for t in range(about["timesteps"]):
        if t < len(frames):
            begin = encode(frames[t])
            currents = begin[: len(about["currents"])]
            states = begin[len(currents) :] if states is None else states
        output, *rest = step(*currents, *states)
        states, spikes = rest[: len(about["states"])], rest[len(about["states"]) :]
        steps.append((output, *spikes))
    names = ("logits", *about["spikes"])
    found.append({name: torch.stack(each) for name, each in zip(names, zip(*steps))})
torch.save(found, target)
assert "seenn" not in sys.modules
"""


class _Torch(Format):
    suffix = "-torch"

    def write(self, subject: Subject, path: Path) -> None:
        for part in (Encode(subject), Step(subject)):
            found = program(part, example(part, subject))
            whole = io.BytesIO()  # on a full disk torch ends in frames of C++
            torch.export.save(found, whole)
            (path / f"{type(part).__name__.lower()}.pt2").write_bytes(whole.getvalue())
        (path / "network.json").write_text(json.dumps(stepwise(subject), indent=2) + "\n", encoding="utf-8")

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        batch = subject.batch
        frames = batch.inputs if batch.is_sequence else batch.inputs.unsqueeze(0)
        runs = []
        with TemporaryDirectory() as folder:
            source, target = Path(folder, "inputs.pt"), Path(folder, "found.pt")
            for size in BATCHES:
                torch.save([frames[:, part].contiguous() for part in parts_of(len(batch), size)], source)
                done = subprocess.run(
                    [sys.executable, "-I", "-W", "ignore", "-c", SCRIPT, str(source), str(target)],
                    cwd=path,
                    env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
                    raise ExportError(f"{READER} cannot run what was written ({said}): {REPORT}")
                runs.append(torch.load(target, weights_only=True))
        _, figures = free_runs(subject, READER, runs)
        return READER, {
            "images": len(batch), "timesteps": subject.timesteps, "batches": list(BATCHES), **figures
        }  # fmt: skip


FORMATS.register("torch")(_Torch())
