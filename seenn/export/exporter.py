"""Formats by name, and the one way in which all are written: refuse, write, load with the reader, compare, keep."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops.differential import Differential
from seenn.data.preprocessing import Preprocessing
from seenn.errors import UnsupportedError, did_you_mean
from seenn.exits import ExitPolicy, FixedExit
from seenn.files import PathLike, atomic_folder, atomic_path
from seenn.registry import Registry

if TYPE_CHECKING:
    from seenn.snn import SNN

REPORT = "nothing was written; please report this network"  # where a file computes otherwise


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What some formats can be asked for.

    Attributes:
        raw_pixels: the file takes uint8 images ``[B, H, W, C]`` and prepares them itself.
        reader: the program that is to read the file.
    """

    raw_pixels: bool = False
    reader: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is written, and what it is compared on.

    Attributes:
        snn: as it was given, for what belongs to an engine and for the evidence.
        network: a copy in float32, on the CPU, in evaluation mode.
        policy: who stops when.
        timesteps: T.
        batch: the verifying inputs, prepared.
        options: what was asked for.
    """

    snn: SNN
    network: SpikingNetwork
    policy: ExitPolicy
    timesteps: int
    batch: Batch
    options: ExportOptions

    @property
    def pixels(self) -> Preprocessing | None:
        """How an image of 8-bit pixels becomes the network's input; None where it takes no such images."""
        own = self.snn.preprocessing
        return own if isinstance(own, Preprocessing) else None


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that its reader runs as the network.

    Attributes:
        format: its name.
        path: where it is.
        reader: what it was loaded and run with, and the version.
        inputs: what it was run on.
        compared: what was compared, and how far apart it was; JSON.
    """

    format: str
    path: str
    reader: str
    inputs: str
    compared: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Format(ABC):
    """How a network is written for one reader; one file in ``seenn/export/formats`` registers one."""

    #: What a file's name ends with; without a dot a folder's.
    suffix: ClassVar[str]
    #: Packages that write and read it, and the extra of seenn that brings them.
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    #: Fields of ``ExportOptions`` that it knows.
    takes: ClassVar[tuple[str, ...]] = ()
    #: Programs that ``reader`` may name; the Python that has one may follow: ``NAME=/path/to/python``.
    readers: ClassVar[tuple[str, ...]] = ()
    #: Images that it is compared on where nobody says how many; by default whole batches of 1 and of 7.
    images: ClassVar[int] = 14

    @property
    def is_folder(self) -> bool:
        """Whether several files are written, into a folder."""
        return "." not in self.suffix

    def violations(self, subject: Subject) -> Iterable[str]:
        """Everything that the format or its reader cannot have, by node, each with its way out."""
        return ()

    @abstractmethod
    def write(self, subject: Subject, path: Path) -> None:
        """Writes the file, or into the folder, which is there."""

    @abstractmethod
    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        """Loads what was written with its reader and runs it: the reader's name, and what was compared.

        Raises:
            ExportError: it does not compute what the network does.
        """


FORMATS: Registry[Format] = Registry("export format", "seenn.export.formats")


def export(
    snn: SNN,
    path: PathLike,
    to: str,
    *,
    images: Any = None,
    inputs: str = "given",
    timesteps: int | None = None,
    options: ExportOptions | None = None,
) -> Exported:
    """Writes ``snn`` for another program, once that program was seen to run it as the network does.

    Args:
        to: the format, one of ``FORMATS.names()``.
        images: what to compare on, as for ``SNN.batch``; None: random ones within the range of the preprocessing.
        inputs: where they are from, in words.
        timesteps: T; None is the network's own.
        options: what the format is asked for.

    Raises:
        PluginError: there is no such format.
        ValueError: an option that it does not take, or no images.
        UnsupportedError: it cannot hold this network, all reasons at once; or its reader is not installed.
        ExportError: its reader does not compute what the network does; nothing is written.
        OutputError: the file cannot be written.
    """
    found, options = FORMATS.get(to), options or ExportOptions()
    check_options(to, options)
    if any(isinstance(op, Differential) for op in snn.network.graph.ops):
        raise UnsupportedError(
            f"{to} files hold rate coding, and this network's spikes carry changes: convert with --coding rate"
        )
    _check_packages(found, to)
    steps = snn.steps(timesteps)
    if heads := snn.network.graph.heads:
        raise UnsupportedError(
            f"{to} files answer after whole steps, and this network has heads within them, {', '.join(heads)}: export "
            "the file from before add-heads (in Python: snn.network.without_heads())"
        )
    snn.check_policy(steps)
    if images is None:
        batch = random_inputs(snn, steps, found.images)
        inputs = f"random pixels (seed 0), {len(batch)} images"
    else:
        batch = snn.batch(images).to("cpu", torch.float32)
        inputs = f"{inputs}, {len(batch)} images"
    if not len(batch):
        raise ValueError("there are no images to compare on: give some")
    subject = Subject(
        snn=snn,
        network=copy.deepcopy(snn.network).cpu().float().eval().requires_grad_(False),
        policy=snn.policy or FixedExit(),
        timesteps=steps,
        batch=batch,
        options=options,
    )
    if problems := [*_common(subject), *found.violations(subject)]:
        count = "1 thing stands" if len(problems) == 1 else f"{len(problems)} things stand"
        raise UnsupportedError(f"{count} in the way of {to}: {'; '.join(_grouped(problems))}")
    place: AbstractContextManager[Path] = atomic_folder(path) if found.is_folder else atomic_path(path)
    with place as temporary, torch.no_grad():
        found.write(subject, temporary)
        reader, compared = found.verify(subject, temporary)
    return Exported(format=to, path=str(path), reader=reader, inputs=inputs, compared=compared)


def _grouped(problems: Iterable[str]) -> list[str]:
    """What is said of several nodes is said once, after their names."""
    nodes: dict[str, list[str]] = {}
    for problem in problems:
        node, _, said = problem.partition(": ")
        nodes.setdefault(said, []).append(node)
    return [": ".join([", ".join(names), *filter(None, [said])]) for said, names in nodes.items()]


def check_options(to: str, options: ExportOptions) -> None:
    """Raises ValueError for an option that the format ``to`` does not take, and for a reader that it does not know."""
    found = FORMATS.get(to)
    for field in fields(options):
        if getattr(options, field.name) != field.default and field.name not in found.takes:
            takers = [name for name in FORMATS.names() if field.name in FORMATS.get(name).takes]
            raise ValueError(f"{to} takes no --{field.name.replace('_', '-')}: {', '.join(takers)} do; leave it out")
    if options.reader is not None and (name := options.reader.partition("=")[0]) not in found.readers:
        raise ValueError(f"unknown reader {name!r} of {to}.{did_you_mean(name, found.readers)}")


def random_inputs(snn: SNN, timesteps: int, count: int = Format.images) -> Batch:
    """Random pixels as the network's inputs; of a network that takes other inputs, normal numbers."""
    random, shape = torch.Generator().manual_seed(0), snn.network.input_shape
    frames = (timesteps,) if _reads_frames(snn) else ()
    if not isinstance(snn.preprocessing, Preprocessing) or frames:
        return Batch.of(torch.randn(*frames, count, *shape, generator=random), shape)
    pixels = torch.randint(0, 256, (count, *shape), generator=random, dtype=torch.uint8)
    return snn.batch(pixels).to("cpu", torch.float32)


def _reads_frames(snn: SNN) -> bool:
    """Whether it was made for one frame a timestep: recorded events."""
    return "frames" in (snn.manifest.get("data") or {})


def _common(subject: Subject) -> Iterable[str]:
    if not all(bool(p.isfinite().all()) for p in subject.network.parameters()):
        yield "weights that are NaN, infinite or beyond float32: load a sound checkpoint"
    if subject.options.raw_pixels and subject.pixels is None:
        yield "--raw-pixels needs the preprocessing of images, which this network does not record: leave it out"
    if subject.options.raw_pixels and subject.batch.is_sequence:
        yield "--raw-pixels is for constant images, and this network reads frames: leave it out"


def _check_packages(found: Format, name: str) -> None:
    missing = []
    for package in found.packages:
        try:
            version(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        raise UnsupportedError(
            f"{name} needs {' and '.join(missing)}, which this environment lacks: pip install 'seenn[{found.extra}]'"
        )
