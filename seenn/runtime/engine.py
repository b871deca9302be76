"""Engines by name, one file each, and the parts of a network's file that belong to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.data.preprocessing import Preprocessing
from seenn.errors import UnsupportedError
from seenn.registry import Registry
from seenn.runtime.slots import Engine


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """What one engine keeps in a network's file: JSON, and tensors by name. Only that engine makes and reads it."""

    json: Any
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What an engine is made for.

    Attributes:
        timesteps: the most that will be run; int8 proves that it is exact up to here.
        preprocessing: how inputs were prepared, if they were: makes 8-bit pixels exact integers.
        float_sites: names of layers that int8 keeps finer than 8 bits.
        section: what the engine keeps in the network's file, from its ``prepare``.
    """

    timesteps: int
    preprocessing: Preprocessing | None = None
    float_sites: tuple[str, ...] = ()
    section: Section | None = None


class EngineKind(ABC):
    """How an engine is made; one file in ``seenn/runtime/engines`` registers one."""

    #: ``auto`` takes the possible engine of the highest; None: only by name.
    preference: ClassVar[int | None] = None

    @abstractmethod
    def make(self, network: SpikingNetwork, options: EngineOptions) -> Engine:
        """An engine for ``network``.

        Raises:
            UnsupportedError: it cannot run this network, or not for so many timesteps.
        """

    def unsuited(self, options: EngineOptions) -> str | None:
        """Why ``auto`` passes this engine over although it may run; None where nothing speaks against it."""
        return None

    def prepare(self, network: SpikingNetwork, batch: Batch, options: EngineOptions) -> Section | None:
        """What the engine wants to keep about the network, chosen on calibration samples; mostly nothing."""
        return None

    def check(self, section: Section, network: SpikingNetwork) -> None:  # noqa: B027 - most engines keep nothing
        """Raises CheckpointError for a section that is damaged or was made for another network."""


ENGINES: Registry[EngineKind] = Registry("engine", "seenn.runtime.engines")


def make_engine(
    name: str,
    network: SpikingNetwork,
    *,
    timesteps: int,
    preprocessing: Preprocessing | None = None,
    float_sites: Iterable[str] = (),
    sections: Mapping[str, Section] | None = None,
) -> Engine:
    """An engine for ``network``, on the network's device.

    ``auto`` takes the first that can run it: int8 where the network lowers to integers and its inputs are 8-bit pixels,
    because its answers are then the same for any batch, slot and number of threads; else float32, whose note says why;
    else the reference.

    Args:
        name: one of ``ENGINES.names()``, or ``auto``.
        timesteps, preprocessing, float_sites: as for ``EngineOptions``.
        sections: what engines keep in the network's file, by engine.

    Raises:
        PluginError: unknown name.
        UnsupportedError: the engine cannot run this network.
    """
    options = EngineOptions(timesteps=timesteps, preprocessing=preprocessing, float_sites=tuple(float_sites))

    def made(chosen: str) -> Engine:
        engine = ENGINES.get(chosen).make(network, replace(options, section=(sections or {}).get(chosen)))
        if len(engine.exit_costs) != len(network.segments):
            raise UnsupportedError(
                f"the {chosen} engine runs whole steps, and this network has {len(network.segments)} exits in each: "
                "use another engine, such as reference"
            )
        return engine

    if name != "auto":
        return made(name)
    refused: list[str] = []
    for chosen in _by_preference():
        if reason := ENGINES.get(chosen).unsuited(options):
            refused.append(f"not {chosen}: {reason}")
            continue
        try:
            engine = made(chosen)
        except UnsupportedError as error:
            refused.append(f"not {chosen}: {error}")
            continue
        engine.note = "; ".join([engine.note, *refused])
        return engine
    raise UnsupportedError("; ".join(refused))


def _by_preference() -> list[str]:
    ranked = [(kind.preference, name) for name, kind in ENGINES.items() if kind.preference is not None]
    return [name for _, name in sorted(ranked, reverse=True)]
