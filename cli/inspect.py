"""``seenn inspect``: what is in a spiking network, or what would become of a model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cli.common import Console, command, text_table
from cli.groups import NOT_NEEDED, ModelOptions, SnnFile
from cli.options import COUNT, PATH, Commas, argument, option, removed
from seenn.data.registry import KINDS

if TYPE_CHECKING:
    from converter.inspect import Inspection
    from seenn.snn import SNN


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """What is looked at."""

    target: str = argument(metavar="MODEL|SNN", required=True)
    ckpt: str | None = option("Trained weights: a file or folder; random ones do for a model.", type=PATH)
    image_size: tuple[int, ...] = option(
        "Of the model's input: one side in pixels, H,W or C,H,W; [C,]L of signals, F of tables.  "
        "[default: the model's own, else 3,224,224]",
        name="--input-size",
        short="--image-size",
        metavar="H,W",
        type=Commas(COUNT),
        default=(),
    )
    dialect: Literal["any", "norse", "sinabs", "snntorch"] | None = option(
        "Of a NIR file: the library that it was made for.  [default: as seenn recorded beside it]"
    )
    strict: bool = option("Refuse anything but affine layers and integrate-and-fire neurons.")
    analog_islands: bool = removed(NOT_NEEDED)


@command("What is in a network, or would become of a model.")
def inspect(console: Console, options: InspectOptions, model: ModelOptions) -> None:
    """Show every node of a spiking network, or what conversion would make of every node of a model.

    Needs no data, and lists all problems at once. The exit code is 1 when the model cannot be converted as asked.
    """
    target, ckpt = options.target, options.ckpt
    from seenn.errors import ModelError, UnsupportedError

    if Path(target).suffix.lower() in KINDS:
        kind = KINDS[Path(target).suffix.lower()]
        raise ModelError(
            f"{target} is a data set, expected a model or a spiking network: give convert --data {kind}:{target}"
        )
    from converter.load.onnx_source import is_onnx

    if (
        (Path(target).is_file() and not is_onnx(target))
        or target.endswith(".safetensors")
        or Path(target, "network.nir").is_file()
    ):
        _show_network(console, SnnFile(snn=target, dialect=options.dialect).load())
        return
    from converter.inspect import inspect_model
    from converter.known import completed, sample_shapes
    from converter.load import build_model, load_model

    spec, stated = model.spec(target), options.image_size
    if ckpt:
        loaded = load_model(spec, ckpt)
    else:
        loaded = build_model(spec, stated if len(stated) > 2 else None)
        full = completed(loaded.module, stated)
        if loaded.input_shape is None and full != stated:
            loaded = build_model(spec, full)
    shapes = sample_shapes(loaded, stated)
    for shape in shapes:
        try:
            found = inspect_model(loaded.module, shape, strict=options.strict, output=loaded.output)
            break
        except UnsupportedError:
            if shape == shapes[-1]:
                raise
    console.answer({"model": loaded.record, "input_shape": list(shape), **found.to_json()}, _table(target, found))
    if not found.convertible:
        raise SystemExit(1)


def _show_network(console: Console, snn: SNN) -> None:
    from seenn.analysis.report.text import policy as policy_text
    from seenn.analysis.synops import spiking_report
    from seenn.core.ops import Neuron
    from seenn.exits import policy_to_json

    network = snn.network
    neurons = {site: network.graph[site].op for site in network.sites}
    policy = None if snn.policy is None else policy_to_json(snn.policy)
    result = {
        "input_shape": list(network.input_shape),
        "timesteps": snn.timesteps,
        "policy": policy,
        **dict.fromkeys(("events", "popcount", "spikes")),
        **dict(snn.manifest.get("spiking", {})),
        **spiking_report(network),
        "manifest": dict(snn.manifest),
        "sites": {
            site: {"neuron": op.kind, **op.config(), "v_threshold_mean": float(op.v_threshold.detach().mean())}
            for site, op in neurons.items()
            if isinstance(op, Neuron)
        },
    }
    exits = policy_text(policy) if policy else "none yet (seenn calibrate-exit)"
    console.answer(result, f"{network.describe()}\n\nT = {snn.timesteps}; exit policy: {exits}")


_LEGEND = (
    "(spiking: neurons; synapse: weights that spikes travel through; product: spikes times spikes; folded: into a\n"
    "synapse; linear: acts on every step; running mean: acts on the mean of all steps; unsupported: stands in the\n"
    "way; + encoder: identity neurons carry the value as spikes)"
)


def _table(name: str, found: Inspection) -> str:
    columns = {"node": "", "op": "", "output": "", "MACs": ",", "becomes": ""}
    rows = (
        (n.node, n.op, "×".join(map(str, n.shape)), n.macs or None, n.fate + (" + encoder" * bool(n.encoder)))
        for n in found.nodes
    )
    fates = Counter(node.fate for node in found.nodes)
    lines = [
        text_table(columns, rows),
        _LEGEND,
        "",
        f"{name}: {', '.join(f'{count} {fate}' for fate, count in fates.items())}",
        f"{found.sites:,} spiking sites and {found.encoders:,} encoders with {found.neurons:,} neurons",
        f"{found.parameters:,} parameters, {found.macs:,} MACs per image",
        f"{100 * found.spiking_mac_share:.1f} % of the MACs behind the first layers are fed by spikes;",
        f"  analog MACs: {found.macs_once:,} once an image, {found.macs_per_step:,} in every step",
        *(f"note: {note}" for note in found.notes),
    ]
    if found.convertible:
        return "\n".join([*lines, "can be converted"])
    calls = "1 problem stands" if len(found.problems) == 1 else f"{len(found.problems)} problems stand"
    problems = (f"  {problem}" for problem in found.problems)
    return "\n".join([*lines, f"cannot be converted; {calls} in the way:", *problems])
