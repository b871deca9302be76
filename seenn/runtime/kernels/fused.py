"""The engine of lowered networks: packed weights, buffers taken once, and a step that only writes into them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seenn.core.graph import INPUT
from seenn.native import RowWriter
from seenn.native.memory import order
from seenn.runtime.kernels.bind import Binder, Memory, Thunk, cut
from seenn.runtime.kernels.synapses import Copy, Kernel
from seenn.runtime.lowering.layout import images
from seenn.runtime.lowering.program import Buffer, Life, Program
from seenn.runtime.lowering.values import integrate
from seenn.runtime.slots import Engine, SlotObserver, Slots, StepPart, check_memory


class WriteRows(Protocol):
    """Samples of some buffers into these rows of others."""

    def __call__(self, rows: Tensor, samples: Tensor | None = None) -> None:
        """``rows``: int64 ``[k]``; ``samples``: int64 ``[k]``, which; None: the first."""


TILE_BYTES = 80 << 20  # of one layer's values: samples that go through the network together
LARGEST_TILE = 64


class FusedEngine(Engine):
    """Runs a ``Program``; see ``seenn.runtime.Engine``.

    Args:
        program: from ``seenn.runtime.lowering``.
        kernels: in order of preference; the first that accepts a synapse computes it.
        name: as the engine is called.
        device: where to compute.
        native: neurons in one pass, from ``seenn.native``; None: by torch.
    """

    def __init__(
        self,
        program: Program,
        kernels: Sequence[Kernel],
        name: str,
        device: torch.device,
        native: CDLL | None = None,
    ) -> None:
        self.program = program
        self.name = name
        self.device = device
        self.exact = program.exact
        self.rounding = program.report
        self.input_scale = program.input_scale
        self.max_timesteps = program.max_timesteps
        self.input_shape = program.input_shape
        self.exit_costs = tuple(exit.cost for exit in program.exits)
        self.tile = tile_size(program)
        self.images = images(program)
        self.binder = Binder(program, kernels, device, native)
        self.note = self.binder.note

    @property
    def kept(self) -> dict[str, Buffer]:
        """What each slot holds from step to step."""
        read = {source for instruction in self.program.step for source in instruction.sources}
        buffers = self.program.buffers.items()
        return {n: b for n, b in buffers if b.life == "state" or (b.life == "constant" and n in read)}

    @property
    def slot_bytes(self) -> int:
        """Of ``kept``, and of what one segment of a step hands on to others."""
        handed_on = [self.program.buffers[name] for name in crossing(self.program)]
        return sum(map(_bytes, [*self.kept.values(), *handed_on]))

    def open(self, slots: int) -> FusedSlots:
        scratch = sum(_bytes(b) for b in self.program.buffers.values() if b.life != "state")  # of a tile
        tile = min(slots, self.tile)
        shared = scratch * tile + 4 * self.binder.currents(tile)
        check_memory(slots, self.slot_bytes + shared // slots + 1, self.device)
        return FusedSlots(self, slots)

    def check(self, sample: Tensor) -> None:
        if self.input_scale is not None:
            self.input_scale.quantize(sample.unsqueeze(0))


def crossing(program: Program) -> dict[str, tuple[int, int]]:
    """What one segment of a step computes and a later one reads: the numbers of the first and the last of them."""
    made: dict[str, int] = {}
    found: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(program.segments):
        for instruction in part:
            for name in instruction.sources:
                if (first := made.get(name, number)) < number:
                    found[name] = first, number
            made.setdefault(instruction.target, number)
    return {name: each for name, each in found.items() if program.buffers[name].life == "scratch"}


def tile_size(program: Program) -> int:
    """How many samples go through the network together."""
    largest = max(math.prod(buffer.shape) for buffer in program.buffers.values())
    tile = max(1, min(LARGEST_TILE, TILE_BYTES // (4 * largest)))
    return tile if tile < 4 else tile // 2 * 2


class FusedSlots(Slots):
    """See ``seenn.runtime.Slots``.

    Attributes:
        total: the outputs summed since samples were loaded, ``[capacity, K]``, in units of the program's output scale.
    """

    def __init__(self, engine: FusedEngine, capacity: int) -> None:
        self.capacity = capacity
        self._engine = engine
        self._program = program = engine.program
        self._tile = min(engine.tile, capacity)
        self._dtype = torch.float32
        kept = engine.kept
        self._kept = {name: self._allocate(buffer, capacity) for name, buffer in kept.items()}
        scratch = [n for n, b in program.buffers.items() if b.life == "scratch" and n not in engine.binder.unused]
        self._scratch = {n: self._allocate(program.buffers[n], self._tile) for n in scratch}
        self._copies = {copy: self._frame(copy) for copy in engine.binder.copies}
        self._staging = {n: self._allocate(b, self._tile) for n, b in program.buffers.items() if b.life == "constant"}
        shape, total = program.buffers[program.output].shape, torch.int32 if program.exact else torch.float32
        self.total = torch.zeros(capacity, *shape, dtype=total, device=engine.device)
        self._carried = self._carry(capacity)
        # The samples of the tile, and whose values it hands on: copied when it is wanted for others, if at all.
        self._left: tuple[int, NDArray[np.int64]] | None = None
        self._hands_on = np.zeros(capacity, dtype=np.bool_)
        constants = [(tensor, self._staging[name]) for name, tensor in self._kept.items() if name in self._staging]
        self._keep_constants = _row_writer(engine.binder.native, constants)
        elsewhere = engine.binder.initialised
        started = {n: buffer for n, buffer in kept.items() if buffer.start is not None and n not in elsewhere}
        starts = [(self._kept[name], self._first(buffer)) for name, buffer in started.items()]
        self._start = _row_writer(engine.binder.native, starts)
        self._currents = torch.zeros(engine.binder.currents(self._tile), dtype=torch.float32, device=engine.device)
        # Whose other states are initialised when they next run a segment.
        self._new = torch.zeros(len(program.exits), capacity, dtype=torch.bool)
        self._slots = torch.zeros(self._tile, dtype=torch.int64)
        self._places = torch.arange(self._tile)
        # Views of each run of rows that was stepped in a segment, and of so many rows anywhere, bound once.
        self._tiles: dict[tuple[int, int, int], list[Thunk]] = {}
        self._apart: dict[tuple[int, int], _Apart] = {}
        self._encoders: dict[int, list[Thunk]] = {}

    def load(self, rows: Tensor, inputs: Tensor, *, warm: bool = False) -> None:
        self.feed(rows, inputs)
        self._hands_on[rows.cpu().numpy()] = False
        there = rows.to(self.total.device)
        if warm:
            self._carry_over(there)
        else:
            self._start(there)
            self._new[:, rows.cpu()] = True
        self.total[there] = 0

    def feed(self, rows: Tensor, inputs: Tensor) -> None:
        scale = self._program.input_scale
        inputs = (inputs if scale is None else scale.quantize(inputs)).to(self._engine.device, self._dtype)
        with torch.inference_mode():
            rows = rows.to(inputs.device)
            for start, stop in cut(len(rows), self._tile):
                part, chosen = inputs[start:stop], rows[start:stop]
                self._staging[INPUT][: len(part)].copy_(part)
                for thunk in self._encoder(len(part)):
                    thunk.run()
                self._keep_constants(chosen)

    def step(self, rows: Tensor, segment: int = 1, observe: SlotObserver | None = None) -> Tensor:
        number, found = segment - 1, []
        if int(rows[0]) < 0 or int(rows[-1]) >= self.capacity:
            raise ValueError(f"rows {rows.tolist()} of {self.capacity} slots")
        with torch.inference_mode():
            for start, stop in cut(len(rows), self._tile):
                chosen = rows[start:stop]
                first, last = int(chosen[0]), int(chosen[-1])
                side_by_side = last - first + 1 == len(chosen)
                self._hand_on()
                self._carried[number].arriving(self._places[: len(chosen)], chosen)
                if side_by_side:
                    self._run(self._bound(number, first, last + 1), start, observe)
                else:
                    self._slots[: len(chosen)] = chosen
                    apart = self._bound_apart(number, len(chosen))
                    apart.fetch(chosen)
                    self._run(apart.thunks, start, observe)
                    apart.put_back(chosen)
                if self._handed_on:
                    self._left = number, chosen.cpu().numpy().copy()
                    self._hands_on[self._left[1]] = True
                where = slice(first, last + 1) if side_by_side else chosen
                self._new[number, where] = False
                found.append(self._scores(number, where, len(chosen)))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _hand_on(self) -> None:
        """Keeps what the samples of the tile need in later segments; many have left meanwhile."""
        if self._left is None:
            return
        number, rows = self._left
        staying = self._hands_on[rows].nonzero()[0]
        self._carried[number].leaving(torch.from_numpy(rows[staying]), torch.from_numpy(staying))
        self._left = None
        self._hands_on[rows] = False

    def _run(self, thunks: Sequence[Thunk], first: int, observe: SlotObserver | None) -> None:
        for thunk in thunks:
            thunk.run()
            if observe is not None and thunk.counts is not None:
                observe(thunk.label, first + thunk.first, thunk.counts())

    def _scores(self, number: int, rows: slice | Tensor, count: int) -> Tensor:
        """Those of whole steps before, and of this one up to the exit."""
        program = self._program
        at, total = program.exits[number], self.total[rows]
        output = self._scratch[at.output][:count]
        if number + 1 < len(program.exits):
            return total * program.output_scale + output * at.scale
        integrate(total, output)
        self.total[rows] = total
        return total * at.scale

    def keep(self, rows: Tensor) -> None:
        self._hand_on()
        for tensor in (*self._kept.values(), *self._handed_on, self.total):
            tensor[: len(rows)] = tensor[rows]
        self._new[:, : len(rows)] = self._new[:, rows]

    def parts(self, active: int) -> Sequence[StepPart]:
        """See ``seenn.runtime.slots.DividedSlots``; of a later step, which initialises nothing; one tile at most."""
        stop = min(active, self._tile)
        segments = range(len(self._program.exits))
        self._hand_on()
        if bool(self._new[:, :stop].any()):
            for number in segments:
                self.step(torch.arange(stop), number + 1)
        macs, thunks = self._program.macs(), [thunk for number in segments for thunk in self._bound(number, 0, stop)]
        return [StepPart(t.label, t.rows, t.run, t.counts, macs.get(t.label, 0)) for t in thunks if t.first == 0]

    def _bound(self, number: int, start: int, stop: int) -> list[Thunk]:
        key = number, start, stop
        if key not in self._tiles:
            views = {name: tensor[start:stop] for name, tensor in self._kept.items()}
            self._tiles[key] = self._bind(number, stop - start, views, self._new[number, start:stop])
        return self._tiles[key]

    def _bound_apart(self, number: int, count: int) -> _Apart:
        """Slots that do not lie side by side: their neurons find them; of whatever else is kept, copies are run."""
        key = number, count
        if key not in self._apart:
            used = {
                name for i in self._program.segments[number] for name in (*i.sources, *i.states) if name in self._kept
            }
            in_slots = self._engine.binder.in_slots
            copied = {name: self._allocate(self._program.buffers[name], count) for name in sorted(used - in_slots)}
            views = {name: tensor for name, tensor in self._kept.items() if name in in_slots} | copied
            thunks = self._bind(number, count, views, self._new[number], self._slots[:count])
            pairs = [(self._kept[name], copy, self._program.buffers[name].life) for name, copy in copied.items()]
            self._apart[key] = _Apart(thunks, pairs)
        return self._apart[key]

    def _bind(
        self, number: int, count: int, kept: Mapping[str, Tensor], fresh: Tensor, slots: Tensor | None = None
    ) -> list[Thunk]:
        views = {**kept, **{name: tensor[:count] for name, tensor in self._scratch.items()}}
        copies = {copy: framed[:count] for copy, framed in self._copies.items()}
        program, binder = self._program, self._engine.binder
        return binder.bind(program.segments[number], Memory(count, views, copies, self._currents, fresh, slots))

    def _encoder(self, count: int) -> list[Thunk]:
        if count not in self._encoders:
            views = {name: tensor[:count] for name, tensor in self._staging.items()}
            self._encoders[count] = self._engine.binder.bind(self._program.encode, Memory(count, views, {}))
        return self._encoders[count]

    def _carry_over(self, rows: Tensor) -> None:
        """A warm start; the neurons of a segment that no sample has come to in these slots will start by themselves."""
        for name, tensor in self._kept.items():
            buffer = self._program.buffers[name]
            if buffer.carry is not None:
                tensor[rows] = buffer.carry(tensor[rows])
            elif buffer.start is not None:
                tensor[rows] = self._first(buffer)

    def _carry(self, capacity: int) -> list[_Carried]:
        """Memory for what segments hand on, for every slot, beside that of a tile; by segment."""
        pairs = [(list[tuple[Tensor, Tensor]](), list[tuple[Tensor, Tensor]]()) for _ in self._program.exits]
        self._handed_on: list[Tensor] = []
        for name, (first, last) in crossing(self._program).items():
            tiles = [framed for copy, framed in self._copies.items() if copy.name == name]
            tiles += [self._scratch[name]] if name in self._scratch else []
            for tile in map(_by_sample, tiles):
                kept = tile.new_zeros(capacity, tile.shape[1])
                self._handed_on.append(kept)
                pairs[first][0].append((kept, tile))
                for number in range(first + 1, last + 1):
                    pairs[number][1].append((tile, kept))
        native = self._engine.binder.native
        return [_Carried(_row_writer(native, leaving), _row_writer(native, arriving)) for leaving, arriving in pairs]

    def _allocate(self, buffer: Buffer, rows: int) -> Tensor:
        return self._laid_out(buffer, torch.zeros(rows, *buffer.shape, dtype=buffer.dtype, device=self._engine.device))

    def _first(self, buffer: Buffer) -> Tensor:
        """A state before the first step, of one sample."""
        assert buffer.start is not None
        start = buffer.start.to(self._engine.device, buffer.dtype)
        return self._laid_out(buffer, start.expand(buffer.shape).unsqueeze(0).contiguous())

    def _laid_out(self, buffer: Buffer, values: Tensor) -> Tensor:
        return _channels_last(values) if buffer.name in self._engine.images else values

    def _frame(self, copy: Copy) -> Tensor:
        """Bytes of a tile, all of them zero counts."""
        buffer = self._program.buffers[copy.name]
        rest = [size + 2 * edge for size, edge in zip(buffer.shape[1:], copy.margin, strict=False)]
        shape = (self._tile, buffer.shape[0], *rest)
        return _channels_last(torch.full(shape, -int(buffer.low), dtype=torch.uint8, device=self._engine.device))


@dataclass(frozen=True)
class _Carried:
    """Writes what a segment hands on to later ones into memory of its slot, and what it reads of earlier ones back."""

    leaving: WriteRows
    arriving: WriteRows


@dataclass(frozen=True)
class _Apart:
    """A segment of so many slots anywhere, and copies of what only runs side by side: ``(kept, copy, life)``."""

    thunks: list[Thunk]
    copied: Sequence[tuple[Tensor, Tensor, Life]]

    def fetch(self, rows: Tensor) -> None:
        """Before it runs."""
        for kept, copy, _ in self.copied:
            copy.copy_(kept[rows])

    def put_back(self, rows: Tensor) -> None:
        """Afterwards."""
        for kept, copy, life in self.copied:
            if life == "state":
                kept[rows] = copy


def _by_sample(values: Tensor) -> Tensor:
    """Dense samples as rows, of as wide numbers as they can be taken for: how they are copied fastest."""
    images = order(values) is torch.channels_last
    flat = (values.permute(0, 2, 3, 1) if images else values).view(len(values), -1)
    size = flat.shape[1] * flat.element_size()
    return flat.view(torch.int64) if size % 8 == 0 else flat


def _row_writer(native: CDLL | None, pairs: Sequence[tuple[Tensor, Tensor]]) -> WriteRows:
    """Writes ``(target, source)`` into given rows of the targets; a source of one sample goes into all of them."""
    if native is not None:
        return RowWriter(native, pairs)

    def write(rows: Tensor, samples: Tensor | None = None) -> None:
        samples = torch.arange(len(rows)) if samples is None else samples
        for target, source in pairs:
            chosen = (
                source[samples.to(source.device)] if len(source) > 1 else source.expand(len(rows), *source.shape[1:])
            )
            target.index_copy_(0, rows.to(target.device), chosen)

    return write


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _bytes(buffer: Buffer) -> int:
    return buffer.dtype.itemsize * math.prod(buffer.shape)
