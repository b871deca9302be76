"""The engine of lowered networks: packed weights, buffers taken once, and a step that only writes into them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from ctypes import CDLL

import torch
from torch import Tensor

from seenn.core.graph import INPUT
from seenn.native import RowWriter
from seenn.runtime.kernels.bind import Binder, Thunk
from seenn.runtime.kernels.synapses import Copy, Kernel
from seenn.runtime.lowering.program import Buffer, Program
from seenn.runtime.lowering.values import integrate
from seenn.runtime.slots import Engine, SlotObserver, Slots, StepPart, check_memory

WriteRows = Callable[[Tensor], None]  # into these rows of some buffers
TILE_BYTES = 16 << 20  # of one layer's values: samples that go through the network together
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
        self.tile = tile_size(program)
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
        """Of ``kept``."""
        return sum(map(_bytes, self.kept.values()))

    def open(self, slots: int) -> FusedSlots:
        scratch = sum(_bytes(b) for b in self.program.buffers.values() if b.life != "state")  # of a tile
        scratch += 4 * self.binder.currents
        check_memory(slots, self.slot_bytes + scratch * min(slots, self.tile) // slots + 1, self.device)
        return FusedSlots(self, slots)

    def check(self, sample: Tensor) -> None:
        if self.input_scale is not None:
            self.input_scale.quantize(sample.unsqueeze(0))


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
        constants = [(tensor, self._staging[name]) for name, tensor in self._kept.items() if name in self._staging]
        self._keep_constants = _row_writer(engine.binder.native, constants)
        elsewhere = engine.binder.initialised
        started = {n: buffer for n, buffer in kept.items() if buffer.start is not None and n not in elsewhere}
        starts = [(self._kept[name], self._first(buffer)) for name, buffer in started.items()]
        self._start = _row_writer(engine.binder.native, starts)
        self._currents = torch.zeros(self._tile * engine.binder.currents, device=engine.device)
        self._new = torch.zeros(capacity, dtype=torch.bool)  # whose other states are initialised in the next step
        # Views of each run of rows that was stepped, bound once.
        self._tiles: dict[tuple[int, int], list[Thunk]] = {}
        self._encoders: dict[int, list[Thunk]] = {}

    def load(self, rows: Tensor, inputs: Tensor) -> None:
        self.feed(rows, inputs)
        there = rows.to(self.total.device)
        self._start(there)
        self.total[there] = 0
        self._new[rows.cpu()] = True

    def feed(self, rows: Tensor, inputs: Tensor) -> None:
        scale = self._program.input_scale
        inputs = (inputs if scale is None else scale.quantize(inputs)).to(self._engine.device, self._dtype)
        with torch.inference_mode():
            rows = rows.to(inputs.device)
            for start, stop in _cut(len(rows), self._tile):
                part, chosen = inputs[start:stop], rows[start:stop]
                self._staging[INPUT][: len(part)].copy_(part)
                for thunk in self._encoder(len(part)):
                    thunk.run()
                self._keep_constants(chosen)

    def step(self, active: int, observe: SlotObserver | None = None) -> Tensor:
        with torch.inference_mode():
            for start, stop in _cut(active, self._tile):
                for thunk in self._bound(start, stop):
                    thunk.run()
                    if observe is not None and thunk.counts is not None:
                        observe(thunk.label, start, thunk.counts())
                self._new[start:stop] = False
                integrate(self.total[start:stop], self._scratch[self._program.output][: stop - start])
        return self.total[:active] * self._program.output_scale

    def keep(self, rows: Tensor) -> None:
        for tensor in (*self._kept.values(), self.total, self._new):
            tensor[: len(rows)] = tensor[rows]

    def parts(self, active: int) -> Sequence[StepPart]:
        """See ``seenn.runtime.slots.DividedSlots``; of a later step, which initialises nothing; one tile at most."""
        stop = min(active, self._tile)
        if bool(self._new[:stop].any()):
            self.step(stop)
        macs = self._program.macs()
        return [StepPart(t.label, stop, t.run, t.counts, macs.get(t.label, 0)) for t in self._bound(0, stop)]

    def _bound(self, start: int, stop: int) -> list[Thunk]:
        if (start, stop) not in self._tiles:
            views = {name: tensor[start:stop] for name, tensor in self._kept.items()}
            views |= {name: tensor[: stop - start] for name, tensor in self._scratch.items()}
            copies = {copy: framed[: stop - start] for copy, framed in self._copies.items()}
            binder, fresh = self._engine.binder, self._new[start:stop]
            self._tiles[start, stop] = binder.bind(self._program.step, views, copies, self._currents, fresh)
        return self._tiles[start, stop]

    def _encoder(self, count: int) -> list[Thunk]:
        if count not in self._encoders:
            views = {name: tensor[:count] for name, tensor in self._staging.items()}
            self._encoders[count] = self._engine.binder.bind(self._program.encode, views, {})
        return self._encoders[count]

    def _allocate(self, buffer: Buffer, rows: int) -> Tensor:
        return _channels_last(torch.zeros(rows, *buffer.shape, dtype=buffer.dtype, device=self._engine.device))

    def _first(self, buffer: Buffer) -> Tensor:
        """A state before the first step, of one sample."""
        assert buffer.start is not None
        start = buffer.start.to(self._engine.device, buffer.dtype)
        return _channels_last(start.expand(buffer.shape).unsqueeze(0).contiguous())

    def _frame(self, copy: Copy) -> Tensor:
        """Bytes of a tile, all of them zero counts."""
        buffer = self._program.buffers[copy.name]
        rest = [size + 2 * edge for size, edge in zip(buffer.shape[1:], copy.margin, strict=False)]
        shape = (self._tile, buffer.shape[0], *rest)
        return _channels_last(torch.full(shape, -int(buffer.low), dtype=torch.uint8, device=self._engine.device))


def _cut(rows: int, tile: int) -> Iterator[tuple[int, int]]:
    """Whole tiles, then halves of halves: few shapes, for each of which weights are packed."""
    start = 0
    while start < rows:
        while tile > rows - start:
            tile = -(-tile // 2)
        yield start, start + tile
        start += tile


def _row_writer(native: CDLL | None, pairs: Sequence[tuple[Tensor, Tensor]]) -> WriteRows:
    """Writes ``(target, source)`` into given rows of the targets; a source of one sample goes into all of them."""
    if native is not None:
        return RowWriter(native, pairs)

    def write(rows: Tensor) -> None:
        for target, source in pairs:
            values = source[: len(rows)] if len(source) > 1 else source.expand(len(rows), *source.shape[1:])
            target.index_copy_(0, rows, values)

    return write


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _bytes(buffer: Buffer) -> int:
    return buffer.dtype.itemsize * math.prod(buffer.shape)
