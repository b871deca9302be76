"""Exits in depth: linear classifiers on pooled spike counts, for a network that stays as it is.

The features of a head are the values that its neurons emit in a step, averaged over a few areas of the image. One pass
over the training images gives those of all heads; multinomial logistic regression does the rest (as earlier exits were
added to trained ANNs, Kaya et al., ICML 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.batch import Batch
from seenn.core.cuts import Cut, choose_cuts
from seenn.core.graph import Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import AdaptiveAvgPool2d, Flatten, Linear, Mean, Neuron, Op, StatelessOp
from seenn.core.ops.arguments import integer
from seenn.core.ops.differential import Differential
from seenn.data import Split
from seenn.device import recording_gradients
from seenn.errors import TrainingError, UnsupportedError
from seenn.exits.calibration.replay import fit_split
from seenn.exits.progress import Progress
from seenn.exits.rules.scaled import fit_temperature
from seenn.runtime import Engine, Observer, Session

WIDEST = 2048  # features of a head: 2 × 2 areas of an image where there are no more, else one
CONVERGED = 3e-5  # an iteration gains no more cross-entropy than this
STEPS = 2  # of each image that heads learn from: the first differs from those after it


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Where heads are put, and how they are trained."""

    at: tuple[str, ...] | None = None  # names of neuron nodes; None: chosen by the work up to them
    heads: int = 4  # at most, where they are chosen
    limit: int | None = 12_000  # training images, at most
    weight_decays: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2)  # of mean cross-entropy; the largest is tried first
    iterations: int = 60  # of L-BFGS, at most

    def __post_init__(self) -> None:
        integer("heads", self.heads, low=1)
        integer("iterations", self.iterations, low=1)
        if not self.weight_decays or min(self.weight_decays) < 0:
            raise ValueError(f"weight_decays are numbers of at least 0, got {self.weight_decays}: give one or more")


@dataclass(frozen=True, kw_only=True)
class Head:
    """A trained head, and what it is on the part of the training images that chose its weight decay."""

    at: str  # the neurons that it reads
    name: str  # of the node with its scores
    cost: float  # share of a step up to its neurons
    features: int
    weight_decay: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class WithHeads:
    """The network with its heads."""

    network: SpikingNetwork
    heads: tuple[Head, ...]
    samples: int

    def record(self, config: HeadsConfig) -> dict[str, object]:
        """For the manifest."""
        return {**asdict(config), "samples": self.samples, "heads": [asdict(head) for head in self.heads]}


@recording_gradients()
def add_heads(
    network: SpikingNetwork,
    split: Split,
    config: HeadsConfig | None = None,
    *,
    engine: Engine,
    timesteps: int,
    batch_size: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> WithHeads:
    """Heads for ``network``, which is not changed, trained on ``split``.

    Their scores are divided by the temperature that their probabilities lack against the whole network's on the same
    images, so that one threshold means about the same at every exit.

    Args:
        engine: of this network, for at least ``min(2, timesteps)`` steps.
        timesteps: T of the network.

    Raises:
        UnsupportedError: the network has heads, or no place for them; or the samples are frames.
        TrainingError: too few samples.
        ValueError: a name that is no cut.
    """
    config = config or HeadsConfig()
    if network.graph.heads:
        raise UnsupportedError(
            f"this network has heads already, at {', '.join(network.graph.heads)}: give the file from before "
            "add-heads, or --replace"
        )
    if split.is_sequence:
        raise UnsupportedError("heads are for constant images, and these samples are frames over time: use exits in t")
    if any(isinstance(op, Differential) for op in network.graph.ops):
        raise UnsupportedError(
            "heads read what neurons emit in a step, under differential coding a change: convert with --coding rate"
        )
    chosen = choose_cuts(network, config.at, config.heads)
    samples = len(split) if config.limit is None else min(config.limit, len(split))
    classes = network.shapes[network.graph.output][0]
    if samples < 2 * classes:
        raise TrainingError(f"{samples} training images are too few for heads of {classes} classes: give more")
    seen = _Features(network, chosen, min(STEPS, timesteps), samples)
    session = Session(engine, None, seen.steps, batch_size)
    labels: list[Tensor] = []

    def labelled() -> Iterator[Batch]:
        for batch in split.batches(batch_size, limit=samples):
            labels.append(batch.known_labels)
            yield batch

    session.run(labelled(), observers=[seen], progress=lambda done: progress(done, samples))
    known = torch.cat(labels)
    apart, rest = fit_split(samples)
    sharpness = fit_temperature(seen.first[apart], known[apart])
    heads, made = [], {}
    for number, cut in enumerate(chosen, 1):
        features = seen.features.pop(cut.name)  # [S, N, F]
        found = _regression(features, known, rest, apart, config, classes)
        scores = F.linear(features[0, apart], found.weight, found.bias)
        scale = sharpness / fit_temperature(scores, known[apart])
        right = float((scores.argmax(-1) == known[apart]).double().mean())
        final = found.on(features, known, torch.arange(samples), config)
        linear = Linear((scale * final.weight).to(network.dtype), (scale * final.bias).to(network.dtype))
        made[cut.name] = chain = _chain(f"exit{number}", cut.name, [*seen.pools[cut.name], linear])
        size = features.shape[-1]
        heads.append(
            Head(
                at=cut.name, name=chain[-1].name, cost=cut.cost, features=size, weight_decay=found.decay, accuracy=right
            )
        )
    nodes = [part for node in network.graph for part in (node, *made.get(node.name, ()))]
    graph = OpGraph(nodes, network.graph.output, [head.name for head in heads])
    with_heads = SpikingNetwork(graph, network.input_shape).requires_grad_(False).to(network.device).eval()
    return WithHeads(network=with_heads, heads=tuple(heads), samples=samples)


class _Features(Observer):
    """What the heads at some neurons would read, of each image in its first steps; and the network's first scores."""

    def __init__(self, network: SpikingNetwork, chosen: Sequence[Cut], steps: int, samples: int) -> None:
        self.steps, self._samples = steps, samples
        self._neurons = {cut.name: network.graph[cut.name].op for cut in chosen}
        self.pools = {name: _pooling(op, network.shapes[name]) for name, op in self._neurons.items()}
        self.features: dict[str, Tensor] = {}  # [S, N, F]
        self.first = torch.zeros(samples, network.shapes[network.graph.output][0])

    def spikes(self, t: Tensor, samples: Tensor, site: str, counts: Tensor) -> None:
        op = self._neurons.get(site)
        answers = t > 0
        if op is None or not bool(answers.any()):
            return
        assert isinstance(op, Neuron)
        with torch.no_grad():
            value = op.emit(counts[answers.to(counts.device)].to(op.v_threshold.dtype))
            for pool in self.pools[site]:
                value = pool(value)
        found = value.cpu().float()
        if site not in self.features:
            self.features[site] = torch.zeros(self.steps, self._samples, found.shape[-1])
        self.features[site][t[answers] - 1, samples[answers]] = found

    def scores(self, progress: Progress, samples: Tensor, logits_sum: Tensor) -> None:
        first = progress.point == 1
        self.first[samples[first]] = logits_sum[first].float()


def _pooling(neuron: Op, shape: Sequence[int]) -> list[StatelessOp]:
    """From what the neurons emit to one vector of at most ``WIDEST`` numbers, where the channels are no more."""
    if len(shape) == 3:
        side = 2 if 4 * shape[0] <= WIDEST and min(shape[1:]) >= 2 else 1
        return [AdaptiveAvgPool2d((side, side)), Flatten()]
    assert isinstance(neuron, Neuron)
    rest = tuple(axis for axis in range(1, len(shape) + 1) if axis != neuron.axis)
    return [Mean(rest)] if rest else []


def _chain(name: str, source: str, ops: Sequence[StatelessOp]) -> list[Node]:
    """The nodes of a head, each reading the one before."""
    nodes: list[Node] = []
    for op in ops:
        nodes.append(Node(f"{name}.{op.kind}", op, (nodes[-1].name if nodes else source,)))
    return nodes


@dataclass(frozen=True)
class _Regression:
    """Multinomial logistic regression on features as they are."""

    weight: Tensor  # [K, F]
    bias: Tensor  # [K]
    decay: float

    def on(self, features: Tensor, labels: Tensor, samples: Tensor, config: HeadsConfig) -> _Regression:
        """Minimises the mean cross-entropy of some samples' steps and ``decay / 2 · ‖W‖²``, from here on.

        W is that of standardised features.
        """
        rows = features[:, samples].flatten(0, 1)
        mean, spread = rows.mean(0), rows.std(0)
        spread = torch.where(spread > 1e-6 * spread.max().clamp(min=1e-30), spread, 1.0)
        rows, known = (rows - mean) / spread, labels[samples].repeat(len(features))
        weight = (self.weight * spread).requires_grad_()
        bias = (self.bias + self.weight @ mean).requires_grad_()
        optimiser = torch.optim.LBFGS(
            [weight, bias],
            max_iter=config.iterations,
            tolerance_change=CONVERGED,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            found = F.cross_entropy(F.linear(rows, weight, bias), known) + self.decay / 2 * weight.square().sum()
            found.backward()  # type: ignore[no-untyped-call]
            return found

        with recording_gradients():
            optimiser.step(loss)  # type: ignore[no-untyped-call]
        scaled = weight.detach() / spread
        return _Regression(scaled, bias.detach() - scaled @ mean, self.decay)


def _regression(
    features: Tensor, labels: Tensor, rest: Tensor, apart: Tensor, config: HeadsConfig, classes: int
) -> _Regression:
    """On ``rest``; the decay is made smaller for as long as the cross-entropy on the samples ``apart`` falls."""
    found = _Regression(torch.zeros(classes, features.shape[-1]), torch.zeros(classes), 0.0)
    best, least = found, float("inf")
    for decay in sorted(config.weight_decays, reverse=True):
        found = replace(found, decay=decay).on(features, labels, rest, config)
        scores = F.linear(features[:, apart].flatten(0, 1), found.weight, found.bias)
        loss = float(F.cross_entropy(scores, labels[apart].repeat(len(features))))
        if not loss < least:
            break
        best, least = found, loss
    return best
