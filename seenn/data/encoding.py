"""From images to what a network sees in each timestep: the image itself, or random spikes at its brightness."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from seenn.core.ops.arguments import integer
from seenn.errors import CheckpointError, InputError


def poisson(images: Tensor, timesteps: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Spikes ``[T, B, C, H, W]``, 0 or 1: each pixel fires in each step with its brightness as probability.

    Args:
        images: ``[B, C, H, W]`` with values in [0, 1].
        timesteps: T.
        generator: of the random numbers; None is torch's global one.

    Raises:
        InputError: pixels outside [0, 1].
    """
    integer("timesteps", timesteps, low=1)
    return _fire(images, torch.rand((timesteps, *images.shape), generator=generator, dtype=images.dtype))


@dataclass(frozen=True, kw_only=True)
class PoissonEncoding:
    """Poisson spikes that depend on the image and the seed alone, for inference.

    Every image meets the same random numbers, one a pixel and step, so that an answer does not depend on the
    batch in which the image comes. Over images the spikes are as probable as with ``poisson``.
    """

    timesteps: int  # T
    seed: int = 0

    def __post_init__(self) -> None:
        integer("timesteps", self.timesteps, low=1)
        integer("seed", self.seed, high=2**32 - 1)

    def to_json(self) -> dict[str, Any]:
        """For manifests."""
        return {"kind": "poisson", **asdict(self)}

    @classmethod
    def from_json(cls, value: Any) -> PoissonEncoding:
        """From a manifest.

        Raises:
            CheckpointError: it is not what ``to_json`` writes.
        """
        if not isinstance(value, dict) or set(value) != {"kind", "timesteps", "seed"} or value["kind"] != "poisson":
            raise CheckpointError(f"the encoding must be poisson with timesteps and seed, got {value!r}")
        try:
            return cls(timesteps=value["timesteps"], seed=value["seed"])
        except ValueError as error:
            raise CheckpointError(f"the encoding cannot be read: {error}; write the file again") from error

    def __call__(self, images: Tensor) -> Tensor:
        """Spikes ``[T, B, C, H, W]`` of images ``[B, C, H, W]`` with values in [0, 1]."""
        generator = torch.Generator().manual_seed(self.seed)
        return _fire(images, torch.rand((self.timesteps, 1, *images.shape[1:]), generator=generator))


def _fire(images: Tensor, noise: Tensor) -> Tensor:
    if not bool(((images >= 0) & (images <= 1)).all()):
        low, high = images.min().item(), images.max().item()
        raise InputError(
            f"Poisson spikes need brightness from 0 to 1, got values from {low:.3g} to {high:.3g}: prepare the images "
            "with mean 0 and std 1"
        )
    return (noise.to(images) < images).to(images.dtype)
