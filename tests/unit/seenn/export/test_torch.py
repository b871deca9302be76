"""``torch``: programs that run in a process without seenn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seenn.errors import ExportError
from seenn.export.exporter import FORMATS, random_inputs

from .conftest import MakeSnn
from .test_onnx import several, subject_of

pytestmark = pytest.mark.usefixtures("forked_readers")


def test_programs_run_step_by_step_as_the_network(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn(several("burst", "signed", "lif"))
    found = snn.export(tmp_path / "snn", to="torch")
    assert found.compared["ties"] == 0
    encode, step = (torch.export.load(tmp_path / "snn" / f"{name}.pt2").module() for name in ("encode", "step"))
    images = random_inputs(snn, 4, 5).inputs
    values, total = encode(images), torch.zeros(5, 3)
    for _ in range(4):
        output, *rest = step(*values)
        values = (values[0], *rest[: len(values) - 1])
        total = total + output
    torch.testing.assert_close(total / 4, snn.network(images, 4))

    (tmp_path / "snn" / "step.pt2").write_bytes((tmp_path / "snn" / "step.pt2").read_bytes()[:-200])
    with pytest.raises(ExportError, match="in a process of its own cannot run what was written"):
        FORMATS.get("torch").verify(subject_of(snn), tmp_path / "snn")
