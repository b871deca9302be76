"""Models that onnxruntime's static quantisation makes: pairs of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, helper
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from converter import convert
from converter.onnx_import import import_onnx, verify
from converter.onnx_import.integers import MICROSOFT, QUANTISERS
from converter.onnx_import.rounding import model_without_rounding
from seenn.core.ops import QCFS, Quantiser
from seenn.errors import ConversionError, UnsupportedError

Save = Callable[..., Path]
Arrays = Mapping[str, Any]
RANDOM = np.random.default_rng(0)


def make(op: str, reads: str, makes: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, reads.split(), makes.split(), name=makes, **attributes)


def pair(reads: str, makes: str, grid: str) -> list[NodeProto]:
    """Rounding on the grid of ``{grid}_s`` and ``{grid}_z``."""
    constants = f"{grid}_s {grid}_z"
    return [
        make("QuantizeLinear", f"{reads} {constants}", f"{makes}_q"),
        make("DequantizeLinear", f"{makes}_q {constants}", makes),
    ]


def grids(kind: str) -> dict[str, Any]:
    limits = np.iinfo(kind)
    zero, finer = limits.min, np.float32(255 / (limits.max - limits.min))
    return {
        "in_s": 0.03 * finer, "in_z": np.array(zero + int(128 / finer), kind), "act_s": 0.05 * finer,
        "act_z": np.array(zero, kind), "mid_s": 0.04 * finer, "mid_z": np.array(zero + int(100 / finer), kind),
    }  # fmt: skip


def network(kind: str = "uint8", *, per_channel: bool = False) -> tuple[list[NodeProto], dict[str, Any]]:
    """Two convolutions, the second without an activation, weights in int8, everything rounded."""
    weights = {
        "w": RANDOM.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8),
        "w_s": RANDOM.uniform(0.001, 0.003, 8).astype(np.float32) if per_channel else np.float32(0.002),
        "w_z": np.zeros(8, np.int8) if per_channel else np.int8(0),
        "u": RANDOM.integers(-127, 128, (5, 8, 1, 1)).astype(np.int8), "u_s": np.float32(0.01), "u_z": np.int8(0),
    }  # fmt: skip
    nodes = [
        *pair("x", "i", "in"),
        make("DequantizeLinear", "w w_s w_z", "wf", **({"axis": 0} if per_channel else {})),
        make("DequantizeLinear", "u u_s u_z", "uf"),
        make("Conv", "i wf", "a", pads=[1, 1, 1, 1]), make("Relu", "a", "r"), *pair("r", "rq", "act"),
        make("MaxPool", "rq", "m", kernel_shape=[2, 2], strides=[2, 2]), *pair("m", "mq", "act"),
        make("Conv", "mq uf", "b"), *pair("b", "bq", "mid"), make("GlobalAveragePool", "bq", "p"),
        *pair("p", "pq", "mid"), make("Flatten", "pq", "logits"),
    ]  # fmt: skip
    return nodes, {**weights, **grids(kind)}


def quantisers(module: torch.nn.Module) -> list[Quantiser]:
    return [child for child in module.modules() if isinstance(child, Quantiser)]


@pytest.mark.parametrize(
    ("kind", "per_channel", "opset"),
    [(kind, *rest) for kind in ("uint8", "int8") for rest in ((False, 10), (False, 13), (True, 17), (True, 21))]
    + [("uint16", True, 21), ("int16", False, 21)],
)
def test_activations_become_quantisers_and_weights_are_folded(
    save: Save, kind: str, per_channel: bool, opset: int
) -> None:
    imported = import_onnx(save(*network(kind, per_channel=per_channel), opset=opset, ir=10))
    assert imported.notes[0] == "rounding of the input or of the logits to whole numbers is left out"
    assert imported.difference <= imported.tolerance == 1e-5
    first, second, third = quantisers(imported.module)
    assert isinstance(first, QCFS)  # the ReLU went into its limit
    assert isinstance(second, QCFS)
    levels = 255 if kind.endswith("int8") else 65535
    assert (first.levels, first.v_threshold.item()) == (levels, pytest.approx(255 * 0.05))
    assert third.grid[2:] == ((-100, 155) if levels == 255 else (-25700, 39835))
    assert not any(isinstance(child, torch.nn.ReLU) for child in imported.module.modules())


def test_quantisers_of_onnxruntimes_own_domain_are_taken_at_the_ends_too(save: Save) -> None:
    model = onnx.load(save(*network("uint16"), opset=21, ir=10))
    for node in model.graph.node:
        node.domain = MICROSOFT if node.op_type in QUANTISERS else ""
    model.opset_import.extend([helper.make_opsetid(MICROSOFT, 1), helper.make_opsetid("", 21)])
    assert import_onnx(save(model)).notes[0] == "rounding of the input or of the logits to whole numbers is left out"


@pytest.mark.parametrize("kind", ["uint8", "int16"])
def test_a_converted_one_settles_on_the_quantised_values(save: Save, kind: str) -> None:
    path = save(*network(kind), opset=21, ir=10)
    images = torch.randn(64, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    snn = convert(str(path), images, timesteps=8, levels=64)
    assert len(snn.manifest["per_site"]) == 3
    assert max(site["relative_error"] for site in snn.manifest["per_site"]) < 2e-2
    assert snn.manifest["check"]["agreement"] == 1


def test_rounding_in_another_direction_is_told_from_another_graph(
    save: Save, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    path = save(*network())
    found = import_onnx(path)
    monkeypatch.setattr(verify, "TOLERANCE", -1.0)  # as if values had fallen on the other side
    imported = import_onnx(path)
    assert any("where activations are rounded the other way" in note for note in imported.notes)
    assert imported.difference <= 1e-5
    monkeypatch.setattr(verify, "COARSE", -1.0)
    with pytest.raises(ConversionError, match="more than rounding of its activations explains"):
        import_onnx(path)
    assert found.difference <= 1e-5


def test_a_model_without_rounding_keeps_its_limits(save: Save) -> None:
    model = onnx.load(save(*network()))
    smooth = model_without_rounding(model)
    ops = [node.op_type for node in smooth.graph.node]
    assert "QuantizeLinear" not in ops
    assert ops.count("DequantizeLinear") == 2  # of the weights
    assert ops.count("Max") == ops.count("Min") == 5
    onnx.checker.check_model(smooth)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"act_s": np.float32(0)}, "cannot be a quantiser: .* quantise activations to 16 bits or fewer, with scales"),
    ],
)
def test_grids_that_no_neuron_has_are_refused(save: Save, changed: Arrays, message: str) -> None:
    nodes, weights = network()
    with pytest.raises(UnsupportedError, match=message):
        import_onnx(save(nodes, {**weights, **changed}, opset=21, ir=10))


def test_integers_that_are_read_on_another_grid_are_refused(save: Save) -> None:
    nodes, weights = network()
    node = next(node for node in nodes if node.name == "rq")
    node.input[1] = "mid_s"
    with pytest.raises(UnsupportedError, match="reads integers of another scale or zero point"):
        import_onnx(save(nodes, weights))


class Batches(CalibrationDataReader):
    """Random images for onnxruntime's calibration."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._left = iter([{"x": random.standard_normal((1, 4, 6, 6), np.float32)} for _ in range(16)])

    def get_next(self) -> Any:
        return next(self._left, None)


def real_network() -> tuple[list[NodeProto], dict[str, Any]]:
    """Whatever onnxruntime has an operator on integers for."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((8, 4, 3, 3), np.float32) / 3, "b": random.standard_normal(8, np.float32),
        "u": random.standard_normal((8, 8, 1, 1), np.float32) / 3, "v": random.standard_normal((16, 7), np.float32) / 3,
        "g": random.standard_normal((5, 7), np.float32) / 3, "c": random.standard_normal(5, np.float32),
    }  # fmt: skip
    nodes = [
        make("Conv", "x w b", "a", pads=[1, 1, 1, 1]), make("Relu", "a", "r"), make("Conv", "r u", "d"),
        make("Add", "d r", "e"), make("Sigmoid", "e", "s"), make("Mul", "e s", "m"), make("Concat", "m r", "k", axis=1),
        make("LeakyRelu", "k", "l", alpha=0.1), make("AveragePool", "l", "p", kernel_shape=[2, 2], strides=[2, 2]),
        make("GlobalAveragePool", "p", "q"), make("Flatten", "q", "f"), make("MatMul", "f v", "h"),
        make("Relu", "h", "i"), make("Gemm", "i g c", "logits", transB=1),
    ]  # fmt: skip
    return nodes, weights


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    ("form", "kind"), [("QOperator", "QUInt8"), ("QOperator", "QInt8"), ("QDQ", "QInt8"), ("QDQ", "QInt16")]
)
def test_what_onnxruntime_quantises_is_imported_in_either_form(
    save: Save, tmp_path: Path, form: str, kind: str, per_channel: bool
) -> None:
    made = tmp_path / "quantised.onnx"
    quantize_static(
        save(*real_network(), opset=13), made, Batches(), quant_format=QuantFormat[form], per_channel=per_channel,
        activation_type=QuantType[kind], weight_type=QuantType.QInt8,
        reduce_range=kind == "QUInt8",  # onnxruntime's sums of products of 8 bits saturate on CPUs without VNNI
    )  # fmt: skip
    ops = {node.op_type for node in onnx.load(made).graph.node}
    assert ("QLinearConv" in ops) == (form == "QOperator")
    imported = import_onnx(made)
    assert any("QGemm" in note for note in imported.notes) == (form == "QOperator")
    images = torch.randn(4, 4, 6, 6, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    (expected,) = InferenceSession(made).run(None, {"x": images.numpy()})
    found = imported.module(images).detach().numpy()
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()  # logits are rounded in the file


def test_dynamic_quantisation_is_refused(save: Save, tmp_path: Path) -> None:
    quantize_dynamic(save(*real_network(), opset=13), tmp_path / "dynamic.onnx")
    with pytest.raises(UnsupportedError, match="a range that it finds anew in each image — use onnxruntime's quantize"):
        import_onnx(tmp_path / "dynamic.onnx")
