"""Has the Python of a reader write a NIR file, and read and run it."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seenn.errors import ExportError, UnsupportedError
from seenn.export.exporter import Subject

FILE = "network.nir"
SCRIPT = Path(__file__).with_name("nir_process.py")  # imported here it would want nir


def reader_of(subject: Subject, default: str = "any") -> tuple[str, str]:
    """The reader's name, and the Python that has it: ``sinabs=/path/to/python``, by default this one."""
    name, _, python = (subject.options.reader or default).partition("=")
    return name, python or sys.executable


def run(
    subject: Subject,
    plan: Mapping[str, Any],
    arrays: Mapping[str, Any],
    path: Path,
    *,
    write: bool,
    default: str = "any",
) -> tuple[str, dict[str, Tensor], Any]:
    """Writes ``network.nir`` into the folder ``path``, or reads it, and runs all steps.

    Returns:
        What ran it; ``logits`` and ``spikes.SITE``, ``[T, N, ...]``; and what the process says beside.

    Raises:
        UnsupportedError: the reader is not installed.
        ExportError: it cannot read or run the file, or gives values of other shapes.
    """
    name, python = reader_of(subject, default)
    batch = subject.batch
    inputs = (batch.inputs if batch.is_sequence else batch.inputs[None]).numpy()
    with TemporaryDirectory() as folder:
        asked = {**plan, "reader": name, "timesteps": subject.timesteps, "write": write}
        Path(folder, "plan.json").write_text(json.dumps(asked), encoding="utf-8")
        np.savez(Path(folder, "arrays.npz"), inputs=inputs, **arrays)
        if not write:
            shutil.copy(path / FILE, Path(folder, FILE))
        command = [python, "-I", "-W", "ignore", str(SCRIPT), folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UnsupportedError(
                f"{python} cannot be run ({error.strerror}): give the Python that has {name}, "
                f"--reader {name}=/path/to/python"
            ) from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            extra = "nir" if name in ("any", "spinnaker2") else name
            missing = f"pip install 'seenn[{extra}]', or --reader {name}=/path/to/python"
            if "ModuleNotFoundError" in said:
                raise UnsupportedError(f"the reader {name} is not installed for {python} ({said}): {missing}")
            raise ExportError(f"{name} cannot run what was written ({said}): use another --reader")
        if write:
            shutil.copy(Path(folder, FILE), path / FILE)
        answer = json.loads(Path(folder, "answer.json").read_text(encoding="utf-8"))
        said = f"{answer['reader']} (nir {answer['nir']})"
        shapes = {"logits": subject.network.shapes[subject.network.graph.output]}
        shapes |= {f"spikes.{site}": subject.network.shapes[site] for site in plan["sites"]}
        found = {}
        with np.load(Path(folder, "found.npz")) as file:
            for key, shape in shapes.items():
                values = file[key] if key in file.files else np.empty(0)
                expected = (subject.timesteps, len(batch), *shape)
                if values.size != math.prod(expected):
                    raise ExportError(
                        f"{said} gives {key} of shape {list(values.shape)}, expected {list(expected)}: it reads the "
                        "file otherwise; use another version, or another --reader"
                    )
                found[key] = torch.from_numpy(values).reshape(expected)
    return said, found, answer.get("chip")
