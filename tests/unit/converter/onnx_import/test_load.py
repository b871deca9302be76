"""ONNX files where a model's name is expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import helper
from torch.utils.data import DataLoader, TensorDataset

from cli.main import seenn
from converter import convert
from converter.load import ModelSpec, build_model, load_model
from converter.onnx_import import import_onnx
from seenn.errors import CalibrationError, ModelError, UnsupportedError

Small = Callable[..., onnx.ModelProto]
Save = Callable[..., Path]


def test_file_needs_no_checkpoint(save: Save, small: Small, caplog: pytest.LogCaptureFixture) -> None:
    path = save(small())
    loaded = load_model(ModelSpec(name=str(path)))
    assert (loaded.spec.num_classes, loaded.spec.in_chans, loaded.spec.stem) == (5, 4, "imagenet")
    assert {key: loaded.record["onnx"][key] for key in ("opset", "ir_version", "notes", "tolerance")} == {
        "opset": 17,
        "ir_version": 8,
        "notes": [],
        "tolerance": 1e-5,
    }
    assert 0 <= loaded.record["onnx"]["difference"] <= 1e-5
    assert ModelSpec.from_record({k: v for k, v in loaded.record.items() if k != "onnx"}) == loaded.spec
    assert not caplog.records  # nothing is random


def test_a_file_is_known_by_its_content_where_its_name_says_nothing(save: Save, small: Small, tmp_path: Path) -> None:
    path = save(small()).rename(tmp_path / "net")
    assert load_model(ModelSpec(name=str(path))).spec.num_classes == 5
    done = CliRunner().invoke(seenn, ["inspect", str(path)])
    assert done.exit_code == 0, done.stderr
    assert "can be converted" in done.stdout


def test_the_output_of_a_file_may_be_chosen_as_that_of_a_module(save: Save, small: Small) -> None:
    model = small()
    model.graph.output.append(helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, ["N", 8]))
    path, images = save(model), torch.randn(32, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    for output, scores in (("logits", 5), (0, 5), (1, 8), (-1, 8)):
        snn = convert(str(path), images, output=output)
        assert len(snn.predict(images[:2]).logits_sum[0]) == scores


def test_open_sizes_come_from_the_images(save: Save, small: Small) -> None:
    path = save(small(shape=("N", 4, "H", "W")))
    loaded = build_model(ModelSpec(name=str(path)), (4, 9, 9))
    assert loaded.module.pretrained_cfg["input_size"] == (4, 9, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": True}, "holds its own layers and weights: leave out --pretrained"),
        ({"kwargs": {"width": 2}, "stem": "cifar"}, "leave out --model-kwargs, --stem cifar"),
        ({"num_classes": 7}, "has num_classes=5, expected 7; leave that option out"),
        ({"in_chans": 1}, "has in_chans=4, expected 1"),
    ],
)
def test_options_of_other_models_are_refused(save: Save, small: Small, options: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(ModelSpec(name=str(save(small())), **options))


def test_checkpoint_beside_the_file_is_refused(save: Save, small: Small, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="leave out --ckpt"):
        load_model(ModelSpec(name=str(save(small()))), tmp_path / "w.pth")


def test_inspect_and_convert_take_a_file(save: Save, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "v"], ["s"], name="head"),
        helper.make_node("Softmax", ["s"], ["logits"], name="softmax"),
    ]
    weights = {"w": random.standard_normal((8, 1, 3, 3), np.float32), "v": random.standard_normal((8, 10), np.float32)}
    path = str(save(nodes, weights, shape=("N", 1, 8, 8)))

    inspected = CliRunner().invoke(seenn, ["inspect", path, "--json"])
    assert inspected.exit_code == 0, inspected.output
    assert json.loads(inspected.stdout)["input_shape"] == [1, 8, 8]

    output = tmp_path / "snn.safetensors"
    arguments = ["convert", "--model", path, "--data", "digits", "--check-images", "32", "-o", str(output), "--json"]
    converted = CliRunner().invoke(seenn, arguments)
    assert converted.exit_code == 0, converted.output
    made = json.loads(converted.stdout)
    assert made["source"]["onnx"]["notes"] == []
    assert made["outputs"]["head"] == "softmax"
    assert output.is_file()


@pytest.mark.parametrize("numbers", [1, 12])
def test_scikit_learns_scaling_before_a_network_is_a_scale_and_a_shift(save: Save, numbers: int) -> None:
    random = np.random.default_rng(0)
    settings = {"offset": random.standard_normal(numbers).tolist(), "scale": (1 + random.random(numbers)).tolist()}
    nodes = [
        helper.make_node("Scaler", ["x"], ["z"], domain="ai.onnx.ml", **settings),
        helper.make_node("MatMul", ["z", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["logits"]),
    ]
    model = onnx.load(save(nodes, {"w": random.standard_normal((12, 8), np.float32)}, shape=("N", 12)))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    assert import_onnx(save(model)).difference <= 1e-5  # from onnxruntime


@pytest.mark.parametrize("shape", [("N", 12), ("N", 2, 12)])
def test_inspect_takes_vectors_and_signals(save: Save, shape: tuple[Any, ...]) -> None:
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((12, 8), np.float32),
        "v": random.standard_normal((8 * len(shape) - 8, 5), "f4"),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["logits"]),
    ]
    done = CliRunner().invoke(seenn, ["inspect", str(save(nodes, weights, shape=shape)), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["input_shape"] == list(shape[1:])


@pytest.mark.parametrize("sizes", [(8, 8), (64,), (None, None)])
def test_gray_images_without_an_axis_of_channels_are_images(save: Save, sizes: tuple[Any, ...]) -> None:
    """As Keras' first tutorials and scikit-learn's networks take them."""
    weights = {"w": np.random.default_rng(0).normal(size=(64, 8)), "v": np.random.default_rng(1).normal(size=(8, 5))}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", *sizes])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 5])],
        [onnx.numpy_helper.from_array(value.astype("f4"), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = save(model)
    for pictures in ((1, 8, 8), (3, 8, 8)):
        loaded = load_model(ModelSpec(name=str(path)), image_size=pictures)
        assert loaded.input_shape == (1, 8, 8)
        assert loaded.spec.in_chans == 1
        x = torch.rand(3, 1, 8, 8)
        expected = x.flatten(1).numpy() @ weights["w"]
        np.testing.assert_allclose(
            loaded.module(x).detach().numpy(), np.maximum(expected, 0) @ weights["v"], rtol=1e-4, atol=1e-4
        )


def test_a_file_with_a_large_ending_is_one(save: Save, small: Small, tmp_path: Path) -> None:
    path = save(small()).rename(tmp_path / "NET.ONNX")
    assert load_model(ModelSpec(name=str(path))).input_shape == (4, 6, 6)


def test_a_size_that_is_stated_is_not_overruled(save: Save, small: Small, tmp_path: Path) -> None:
    path = save(small())
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 4), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(200) % 5)
    options = ["--data", f"npz:{tmp_path}/d.npz", "-o", str(tmp_path / "a.safetensors"), "--input-size", "8"]
    done = CliRunner().invoke(seenn, ["convert", "--model", str(path), *options])
    assert done.exit_code == 1
    assert "takes 4×6×6 alone, and --input-size says 4×8×8: leave --input-size out" in done.output


def test_data_of_another_size_are_refused(save: Save, small: Small) -> None:
    path = save(small())
    with pytest.raises(CalibrationError, match="the model takes 4×6×6, the data given is prepared as 4×9×9"):
        convert(str(path), torch.randn(20, 4, 9, 9))
    open_path = save(small(shape=("N", 4, -1, -1)))
    assert convert(str(open_path), torch.randn(20, 4, 9, 9)).network.input_shape == (4, 9, 9)


@pytest.mark.parametrize("form", ["pair", "mapping", "list of pairs", "array", "batches"])
def test_data_of_a_program_say_the_size_that_a_file_leaves_open(save: Save, small: Small, form: str) -> None:
    path = save(small(shape=("N", 4, "H", "W")))
    random = np.random.default_rng(0)
    images, labels = random.random((40, 4, 9, 7), np.float32), np.arange(40) % 5
    tensors = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    forms: dict[str, Any] = {
        "pair": (images, labels),
        "mapping": {"images": images, "labels": labels},
        "list of pairs": [(image, int(label)) for image, label in zip(images, labels, strict=True)],
        "array": images,
        "batches": DataLoader(tensors, batch_size=8),
    }
    assert convert(str(path), forms[form], force=True).network.input_shape == (4, 9, 7)


def test_without_data_an_open_size_is_asked_for(save: Save, small: Small) -> None:
    wanted = r"leaves sizes open, \(4, \?, \?\): state them with --input-size, or convert with data= of that size"
    with pytest.raises(UnsupportedError, match=wanted):
        convert(str(save(small(shape=("N", 4, "H", "W")))))
