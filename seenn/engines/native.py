"""What an engine does with much memory, in one pass each: ``native.c``, built by the system's C compiler.

Where there is none, and off the CPU, the same is done by torch operations, with the same results, bit for bit.
``load`` does not believe that but tries it.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("native.c")
#: Rounding as torch does it, and no fused multiply-adds.
FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
#: What not every compiler has; tried in this order.
EXTRAS = (("-march=native", "-fopenmp"), ("-fopenmp",), ("-march=native",), ())


class _Term(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("gain", "values", "bytes")),
        *((name, ctypes.c_int64) for name in ("sample", "row")),
        ("low", ctypes.c_float),
    )


class _Site(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("membrane", "taken_back", "counts", "bytes", "threshold", "inverse")),
        ("terms", ctypes.POINTER(_Term)),
        *(
            (name, ctypes.c_int64)
            for name in ("term_count", "samples", "rows", "width", "period", "pattern", "sample", "row")
        ),
        *((name, ctypes.c_float) for name in ("fewest", "most", "low")),
        ("threads", ctypes.c_int32),
    )


class _Rows(ctypes.Structure):
    _fields_ = (
        ("target", ctypes.c_void_p),
        ("source", ctypes.c_void_p),
        ("length", ctypes.c_int64),
        ("stride", ctypes.c_int64),
    )


@dataclass(frozen=True, kw_only=True)
class Joined:
    """``gain · source``, added to the membrane before the neurons fire."""

    gain: Tensor  # float32, broadcastable to a sample
    source: Tensor  # float32, laid out as the membrane, or bytes that hold source − low
    low: int = 0  # of bytes


class Firing:
    """One site's neurons, bound to memory; call it to let them fire.

    Args:
        library: from ``load``.
        membrane: float32 ``[B, …]``, dense; channels-last where it has four axes.
        threshold: float32, broadcastable to a sample.
        inverse: of the threshold, where multiplying by it is exact; None to divide.
        fewest, most: spikes of a step.
        taken_back: −S, laid out as the membrane; None where net counts are not kept.
        counts: where spike counts go as float32, laid out as the membrane; None for nowhere.
        whole: where they go as bytes, ``count − low``, with any margin around the images; None for nowhere.
        low: see ``whole``.
        joined: what the membrane gets beforehand.
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
    ) -> None:
        self._function = library.seenn_fire
        self._kept: list[Tensor] = []  # alive for as long as their addresses are used
        self._sample = membrane.shape[1:]
        image = membrane.dim() == 4
        channels, rows, columns = self._sample if image else (math.prod(self._sample), 1, 1)
        patterns = [threshold, *(term.gain for term in joined)]
        self._per_channel = image and all(values.numel() in (1, len(values)) for values in patterns)
        width, period = (columns, channels) if self._per_channel or not image else (1, columns * channels)
        terms = (_Term * len(joined))()
        for term, given in zip(terms, joined, strict=True):
            term.gain = self._pattern(given.gain)
            if given.source.dtype == torch.uint8:
                term.bytes, term.low = self._bytes(given.source), given.low
                term.sample, term.row = _strides(given.source)
            else:
                term.values = self._dense(given.source)
        self._site = _Site(
            membrane=self._dense(membrane),
            taken_back=self._dense(taken_back),
            counts=self._dense(counts),
            bytes=self._bytes(whole),
            threshold=self._pattern(threshold),
            inverse=self._pattern(inverse),
            terms=terms,
            term_count=len(terms),
            samples=len(membrane),
            rows=rows,
            width=width,
            period=period,
            pattern=0 if self._per_channel else period,
            fewest=fewest,
            most=most,
            low=low,
        )
        self._site.sample, self._site.row = _strides(whole)
        self._address = ctypes.byref(self._site)

    def __call__(self) -> None:
        self._site.threads = torch.get_num_threads()
        self._function(self._address)

    def _address_of(self, values: Tensor, dtype: torch.dtype, dense: bool) -> int:
        """Where it lies, if it lies as the compiled code reads it."""
        if not (dense and values.dtype == dtype and values.device.type == "cpu"):
            raise ValueError(f"memory of another layout: {values.dtype}, {tuple(values.shape)}, {values.stride()}")
        self._kept.append(values)
        return values.data_ptr()

    def _dense(self, values: Tensor | None) -> int | None:
        if values is None:
            return None
        layout = torch.channels_last if values.dim() == 4 else torch.contiguous_format
        return self._address_of(values, torch.float32, values.is_contiguous(memory_format=layout))

    def _bytes(self, values: Tensor | None) -> int | None:
        if values is None:
            return None
        lines = values[0, :, 0].t() if values.dim() == 4 else values
        return self._address_of(values, torch.uint8, lines.is_contiguous())

    def _pattern(self, values: Tensor | None) -> int | None:
        """One period of it, or one for each row."""
        if values is None:
            return None
        full = values.expand(self._sample[0], 1, 1) if self._per_channel else values.expand(self._sample)
        ordered = full.permute(1, 2, 0) if full.dim() == 3 and len(self._sample) == 3 else full
        return self._address_of(ordered.contiguous(), torch.float32, True)


class RowWriter:
    """Gives some samples of several buffers new values.

    Args:
        library: from ``load``.
        pairs: a buffer ``[slots, …]``, and ``[count, …]`` for as many rows or ``[1, …]`` for all of them; float32,
            and dense in the same order.
    """

    def __init__(self, library: ctypes.CDLL, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._function = library.seenn_write_rows
        self._kept = list(pairs)
        self._rows = (_Rows * len(pairs))()
        for entry, (target, source) in zip(self._rows, pairs, strict=True):
            layout = torch.channels_last if target.dim() == 4 else torch.contiguous_format
            for values in (target, source):
                if values.dtype != torch.float32 or not values.is_contiguous(memory_format=layout):
                    raise ValueError(f"memory of another layout: {values.dtype}, {values.shape}, {values.stride()}")
            if target.shape[1:] != source.shape[1:]:
                raise ValueError(f"rows of {tuple(source.shape)} for {tuple(target.shape)}")
            entry.target, entry.source = target.data_ptr(), source.data_ptr()
            entry.length = math.prod(target.shape[1:])
            entry.stride = entry.length if len(source) > 1 else 0

    def __call__(self, rows: Tensor) -> None:
        """``rows``: int64 ``[k]``, different ones."""
        rows = rows.contiguous()
        fits = all(len(source) in (1, *range(len(rows), len(source) + 1)) for _, source in self._kept)
        slots = min(len(target) for target, _ in self._kept)
        if not fits or bool((rows < 0).any()) or bool((rows >= slots).any()):
            raise ValueError(f"rows {rows.tolist()} of {slots}")
        self._function(
            ctypes.byref(self._rows),
            ctypes.c_int64(len(self._rows)),
            ctypes.c_void_p(rows.data_ptr()),
            ctypes.c_int64(len(rows)),
            ctypes.c_int32(torch.get_num_threads()),
        )


def _strides(values: Tensor | None) -> tuple[int, int]:
    """From sample to sample and from row to row of bytes."""
    return (0, 0) if values is None else (values.stride(0), values.stride(2) if values.dim() == 4 else 0)


@cache
def load() -> ctypes.CDLL | None:
    """The compiled neurons; None where there is no compiler, or where they do not do what torch does."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="seenn-") as folder:
        for number, extras in enumerate(EXTRAS):
            target = Path(folder) / f"native{number}.so"
            command = [compiler, *FLAGS, *extras, str(SOURCE), "-o", str(target), "-lm"]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=60)
                library = ctypes.CDLL(str(target))
            except (OSError, subprocess.SubprocessError) as error:
                logger.debug("%s: %s", " ".join(command), error)
                continue
            if _does_what_torch_does(library):
                return library
            logger.debug("%s: not what torch computes", " ".join(command))
    return None


def _does_what_torch_does(library: ctypes.CDLL) -> bool:
    """Tries every kind of neuron on values at and around their thresholds."""
    generator = torch.Generator().manual_seed(0)

    def numbers(low: int, high: int, *shape: int) -> Tensor:
        drawn = torch.randint(low, high + 1, shape, generator=generator).float()
        return drawn.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else drawn

    for fewest, most in ((0, 1), (0, 4), (-4, 4)):
        v, source, net = numbers(-99, 99, 2, 5, 3, 4), numbers(0, 3, 2, 5, 3, 4), numbers(-4, 0, 2, 5, 3, 4)
        theta, gain = numbers(1, 9, 5, 1, 1), numbers(-9, 9, 5, 1, 1)
        total = v + gain * source
        count = (total / theta).floor().clamp(fewest, most)
        count = torch.maximum(count, net) if fewest < 0 else count
        found, back, counts = v.clone(), net.clone(), torch.empty_like(v)
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
        )()
        expected = torch.nn.functional.pad(count - fewest, (1, 1, 1, 1), value=-fewest)
        same = torch.equal(found, total - count * theta) and torch.equal(counts, count)
        kept = torch.equal(back, net - count if fewest < 0 else net)
        if not (same and kept and torch.equal(padded.float(), expected)):
            return False
    return True
