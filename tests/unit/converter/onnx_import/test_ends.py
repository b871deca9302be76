"""What lies around a classifier in a file: inputs that nothing reads, sizes that are not there, bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from converter import convert
from converter.load import ModelSpec, load_model
from converter.onnx_import import import_onnx
from seenn.errors import UnsupportedError

Small = Callable[..., onnx.ModelProto]
Save = Callable[..., Path]


def logits(path: Path, feed: dict[str, Any]) -> np.ndarray[Any, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray[Any, Any] = session.run(["logits"], feed)[0]
    return found


@pytest.mark.parametrize("read", [False, True])
def test_an_input_that_the_output_does_not_need_is_left_out(save: Save, small: Small, read: bool) -> None:
    model = small()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT64, ["N", 3]))
    if read:  # by a node that nobody reads
        model.graph.node.append(helper.make_node("Neg", ["mask"], ["unused"]))
    path = save(model)
    found = import_onnx(path)
    assert "the output depends on no input 'mask': left out" in found.notes
    images = torch.rand(2, 4, 6, 6)
    expected = logits(path, {"x": images.numpy(), "mask": np.zeros((2, 3), np.int64)})
    torch.testing.assert_close(found.module(images), torch.as_tensor(expected), rtol=1e-4, atol=1e-5)


def test_shapes_that_a_file_leaves_out_are_taken_from_the_data(save: Save, small: Small) -> None:
    model = small()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    path = save(model)
    for options in ({"input_shape": (4, 6, 6)}, {"default_shape": (4, 6, 6)}):
        found = import_onnx(path, **options)  # type: ignore[arg-type]
        assert (found.input_shape, found.classes) == ((4, 6, 6), 5)
    with pytest.raises(UnsupportedError, match=r"input 'x' has no shape in the file: state it with --input-size"):
        import_onnx(path)


def of_bytes(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    """The model on bytes, which ``nodes`` bring to ``prepared``."""
    rest = list(model.graph.node)
    rest[0].input[0] = "prepared"
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    model.graph.initializer.append(numpy_helper.from_array(np.float32(255), "most"))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


CAST = helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT)
FRONTS = {
    "cast and divided": (CAST, helper.make_node("Div", ["real", "most"], ["prepared"])),
    "turned first": (
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 1, 3, 2]),
        helper.make_node("Cast", ["turned"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "most"], ["prepared"]),
    ),
}


@pytest.mark.parametrize("front", FRONTS)
def test_bytes_that_a_file_casts_become_pixel_values(save: Save, small: Small, front: str) -> None:
    model = of_bytes(small(), *FRONTS[front])
    if front == "turned first":
        model = onnx.shape_inference.infer_shapes(model)
    path = save(model)
    found = import_onnx(path)
    (note,) = (note for note in found.notes if "pixel values" in note)
    assert note.endswith("state --mean 0 --std 0.00392157 (1/255)")
    pixels = torch.randint(0, 256, (2, 4, 6, 6), dtype=torch.uint8)
    expected = torch.as_tensor(logits(path, {"x": pixels.numpy()}))
    torch.testing.assert_close(found.module(pixels.float()), expected, rtol=1e-4, atol=1e-5)


def test_bytes_that_are_computed_with_are_refused(save: Save, small: Small) -> None:
    model = of_bytes(
        small(),
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Cast", ["twice"], ["prepared"], to=TensorProto.FLOAT),
    )
    with pytest.raises(UnsupportedError, match="input 'x' holds UINT8; expected real numbers"):
        import_onnx(save(model))


@pytest.mark.parametrize("to", ["onnx", "onnx-step"])
def test_a_spiking_network_that_was_exported_is_told_from_an_ann(tmp_path: Path, to: str) -> None:
    ann = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    written = convert(ann.eval(), torch.rand(20, 3, 2, 2)).export(
        tmp_path / ("snn.onnx" * (to == "onnx") or "snn"), to=to
    )
    assert written
    for path in [*tmp_path.rglob("*.onnx")]:
        with pytest.raises(UnsupportedError, match="a spiking network that `seenn export` wrote, not an ANN; the comm"):
            load_model(ModelSpec(name=str(path)))
