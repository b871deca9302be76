"""What is a classifier, which axis is the batch, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from converter import canonical_graph, convert
from converter.onnx_import import import_onnx, importer, verify
from seenn.errors import ConversionError, UnsupportedError

Small = Callable[..., onnx.ModelProto]
Save = Callable[..., Path]


def make(op: str, reads: str, makes: str, **attributes: Any) -> NodeProto:
    """A node named after its op in small letters; "_" is an input left out."""
    names = ["" if name == "_" else name for name in reads.split()]
    return helper.make_node(op, names, makes.split(), **{"name": op.lower(), **attributes})


def test_import_says_what_it_found(save: Save, small: Small) -> None:
    imported = import_onnx(save(small()))
    assert (imported.input_shape, imported.classes, imported.opset, imported.ir_version) == ((4, 6, 6), 5, 17, 8)
    assert imported.notes == ()
    assert not imported.module.training
    assert [name for name, _ in imported.module.named_children()] == ["conv", "relu", "pool", "flatten", "head"]


def test_imported_graph_is_one_that_conversion_understands(save: Save, small: Small) -> None:
    imported = import_onnx(save(small()))
    graph, difference, _ = canonical_graph(imported.module, torch.randn(2, 4, 6, 6))
    assert [node.op.kind for node in graph][:2] == ["conv2d", "relu"]
    assert difference < 1e-12


class TestBatch:
    """Axis 0 of the images is the batch, fixed or open."""

    @pytest.mark.parametrize("batch", [1, 4])
    def test_baked_batch_becomes_free(self, save: Save, batch: int) -> None:
        nodes = [
            make("Reshape", "x s", "r"),
            make("GlobalAveragePool", "r", "p"),
            make("Reshape", "p t", "logits", name="last"),
        ]
        weights = {"s": np.array([batch, 8, 6, 3]), "t": np.array([batch, -1])}
        imported = import_onnx(save(nodes, weights, shape=(batch, 4, 6, 6)))
        assert imported.notes == (f"the batch size {batch} was baked in; any will do now",)
        assert imported.module(torch.zeros(7, 4, 6, 6)).shape == (7, 8)

    @pytest.mark.parametrize(
        ("shape", "target", "message"),
        [
            (
                (1, 4, 6, 6),
                [24, 6],
                r"has shape \[24, 6\], several rows of each image along the first axis; expected one score",
            ),
            ((4, 4, 6, 6), [6, -1], r"turns \[4, 4, 6, 6\] into \[6, 96\]: the batch of 4 is not the first"),
            ((2, 4, 6, 6), [4, -1], r"has shape \[4, 72\], several rows of each image"),
            (("N", 4, 6, 6), [2, 144], r"turns \[3, 4, 6, 6\] into \[2, 144\]|the sizes do not fit"),
            (("N", 4, 6, 6), [1, -1], r"has shape \[1, 288\], several rows of each image along axis 1"),
        ],
    )
    def test_reshape_that_mixes_images_is_refused(
        self, save: Save, shape: Any, target: list[int], message: str
    ) -> None:
        path = save([make("Reshape", "x t", "y")], {"t": np.array(target)}, shape=shape)
        with pytest.raises(UnsupportedError, match=message):
            import_onnx(path)

    def test_rows_at_the_end_are_refused(self, save: Save) -> None:
        path = save([make("Reshape", "x t", "logits")], {"t": np.array([-1, 6])})
        with pytest.raises(UnsupportedError, match=r"the output 'logits' has shape \[48, 6\], several rows of each"):
            import_onnx(path)

    @pytest.mark.parametrize("shape", [(1, 4, 1, 1), ("N", 4, 1, 1)])
    def test_squeeze_that_may_drop_the_batch_is_refused(self, save: Save, shape: Any) -> None:
        with pytest.raises(UnsupportedError, match="drops all axes of size 1, and the batch may be one of them"):
            import_onnx(save([make("Squeeze", "x", "y")], shape=shape))

    def test_squeeze_of_a_larger_baked_batch_is_known(self, save: Save) -> None:
        imported = import_onnx(save([make("Squeeze", "x", "y")], shape=(2, 4, 1, 1)))
        assert imported.module(torch.zeros(5, 4, 1, 1)).shape == (5, 4)

    @pytest.mark.parametrize(
        ("node", "weights", "message"),
        [
            (make("Transpose", "x", "y", perm=[1, 0, 2, 3]), {}, r"has shape \[4, 72\], several rows of each image"),
            (make("Concat", "x x", "y", axis=0), {}, "it works across the batch"),
            (make("ReduceMean", "x", "y", axes=[0]), {}, "it works across the batch"),
            (make("ReduceMean", "x", "y"), {}, "reduces over all axes, the batch included"),
            (make("Flatten", "x", "y", axis=2), {}, r"has shape \[8, 36\], several rows of each image"),
            (make("Unsqueeze", "x a", "y"), {"a": np.array([0])}, r"\[1, 288\], several rows of each image"),
            (make("Pad", "x p", "y"), {"p": np.array([1, 0, 0, 0, 0, 0, 0, 0])}, "adds images to the batch"),
            (make("Add", "x c", "y"), {"c": np.ones((3, 4, 1, 1), "f4")}, "the same one for every image"),
            (make("Slice", "x s e", "y"), {"s": np.array([0]), "e": np.array([1])}, "it works across the batch"),
            (make("Expand", "x s", "y"), {"s": np.array([6, 1, 1, 1])}, "does not fit|which repeats images"),
            (make("Resize", "x _ s", "y"), {"s": np.array([2, 1, 1, 1], np.float32)}, "batch of 2 is not the first"),
        ],
    )  # fmt: skip
    def test_whatever_touches_the_batch_is_refused(
        self, save: Save, node: NodeProto, weights: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UnsupportedError, match=message):
            import_onnx(save([node], weights))

    def test_impossible_batch_is_refused(self, save: Save, small: Small) -> None:
        with pytest.raises(UnsupportedError, match="is for batches of 5000 images; expected 1 to 4096"):
            import_onnx(save(small(shape=(5000, 4, 6, 6))))

    @pytest.mark.parametrize("batch", [0, -1])
    def test_sizes_that_are_none_are_open(self, save: Save, small: Small, batch: int) -> None:
        imported = import_onnx(save(small(shape=(batch, 4, batch, batch))), default_shape=(3, 5, 7))
        assert imported.input_shape == (4, 5, 7)
        assert imported.module(torch.ones(2, 4, 5, 7)).shape == (2, 5)


class TestSignature:
    """One batch of float32 images in, one score per class out."""

    def test_open_sizes_are_asked_for(self, save: Save, small: Small) -> None:
        path = save(small(shape=("N", 4, "H", "W")))
        with pytest.raises(UnsupportedError, match=r"leaves sizes open, \(4, \?, \?\): state them with --input-size"):
            import_onnx(path)
        assert import_onnx(path, input_shape=(4, 5, 7)).input_shape == (4, 5, 7)
        with pytest.raises(UnsupportedError, match=r"is for samples of shape \(4, \?, \?\), got \(3, 5, 7\)"):
            import_onnx(path, input_shape=(3, 5, 7))

    def test_several_inputs_or_outputs_are_named(self, save: Save, small: Small) -> None:
        model = small()
        model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 5]))
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(helper.make_node("Mul", ["before", "mask"], ["logits"]))
        with pytest.raises(UnsupportedError, match=r"inputs \['x', 'mask'\]; expected one batch of images"):
            import_onnx(save(model))
        model = small()
        model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 8]))
        listed = r"outputs logits \[\?, \?\], f \[\?, 8\]"
        with pytest.raises(UnsupportedError, match=f"{listed}; choose the one with the scores: --output-name NAME"):
            import_onnx(path := save(model))
        with pytest.raises(UnsupportedError, match=f"{listed}, and no '2'; choose"):
            import_onnx(path, output="2")
        assert import_onnx(path, output="logits").classes == import_onnx(path, output="0").classes == 5
        assert import_onnx(path, output="-1").classes == 8
        features = import_onnx(path, output="f")
        assert features.classes == 8
        assert features.notes[0] == "of the outputs logits [?, ?], f [?, 8], 'f' is taken"

    def test_labels_beside_the_scores_are_no_choice(self, save: Save) -> None:
        nodes = [make("Flatten", "x", "f"), make("Softmax", "f", "scores"), make("ArgMax", "scores", "label", axis=1)]
        model = onnx.load(save(nodes, output="scores"))
        label = helper.make_tensor_value_info("label", TensorProto.INT64, ["N", 1])
        model.graph.output.insert(0, label)
        imported = import_onnx(save(model))
        assert imported.classes == 144
        assert "'scores' is taken" in imported.notes[0]
        assert torch.allclose(imported.module(torch.randn(2, 4, 6, 6)).sum(1), torch.ones(2))

    @pytest.mark.parametrize("softmax", [False, True])
    @pytest.mark.parametrize("op", ["ArgMax", "TopK", "ArgMax, squeezed and cast"])
    def test_a_final_choice_is_left_out_and_said(
        self, op: str, softmax: bool, save: Save, small: Small, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = small()
        scores = import_onnx(save(model)).module
        graph = model.graph
        last = "logits"
        if softmax:
            graph.node.append(make("Softmax", "logits", last := "probabilities", axis=1))
        if op == "TopK":
            graph.initializer.append(numpy_helper.from_array(np.array([3]), "k"))
            graph.node.append(helper.make_node("TopK", [last, "k"], ["largest", "places"]))
            outputs = [helper.make_tensor_value_info("largest", TensorProto.FLOAT, ["N", 3])]
            outputs.append(helper.make_tensor_value_info("places", TensorProto.INT64, ["N", 3]))
        else:
            graph.node.append(make("ArgMax", last, "label", axis=1))
            outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, ["N", 1])]
        if "," in op:
            graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
            graph.node.append(helper.make_node("Squeeze", ["label", "axes"], ["flat"]))
            graph.node.append(make("Cast", "flat", "number", to=TensorProto.INT32))
            outputs = [helper.make_tensor_value_info("number", TensorProto.INT32, ["N"])]
        del graph.output[:]
        graph.output.extend(outputs)
        imported = import_onnx(save(model))
        x = torch.randn(2, 4, 6, 6)
        expected = scores(x).softmax(1) if softmax else scores(x)
        torch.testing.assert_close(imported.module(x), expected)
        said = f"the final {op[:6].strip(',')} is left out: the network returns the scores that it chooses from"
        assert said in imported.notes
        assert said in caplog.text

    def test_a_choice_among_the_images_is_none_of_scores(self, save: Save, small: Small) -> None:
        model = small()
        model.graph.node.append(make("ArgMax", "logits", "label", axis=0))
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, [1, 5]))
        with pytest.raises(UnsupportedError, match="ArgMax"):
            import_onnx(save(model))

    def test_other_kinds_of_input_are_refused(self, save: Save, small: Small) -> None:
        model = small()
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
        with pytest.raises(UnsupportedError, match="input 'x' holds UINT8; expected real numbers"):
            import_onnx(save(model))
        model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None))
        with pytest.raises(UnsupportedError, match="input 'x' is a sequence; expected images"):
            import_onnx(save(model))
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"]))
        with pytest.raises(UnsupportedError, match=r"input 'x' has 1 axes; expected images \[B, C, H, W\], signals"):
            import_onnx(save(model))

    @pytest.mark.parametrize(
        ("nodes", "message"),
        [
            ([make("Relu", "x", "logits")], r"'logits' has shape \[B, 4, 6, 6\]; expected one score per class"),
            ([make("Identity", "x", "logits")], "the output does not depend on the image, or is the image"),
            ([make("Constant", "", "logits", value_floats=[1.0, 2.0])], "the output does not depend on the image"),
        ],
    )
    def test_what_is_no_classifier_is_refused(self, save: Save, nodes: list[NodeProto], message: str) -> None:
        with pytest.raises(UnsupportedError, match=message):
            import_onnx(save(nodes))

    def test_one_score_is_enough(self, save: Save) -> None:
        nodes = [make("Relu", "x", "r"), make("ReduceMean", "r", "s", axes=[1, 2, 3], keepdims=0)]
        path = save([*nodes, make("Sigmoid", "s", "logits")])
        imported = import_onnx(path)
        assert imported.notes == ("logits of shape [B] are flattened to [B, 1]",)
        assert imported.module(torch.zeros(2, 4, 6, 6)).tolist() == [[0.5], [0.5]]
        snn = convert(str(path), torch.randn(24, 4, 6, 6))
        assert (snn.task, snn.manifest["outputs"]["head"]) == ("binary", "sigmoid")

    def test_logits_with_axes_of_size_one_are_flattened(self, save: Save) -> None:
        imported = import_onnx(save([make("GlobalAveragePool", "x", "logits")]))
        assert imported.notes == ("logits of shape [B, 4, 1, 1] are flattened to [B, 4]",)


class TestSoftmax:
    """The last one goes with the conversion, as a module's does; probabilities are compared by their logarithms."""

    @pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
    @pytest.mark.parametrize("tail", [[], [make("Identity", "s", "logits")]])
    @pytest.mark.parametrize("opset", [9, 13])
    def test_final_softmax_is_left_out_and_noted(self, save: Save, op: str, tail: list[NodeProto], opset: int) -> None:
        nodes = [make("Flatten", "x", "f"), make(op, "f", "s" if tail else "logits"), *tail]
        imported = import_onnx(save(nodes, opset=opset))
        images = torch.randn(2, 4, 6, 6)
        expected = (torch.softmax if op == "Softmax" else torch.log_softmax)(images.flatten(1), -1)
        torch.testing.assert_close(imported.module(images), expected)
        found = canonical_graph(imported.module, images)
        assert found.head == ("softmax" if op == "Softmax" else "log_softmax")
        assert torch.equal(found.graph(images), images.flatten(1))

    def test_differences_that_saturation_hides_are_seen(
        self, save: Save, small: Small, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = small()
        weights = numpy_helper.to_array(model.graph.initializer[2])
        model.graph.initializer[2].CopyFrom(numpy_helper.from_array(4 * weights, "v"))
        model.graph.node[4].output[0] = "scores"
        model.graph.node.append(make("Softmax", "scores", "logits"))
        found = importer.rebuild(model, 17, importer.find_signature(model.graph, Path("net.onnx")), Path("net.onnx"))
        images = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))  # those of the comparison
        before = found.module(images)
        with torch.no_grad():
            found.module.head.bias[before.mean(0).argmin()] += 0.1
        assert (found.module(images) - before).abs().max() < verify.TOLERANCE
        monkeypatch.setattr(importer, "rebuild", lambda *_: found)
        with pytest.raises(ConversionError, match="differs from onnxruntime"):
            import_onnx(save(model))

    def test_softmax_over_several_axes_in_between_is_refused(self, save: Save) -> None:
        nodes = [make("Softmax", "x", "s"), make("Relu", "s", "y")]
        with pytest.raises(UnsupportedError, match=r"softmax \(Softmax\): goes over the axes from 1 on at once"):
            import_onnx(save(nodes, opset=9))

    def test_softmax_over_one_value_is_refused(self, save: Save) -> None:
        nodes = [make("GlobalAveragePool", "x", "p"), make("Softmax", "p", "logits", axis=2)]
        with pytest.raises(UnsupportedError, match="goes over one value, which makes it 1"):
            import_onnx(save(nodes))


class TestUnsupported:
    """Everything in the way is listed at once."""

    def test_all_nodes_are_listed_with_reason_and_fix(self, save: Save) -> None:
        nodes = [
            helper.make_node("Det", ["x"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["b"], name="after"),
            helper.make_node("Det", ["b"], ["c"], name="second"),
            helper.make_node("Own", ["c"], ["d"], name="third", domain="com.example"),
            helper.make_node("QLinearWhere", ["d", "z"], ["e"], name="fourth", domain="com.microsoft"),
            helper.make_node("Relu", ["e"], ["y"]),
        ]
        model = onnx.load(save(nodes, {"k": np.float32(1), "z": np.uint8(0)}))
        model.opset_import.extend([helper.make_opsetid("com.example", 1), helper.make_opsetid("com.microsoft", 1)])
        with pytest.raises(UnsupportedError) as caught:
            import_onnx(save(model))
        assert "4 nodes cannot be imported" in str(caught.value)
        assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [
            "first, second (Det): is not supported — replace it in the source model, or cut it off before the import",
            "third (Own): is of the domain 'com.example' — export the model with ONNX's own operators",
            "fourth (QLinearWhere): computes with integers — quantise with quant_format=QuantFormat.QDQ, or export in "
            "float32",
        ]

    def test_control_flow_is_refused(self, save: Save) -> None:
        value = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
        branch = helper.make_graph([make("Relu", "x", "z")], "branch", [], [value])
        node = make("If", "c", "y", then_branch=branch, else_branch=branch)
        with pytest.raises(UnsupportedError, match=r"if \(If\): is control flow"):
            import_onnx(save([node], {"c": np.array(True)}))

    def test_nodes_that_nothing_needs_do_not_matter(self, save: Save) -> None:
        unused = [make("Det", "x", "unused"), make("Max", "x _ x", "crash")]  # the latter crashes onnxruntime
        assert import_onnx(save([*unused, make("Relu", "x", "y")])).classes == 144

    @pytest.mark.parametrize(
        ("node", "weights", "message"),
        [
            (make("RandomNormal", "", "r", shape=[1]), {}, "is random"),
            (make("Conv", "x c", "y"), {"c": np.ones((2, 3, 1, 1), np.float32)}, "in 1 groups for 4 channels"),
            (make("Conv", "x c", "y"), {"c": np.ones((2, 4, 1, 1), "i4")}, "constant of type int32"),
            (make("Conv", "x c", "y", strides=[0, 1]), {"c": np.ones((2, 4, 1, 1), np.float32)}, r"strides=\[0, 1\]"),
            (make("MaxPool", "x", "y i", kernel_shape=[2, 2]), {}, "its output 'i' is used"),
            (make("BatchNormalization", "x c c c c", "y", training_mode=1), {"c": np.ones(4, "f4")}, "of the batch"),
            (make("BatchNormalization", "x c c c c", "y"), {"c": np.ones(3, "f4")}, "should contain . elements"),
            (make("Dropout", "x r t", "y"), {"r": np.float32(0.5), "t": np.array(True)}, "is always on"),
            (make("Cast", "x", "y", to=TensorProto.INT32), {}, "casts activations to another type"),
            (make("Resize", "x _ s", "y", mode="linear", coordinate_transformation_mode="asymmetric"),
             {"s": np.array([1, 1, 2, 2], np.float32)}, "resamples with mode='linear', 'asymmetric'"),
            (make("LRN", "x", "y", size=2), {}, "normalises over 2 channels"),
            (make("Gather", "x i", "y", axis=1), {"i": np.array(9)}, "picks the entries 9 of 4"),
            (make("Max", "x _ x", "y"), {}, "its input 1 is left out"),
            (make("Gemm", "x c", "y"), {"c": np.ones((5, 5), np.float32)}, "must have same reduction dim"),
        ],
    )  # fmt: skip
    def test_options_that_cannot_be_kept_are_refused(
        self, save: Save, node: NodeProto, weights: dict[str, Any], message: str
    ) -> None:
        nodes = [node]
        if node.op_type == "RandomNormal":
            nodes.append(make("Add", "x r", "y"))
        if "i" in node.output:
            nodes += [make("Cast", "i", "f", to=TensorProto.FLOAT), make("Add", "y f", "logits")]
        with pytest.raises(UnsupportedError, match=message):
            import_onnx(save(nodes, weights))


def test_difference_from_onnxruntime_refuses_the_import(
    save: Save, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small()
    found = importer.rebuild(model, 17, importer.find_signature(model.graph, Path("net.onnx")), Path("net.onnx"))
    found.module.head.bias.data += 0.01  # as if an op had been translated wrongly
    monkeypatch.setattr(importer, "rebuild", lambda *_: found)
    with pytest.raises(
        ConversionError, match=r"differs from onnxruntime by .*e-.. .*, by rounding in float32 alone by .*e-0[78]\."
    ):
        import_onnx(save(model))


@pytest.mark.parametrize(
    ("shift", "rounding", "tolerance"),
    [(2e-5, 1e-5, 4e-5), (2e-5, 1e-6, None), (8e-5, 1.0, 1e-4), (2e-4, 1.0, None)],
    ids=["excused by rounding", "far beyond rounding", "at most the ceiling", "beyond the ceiling"],
)
def test_a_graph_may_differ_by_a_few_times_its_own_rounding(
    save: Save,
    small: Small,
    monkeypatch: pytest.MonkeyPatch,
    shift: float,
    rounding: float,
    tolerance: float | None,
) -> None:
    model = small()
    found = importer.rebuild(model, 17, importer.find_signature(model.graph, Path("net.onnx")), Path("net.onnx"))
    images = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))  # those of the comparison
    with torch.no_grad():
        found.module.head.bias.data += shift * found.module(images).abs().max()
    monkeypatch.setattr(importer, "rebuild", lambda *_: found)
    monkeypatch.setattr(verify, "_rounding", lambda *_: rounding)
    if tolerance is None:
        with pytest.raises(ConversionError, match="differs from onnxruntime"):
            import_onnx(save(model))
    else:
        imported = import_onnx(save(model))
        assert imported.tolerance == tolerance
        assert imported.notes[0].endswith(
            f"more than 1e-05; by its own rounding in float32 it may differ by {tolerance:.1e}"
        )
        assert imported.difference == pytest.approx(shift, rel=0.1)


def test_network_that_hardly_looks_at_the_image_is_noted(save: Save, small: Small, caplog: Any) -> None:
    model = small()
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.zeros((5, 8), np.float32), "v"))
    imported = import_onnx(save(model))
    assert imported.notes == (
        "random images give logits that differ by 0e+00 of the largest: agreement with onnxruntime says little",
    )
    assert imported.notes[0] in caplog.text


def test_outputs_that_are_not_finite_are_refused(save: Save) -> None:
    with pytest.raises(ConversionError, match="outputs on random images are not finite"):
        import_onnx(save([make("Mul", "x c", "y")], {"c": np.float32(np.nan)}))


def test_model_that_onnxruntime_refuses_is_refused(save: Save, small: Small) -> None:
    model = small()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ConversionError, match=r"onnxruntime .* cannot run the model, so that nothing can be compared"):
        import_onnx(save(model))
