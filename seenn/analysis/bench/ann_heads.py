"""The ANN with the network's own heads and exit rule: what exits in depth are worth without spikes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from seenn.analysis.bench.ann import Contender, onnx_files, onnxruntime_parts, torch_parts
from seenn.core.graph import INPUT, Node, schedule
from seenn.core.network import SpikingNetwork
from seenn.core.segments import Segment, in_segments
from seenn.exits.policy import ExitPolicy
from seenn.exits.progress import Progress, cost_of_steps

BATCH = 128  # images that begin together; those that are left go on together
Parts = Sequence[Callable[[Tensor], Sequence[Tensor]]]


class AnnPart(nn.Module):
    """What lies between two exits of the ANN: the value that the last part gave, to scores and what the next reads."""

    def __init__(self, segment: Segment, reads: str) -> None:
        super().__init__()
        self.reads, self.gives, self.output = reads, segment.gives, segment.output
        self._schedule: list[tuple[Node, tuple[str, ...]]] = schedule(segment.nodes, (segment.output, *segment.gives))
        self.ops = nn.ModuleList(node.op for node in segment.nodes)

    def forward(self, value: Tensor) -> tuple[Tensor, ...]:
        values = {self.reads: value}
        for node, done in self._schedule:
            values[node.name] = node.op(*(values[name] for name in node.inputs))
            for name in done:
                if name not in (self.output, *self.gives):
                    del values[name]
        return (values[self.output], *(values[name] for name in self.gives))


def ann_parts(network: SpikingNetwork) -> list[AnnPart]:
    """The analog twin between its exits; nothing where a part hands on more than one value."""
    graph = network.analog()
    segments = in_segments(graph.nodes, graph.exits)
    if any(len(segment.gives) != 1 for segment in segments[:-1]):
        return []
    reads = [INPUT, *(segment.gives[0] for segment in segments[:-1])]
    return [AnnPart(segment, name) for segment, name in zip(segments, reads, strict=True)]


def headed_contenders(network: SpikingNetwork, policy: ExitPolicy, calibration: Tensor) -> list[Contender]:
    """The ANN with heads in torch and onnxruntime, on the CPU; images leave by ``policy`` as after the first step."""
    parts = ann_parts(network) if network.graph.heads and network.has_analog else []
    if not parts:
        return []
    runs: dict[tuple[str, str], Parts] = {("torch", "float32"): [torch_parts(part) for part in parts]}
    onnx: dict[str, list[Callable[[Tensor], Sequence[Tensor]]]] = {"float32": [], "int8": []}
    value = calibration
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for part in parts:
            names = ("scores", "value")[: 1 + len(part.gives)]
            for precision, path in onnx_files(part, value, Path(folder), outputs=names).items():
                onnx[precision].append(onnxruntime_parts(path.read_bytes()))
            value = part(value)[-1]
    runs |= {("onnxruntime", precision): found for precision, found in onnx.items() if len(found) == len(parts)}
    costs = cost_of_steps(1, 0, network.exit_costs)
    return [
        Contender(
            name=f"{tool} {precision}, same heads",
            precision=f"{precision}, same heads",
            run=_Leaving(of, policy, costs),
            batch=BATCH,
        )
        for (tool, precision), of in runs.items()
    ]


class _Leaving:
    """Runs part after part on the images that are left."""

    def __init__(self, parts: Parts, policy: ExitPolicy, costs: Tensor) -> None:
        self._parts, self._policy, self._costs = parts, policy, costs

    def __call__(self, images: Tensor) -> Tensor:
        return torch.cat([self._batch(batch) for batch in torch.split(images, BATCH)])

    def _batch(self, images: Tensor) -> Tensor:
        left, value = torch.arange(len(images)), images
        state, answers = self._policy.start(images), None
        for number, part in enumerate(self._parts, 1):
            scores, *given = part(value)
            answers = scores.new_zeros(len(images), scores.shape[-1]) if answers is None else answers
            if number == len(self._parts):
                answers[left] = scores
                break
            cost = float(self._costs[number - 1])
            progress = Progress.at(number, len(left), cost, len(self._parts))
            stop, state = self._policy.stop(progress, scores, state)
            answers[left[stop]] = scores[stop]
            on = ~stop
            left, value, state = left[on], given[0][on], tuple(tensor[on] for tensor in state)
            if not len(left):
                break
        assert answers is not None
        return answers
