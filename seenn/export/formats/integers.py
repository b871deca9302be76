"""``integers``: int8 weights, integer thresholds and the graph as one ``.npz``, with test vectors, for hardware."""

from __future__ import annotations

import copy
import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seenn.core.ops import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    Concat,
    MaxPool2d,
    Mean,
    Op,
    Rearrangement,
    StatelessOp,
)
from seenn.errors import ExportError, UnsupportedError
from seenn.export import interpreter
from seenn.export.about import about
from seenn.export.exporter import FORMATS, REPORT, Format, Subject
from seenn.runtime import Engine
from seenn.runtime.kernels.fused import FusedSlots
from seenn.runtime.lowering.lowering import obstacles
from seenn.runtime.lowering.program import (
    EXACT_LIMIT,
    WIDE_LIMIT,
    Buffer,
    Compute,
    Fire,
    GainTerm,
    Instruction,
    Program,
    Sum,
    SynapseTerm,
)

VERSION = 1
VECTORS = 4  # inputs whose spikes are in the file, at most


class _Integers(Format):
    suffix = ".npz"

    def violations(self, subject: Subject) -> Iterable[str]:
        network = subject.network
        if network.initial_steps:
            yield f"{network.initial_steps} initial steps in float: convert with another --correction than cos or srp"
        for problem in obstacles(network):
            yield f"{problem}: without analog islands, leaks and interpolation there is an integer form"
        if subject.batch.is_sequence:
            yield "one frame a timestep, and the test vectors hold constant inputs: use --to onnx-step"

    def write(self, subject: Subject, path: Path) -> None:
        engine = _engine(subject)
        writer = _Writer(_program(engine))
        graph = {
            "format": "seenn-integers",
            "version": VERSION,
            "sites": list(subject.network.sites),
            **about(subject),
            **writer.graph(),
        }
        few = replace(subject, batch=subject.batch[:VECTORS])
        arrays = {**writer.arrays, **{f"vectors/{name}": values for name, values in _vectors(few, engine).items()}}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, values in arrays.items():
                with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.ascontiguousarray(values), allow_pickle=False)
            file.writestr("graph.json", json.dumps(graph, indent=1))

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        reader = f"NumPy {np.__version__} (seenn.export.interpreter)"
        try:
            interpreter.check(str(path))
            network = interpreter.Network(str(path))
            found = _vectors(subject, _engine(subject))
            counts, outputs = network.run(found.pop("inputs"), subject.timesteps)
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise ExportError(f"{reader} cannot run what was written ({error}): {REPORT}") from error
        spikes = 0
        for name, own in found.items():
            theirs = np.stack(outputs if name == network.graph["output"] else counts[name])
            if not np.array_equal(theirs, own):
                raise ExportError(
                    f"{reader} computes otherwise: {int((theirs != own).sum())} of {own.size} integers of {name} "
                    f"differ from the int8 engine's: {REPORT}"
                )
            spikes += own.size if name in counts else 0
        figures = {"images": len(subject.batch), "timesteps": subject.timesteps, "spikes": spikes, "differences": 0}
        return reader, {**figures, "test_vectors": min(VECTORS, len(subject.batch))}


def _engine(subject: Subject) -> Engine:
    network = copy.deepcopy(subject.snn.network).cpu()
    return replace(subject.snn, network=network).make_engine("int8", timesteps=subject.timesteps)


def _program(engine: Engine) -> Program:
    found = getattr(engine, "program", None)
    assert isinstance(found, Program)
    return found


def _vectors(subject: Subject, engine: Engine) -> dict[str, Any]:
    """Integer inputs ``[N, C, H, W]``; by site the counts ``[T, N, ...]``; and the outputs of every step."""
    program, inputs = _program(engine), subject.batch.inputs
    assert program.input_scale is not None
    slots = engine.open(len(inputs))
    assert isinstance(slots, FusedSlots)
    slots.load(torch.arange(len(inputs)), inputs)
    seen: dict[str, list[Tensor]] = {}

    def see(site: str, first: int, counts: Tensor, *, initial: bool = False) -> None:
        seen.setdefault(site, []).append(counts.clone())

    totals = [torch.zeros_like(slots.total)]
    for _ in range(subject.timesteps):
        slots.step(torch.arange(len(inputs)), observe=see)
        totals.append(slots.total.clone())
    shape = subject.timesteps, len(inputs)
    found = {site: _integers(torch.cat(parts).view(*shape, *parts[0].shape[1:])) for site, parts in seen.items()}
    steps = torch.stack(totals).diff(dim=0)
    return {"inputs": _integers(program.input_scale.quantize(inputs)), **found, program.output: _integers(steps)}


class _Writer:
    """A lowered program as JSON and arrays."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.arrays: dict[str, Any] = {}

    def graph(self) -> dict[str, Any]:
        """All of it."""
        program = self._program
        scale = program.input_scale
        assert scale is not None
        return {
            "input": {"shape": list(program.input_shape), "step": list(scale.step), "offset": list(scale.offset),
                      "low": scale.low, "high": scale.high},
            "buffers": {
                name: {"shape": list(buffer.shape), "life": buffer.life, "bits": _bits(buffer),
                       "start": None if buffer.start is None else self._array(f"start/{name}", buffer.start)}
                for name, buffer in program.buffers.items()
            },
            "encode": [self._instruction(i) for i in program.encode],
            "step": [self._instruction(i) for i in program.step],
            "output": program.output,
            "output_scale": program.output_scale,
            "max_timesteps": program.max_timesteps,
        }  # fmt: skip

    def _instruction(self, i: Instruction) -> dict[str, Any]:
        if isinstance(i, Sum):
            return {"do": "sum", **self._sum(i)}
        if isinstance(i, Fire):
            return {
                "do": "fire",
                "target": i.target,
                "membrane": i.membrane,
                "current": None if i.current is None else self._sum(i.current),
                "taken_back": i.taken_back,
                "threshold": self._array(f"threshold/{i.target}", i.threshold),
                "fewest": i.fewest,
                "most": i.most,
            }
        return self._compute(i)

    def _sum(self, i: Sum) -> dict[str, Any]:
        terms = [self._term(f"{i.target}/{number}", term) for number, term in enumerate(i.terms)]
        constant = None if i.constant is None else self._array(f"constant/{i.target}", i.constant)
        return {"target": i.target, "accumulate": i.accumulate, "terms": terms, "constant": constant}

    def _term(self, name: str, term: SynapseTerm | GainTerm) -> dict[str, Any]:
        if isinstance(term, GainTerm):
            return {"source": term.source, "gain": self._array(f"gain/{name}", term.gain)}
        unit = torch.ones(len(term.weight), dtype=torch.float64) if term.unit is None else term.unit
        levels = term.weight / unit.view(-1, *[1] * (term.weight.dim() - 1))
        g = term.geometry
        return {
            "source": term.source,
            "layer": term.layer,
            "weight": self._array(f"weight/{name}", levels),
            "unit": self._array(f"unit/{name}", unit),
            "channels": g.channels,
            "stride": list(g.stride),
            "padding": list(g.padding),
            "dilation": list(g.dilation),
            "groups": g.groups,
        }

    def _compute(self, i: Compute) -> dict[str, Any]:
        if i.what == "leak":
            (factor,), (before,) = i.constants, i.state
            self.arrays[f"factor/{i.target}"] = factor.float().numpy()
            wide = self._program.buffers[before].dtype == torch.int32
            return {"do": "leak", "target": i.target, "source": i.sources[0], "before": before,
                    "factor": f"factor/{i.target}", "wide": wide}  # fmt: skip
        assert i.op is not None
        shapes = [self._program.buffers[name].shape for name in i.sources]
        if (i.what == "write" and isinstance(i.op, Rearrangement | Concat)) or _is_nearest(i.op):
            assert isinstance(i.op, StatelessOp)
            self.arrays[f"index/{i.target}"] = _index(i.op, shapes)
            return {"do": "gather", "target": i.target, "sources": list(i.sources), "index": f"index/{i.target}"}
        how = _windows(i.op, shapes[0], self._program.buffers[i.target].shape)
        if how is None:
            raise UnsupportedError(f"{i.target} ({i.op.kind}) has no form in windows: use --to onnx")
        found = {"target": i.target, "source": i.sources[0], "windows": how}
        if i.what == "add_up":
            own = self._array(f"factor/{i.target}", i.constants[0]) if i.constants else None
            return {"do": "add_up", **found, "factor": own}
        if i.what == "difference":
            total, before = i.state
            return {"do": "max_difference", **found, "total": total, "before": before}
        return {"do": "max", **found}

    def _array(self, name: str, values: Tensor) -> str:
        self.arrays[name] = _integers(values)
        return name


def _integers(values: Tensor) -> Any:
    """As the smallest type that holds them."""
    found = values.detach().double().numpy()
    if not np.array_equal(found, np.round(found)):
        raise ExportError(f"a value of the integer program is no integer: {REPORT}")
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 0.0)
    kinds = (np.int8, np.uint8, np.int16, np.int32, np.int64)
    return found.astype(next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max))


def _bits(buffer: Buffer) -> int:
    """Of the integers, in two's complement, that hold whatever the buffer may."""
    limit = EXACT_LIMIT if buffer.dtype == torch.float32 else WIDE_LIMIT
    return 1 + math.ceil(math.log2(max(1, min(max(-buffer.low, buffer.high + 1), limit))))


def _is_nearest(op: Op) -> bool:
    return op.kind in ("resize", "border_pad")


def _index(op: StatelessOp, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Where each value of ``op`` comes from, counted through all its inputs; −1 is a zero of its own."""
    start, inputs = 1, []
    for shape in shapes:
        count = int(np.prod(shape))
        inputs.append(torch.arange(start, start + count, dtype=torch.float64).view(1, *shape))
        start += count
    found = op(*inputs).flatten().round().long() - 1
    return found.to(torch.int32).numpy()


def _windows(op: Op, before: Sequence[int], after: Sequence[int]) -> dict[str, Any] | None:
    """The windows of a pooling op; None where they are not all alike."""
    if isinstance(op, Mean) and op.axes == (2, 3) and len(before) == 3:
        return {"everything": True}
    if isinstance(op, AvgPool2d | MaxPool2d):
        dilation = op.dilation if isinstance(op, MaxPool2d) else (1, 1)
        kernel, stride, padding = op.kernel, op.stride, op.padding
    elif isinstance(op, AdaptiveAvgPool2d | AdaptiveMaxPool2d):
        if any(size % out for size, out in zip(before[1:], op.size, strict=True)):
            return None
        height, width = (size // out for size, out in zip(before[1:], op.size, strict=True))
        kernel = stride = (height, width)
        padding, dilation = (0, 0), (1, 1)
    else:
        return None
    return {
        "everything": False,
        "kernel": list(kernel),
        "stride": list(stride),
        "padding": list(padding),
        "dilation": list(dilation),
        "size": list(after[1:]),
    }


FORMATS.register("integers")(_Integers())
