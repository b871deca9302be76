"""Weights that a training stored in parts, put together as the layer does it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Combine = Callable[..., Tensor]


def _pruned(weight: Tensor, mask: Tensor) -> Tensor:
    """``w · mask`` (``torch.nn.utils.prune``)."""
    return weight * mask.to(weight.dtype)


def _weight_normalised(magnitude: Tensor, direction: Tensor) -> Tensor:
    """``g · v / ‖v‖``, the norm over every axis along which there is one g (Salimans & Kingma, 2016)."""
    axes = [axis for axis in range(direction.ndim) if magnitude.ndim == 0 or magnitude.shape[axis] == 1]
    norm: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=magnitude.ndim > 0)
    return direction * (magnitude / norm)


def _spectrally_normalised(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """``w / (uᵀ W v)``, u and v as they were left by the training (Miyato et al., 2018).

    W has the axis of u first: 0, or 1 of a transposed convolution; where both would fit, the one that u belongs to.
    """
    matrices = [weight.movedim(axis, 0).flatten(1) for axis in range(min(2, weight.ndim)) if weight.ndim > 1]
    images = [m @ v for m in matrices if (len(u), len(v)) == tuple(m.shape)]
    if not images:
        raise ValueError(f"u has {len(u)} values and v {len(v)}")
    sigma = max((float(u @ image) for image in images), key=abs)
    return weight / sigma


@dataclass(frozen=True)
class Scheme:
    """How the parts of one tensor are called, the first of them telling which scheme it is, and what they make."""

    title: str
    parts: tuple[str, ...]  # name patterns; {0}: the path of the layer, {1}: the tensor's own name
    combine: Combine

    @property
    def first(self) -> re.Pattern[str]:
        """Matches the name of the first part."""
        return re.compile(re.escape(self.parts[0]).replace(r"\{0\}", "(.*)").replace(r"\{1\}", r"(\w+?)") + "$")


_NEW = "{0}parametrizations.{1}."
SCHEMES = (
    Scheme("pruning mask applied", ("{0}{1}_orig", "{0}{1}_mask"), _pruned),
    Scheme("spectral norm applied", ("{0}{1}_orig", "{0}{1}_u", "{0}{1}_v"), _spectrally_normalised),
    Scheme("weight norm applied", ("{0}{1}_g", "{0}{1}_v"), _weight_normalised),
    Scheme("weight norm applied", (f"{_NEW}original0", f"{_NEW}original1"), _weight_normalised),
    Scheme(
        "spectral norm applied", (f"{_NEW}original", f"{_NEW}0._u", f"{_NEW}0._v"), _spectrally_normalised
    ),
)  # fmt: skip


def put_together(
    tensors: Mapping[str, Tensor], own: Collection[str], check: Callable[[Mapping[str, Tensor]], None]
) -> tuple[dict[str, Tensor], list[str]]:
    """``tensors`` with the parts of every weight replaced by the weight, and what was done.

    Args:
        tensors: of the file.
        own: names of a module; one that stores its weights in parts itself keeps them.
        check: called with the parts before anything is computed with them.
    """
    found, notes = dict(tensors), []
    for scheme in SCHEMES:
        pattern, changed = scheme.first, []
        for match in filter(None, map(pattern.match, tensors)):
            parts = [part.format(*match.groups()) for part in scheme.parts]
            name = match.group(1) + match.group(2)
            if name in found or not found.keys() >= set(parts) or _ends_in(parts[0], own) or not _ends_in(name, own):
                continue
            check({part: found[part] for part in parts})
            try:
                found[name] = scheme.combine(*(_real(found[part]) for part in parts))
            except (ValueError, RuntimeError):  # sizes of something else: these names mean another thing here
                continue
            for part in parts:
                del found[part]
            changed.append(name)
        if changed:
            notes.append(f"{scheme.title} to {', '.join(changed[:3])}" + " …" * (len(changed) > 3))
    return found, notes


def _ends_in(name: str, own: Collection[str]) -> bool:
    """Whether the last components of ``name`` are one of ``own``."""
    parts = name.split(".")
    return any(".".join(parts[i:]) in own for i in range(len(parts)))


def _real(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
