"""Randomness by address: what is drawn at a step depends on the seed and the step's number, on nothing before.

So a run that is taken up in the middle draws what it would have drawn, without any generator's state on disk.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, *address: object) -> int:
    """A 63-bit seed for one use at one place, for example ``derived_seed(0, "order", epoch)``."""
    digest = hashlib.blake2b(repr((seed, *address)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *address: object) -> torch.Generator:
    """A CPU generator with :func:`derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *address))
