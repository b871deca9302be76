"""onnx's light graphs with random weights; benchmarks/onnx_exports.py runs the three largest as well."""

from __future__ import annotations

import runpy
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from converter.onnx_import import import_onnx

LIGHT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/onnx_light.py"))


@pytest.mark.parametrize("name", LIGHT["SMALL"])
def test_light_graph_with_random_weights_equals_onnxruntime(name: str, tmp_path: Path) -> None:
    file = tmp_path / "light.onnx"
    onnx.save(LIGHT["reweighted"](name), file)
    imported = import_onnx(file)
    images = torch.randn(2, *imported.input_shape, generator=torch.Generator().manual_seed(1))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it would list every initializer that is not used any more
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    parts = [session.run(None, {source.name: image[None].numpy()})[0] for image in images]  # its batch is 1
    expected = torch.cat([torch.from_numpy(part).flatten(1) for part in parts])
    with torch.no_grad():
        found = imported.module(images)
    assert float((expected[0] - expected[1]).abs().max()) > 1e-3 * float(expected.abs().max())  # it looks at the image
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert imported.classes == 1000
