"""What a person holds: in Python, and in print."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seenn import SNN, FixedExit
from seenn.core.network import SpikingNetwork
from seenn.errors import DataError


def test_arrays_of_floats_are_images_as_tensors_are(network: SpikingNetwork, images: Tensor) -> None:
    snn = SNN(network=network)
    expected = snn.predict(images[:4].float(), engine="float32").logits_sum
    for given in (images[:4].numpy(), images[:4].float().numpy()):
        assert torch.equal(snn.predict(given, engine="float32").logits_sum, expected)
    assert [p.label for p in snn.stream(images[:4].numpy(), engine="float32")] == expected.argmax(-1).tolist()
    with pytest.raises(DataError, match="got ndarray: give prepared floating-point tensors or arrays"):
        snn.predict(images[:4].byte().numpy())


def test_a_policy_is_no_name(network: SpikingNetwork, images: Tensor) -> None:
    with pytest.raises(TypeError, match=r"policy is a str; expected an exit policy, such as seenn.ConfidenceExit"):
        SNN(network=network).predict(images, policy="confidence")  # type: ignore[arg-type]


def test_prints_as_one_line(network: SpikingNetwork) -> None:
    snn = SNN(network=network, manifest={"timesteps": 3}, policy=FixedExit(timesteps=2))
    assert repr(snn) == "<SNN: 2 neuron sites, inputs [2, 6, 6], T = 3, FixedExit(timesteps=2, segment=None)>"
