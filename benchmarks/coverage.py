"""Which families of timm and torchvision convert, and whether what comes out is the same function: docs/coverage.md.

    python benchmarks/coverage.py

Weights are random, re-scaled by ``random_weights.py``; so are the images. A model is converted (thresholds for T = 64,
no correction), and the spiking network's logits are compared with the ANN's after 4, 16 and 64 steps, on images that
calibration did not see: a network that computes the same function comes as 1/T nearer.

All other classifiers of torchvision are inspected only, which says what would become of their nodes.

Each model runs in a process of its own with a time limit. Results are appended to ``--lines`` one by one; a run that
is continued skips what is there.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row, write_results
from common import RESULTS
from families import OTHERS, SPIKING, TORCHVISION, TORCHVISION_SPIKING, Member, other_classifiers
from random_weights import convergence, lsuv_initialise

from converter import ConvertConfig, convert_module
from converter.inspect import inspect_model
from converter.load import ModelSpec, build_model
from seenn.analysis.synops import dense_cost, running_means
from seenn.capture import trace_exported
from seenn.errors import CalibrationError, SeennError
from seenn.files import write_text

COMMAND = "python benchmarks/coverage.py"
TIMESTEPS, LEVELS = (4, 16, 64), 32  # levels of all neurons
_LISTED = ", ".join(map(str, TIMESTEPS))
_SMALL = 64  # pixels a side
_SEEN, _SEEN_LARGE = 128, 16  # images that choose thresholds, up to there and above
SEEDS = 3  # of random weights, where a site of the first ones is silent
IMAGES = 8  # over which errors are averaged; thresholds are chosen on others
#: From the first to the last T the error must fall as T to this power (1/T is −1), or be rounding already.
POWER, ROUNDING, LARGEST = -0.6, 1e-4, 0.1
#: Must convert without functions of running means but maxima.
PURE = frozenset(m.name for m in SPIKING) | TORCHVISION_SPIKING
#: In the order in which they are examined: cheap ones first.
_ORDER = sorted((*SPIKING, *TORCHVISION, *OTHERS), key=lambda m: (m.size > _SMALL, m.name not in PURE, m.size))
MEMBERS = {member.name: member for member in _ORDER}
#: Looked at, not converted.
INSPECTED = {member.name: member for member in other_classifiers()}


def examine(member: Member) -> dict[str, Any]:
    """One row: what becomes of a model."""
    row, found = _row(member), None
    seen = _SEEN if member.size <= _SMALL else _SEEN_LARGE
    config = ConvertConfig(timesteps=TIMESTEPS[-1], correction="none", levels=LEVELS, encoder_levels=LEVELS)
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        images = torch.randn(seen + IMAGES, 3, member.size, member.size)
        model = build_model(ModelSpec(name=member.name, kwargs=member.kwargs, num_classes=10)).module
        row["parameters"] = sum(p.numel() for p in model.parameters())
        lsuv_initialise(model, images[:4])
        try:
            found = convert_module(model, images[:seen], config)
            break
        except CalibrationError as error:  # random weights may silence a gate on all images
            row |= {"fate": "refused", "reason": str(error)}
        except SeennError as error:
            return row | {"fate": "refused", "reason": str(error)}
    if found is None:
        return row
    row.pop("reason", None)
    cost = dense_cost(found.network)
    return row | {
        "fate": _fate(len(found.network.sites), running_means(found.network).values()),
        "sites": len(found.network.sites),
        "spiking_mac_share": cost.spiking_mac_share,
        "float64_difference": found.float64_difference,
        "errors": convergence(found.network, images[seen:], TIMESTEPS),
    }


def look(member: Member) -> dict[str, Any]:
    """One row of the second table: what ``seenn inspect`` says."""
    row = _row(member)
    model = build_model(ModelSpec(name=member.name, kwargs=member.kwargs)).module
    found = inspect_model(model, (3, member.size, member.size))
    row["parameters"] = found.parameters
    if hard := list(map(str, found.problems)):
        return row | {
            "fate": "refused",
            "reason": f"{len(hard)} calls are outside what a network can express:\n" + "\n".join(hard),
        }
    return row | {
        "fate": _fate(found.sites + found.encoders, found.running_means.values()),
        "sites": found.sites + found.encoders,
        "spiking_mac_share": found.spiking_mac_share,
    }


def _row(member: Member) -> dict[str, Any]:
    return {"family": member.family, "model": member.name, "size": member.size}


def _fate(sites: int, means: Iterable[str]) -> str:
    """``spiking``: affine layers, neurons and maxima alone; ``smooth``: with functions of running means."""
    return (
        "nothing spikes" if not sites else "smooth" if set(means) - {"max_pool2d", "adaptive_max_pool2d"} else "spiking"
    )


def power(errors: Sequence[float]) -> float:
    """The p of error ~ T^p, from the first to the last T."""
    return math.log(max(errors[-1], 1e-30) / max(errors[0], 1e-30)) / math.log(TIMESTEPS[-1] / TIMESTEPS[0])


def proven(row: Mapping[str, Any]) -> bool:
    """Whether the error falls about as 1/T."""
    errors = row["errors"]
    return errors[-1] <= ROUNDING or (errors[-1] <= LARGEST and power(errors) <= POWER)


def run(names: list[str], lines: Path, limit: float) -> None:
    """Examines the models that ``lines`` does not hold yet, each in a process of its own."""
    _warm_up()
    done = {row["model"] for row in read(lines)}
    lines.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in done:
            continue
        start = time.perf_counter()
        row = _apart((MEMBERS | INSPECTED)[name], limit) | {"seconds": round(time.perf_counter() - start, 1)}
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        click.echo(f"{name}: {row['fate']} {row.get('errors', '')} {row['seconds']} s", err=True)


def _warm_up() -> None:
    """Loads what every process needs, once: they are forks of this one, which therefore computes in one thread."""
    torch.set_num_threads(1)
    build_model(ModelSpec(name="resnet10t", num_classes=10))
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    trace_exported(layers.eval(), torch.zeros(1, 3, 8, 8))


def _apart(member: Member, limit: float) -> dict[str, Any]:
    """``examine`` in a process of its own, which starts with everything imported where the system can fork."""
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    answer, given = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(member, given))
    process.start()
    given.close()
    row = _row(member)
    try:
        if not answer.poll(limit):
            return row | {"fate": "not finished", "reason": f"took more than {limit:.0f} s"}
        found: dict[str, Any] = answer.recv()
        return found
    except EOFError:
        return row | {"fate": "failed", "reason": "the process died: see its messages above"}
    finally:
        process.kill()
        process.join()


def _answer(member: Member, given: Connection) -> None:
    try:
        row = examine(member) if member.name in MEMBERS else look(member)
    except Exception as error:  # whatever it is belongs into the table
        traceback.print_exc()
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        row = _row(member) | {"fate": "failed", "reason": reason}
    given.send(row)


def read(lines: Path) -> list[dict[str, Any]]:
    """The rows so far; the last one of a model counts."""
    if not lines.exists():
        return []
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    return list({row["model"]: row for row in rows}.values())


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    columns = f"traced | converted | MACs fed by spikes | error at T = {_LISTED} | proven | reason"
    header = f"| family | model, pixels | {columns} |"
    text = [header, "|---|---|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: row["family"]):
        accepted = "errors" in row
        errors = ", ".join(f"{100 * error:.2g} %" for error in row["errors"]) if accepted else ""
        share = f"{100 * row['spiking_mac_share']:.0f} %" if accepted else ""
        traced = "yes" if accepted or "outside what" in row.get("reason", "") else "no"
        reason = _short(row.get("reason", ""))
        checked = ("yes" if proven(row) else "**no**") if accepted else ""
        text.append(
            f"| {row['family']} | `{row['model']}`, {row['size']} | {traced} | {row['fate']} | {share} | {errors} "
            f"| {checked} | {reason} |"
        )
    return "\n".join(text) + "\n"


def short_table(rows: list[dict[str, Any]]) -> str:
    """The rows of models that were only inspected."""
    text = ["| model, pixels | fate | neuron sites | MACs fed by spikes | reason |", "|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: row["model"]):
        accepted = "sites" in row
        share = f"{100 * row['spiking_mac_share']:.0f} %" if accepted else ""
        text.append(
            f"| `{row['model']}`, {row['size']} | {row['fate']} | {row.get('sites', '')} | {share} "
            f"| {_short(row.get('reason', ''))} |"
        )
    return "\n".join(text) + "\n"


def _short(reason: str) -> str:
    """The first offender of a list, and how many there are."""
    first, *listed = reason.splitlines() or [""]
    text = f"{first} {listed[0].strip()}{' …' if listed[1:] else ''}" if listed else first
    return text.replace("|", "\\|")[:300]


def report(lines: Path, document: Path) -> list[Row]:
    """Writes the table and the figures; the rows with bars."""
    rows = [row for row in read(lines) if row["model"] in MEMBERS]
    inspected = [row for row in read(lines) if row["model"] in INSPECTED]
    accepted = [row for row in rows if "errors" in row]
    families, spiking = (
        {row["family"].split(" (")[0] for row in some if row["family"].startswith("timm")}
        for some in (accepted, [row for row in accepted if row["spiking_mac_share"] == 1.0])
    )
    pure = [row for row in rows if row["model"] in PURE]
    vision = [row for row in rows if row["family"].startswith("torchvision")]
    good = sum(row["fate"] == "spiking" and proven(row) for row in pure)
    shares = {
        "ReLU-only models converted without functions of running means and proven": good / len(PURE),
        "torchvision families accepted": sum("errors" in row for row in vision) / len(TORCHVISION),
        "accepted models that are proven": sum(map(proven, accepted)) / max(1, len(accepted)),
    }
    shares["torchvision's other classifiers that `seenn inspect` accepts"] = sum(
        "sites" in row for row in inspected
    ) / len(INSPECTED)
    figures = [
        Row.at_least("timm families accepted", len(families), 60, COMMAND),
        Row.at_least(
            "of them, families in which spikes feed all MACs behind the first layers", len(spiking), 96, COMMAND
        ),
        *(Row.at_least(f"share of {name}", value, 1.0, COMMAND) for name, value in shares.items()),
    ]
    seen = {row["model"] for row in (*rows, *inspected)}
    left = [name for name in (*MEMBERS, *INSPECTED) if name not in seen]
    introduction = (
        "# Coverage\n\n"
        f"Written by `{COMMAND}`. One model for each family (each module of `timm.models`) and each kind\n"
        "of torchvision classifier: a small one, on small random images, with random weights that keep layers alive;\n"
        f"where they silence a site on all images, others are drawn, {SEEDS} times at most.\n"
        "Error: how far the spiking network's mean logits are from the ANN's, relative to them, root mean square\n"
        f"over {IMAGES} images that thresholds were not chosen on; it falls as 1/T where both are the same function\n"
        f"(signed neurons of {LEVELS} levels, thresholds for T = {TIMESTEPS[-1]} from {_SEEN} other images, from\n"
        f"{_SEEN_LARGE} where they have more than {_SMALL} pixels a side). Proven:\n"
        f"it falls at least as T to the {POWER} in between, to less than {LARGEST:.0%}. Spiking: affine layers,\n"
        "neurons and maxima alone; smooth: with functions of running means. MACs fed by spikes: of those behind the\n"
        "first layers, which see the image itself, once an image.\n\n"
    )
    notes = "".join(f"- {row.name}: {row.value:.3g}{f' (bar {row.bar})' if row.bar else ''}\n" for row in figures)
    if left:
        notes += f"- not examined yet: {', '.join(f'`{name}`' for name in left)}\n"
    second = "\n## torchvision's other classifiers\n\nWhat `seenn inspect` says of them, without a conversion.\n\n"
    write_text(document, f"{introduction}{notes}\n{table(rows)}{second}{short_table(inspected)}")
    return figures


@click.command()
@click.option("--only", multiple=True, help="Models; all when not given.")
@click.option("--limit", default=600.0, show_default=True, help="Seconds for one model.")
@click.option("--lines", default=str(RESULTS / "coverage.jsonl"), show_default=True, help="Where rows are kept.")
@click.option("--document", default="docs/coverage.md", show_default=True, help="The table.")
@click.option("--out", default=str(RESULTS / "coverage"), show_default=True, help="Stem of the result files.")
def main(only: tuple[str, ...], limit: float, lines: str, document: str, out: str) -> None:
    """Examine the families that have not been yet, and write the table."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    unknown = [name for name in only if name not in MEMBERS | INSPECTED]
    if unknown:
        raise click.BadParameter(f"no member of a family: {', '.join(unknown)}")
    run(list(only or (*MEMBERS, *INSPECTED)), Path(lines), limit)
    rows = report(Path(lines), Path(document))
    write_results(out, "Coverage of model families", rows, notes=["The table is docs/coverage.md."])
    if not all(row.ok for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
