"""Whatever a file holds, the answer is a network or one clear error of seenn's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from packaging.version import Version

from converter.onnx_import import fold, import_onnx
from seenn.errors import CheckpointError, SeennError, UnsupportedError

Small = Callable[..., onnx.ModelProto]
Save = Callable[..., Path]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.onnx: no such file"):
        import_onnx(tmp_path / "gone.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; copy it again"),
        (b"\x00\x01\x02 something else", "not an ONNX model, or damaged or truncated"),
        (b"\x08\x08", "no nodes, or no opset"),
    ],
)
def test_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        import_onnx(path)


def test_name_that_is_no_text_is_refused(save: Save, small: Small) -> None:
    path = save(small())
    path.write_bytes(path.read_bytes().replace(b"relu", b"\xff\xferu"))
    with pytest.raises(CheckpointError, match="is not UTF-8 text: the file is damaged; export it again"):
        import_onnx(path)


def test_truncated_file_is_refused(save: Save, small: Small) -> None:
    path = save(small())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        import_onnx(path)


@pytest.mark.parametrize("ir", [2, onnx.IR_VERSION + 1])
def test_unknown_ir_version_is_refused(save: Save, small: Small, ir: int) -> None:
    model = small()
    model.ir_version = ir
    with pytest.raises(UnsupportedError, match=f"IR version {ir}; expected 3 to {onnx.IR_VERSION}"):
        import_onnx(save(model))


@pytest.mark.parametrize("opset", [6, onnx.defs.onnx_opset_version() + 1])
def test_unknown_opset_is_refused(save: Save, small: Small, opset: int) -> None:
    model = small()
    model.opset_import[0].version = opset
    with pytest.raises(UnsupportedError, match=f"opset {opset}; expected one from 7 to"):
        import_onnx(save(model))


@pytest.mark.parametrize(("opset", "ir"), [(7, 3), (8, 3), (13, 7), (onnx.defs.onnx_opset_version(), onnx.IR_VERSION)])
def test_oldest_and_newest_versions_are_taken(save: Save, small: Small, opset: int, ir: int) -> None:
    if opset > 26 and Version(onnxruntime.__version__) < Version("1.32"):
        pytest.skip("this onnxruntime is older than these operators")
    imported = import_onnx(save(small(opset=opset, ir=ir)))
    assert (imported.opset, imported.ir_version, imported.classes) == (opset, ir, 5)


def test_cycle_is_named(save: Save, small: Small) -> None:
    model = small()
    model.graph.node[0].input[0] = "f"
    with pytest.raises(CheckpointError, match="must be topologically sorted, however input 'f' of node: name: conv"):
        import_onnx(save(model))


def test_dangling_name_is_named(save: Save, small: Small) -> None:
    model = small()
    model.graph.node[1].input[0] = "nothing"
    with pytest.raises(CheckpointError, match=r"however input 'nothing' of node: name: relu .* is not output of any"):
        import_onnx(save(model))


def test_output_that_is_never_computed_is_named(save: Save, small: Small) -> None:
    model = small()
    model.graph.output[0].name = "other"
    with pytest.raises(CheckpointError, match="Graph output 'other' is not an output of any node"):
        import_onnx(save(model))


def test_name_computed_twice_is_refused_by_the_checker(save: Save, small: Small) -> None:
    model = small()
    model.graph.node[1].output[0] = "a"
    model.graph.node[2].input[0] = "a"
    with pytest.raises(CheckpointError, match="onnx's checker refuses the model"):
        import_onnx(save(model))


def test_weight_that_declares_more_than_it_holds_is_refused(save: Save, small: Small) -> None:
    model = small()
    model.graph.initializer[2].dims[0] = 1 << 40
    with pytest.raises(CheckpointError, match=r"tensor 'v' declares 8,796,093,022,208 values, .* array of size 40"):
        import_onnx(save(model))


def test_negative_size_is_refused(save: Save, small: Small) -> None:
    model = small()
    model.graph.initializer[2].dims[0] = -5
    with pytest.raises(CheckpointError, match=r"tensor 'v' declares the shape \[-5, 8\]"):
        import_onnx(save(model))


def test_constant_of_huge_declared_size_is_not_computed(save: Save) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"], name="huge"),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    path = save(nodes, {"s": np.array([1 << 20, 1 << 20])})
    with pytest.raises(
        UnsupportedError, match=r"huge \(ConstantOfShape\): its constant result has 1,099,511,627,776 values"
    ):
        import_onnx(path)


FOLDED: dict[str, tuple[onnx.NodeProto, dict[str, Any]]] = {
    "MatMul": (helper.make_node("MatMul", ["w", "w"], ["c"], name="far"), {"w": np.ones((2048, 2048), np.float32)}),
    "Gemm": (
        helper.make_node("Gemm", ["w", "v"], ["c"], name="far", transA=1),
        {"w": np.ones((1 << 14, 512), np.float32), "v": np.ones((1 << 14, 1024), np.float32)},
    ),
    "Einsum": (
        helper.make_node("Einsum", ["w", "w"], ["c"], name="far", equation="ij,jk->ik"),
        {"w": np.ones((2048, 2048), np.float32)},
    ),
    "Einsum of many": (
        helper.make_node("Einsum", ["w"] * 9, ["c"], name="far", equation=",".join("abcdefghi") + "->a"),
        {"w": np.ones(16, np.float32)},
    ),
    "ConvTranspose": (
        helper.make_node("ConvTranspose", ["w", "w"], ["c"], name="far"),
        {"w": np.ones((16, 16, 32, 32), np.float32)},
    ),
}


@pytest.mark.parametrize("op", FOLDED)
def test_constants_that_take_long_to_compute_are_not_computed(op: str, save: Save) -> None:
    node, weights = FOLDED[op]
    nodes = [node, helper.make_node("ReduceSum", ["c"], ["s"]), helper.make_node("Add", ["x", "s"], ["y"])]
    with pytest.raises(
        UnsupportedError,
        match=rf"far \({op.split()[0]}\): its constant result takes about [\d,]+ operations; all folded",
    ):
        import_onnx(save(nodes, weights))


def test_work_on_one_constant_over_and_over_adds_up(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "MAX_WORK", 100_000)
    nodes = [helper.make_node("ReduceSum", ["w"], [f"s{i}"], name=f"sum{i}") for i in range(12)]
    nodes += [helper.make_node("Sum", [f"s{i}" for i in range(12)], ["s"]), helper.make_node("Add", ["x", "s"], ["y"])]
    with pytest.raises(UnsupportedError, match=r" sum9, sum10, sum11 \(ReduceSum\): .* takes about 10,001 operations"):
        import_onnx(save(nodes, {"w": np.ones((100, 100), np.float32)}))


def test_products_of_small_constants_are_folded(save: Save) -> None:
    nodes = [helper.make_node("MatMul", ["w", "w"], ["c"]), helper.make_node("MatMul", ["x", "c"], ["y"])]
    assert import_onnx(save(nodes, {"w": np.eye(6, dtype=np.float32) * 2})).classes == 144


def test_huge_image_is_refused(save: Save, small: Small) -> None:
    with pytest.raises(UnsupportedError, match="expected at most 67,108,864 values"):
        import_onnx(save(small(shape=("N", 4, 1 << 20, 1 << 20))))


def test_huge_activation_is_not_computed(save: Save) -> None:
    nodes = [helper.make_node("Resize", ["x", "", "s"], ["y"], name="grow")]
    path = save(nodes, {"s": np.array([1, 1, 1e4, 1e4], np.float32)})
    with pytest.raises(UnsupportedError, match=r"grow \(Resize\): has 14,400,000,000 values per image"):
        import_onnx(path)


def test_string_and_sparse_tensors_are_refused(save: Save, small: Small) -> None:
    model = small()
    model.graph.initializer.append(helper.make_tensor("labels", TensorProto.STRING, [1], ["cat"]))
    with pytest.raises(UnsupportedError, match="tensor 'labels' is of type STRING"):
        import_onnx(save(model))
    model = small()
    values, indices = (numpy_helper.from_array(np.ones(1, dtype), "s") for dtype in (np.float32, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))
    with pytest.raises(UnsupportedError, match=r"sparse weights \['s'\] are not supported"):
        import_onnx(save(model))


def test_local_functions_are_refused(save: Save, small: Small) -> None:
    model = small()
    body = [helper.make_node("Relu", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Act", ["a"], ["b"], body, opsets))
    with pytest.raises(UnsupportedError, match=r"functions of its own \(Act\); .*inline_local_functions"):
        import_onnx(save(model))


class TestExternalData:
    """Weights in files of their own."""

    def test_weights_beside_the_model_are_read(self, tmp_path: Path, small: Small) -> None:
        onnx.save(small(), tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
        assert import_onnx(tmp_path / "net.onnx").classes == 5

    @pytest.mark.parametrize(
        "location", ["/etc/passwd", "../net.data", "a/../../net.data", "C:\\net.data", "..\\x", ""]
    )
    def test_path_out_of_the_folder_is_refused(self, save: Save, small: Small, location: str) -> None:
        with pytest.raises(
            CheckpointError, match=r"external data of tensor 'w' cannot be read: .*; copy it beside the model"
        ):
            import_onnx(save(pointing_at(small(), location)))

    def test_link_out_of_the_folder_is_refused(self, tmp_path: Path, small: Small) -> None:
        (tmp_path / "inside").mkdir()
        (tmp_path / "secret").write_bytes(bytes(8 * 4 * 9 * 4))
        (tmp_path / "inside/net.data").symlink_to("../secret")
        path = tmp_path / "inside/net.onnx"
        path.write_bytes(pointing_at(small(), "net.data").SerializeToString())
        with pytest.raises(CheckpointError, match=r"tensor 'w' cannot be read: .*link"):
            import_onnx(path)

    def test_missing_file_is_named(self, save: Save, small: Small) -> None:
        with pytest.raises(
            CheckpointError, match=r"tensor 'w' cannot be read: .*gone.data, but it is not .*copy it beside the model"
        ):
            import_onnx(save(pointing_at(small(), "gone.data")))

    def test_what_is_no_file_is_refused(self, save: Save, small: Small, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CheckpointError, match=r"tensor 'w' cannot be read: .*pipe, but it is not "):
            import_onnx(save(pointing_at(small(), "pipe")))

    @pytest.mark.parametrize(
        "entries", [{}, {"offset": "1000"}, {"offset": "-8"}, {"length": "8"}, {"length": str(1 << 60)}]
    )
    def test_sizes_that_do_not_fit_are_refused(
        self, save: Save, small: Small, tmp_path: Path, entries: dict[str, str]
    ) -> None:
        (tmp_path / "net.data").write_bytes(bytes(8 * 4 * 9 * 4 - (not entries)))
        with pytest.raises(
            CheckpointError, match=r"tensor 'w'(: its shape .* needs 1,152 bytes| cannot be read: .*External data)"
        ):
            import_onnx(save(pointing_at(small(), "net.data", **entries)))

    def test_entries_that_are_no_numbers_are_refused(self, save: Save, small: Small, tmp_path: Path) -> None:
        (tmp_path / "net.data").write_bytes(bytes(1152))
        with pytest.raises(
            CheckpointError, match="external data of tensor 'w' cannot be read: ValueError: invalid literal"
        ):
            import_onnx(save(pointing_at(small(), "net.data", offset="many")))

    def test_more_weights_than_memory_are_refused(self, save: Save, small: Small) -> None:
        model = pointing_at(small(), "net.data")
        model.graph.initializer[0].dims[0] = 1 << 40
        with pytest.raises(CheckpointError, match="more than 2,147,483,647 bytes of weights"):
            import_onnx(save(model))


def pointing_at(model: onnx.ModelProto, location: str, **entries: str) -> onnx.ModelProto:
    """The model with its first weight in another file."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


@pytest.mark.parametrize("number", [0, 29, 255])
def test_types_that_there_are_not_are_named_by_their_number(save: Save, small: Small, number: int) -> None:
    model = small()
    model.graph.input[0].type.tensor_type.elem_type = number
    named = "UNDEFINED" if number == 0 else f"number {number}"
    with pytest.raises(UnsupportedError, match=f"holds {named}; expected real numbers"):
        import_onnx(save(model))
    for value in (small().graph.output[0], small().graph.initializer[0]):
        model = small()
        if value.name == model.graph.output[0].name:
            model.graph.output[0].type.tensor_type.elem_type = number
        else:
            model.graph.initializer[0].data_type = number
        with pytest.raises(SeennError):
            import_onnx(save(model))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_only_seenn_errors_come_out_of_mutated_files(data: Any, save: Save, small: Small) -> None:
    content = bytearray(small().SerializeToString())
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        content[place] = value
    cut = data.draw(st.one_of(st.none(), places))
    path = save(small())
    path.write_bytes(bytes(content[:cut]))
    with suppress(SeennError):
        assert import_onnx(path).difference <= 1e-5


OPS = ("Relu", "Sigmoid", "MaxPool", "AveragePool", "BatchNormalization", "Clip", "LeakyRelu", "PRelu", "Pad", "Resize",
       "Reshape", "Transpose", "Softmax", "Loop", "Concat", "Split", "Slice", "Gather", "Shape", "Add", "Gemm", "Conv",
       "ConstantOfShape", "Constant", "Identity", "NoSuchOp")  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_only_seenn_errors_come_out_of_graphs_that_make_no_sense(data: Any, save: Save, small: Small) -> None:
    """Well-formed protobuf with other ops, wires, attributes, sizes, types and domains than before."""
    model = small()
    graph = model.graph
    names = [*sorted({name for node in graph.node for name in (*node.input, *node.output)}), "", "nowhere"]
    whole = st.integers(-3, 1 << 40)
    for _ in range(data.draw(st.integers(1, 4))):
        node = data.draw(st.sampled_from(list(graph.node)))
        tensor = data.draw(st.sampled_from(list(graph.initializer)))
        what = data.draw(st.integers(0, 8))
        if what == 0:
            node.op_type = data.draw(st.sampled_from(OPS))
        elif what == 1:
            node.input[data.draw(st.integers(0, len(node.input) - 1))] = data.draw(st.sampled_from(names))
        elif what == 2:
            node.input.append(data.draw(st.sampled_from(names)))
        elif what == 3:
            node.output[0] = data.draw(st.sampled_from(names))
        elif what == 4:
            name = data.draw(st.sampled_from(["pads", "strides", "group", "axis", "kernel_shape", "transB", "alpha"]))
            value = data.draw(st.one_of(st.lists(whole, min_size=1, max_size=4), whole, st.floats(), st.just("x")))
            node.attribute.append(helper.make_attribute(name, value))
        elif what == 5:
            tensor.dims[data.draw(st.integers(0, len(tensor.dims) - 1))] = data.draw(whole)
        elif what == 6:
            tensor.data_type = data.draw(st.integers(0, 24))
        elif what == 7:
            node.domain = data.draw(st.sampled_from(["", "ai.onnx", "com.microsoft", "ai.onnx.ml"]))
        else:
            shape = graph.input[0].type.tensor_type.shape.dim
            shape[data.draw(st.integers(0, len(shape) - 1))].dim_value = data.draw(whole)
    with suppress(SeennError):
        assert import_onnx(save(model)).difference <= 1e-5
