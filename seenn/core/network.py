"""The narrow waist: one spiking network, whatever it was made from and whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate, islice, pairwise

import torch
from torch import Tensor, nn

from seenn.core.graph import INPUT, Node, OpGraph, macs, prune, schedule
from seenn.core.ops import IncrementalProduct, State, StatefulOp, StatelessOp
from seenn.core.ops.arguments import integer
from seenn.core.ops.cumulative import OverTime
from seenn.core.segments import in_segments
from seenn.core.unroll import Piece, apart, in_pieces
from seenn.errors import UnsupportedError

Observer = Callable[[str, Tensor], None]  # (site, spike counts of the samples that ran [b, C, ...])


class SpikingNetwork(nn.Module):
    """A graph over the closed op set, with every membrane in explicit state.

    ``step(x, state) -> (output, state)`` is one timestep; ``state=None`` starts. The output is the step's
    own logits ``[B, K]``: sums and means over time are the engine's business. A constant image needs its
    first layers only once, so ``step`` is the composition of two halves that engines may call themselves::

        current = network.encode(x)                        # everything before the first state: once an image
        output, state = network.advance(current, state)    # everything after it: once a timestep

    Every tensor in ``current`` and ``state`` has the batch first: a sample is a row.

    A graph with heads has several exits in a step: ``segments`` are the parts of the step up to each, the last being
    the output's. One exit: one segment.

    Args:
        graph: must contain at least one neuron, or else functions of running means, which make all of it analog.
        input_shape: ``(C, H, W)`` of one image.

    Raises:
        ValueError: nothing in it has a state; two values that both change over time are multiplied step by step; or
            a head has no part of the step of its own.
    """

    def __init__(self, graph: OpGraph, input_shape: Sequence[int]) -> None:
        super().__init__()
        self.graph = graph
        self.input_shape = tuple(input_shape)
        if not self.sites and not self.running_means:
            raise ValueError("a spiking network needs at least one neuron, and this graph has none: add one")
        constant = constant_nodes(graph)
        for node in graph:
            if node.op.bilinear and isinstance(node.op, StatelessOp) and not constant & {*node.inputs}:
                raise ValueError(
                    f"the operands of {node.name!r} ({node.op.title}) have no common time: the product of one step's "
                    "values is not that of their means; use IncrementalProduct"
                )
        self._prefix = tuple(node for node in graph if node.name in constant)
        self.segments = in_segments([node for node in graph if node.name not in constant], graph.exits)
        self._body = tuple(node for segment in self.segments for node in segment.nodes)
        read = [name for node in self._body for name in node.inputs] + [graph.output]
        self._boundary = tuple(dict.fromkeys(name for name in read if name in constant))
        self._prefix_schedule = schedule(self._prefix, self._boundary)
        self._schedules = [schedule(part.nodes, (part.output, *part.gives)) for part in self.segments]
        self._stateful = _stateful(self._body)
        counts = [sum(len(op.state_names(len(node.inputs))) for node, op in _stateful(p.nodes)) for p in self.segments]
        ends = [0, *accumulate(counts)]
        self.state_of = tuple(slice(first, stop) for first, stop in pairwise(ends))  # each segment's part of the state
        self._state_size = ends[-1]
        wanted = {op.initial_steps for _, op in self._stateful if op.initial_steps}
        if len(wanted) > 1:
            found = ", ".join(map(str, sorted(wanted)))
            raise ValueError(f"all ops take part in the same initial steps; these want {found} of them")
        self._initial_steps = max(wanted, default=0)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the neuron nodes, one an activation call site of the source."""
        return tuple(node.name for node in self.graph if node.op.fires)

    @property
    def running_means(self) -> tuple[str, ...]:
        """Names of the nodes that are neither affine, nor neurons, nor products: functions of running means."""
        return tuple(
            node.name
            for node in self.graph
            if isinstance(node.op, OverTime) and not isinstance(node.op, IncrementalProduct)
        )

    @property
    def prefix(self) -> frozenset[str]:
        """Names of the nodes that are computed once an image."""
        return frozenset(node.name for node in self._prefix)

    @property
    def boundary(self) -> tuple[str, ...]:
        """Names of the values that ``encode`` gives, in order."""
        return self._boundary

    @property
    def state_layout(self) -> tuple[tuple[str, str], ...]:
        """``(node, state name)`` of every tensor in the state, in order."""
        return tuple((node.name, name) for node, op in self._stateful for name in op.state_names(len(node.inputs)))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every value's shape without the batch."""
        return self.graph.shapes(self.input_shape)

    @cached_property
    def exit_costs(self) -> tuple[float, ...]:
        """The share of a step's multiply-accumulates up to each exit in it; the last is 1."""
        counts = [sum(macs(node, {INPUT: self.input_shape, **self.shapes}) for node in p.nodes) for p in self.segments]
        counts = counts if all(counts) else [1] * len(counts)
        return tuple(part / sum(counts) for part in accumulate(counts))

    def without_heads(self) -> SpikingNetwork:
        """The same network with its last exit only."""
        graph = self.graph
        return SpikingNetwork(OpGraph(prune(graph, graph.output), graph.output), self.input_shape).eval()

    @property
    def initial_steps(self) -> int:
        """Steps that initialisation runs on each input before the first that answers; mostly 0."""
        return self._initial_steps

    @property
    def no_frames(self) -> str | None:
        """Why the network cannot be run on one frame a timestep; None where it can."""
        if self.initial_steps:
            return "its initial steps are over one constant image"
        if self.graph.heads:
            return "its heads were made for constant images"
        if pools := [node.name for node in self._prefix if isinstance(node.op, StatefulOp)]:
            return f"{', '.join(pools)} before the first neuron can only be run on constant images"
        if products := [node.name for node in self._body if node.op.bilinear]:
            return f"{', '.join(products)} multiply by what the image alone determines: they take constant images"
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU if there are none."""
        return self._reference.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: what the network computes in."""
        return self._reference.dtype

    @property
    def _reference(self) -> Tensor:
        return next(self.parameters(), torch.zeros(()))

    def encode(self, x: Tensor) -> State:
        """The currents that stay constant while the image does, ``[B, ...]`` each."""
        self._check_input(x)
        values = {INPUT: x}
        for node, done in self._prefix_schedule:
            inputs = tuple(values[name] for name in node.inputs)
            values[node.name] = node.op.constant(*inputs)
            for name in done:
                del values[name]
        return tuple(values[name] for name in self._boundary)

    def no_current(self, batch: int) -> State:
        """Zeros of the shapes that ``encode`` gives."""
        like = self._reference
        return tuple(like.new_zeros(batch, *self.shapes[name]) for name in self._boundary)

    def initial_state(self, batch: int, dtype: torch.dtype) -> State:
        """The state of ``batch`` samples that nothing has happened to."""
        found: list[Tensor] = []
        for node, op in self._stateful:
            inputs = (torch.zeros(batch, *self.shapes[name], dtype=dtype, device=self.device) for name in node.inputs)
            found.extend(op.initial_state(*inputs))
        return tuple(found)

    def warm_state(self, state: State) -> State:
        """What the next input starts from, warm, where the last one left ``state``: see ``StatefulOp.carried``."""
        found: list[Tensor] = []
        first = self._by_node(self.initial_state(len(state[0]) if state else 0, self.dtype))
        for (node, op), left in zip(self._stateful, self._by_node(state).values(), strict=True):
            names = op.state_names(len(node.inputs))
            columns = zip(names, left, first[node.name], strict=True)
            found.extend(op.carry(old) if name == op.carried else new for name, old, new in columns)
        return tuple(found)

    def start(self, current: State, observe: Observer | None = None) -> State:
        """The state before the first step that answers, from encoded currents; ``observe`` sees the initial steps."""
        state = self.initial_state(current[0].shape[0], current[0].dtype)
        if not self.initial_steps:
            return state
        first = self._by_node(state)
        watching = {node.name: op.initialisation(first[node.name]) for node, op in self._stateful}
        for _ in range(self.initial_steps):
            counts: dict[str, Tensor] = {}

            def see(site: str, count: Tensor, counts: dict[str, Tensor] = counts) -> None:
                counts[site] = count
                if observe is not None:
                    observe(site, count)

            _, state = self.advance(current, state, see)
            for name, own in self._by_node(state).items():
                if (watcher := watching[name]) is not None:
                    watcher.see(own, counts.get(name))
        chosen = (first[name] if watcher is None else watcher.start() for name, watcher in watching.items())
        return tuple(tensor for own in chosen for tensor in own)

    def _by_node(self, state: State) -> dict[str, State]:
        left = iter(state)
        return {node.name: tuple(islice(left, len(op.state_names(len(node.inputs))))) for node, op in self._stateful}

    def advance(
        self, current: State, state: State | None, observe: Observer | None = None, *, in_place: bool = False
    ) -> tuple[Tensor, State]:
        """One timestep from encoded currents: ``(output [B, K], state)``; ``state=None`` starts, see ``start``.

        ``in_place`` (without autograd) overwrites the membranes in ``state``, so that a run allocates them once:
        for callers that own the state and do not look at it again.
        """
        outputs, state = self.advance_exits(current, state, observe, in_place=in_place)
        return outputs[-1], state

    def advance_exits(
        self, current: State, state: State | None, observe: Observer | None = None, *, in_place: bool = False
    ) -> tuple[tuple[Tensor, ...], State]:
        """As ``advance``, with the scores of every exit in the step: ``([B, K] for each segment, state)``."""
        if state is not None and len(state) != self._state_size:
            raise ValueError(f"the state has {len(state)} tensors; this network's has {self._state_size}")
        if state is None and self.initial_steps:
            state = self.start(current)
        outputs: list[Tensor] = []
        carried: Mapping[str, Tensor] = {}
        after: list[Tensor] = []
        for number, part in enumerate(self.state_of):
            own = None if state is None else state[part]
            output, carried, own = self.advance_segment(number, current, carried, own, observe, in_place=in_place)
            outputs.append(output)
            after.extend(own)
        return tuple(outputs), tuple(after)

    def advance_segment(
        self,
        number: int,
        current: State,
        carried: Mapping[str, Tensor],
        state: State | None,
        observe: Observer | None = None,
        *,
        in_place: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """A part of ``advance``: ``(its scores [B, K], what later parts read, its state)``.

        Args:
            number: of the segment, from 0.
            current: from ``encode``.
            carried: what the segment before gave; ``{}`` for the first.
            state: the segment's part of the state, ``state_of``; None starts.
        """
        segment = self.segments[number]
        values = {**dict(zip(self._boundary, current, strict=True)), **carried}
        before = None if state is None else iter(state)
        after: list[Tensor] = []
        for node, done in self._schedules[number]:
            inputs = tuple(values[name] for name in node.inputs)
            op = node.op
            if isinstance(op, StatefulOp):
                if before is None:
                    own = op.initial_state(*inputs)
                else:
                    own = tuple(islice(before, len(op.state_names(len(inputs)))))
                if in_place or observe is not None:
                    values[node.name], count, own = op.counted_step(inputs, own, in_place=in_place)
                    if observe is not None and count is not None:
                        observe(node.name, count)
                else:
                    values[node.name], own = op.step(inputs, own)
                after.extend(own)
            else:
                values[node.name] = op(*inputs)
            for name in done:
                del values[name]
        return values[segment.output], {name: values[name] for name in segment.gives}, tuple(after)

    def step(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One timestep on images ``[B, C, H, W]``: ``(output [B, K], state)``."""
        return self.advance(self.encode(x), state)

    def forward(self, x: Tensor, timesteps: int) -> Tensor:
        """Mean output over ``timesteps`` steps, ``[B, K]``, without early exit."""
        integer("timesteps", timesteps, low=1)
        current, in_place = self.encode(x), not torch.is_grad_enabled()
        output, state = self.advance(current, None, in_place=in_place)
        total = output
        for _ in range(timesteps - 1):
            output, state = self.advance(current, state, in_place=in_place)
            total = total + output
        return total / timesteps

    def unroll(
        self,
        x: Tensor,
        timesteps: int,
        *,
        save_memory: bool = False,
        observe: Observer | None = None,
        heads: bool = False,
    ) -> Tensor:
        """The outputs of all timesteps at once, ``[T, B, K]``: how networks are trained from scratch.

        What has no memory sees one batch of ``T·B``, so that batch normalisation in training mode normalises
        over time and batch together; what lies before the first neuron is computed once for a constant image.
        In evaluation mode the outputs are those of ``advance``, step by step.

        Args:
            x: images ``[B, C, H, W]``, or a sequence of them, ``[T, B, C, H, W]``.
            timesteps: T.
            save_memory: the backward pass remembers the spikes behind a few layers only, and computes what lies
                between them anew: the same gradients for one more forward pass.
            observe: sees the outputs of every site in all steps, ``[T, B, ...]``; not while memory is saved.
            heads: gives those of every exit in a step, ``[D, T, B, K]``.
        """
        integer("timesteps", timesteps, low=1)
        self.refuse_training()
        constant = x.dim() != 2 + len(self.input_shape)
        if not constant and len(x) != timesteps:
            raise ValueError(
                f"the sequence has {len(x)} frames and {timesteps} timesteps were asked for: give as many as it has, "
                "or divide the events into as many frames"
            )
        if not constant and self.no_frames is not None:
            raise UnsupportedError(f"{self.no_frames}, got a sequence: give images, not frames")
        current = self.encode(x if constant else x.flatten(0, 1))
        values = dict(zip(self._boundary, current, strict=True))
        once = frozenset(values) if constant else frozenset()
        pieces = self._pieces if save_memory else in_pieces(self._body, self.graph.exits)
        for piece in pieces:
            read = tuple(values[name] for name in piece.reads)
            if len(pieces) == 1:
                outputs = piece.run(read, timesteps, once, observe)
            else:
                outputs = piece.run_saving_memory(read, timesteps, once)
            values |= zip(piece.gives, outputs, strict=True)
        found = [apart(values[name], timesteps) for name in (self.graph.exits if heads else (self.graph.output,))]
        return torch.stack(found) if heads else found[0]

    @cached_property
    def _pieces(self) -> tuple[Piece, ...]:
        return in_pieces(self._body, self.graph.exits, self.shapes)

    def refuse_training(self) -> None:
        """Raises UnsupportedError where surrogate gradients would be those of another network."""
        if self.initial_steps:
            raise UnsupportedError(
                "a network with initial steps cannot be trained: train one that was converted without, or before"
            )

    @property
    def has_analog(self) -> bool:
        """Whether every neuron stands for an activation, so that there is an analog twin."""
        return not self._without_activation()

    def analog(self) -> OpGraph:
        """The network's analog twin: every neuron replaced by the activation that it stands for.

        Calibration's bias currents live in the neurons, so the twin of a converted network is the source
        ANN with its normalisation folded.

        Raises:
            UnsupportedError: there are neurons that stand for no activation.
        """
        if not self.has_analog:
            raise UnsupportedError(
                f"the neurons {', '.join(self._without_activation())} leak, so that their mean output is no activation "
                "of their mean input: this network has no analog twin to compare with; evaluate it on its own"
            )
        twins = {node.name: node.op.analog for node in self.graph}
        return self.graph.replace({name: op for name, op in twins.items() if op is not None})

    def describe(self) -> str:
        """A readable table of the graph: node, op, output shape, parameters, and what runs once an image."""
        shapes = self.graph.shapes(self.input_shape)
        rows = [("node", "op", "output", "parameters", "runs")]
        for node in self.graph:
            runs = "once" if node.name in self.prefix else "each step"
            size = sum(parameter.numel() for parameter in node.op.parameters())
            rows.append((node.name, node.op.title, "×".join(map(str, shapes[node.name])), f"{size:,}", runs))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        sites = "1 neuron site" if len(self.sites) == 1 else f"{len(self.sites)} neuron sites"
        count = len(self.running_means)
        analog = f", {count} function{'s' if count > 1 else ''} of running means" if count else ""
        lines.append(f"{sites}{analog}, {sum(p.numel() for p in self.parameters()):,} parameters")
        return "\n".join(lines)

    def _without_activation(self) -> list[str]:
        return [node.name for node in self.graph if node.op.analog is None]

    def _check_input(self, x: Tensor) -> None:
        if x.dim() != 1 + len(self.input_shape) or tuple(x.shape[1:]) != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise ValueError(f"images must have shape [B, {expected}], got {list(x.shape)}")
        if x.dtype != self.dtype:
            raise ValueError(f"images are {x.dtype}, the network computes in {self.dtype}: preprocess or cast them")


def _stateful(nodes: Iterable[Node]) -> tuple[tuple[Node, StatefulOp], ...]:
    return tuple((node, node.op) for node in nodes if isinstance(node.op, StatefulOp))


def constant_nodes(graph: OpGraph) -> frozenset[str]:
    """Values that do not change while the image does not: the input, and nodes with no neuron before them.

    A cumulative difference of a constant is a constant too.
    """
    constant = {INPUT}
    for node in graph:
        varies = isinstance(node.op, StatefulOp) and not node.op.steady
        if not varies and constant.issuperset(node.inputs):
            constant.add(node.name)
    return frozenset(constant)


def compact(rows: Iterable[Tensor], index: Tensor) -> tuple[Tensor, ...]:
    """Keeps the rows ``index`` of every tensor: how engines drop the samples that are done."""
    return tuple(tensor.index_select(0, index) for tensor in rows)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the ``with``; every submodule's own mode afterwards.

    In training mode, batch normalisation makes each answer depend on the other images, and learns from them.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
