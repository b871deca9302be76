"""Where to compute, and how much memory there is."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from seenn.errors import SeennError, first_line


def resolve_device(name: str = "auto") -> torch.device:
    """``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto``: the first accelerator that is there, else the CPU.

    Raises:
        ValueError: the device is unknown or not available on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}: use cpu, cuda, mps or auto") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        raise ValueError(f"device {name!r} is not available on this machine: use cpu or auto")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} does not exist: this machine has {torch.cuda.device_count()}, counted from 0; use cuda"
        )
    return device


@contextmanager
def own_precision() -> Iterator[None]:
    """Inside, the caller's autocast and inference mode do not act: what is computed may be kept, in full precision."""
    with ExitStack() as inside:
        inside.enter_context(torch.inference_mode(False))
        for kind in filter(torch.is_autocast_enabled, ("cpu", "cuda", "mps")):
            inside.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def recording_gradients() -> Iterator[None]:
    """Inside, gradients can be computed, in full precision, also where the caller asked for none."""
    with own_precision(), torch.enable_grad():
        yield


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 in float32: without autocast, and CUDA rounds those of convolutions to TF32, 10 bits.

    Spikes then differ from those of a CPU as little as float32 makes them.
    """
    cast = torch.is_autocast_enabled(device.type)
    with torch.autocast(device.type, enabled=False) if cast else nullcontext():
        if device.type != "cuda":
            yield
            return
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        parts: list[Any] = [getattr(cudnn, "conv", cudnn), getattr(cudnn, "rnn", cudnn), matmul]
        has_conv = hasattr(cudnn, "conv")  # since torch 2.9
        flag, exact = ("fp32_precision", "ieee") if has_conv else ("allow_tf32", False)
        before = [getattr(part, flag) for part in parts]
        for part in parts:
            setattr(part, flag, exact)
        try:
            yield
        finally:
            for part, value in zip(parts, before, strict=True):
                setattr(part, flag, value)


def available_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated without swapping; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had; torch has no class of its own for that of a CPU."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def out_of_memory(doing: str, error: Exception) -> SeennError:
    """The error for memory that ran out."""
    return SeennError(
        f"memory ran out while {doing} ({first_line(error)}): give fewer images or smaller ones, or free memory"
    )


@contextmanager
def naming_memory(doing: str) -> Iterator[None]:
    """Inside, memory that runs out is a ``SeennError`` that says what it was for."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(doing, error) from error


def processors() -> int:
    """Of the machine, those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def return_memory() -> None:
    """Gives the system what the C library keeps of freed memory, on Linux with glibc; elsewhere nothing is done.

    Large tensors that come and go between small ones that stay leave gaps, of which the process's memory grows: three
    times of what it holds, in calibration.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
