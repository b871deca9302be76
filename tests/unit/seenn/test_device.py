from __future__ import annotations

import pytest
import torch

from seenn.device import available_memory, full_precision, resolve_device


def test_the_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device().type == expected
    memory = available_memory(torch.device("cpu"))
    assert memory is None or memory > 1 << 20


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "unknown device 'gpu': use cpu, cuda, mps or auto"),
        ("meta", "device 'meta' is not available on this machine: use cpu or auto"),
        ("cuda:99", "device 'cuda:99' (is not available|does not exist)"),
    ],
)
def test_other_devices_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_device(name)


def test_convolutions_on_cuda_are_computed_in_float32() -> None:
    convolutions = torch.backends.cudnn
    flag = "fp32_precision" if hasattr(convolutions, "conv") else "allow_tf32"
    where = getattr(convolutions, "conv", convolutions)
    before = getattr(where, flag)
    with full_precision(torch.device("cuda")):
        assert getattr(where, flag) in ("ieee", False)
    assert getattr(where, flag) == before
    with full_precision(torch.device("cpu")):
        assert getattr(where, flag) == before


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_products_are_as_precise_as_float32(device: str) -> None:
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(4, 64, 16, 16, generator=random), torch.randn(64, 64, 3, 3, generator=random)
    expected = torch.nn.functional.conv2d(x.double(), weight.double())
    with full_precision(torch.device(device)):
        found = torch.nn.functional.conv2d(x.to(device), weight.to(device)).cpu()
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5  # TF32: 1e-3
