"""The neurons of a site in one pass over their memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from seenn.native.library import Library
from seenn.native.memory import address, is_dense, number, order, struct
from seenn.surrogate import fire

_Term = struct("_Term", pointers="gain values bytes", sizes="sample row kept", floats="low")
_Site = struct(
    "_Site",
    pointers="membrane taken_back counts bytes threshold inverse current fresh start start_back terms slots",
    sizes="term_count samples rows width period pattern sample row",
    floats="fewest most low",
    integers="wide threads",
)


@dataclass(frozen=True, kw_only=True)
class Joined:
    """``gain · source``, added to the membrane before the neurons fire."""

    gain: Tensor  # float32, broadcastable to a sample
    source: Tensor  # float32, laid out as the membrane, or bytes that hold source − low
    low: int = 0  # of bytes
    kept: bool = False  # the source lies in slots, as membranes do


class Firing:
    """One site's neurons, bound to memory; call it to let them fire.

    Args:
        library: from ``load``.
        membrane: float32 or int32 ``[B, …]``, dense, images channels-last. Beside int32, a step's sum
            and ``(most + 1) · threshold`` are integers that float32 holds, and what joins needs a ``current``.
        threshold: float32, broadcastable to a sample.
        inverse: of the threshold, where multiplying by it is exact; None to divide.
        fewest, most: spikes of a step.
        taken_back: −S, laid out as the membrane; None where net counts are not kept.
        counts: where spike counts go as float32, laid out as the membrane; None for nowhere.
        whole: where they go as bytes, ``count − low``, with any margin around the images; None for nowhere.
        low: see ``whole``.
        joined: what the membrane gets before it fires.
        current: what it gets after that, laid out as the membrane; zero afterwards. None for nothing.
        fresh: bool ``[B]``, read in every call: whose membranes and net counts are initialised with ``start`` first;
            None for nobody's.
        start, start_back: broadcastable to a sample, ``start`` in the membrane's type; where ``fresh`` is given, and
            ``taken_back`` too.
        slots: int64 ``[B]``, read in every call: which rows of the membrane, ``taken_back``, ``fresh`` and what is kept
            belong to the samples. None: each its own.

    Everything else is of the samples alone. Slots are not checked.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        membrane: Tensor,
        threshold: Tensor,
        inverse: Tensor | None,
        fewest: int,
        most: int,
        *,
        taken_back: Tensor | None = None,
        counts: Tensor | None = None,
        whole: Tensor | None = None,
        low: int = 0,
        joined: Sequence[Joined] = (),
        current: Tensor | None = None,
        fresh: Tensor | None = None,
        start: Tensor | None = None,
        start_back: Tensor | None = None,
        slots: Tensor | None = None,
    ) -> None:
        self._function = library.seenn_fire
        self._kept: list[Tensor] = []  # alive for as long as their addresses are used
        self._slots, self._sample = membrane.shape, membrane.shape[1:]
        samples = len(membrane if slots is None else slots)
        self._shape = torch.Size((samples, *self._sample))
        self._like, image = membrane, order(membrane) is torch.channels_last
        channels, rows, columns = self._sample if image else (math.prod(self._sample), 1, 1)
        starts = [values for values in (start, start_back) if values is not None]
        patterns = [threshold, *starts, *(term.gain for term in joined)]
        self._per_channel = image and all(
            values.numel() == 1 or values.shape == (channels, 1, 1) for values in patterns
        )
        width, period = (columns, channels) if self._per_channel or not image else (1, columns * channels)
        self._terms = (_Term * len(joined))()
        for term, given in zip(self._terms, joined, strict=True):
            term.gain = self._pattern(given.gain)
            if given.source.dtype == torch.uint8:
                term.bytes, term.low = self._bytes(given.source), given.low
                term.sample, term.row = _strides(given.source)
            else:
                term.values, term.kept = self._dense(given.source, kept=given.kept), given.kept
        self._site = _Site(
            membrane=self._dense(membrane, number(membrane), kept=True),
            taken_back=self._dense(taken_back, kept=True),
            counts=self._dense(counts),
            bytes=self._bytes(whole),
            threshold=self._pattern(threshold),
            inverse=self._pattern(inverse),
            current=self._dense(current),
            fresh=self._flags(fresh),
            start=self._pattern(start, number(membrane)),
            start_back=self._pattern(start_back),
            terms=ctypes.addressof(self._terms),
            slots=self._numbers(slots),
            term_count=len(joined),
            samples=samples,
            rows=rows,
            width=width,
            period=period,
            pattern=0 if self._per_channel else period,
            fewest=fewest,
            most=most,
            low=low,
            wide=membrane.dtype == torch.int32,
        )
        self._site.sample, self._site.row = _strides(whole)
        self._address = ctypes.byref(self._site)

    def __call__(self) -> None:
        self._site.threads = torch.get_num_threads()
        self._function(self._address)

    def _read(self, values: Tensor | None, dtype: torch.dtype, dense: Callable[[Tensor], bool]) -> int | None:
        if values is None:
            return None
        self._kept.append(values)
        return address(values, dtype, dense=dense(values))

    def _dense(self, values: Tensor | None, dtype: torch.dtype = torch.float32, *, kept: bool = False) -> int | None:
        shape = self._slots if kept else self._shape
        return self._read(values, dtype, lambda x: x.shape == shape and is_dense(x, self._like))

    def _flags(self, values: Tensor | None) -> int | None:
        return self._read(values, torch.bool, lambda x: x.shape == self._slots[:1] and x.is_contiguous())

    def _numbers(self, values: Tensor | None) -> int | None:
        return self._read(values, torch.int64, lambda x: x.shape == self._shape[:1] and x.is_contiguous())

    def _bytes(self, values: Tensor | None) -> int | None:
        return self._read(values, torch.uint8, lambda x: x.shape == self._shape and _lines(x).is_contiguous())

    def _pattern(self, values: Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
        """One period of it, or one for each row."""
        if values is None:
            return None
        full = values.expand(self._sample[0], 1, 1) if self._per_channel else values.expand(self._sample)
        ordered = full.permute(1, 2, 0) if order(self._like) is torch.channels_last else full
        return self._read(ordered.contiguous(), dtype, Tensor.is_contiguous)


def _lines(values: Tensor) -> Tensor:
    """The rows of the first image, place after place; margins are around those."""
    return values[0, :, 0].t() if values.dim() == 4 else values


def _strides(values: Tensor | None) -> tuple[int, int]:
    """From sample to sample and from row to row of bytes."""
    return (0, 0) if values is None else (values.stride(0), values.stride(2) if values.dim() == 4 else 0)


def matches_torch(library: Library) -> bool:
    """Tries every kind of neuron on values at and around their thresholds."""
    generator = torch.Generator().manual_seed(0)

    def numbers(low: int, high: int, *shape: int) -> Tensor:
        drawn = torch.randint(low, high + 1, shape, generator=generator).float()
        return drawn.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else drawn

    for (fewest, most), wide in product(((0, 1), (0, 4), (-4, 4)), (False, True)):
        v, source, net = numbers(-99, 99, 2, 5, 3, 4), numbers(0, 3, 2, 5, 3, 4), numbers(-4, 0, 2, 5, 3, 4)
        theta, gain = numbers(1, 9, 5, 1, 1), numbers(-9, 9, 5, 1, 1)
        current, start, fresh = numbers(-99, 99, 2, 5, 3, 4), numbers(-9, 9, 5, 1, 1), torch.tensor([False, True])
        v[1], net[1] = torch.nan, torch.nan  # of an earlier sample
        if wide:  # some beyond what float32 holds
            v = torch.where(v[:1] % 3 == 0, 90_000_001 * v[:1].sign(), v.nan_to_num()).int()
            start = start.int()
        back_start = torch.full((1,), -2.0)
        before = torch.where(fresh.view(2, 1, 1, 1), start, v)
        initial = torch.where(fresh.view(2, 1, 1, 1), back_start, net)
        total = before.to(torch.float64 if wide else torch.float32) + current + gain * source
        count = fire(total, theta.to(total.dtype), -initial.to(total.dtype) if fewest < 0 else None, most)
        found, back, counts = v.clone(), net.clone(), torch.empty_like(source)
        padded = torch.full((2, 5, 5, 6), -fewest, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        Firing(
            library,
            found,
            theta,
            1 / theta,
            fewest,
            most,
            taken_back=back if fewest < 0 else None,
            counts=counts,
            whole=padded[:, :, 1:-1, 1:-1],
            low=fewest,
            joined=(Joined(gain=gain, source=source),),
            current=current,
            fresh=fresh,
            start=start,
            start_back=back_start,
        )()
        expected = torch.nn.functional.pad(count - fewest, (1, 1, 1, 1), value=-fewest)
        same = torch.equal(found, (total - count * theta).to(v.dtype)) and torch.equal(counts, count.float())
        kept = torch.equal(back, (initial - count).float()) if fewest < 0 else torch.equal(back[0], net[0])
        if not (same and kept and not current.any() and torch.equal(padded, expected.to(torch.uint8))):
            return False
    return True
