from __future__ import annotations

import pytest
import torch

from seenn.device import available_memory, resolve_device


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
