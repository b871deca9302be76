"""What a measurement was made on: the CPU, and how fast it multiplies in float32 and in int8."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch

from seenn.native.cache import cpu_info
from seenn.runtime.kernels.synapses import FLOAT32, INT8, gmacs, is_exact

INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp")  # instructions that add products of bytes in 32 bits


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The CPU as torch uses it."""

    cpu: str  # its name
    capability: str  # the instructions that torch chose
    int8: tuple[str, ...]  # those for products of bytes
    threads: int  # of torch
    gmacs: dict[str, float]  # 10^9 multiply-accumulates a second of one convolution, by kernel that is exact here

    def __str__(self) -> str:
        speeds = ", ".join(f"{name} {value:.0f}" for name, value in self.gmacs.items())
        return (
            f"{self.cpu}, {self.capability}, {', '.join(self.int8) or 'no VNNI'}, {self.threads} threads. "
            f"One 3×3 convolution, GMAC/s: {speeds}"
        )


def this_machine() -> Machine:
    """Reads what the system says, and times the convolutions."""
    info = cpu_info()
    flags = info.get("flags", info.get("Features", "")).split()
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    return Machine(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        capability=torch.backends.cpu.get_cpu_capability(),
        int8=tuple(flag for flag in INT8_FLAGS if flag in flags),
        threads=threads,
        gmacs={kernel.name: gmacs(kernel, threads) for kernel in (FLOAT32, INT8) if is_exact(kernel, cpu)},
    )
