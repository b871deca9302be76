"""Outputs of a model as the classes of the data: chosen, in another order, and by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cli.main import seenn
from converter import convert
from converter.load import LoadedModel, ModelSpec, load_model, parse_classes, read_class_names
from converter.load.classes import in_order_of
from converter.load.weights import read_weights, write_weights
from seenn.data import load_data
from seenn.errors import CalibrationError, CheckpointError, ModelError

WriteCheckpoint = Callable[..., Path]
NAMES = ("a", "b", "c", "d", "e", "f", "g")


def test_outputs_are_chosen_and_reordered(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    path = checkpoint(trained.module)
    spec = ModelSpec(name="resnet18", kwargs=trained.spec.kwargs, classes=(4, 0, 6), class_names=NAMES)
    loaded = load_model(spec, path)
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(loaded.module(images), trained.module(images)[:, [4, 0, 6]])
    assert (loaded.spec.num_classes, loaded.spec.scores, loaded.spec.score_names) == (7, 3, ("e", "a", "g"))
    assert ModelSpec.from_record(json.loads(json.dumps(loaded.record))) == loaded.spec


def test_a_network_trained_from_chosen_outputs_is_loaded_again(
    trained: LoadedModel, checkpoint: WriteCheckpoint
) -> None:
    spec = ModelSpec(name="resnet18", kwargs=trained.spec.kwargs, classes=(4, 0, 6))
    chosen = load_model(spec, checkpoint(trained.module))
    path = checkpoint(chosen.module, {"model": chosen.spec.to_record()})
    again = load_model(ModelSpec(name="resnet18"), path)
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(again.module(images), chosen.module(images))


def test_outputs_are_taken_by_name_where_the_data_has_the_names_of_some_of_them(
    trained: LoadedModel, checkpoint: WriteCheckpoint, caplog: pytest.LogCaptureFixture
) -> None:
    spec = ModelSpec(name="resnet18", kwargs=trained.spec.kwargs, class_names=NAMES)
    loaded = load_model(spec, checkpoint(trained.module))
    assert all(in_order_of(loaded, names) is loaded for names in ((), NAMES, ("a", "x"), tuple("0123456")))
    for names in (tuple(reversed(NAMES)), ("g", "b")):
        found, images = in_order_of(loaded, names), torch.randn(2, 1, 28, 28)
        rows = [NAMES.index(name) for name in names]
        assert torch.equal(found.module(images), trained.module(images)[:, rows])
        assert (found.spec.score_names, ModelSpec.from_record(found.record)) == (names, found.spec)
    assert "the model's outputs are taken by name, in the order of the data's classes: g, …" in caplog.text


def test_outputs_that_are_not_there_are_refused(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    spec, path = ModelSpec(name="resnet18", kwargs=trained.spec.kwargs), checkpoint(trained.module)
    with pytest.raises(ModelError, match="has outputs 0 to 6, --classes names 7: choose among them"):
        load_model(replace(spec, classes=(0, 7)), path)
    with pytest.raises(ModelError, match="has 7 outputs, --class-names 2 names: name every output"):
        load_model(replace(spec, class_names=("a", "b")), path)


def test_more_outputs_than_classes_are_refused_unless_they_are_chosen() -> None:
    data = load_data("digits")
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 12))
    loaded = LoadedModel.from_module(module)
    with pytest.raises(CalibrationError, match=r"gives 12 scores, digits has 10 classes: say which.*--classes"):
        convert(loaded, data)


def test_classes_that_are_stored_as_floats_are_refused() -> None:
    images, labels = torch.rand(200, 6), (torch.arange(200) % 5).double()
    module = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Linear(12, 5))
    data = load_data((images, labels))
    with pytest.raises(
        CalibrationError, match=r"gives 5 numbers, .* has 1 a sample, of the kind regression: store classes as int"
    ):
        convert(module, data)


def test_classes_are_parsed() -> None:
    assert parse_classes("0-2, 7") == (0, 1, 2, 7)
    assert parse_classes("b,a,5-6", ("a", "b", "x")) == (1, 0, 5, 6)
    for text in ("", "1,1", "x", "3-1", "1-", "-1", "0-9999999999"):
        with pytest.raises(ValueError, match="--classes: "):
            parse_classes(text)
    with pytest.raises(ValueError, match=r"no name of an output\. Choose one of a, b"):
        parse_classes("c", ("a", "b"))


def test_names_are_read_from_text_lines_and_json(tmp_path: Path) -> None:
    assert read_class_names("cat, dog") == ("cat", "dog")
    (tmp_path / "names.txt").write_text("cat\nsea lion\n\n", encoding="utf-8")
    assert read_class_names(str(tmp_path / "names.txt")) == ("cat", "sea lion")
    for content in (["cat", "dog"], {"1": "dog", "0": "cat"}):
        (tmp_path / "names.json").write_text(json.dumps(content), encoding="utf-8")
        assert read_class_names(str(tmp_path / "names.json")) == ("cat", "dog")
    for text in ("{", "3", "[1, 2]", '{"cat": 0}'):
        (tmp_path / "names.json").write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match="no names of classes"):
            read_class_names(str(tmp_path / "names.json"))
    with pytest.raises(CheckpointError, match="no names of classes"):
        read_class_names(str(tmp_path / "gone.txt"))
    with pytest.raises(ValueError, match="expected two different names or more"):
        read_class_names("cat,cat")


def test_lists_of_imagenet_are_names_that_differ() -> None:
    names = read_class_names("imagenet-1k")
    assert (len(names), len({*names}), names[:2]) == (1000, 1000, ("tench", "goldfish"))
    assert {name for name in names if name.startswith("crane: ")} == {names[134], names[517]}
    assert parse_classes("goldfish,tench", names) == (1, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.h5", "a Keras file; export it to ONNX"),
        ("net.TFLITE", "TensorFlow Lite"),
        ("weights.pt", "holds weights, not layers: name the architecture with --model and pass the file with --ckpt"),
        ("folder/weights.safetensors", "holds weights, not layers"),
        ("net.mlpackage", "a Core ML package; export it to ONNX"),
        ("net.xml", "a model of OpenVINO, which nothing turns back"),
        ("net.py", "Python code; name the function or class in it that makes the model"),
    ],
)
def test_files_that_are_no_model_say_what_to_do(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSpec(name=name)
    done = CliRunner().invoke(seenn, ["convert", "--model", name, "--data", "digits", "-o", str(tmp_path / "x")])
    assert done.exit_code == 2
    assert message in done.stderr.replace("\n", " ")


@pytest.mark.parametrize(("classes", "known"), [(1000, True), (4, False)])
def test_weights_of_the_librarys_classes_have_the_librarys_preprocessing(
    classes: int, known: bool, tmp_path: Path
) -> None:
    import timm

    module = timm.create_model("test_resnet", num_classes=classes)
    write_weights(tmp_path / "w.pth", module.state_dict(), {})
    loaded = load_model(ModelSpec(name="test_resnet"), tmp_path / "w.pth")
    assert loaded.suggestion is not None
    assert (loaded.suggestion.height, loaded.suggestion.mean) == (160, (0.5, 0.5, 0.5))
    assert loaded.preprocessing == (loaded.suggestion if known else None)
    assert loaded.spec.score_names[1:2] == (("goldfish",) if known else ())
    assert read_weights(tmp_path / "w.pth").record == {}


def test_a_folder_of_a_library_has_its_preprocessing_with_a_checkpoint_too(tmp_path: Path) -> None:
    import timm
    from timm.models import save_for_hf

    module = timm.create_model("test_resnet", num_classes=4)
    save_for_hf(module, tmp_path)
    loaded = load_model(ModelSpec(name=f"local-dir:{tmp_path}"), tmp_path)
    assert loaded.preprocessing is not None
    assert loaded.preprocessing.height == 160
