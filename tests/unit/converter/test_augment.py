"""timm's augmentations as a transform of batches: reproducible, in range, and without traces."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from converter.augment import TimmAugment
from seenn.batch import Batch
from seenn.data import Preprocessing
from seenn.errors import TrainingError


def preprocessing(channels: int) -> Preprocessing:
    return Preprocessing(channels=channels, height=28, width=28, mean=(0.3,) * channels, std=(0.4,) * channels)


def augment(channels: int = 1, **how: Any) -> TimmAugment:
    return TimmAugment(preprocessing=preprocessing(channels), num_classes=10, **how)


def batch(channels: int = 1, count: int = 6) -> tuple[Tensor, Tensor]:
    pixels = torch.randint(0, 256, (count, channels, 28, 28), dtype=torch.uint8)
    return preprocessing(channels)(pixels), torch.arange(count)


def changed(
    transform: TimmAugment, images: Tensor, labels: Tensor, generator: torch.Generator, *, is_sequence: bool = False
) -> tuple[Tensor, Tensor]:
    made = transform(Batch(images, labels, is_sequence), generator)
    return made.inputs, made.known_labels


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


EACH = [
    {"policy": "rand-m9-mstd0.5"},
    {"policy": "augmix-m3-w3"},
    {"policy": "original"},
    {"erase": 1.0},
    {"mixup": 0.4},
    {"cutmix": 1.0},
    {"policy": "3a", "erase": 0.5, "mixup": 0.4, "cutmix": 1.0},
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("how", EACH, ids=lambda how: "+".join(how))
def test_the_same_generator_gives_the_same_batch_and_another_one_another(channels: int, how: dict[str, Any]) -> None:
    transform, (images, labels) = augment(channels, **how), batch(channels)
    before = images.clone()
    one, its = changed(transform, images, labels, seeded())
    two, again = changed(transform, images, labels, seeded())
    other, _ = changed(transform, images, labels, seeded(4))
    assert torch.equal(one, two)
    assert torch.equal(its, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, images)
    assert torch.equal(images, before)
    assert (one.shape, one.dtype) == (images.shape, images.dtype)


def test_global_generators_go_on_as_if_nothing_had_been() -> None:
    transform, (images, labels) = augment(erase=1.0, mixup=0.4, policy="rand-m9"), batch()

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    expected = drawn()
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    changed(transform, images, labels, seeded())
    assert drawn() == expected


def test_mixed_labels_are_the_shares_of_the_mixed_images() -> None:
    images, labels = batch()
    mixed, shares = changed(augment(mixup=1.0), images, labels, seeded())
    share = float(shares[0, 0])
    assert 0 < share < 1
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.flip(0))


def test_pasted_areas_are_the_shares_of_the_labels() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 28, 28)
    mixed, shares = changed(augment(cutmix=1.0), images, torch.arange(4), seeded())
    own = (mixed == images).double().mean((1, 2, 3))
    torch.testing.assert_close(shares.double()[torch.arange(4), torch.arange(4)], own, atol=1e-6, rtol=0)


def test_a_policy_that_does_nothing_returns_the_images() -> None:
    images, labels = batch(3)
    same, _ = changed(augment(3, policy="rand-m9-p0.0"), images, labels, seeded())
    torch.testing.assert_close(same, images)


def test_sequences_are_mixed_alike_in_all_frames() -> None:
    frames = torch.randn(1, 4, 2, 8, 8).expand(3, 4, 2, 8, 8)
    mixed, shares = changed(augment(cutmix=1.0, erase=0.0), frames, torch.arange(4), seeded(), is_sequence=True)
    assert mixed.shape == (3, 4, 2, 8, 8)
    assert shares.shape == (4, 10)
    assert torch.equal(mixed[0], mixed[2])
    with pytest.raises(TrainingError, match="changes pictures, not sequences"):
        changed(augment(policy="v0"), frames, torch.arange(4), seeded(), is_sequence=True)


def test_a_policy_that_pillow_refuses_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def posterize(image: object, bits: int) -> None:  # as from Pillow 13 on where no bit is left
        raise ValueError("bits must be between 1 and 8")

    monkeypatch.setattr("PIL.ImageOps.posterize", posterize)
    images, labels = batch(3, 64)
    with pytest.raises(TrainingError, match="fails here: bits must"):
        changed(augment(3, policy="rand-m0-n8-p1.0"), images, labels, seeded())


def test_odd_batches_are_not_mixed() -> None:
    images, labels = batch(count=5)
    with pytest.raises(TrainingError, match="mixed in pairs, got 5"):
        changed(augment(mixup=0.2), images, labels, seeded())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"policy": "nope"}, "knows no augmentation policy 'nope'"),
        ({"policy": "rand-q9"}, "knows no augmentation policy 'rand-q9'"),
        ({"erase": 1.5}, "erase must be in"),
        ({"mixup": float("nan")}, "mixup must be at least 0"),
        ({"cutmix": -1.0}, "cutmix must be at least 0"),
    ],
)
def test_wrong_settings_are_refused_at_once(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment(**how)
