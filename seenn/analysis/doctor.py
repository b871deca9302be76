"""What decides how fast networks run here: versions, the CPU, the compiler, engines, caches, GPUs."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
from dataclasses import dataclass

import torch
from torch import nn

from seenn.analysis.bench.machine import this_machine
from seenn.capture import capture
from seenn.core.ops import IFNeuron
from seenn.device import available_memory
from seenn.errors import UnsupportedError
from seenn.native import cache, library
from seenn.runtime import ENGINES, make_engine
from seenn.version import versions

#: Packages that some commands need, and what for.
PACKAGES = {
    "torchvision": "torchvision:NAME models",
    "timm": "models by name",
    "onnx": "ONNX files",
    "onnxruntime": "checking ONNX files, seenn bench",
    "openvino": "one more contender in seenn bench",
    "aedat": "event recordings (pip install seenn[events])",
}
OPTIONAL = ("openvino", "aedat")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing: what was found, whether it is as it should be (None: neither way), and else what to do."""

    what: str
    found: str
    ok: bool | None = None
    advice: str = ""


def examine() -> list[Finding]:
    """Looks at everything, and runs a small network on every engine."""
    machine, memory = this_machine(), available_memory(torch.device("cpu"))
    found = [Finding(what=name, found=version) for name, version in versions().items()]
    found += [_package(name, use) for name, use in PACKAGES.items()]
    found += [
        Finding(what="CPU", found=f"{machine.cpu}, {machine.capability}, {machine.threads} threads"),
        Finding(
            what="int8 instructions",
            found=", ".join(machine.int8) or "none: int8 convolutions are hardly faster than float32 here",
        ),
        Finding(what="GMAC/s", found=", ".join(f"{name} {speed:.0f}" for name, speed in machine.gmacs.items())),
        Finding(what="memory", found="unknown" if memory is None else f"{memory / 2**30:.1f} GiB available"),
        _compiler(),
        _cache(),
        *map(_engine, ENGINES.names()),
        _gpu(),
    ]
    return found


def _package(name: str, use: str) -> Finding:
    try:
        return Finding(what=name, found=importlib.metadata.version(name), ok=True)
    except importlib.metadata.PackageNotFoundError:
        ok = None if name in OPTIONAL else False
        return Finding(what=name, found=f"not installed; {use}", ok=ok, advice=f"pip install {name}")


def _compiler() -> Finding:
    compiler, what = library._compiler(), "compiled code"
    advice = "install a C compiler (gcc or clang), or name one in CC: neurons are several times faster"
    if compiler is None:
        return Finding(what=what, found="no C compiler: torch is used, which is slower", ok=False, advice=advice)
    works = library.load("engine") is not None
    said = f"by {shlex.join(compiler)}" if works else f"{shlex.join(compiler)} does not work here"
    return Finding(what=what, found=said, ok=works, advice=advice)


def _cache() -> Finding:
    folder = cache.folder()
    off = os.environ.get("SEENN_CACHE") == ""
    found = "off (SEENN_CACHE is empty)" if off else "not writable" if folder is None else str(folder)
    advice = "set SEENN_CACHE to a folder of your own, else every process compiles anew"
    return Finding(what="cache", found=found, ok=None if off else folder is not None, advice=advice)


def _engine(name: str) -> Finding:
    """Whether the engine runs a small network as the reference does."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), IFNeuron(), nn.Flatten(), nn.Linear(4 * 36, 3))
    images = torch.rand(2, 1, 8, 8)
    network = capture(module, images)
    try:
        engine = make_engine(name, network, timesteps=4)
    except UnsupportedError as error:
        return Finding(what=f"engine {name}", found=str(error), ok=False, advice="see docs/engines.md")
    return Finding(what=f"engine {name}", found=engine.note or "runs", ok=True)


def _gpu() -> Finding:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Finding(what="GPU", found=", ".join(names), ok=True)
    if torch.backends.mps.is_available():
        return Finding(what="GPU", found="Apple's (mps)", ok=True)
    return Finding(what="GPU", found="none: everything runs on the CPU")
