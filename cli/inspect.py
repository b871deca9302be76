"""``seenn inspect``: what is in a spiking network, or what would become of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import Session, model_options, usage, verb

if TYPE_CHECKING:
    from rich.table import Table

    from converter.inspect import Inspection


@click.command()
@click.argument("target", metavar="MODEL|SNN")
@click.option("--ckpt", type=click.Path(dir_okay=False), help="Trained weights; random ones do for a model.")
@click.option("--image-size", metavar="C,H,W", help="Of the model's input.  [default: the model's own, else 3,224,224]")
@model_options
@verb
def inspect(session: Session, target: str, ckpt: str | None, image_size: str | None, **options: Any) -> None:
    """Show every node of a spiking network, or what conversion would make of every node of a model.

    Needs no data. The exit code is 1 when the model cannot be converted.
    """
    from seenn.checkpoint import is_checkpoint

    if Path(target).is_file() or is_checkpoint(target):
        _show_network(session, target)
        return
    from converter.inspect import inspect_model
    from converter.load import ModelSpec, build_model, load_model, parse_model_kwargs

    with usage():
        shape = _shape(image_size) if image_size else None
        spec = ModelSpec(
            name=target,
            kwargs=parse_model_kwargs(options["model_kwargs"]),
            num_classes=options["num_classes"],
            in_chans=options["in_chans"],
            stem=options["stem"],
            pretrained=options["pretrained"],
        )
    loaded = load_model(spec, ckpt) if ckpt else build_model(spec, shape)
    if shape is None:
        own = getattr(loaded.module, "pretrained_cfg", None) or {}
        height, width = tuple(own.get("input_size", (3, 224, 224)))[1:]
        shape = (loaded.spec.in_chans or 3, height, width)
    found = inspect_model(loaded.module, shape)
    session.answer({"model": loaded.record, "input_shape": list(shape), **found.to_json()}, _table(target, found))


def _show_network(session: Session, path: str) -> None:
    from seenn.checkpoint import load
    from seenn.exits import policy_to_json
    from seenn.ops import IFNeuron

    checkpoint = load(path)
    network = checkpoint.network
    neurons = {site: network.graph[site].op for site in network.sites}
    policy = None if checkpoint.policy is None else policy_to_json(checkpoint.policy)
    result = {
        "input_shape": list(network.input_shape),
        "timesteps": checkpoint.timesteps,
        "policy": policy,
        "manifest": dict(checkpoint.manifest),
        "sites": {
            site: {
                "signed": op.signed,
                "max_spikes": op.max_spikes,
                "v_threshold_mean": float(op.v_threshold.mean()),
            }
            for site, op in neurons.items()
            if isinstance(op, IFNeuron)
        },
    }
    exits = policy or "none yet (seenn calibrate-exit)"
    session.answer(result, f"{network.describe()}\n\nT = {checkpoint.timesteps}, exit policy: {exits}")


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"--image-size is channels,height,width such as 3,224,224; got {text!r}")
    channels, height, width = map(int, parts)
    return channels, height, width


def _table(name: str, found: Inspection) -> Table:
    from rich.table import Table

    table = Table(title=f"{name}: {found.neurons} neurons, {found.parameters:,} parameters, {found.macs:,} MACs")
    for column in ("node", "op", "output", "becomes"):
        table.add_column(column)
    table.add_column("MACs", justify="right")
    for node in found.nodes:
        shape = "×".join(map(str, node.shape))
        table.add_row(node.node, node.op, shape, node.fate, f"{node.macs:,}" if node.macs else "")
    return table
