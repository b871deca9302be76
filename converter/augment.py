"""timm's augmentation of training batches: AutoAugment policies, random erasing, mixup and cutmix."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from timm.data import Mixup
from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from seenn.batch import Batch
from seenn.data import Preprocessing
from seenn.errors import TrainingError
from seenn.training.augment import as_images, with_images

Picture = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True, kw_only=True)
class TimmAugment:
    """A :class:`seenn.training.Transform` made of timm's own augmentations, in the order of its training script.

    First every image goes through the policy, then rectangles are erased, then pairs of images are mixed, which
    turns labels ``[B]`` into probabilities ``[B, K]``. All random numbers come from the generator of the call.
    Frames over time are erased and mixed alike.

    Under ``torchrun`` each process mixes its own part of the batch.

    Raises:
        ValueError: a number is out of range, or timm knows no such policy.
    """

    preprocessing: Preprocessing  # of the batches: policies see pictures, batches are normalised
    num_classes: int
    policy: str | None = None  # timm's name of it: rand-m9-mstd0.5, augmix-m3-w3, original, 3a
    erase: float = 0.0  # probability that a rectangle of an image becomes noise, in [0, 1]
    mixup: float = 0.0  # α of the Beta distribution of mixing shares (Zhang et al. 2018); 0: none
    cutmix: float = 0.0  # α of the areas that are pasted (Yun et al. 2019); with mixup, one of the two at random

    def __post_init__(self) -> None:
        if not 0 <= self.erase <= 1:
            raise ValueError(f"erase must be in [0, 1], got {self.erase}")
        for name, value in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {self.num_classes}")
        if self.policy is not None:
            _ = self._picture  # refuses unknown names at once

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A new batch: inputs as they came in shape, labels ``[B]`` or, mixed, ``[B, K]``.

        Raises:
            TrainingError: a policy for sequences, which are no pictures; a policy that fails; or mixing of an odd
                number of images.
        """
        if batch.is_sequence and self.policy is not None:
            raise TrainingError(f"the policy {self.policy} changes pictures, not sequences of frames; leave it out")
        if self._mixes and len(batch) % 2:
            raise TrainingError(f"images are mixed in pairs, got {len(batch)}; use an even batch in every process")
        images, labels = as_images(batch), batch.labels
        with _seeded(int(torch.randint(2**31, (), generator=generator))):
            images = images.clone() if self.policy is None else self._through_policy(images)  # timm writes in place
            if self.erase:
                RandomErasing(self.erase, mode="pixel", device=images.device.type)(images)
            if self._mixes:
                mix = Mixup(self.mixup, self.cutmix, label_smoothing=0.0, num_classes=self.num_classes)
                images, labels = mix(images, labels)
        return with_images(batch, images.contiguous(), labels)

    @property
    def _mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    @cached_property
    def _picture(self) -> Picture:
        p, name = self.preprocessing, str(self.policy)
        hints = {
            "translate_const": int(min(p.height, p.width) * 0.45),
            "img_mean": tuple(round(255 * m) for m in (p.mean if p.channels == 3 else p.mean[:1] * 3)),
        }
        kind = name.split("-", maxsplit=1)[0]
        make: Callable[..., Picture] = {"rand": rand_augment_transform, "augmix": augment_and_mix_transform}.get(
            kind, auto_augment_transform
        )
        try:
            return make(name, hints)
        except (AssertionError, KeyError, ValueError) as error:
            raise ValueError(
                f"timm knows no augmentation policy {name!r} ({error}); try rand-m9-mstd0.5, augmix-m3-w3 or original"
            ) from error

    def _through_policy(self, images: Tensor) -> Tensor:
        p = self.preprocessing
        if p.channels not in (1, 3):
            raise TrainingError(
                f"the policy {self.policy} needs images of 1 or 3 channels, got {p.channels}: choose another policy"
            )
        mean = torch.tensor(p.mean).view(-1, 1, 1)
        std = torch.tensor(p.std).view(-1, 1, 1)
        pixels = ((images.cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        pictures = (Image.fromarray(x.expand(3, -1, -1).permute(1, 2, 0).numpy()) for x in pixels)
        mode = "L" if p.channels == 1 else "RGB"
        try:
            changed = [np.array(self._picture(picture).convert(mode)) for picture in pictures]
        except ValueError as error:  # some of timm's policies ask Pillow for what newer versions refuse
            raise TrainingError(f"timm's policy {self.policy} fails here: {error}; try rand-m9-mstd0.5-inc1") from error
        stacked = torch.from_numpy(np.stack(changed)).view(len(pixels), p.height, p.width, p.channels)
        return p(stacked.permute(0, 3, 1, 2)).to(images.device)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators that timm draws from start at ``seed``, and go on afterwards as if nothing had been."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 — timm draws from it
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
