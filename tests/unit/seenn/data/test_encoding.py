from __future__ import annotations

import pytest
import torch

from seenn.data.encoding import PoissonEncoding, poisson
from seenn.errors import CheckpointError


def test_pixels_fire_as_often_as_they_are_bright() -> None:
    images = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 1, 3).expand(2, 4, 8, 3)
    spikes = poisson(images, 50, generator=torch.Generator().manual_seed(0))
    assert spikes.shape == (50, 2, 4, 8, 3)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    rates = spikes.mean((0, 1, 2, 3))
    assert (rates[0].item(), rates[2].item()) == (0.0, 1.0)
    assert rates[1].item() == pytest.approx(0.25, abs=0.03)


def test_at_inference_spikes_depend_on_the_image_and_the_seed_alone() -> None:
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    encode = PoissonEncoding(timesteps=3, seed=7)
    spikes = encode(images)
    assert torch.equal(spikes[:, 2:4], encode(images[2:4]))
    assert torch.equal(spikes, PoissonEncoding(timesteps=3, seed=7)(images))
    assert not torch.equal(spikes, PoissonEncoding(timesteps=3, seed=8)(images))
    assert PoissonEncoding.from_json(encode.to_json()) == encode


def test_brightness_outside_the_unit_interval_is_refused() -> None:
    for encode in (PoissonEncoding(timesteps=2), lambda images: poisson(images, 2)):
        with pytest.raises(ValueError, match=r"Poisson spikes need brightness from 0 to 1, got values from -1 to 2"):
            encode(torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2))


@pytest.mark.parametrize("timesteps", [0, -1])
def test_there_is_at_least_one_timestep(timesteps: int) -> None:
    with pytest.raises(ValueError, match="timesteps must be an integer from 1"):
        PoissonEncoding(timesteps=timesteps)


@pytest.mark.parametrize(
    "value", [None, {"kind": "rate"}, {"kind": "poisson", "timesteps": 4}, {"kind": "x", "timesteps": 4, "seed": 0}]
)
def test_a_damaged_record_is_refused(value: object) -> None:
    with pytest.raises(CheckpointError, match="the encoding must be poisson with timesteps and seed, got"):
        PoissonEncoding.from_json(value)
    with pytest.raises(CheckpointError, match="the encoding cannot be read: timesteps must be"):
        PoissonEncoding.from_json({"kind": "poisson", "timesteps": 0, "seed": 0})
