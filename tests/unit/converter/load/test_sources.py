"""Names: timm's, torchvision's, and Python paths."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from converter.load import ModelSpec, build_model, load_model
from converter.load.sources import build_source, check_name, pretrained_preprocessing
from seenn.errors import CheckpointError, ModelError

MODELS = """
import torch
from torch import nn

def sized(num_classes=10, in_chans=3, width=4):
    return nn.Sequential(nn.Conv2d(in_chans, width, 3), nn.Flatten(), nn.LazyLinear(num_classes))

def fixed():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

def anything(**kwargs):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, kwargs["num_classes"]))

def passes_on(**kwargs):
    return sized(**{"num_classes": 7, **kwargs}) if "in_chans" not in kwargs else fixed(**kwargs)

def pretrained_by_itself(pretrained=True):
    assert not pretrained
    return fixed()

class Holder:
    fixed = staticmethod(fixed)

def overrides(**settings):
    if unknown := settings.keys() - {"num_classes"}:
        raise ValueError(f"Got unexpected field names: {sorted(unknown)}")
    return fixed()

def broken():
    raise KeyError("no such layer")

not_callable = 3
"""


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of models in the current folder, importable only from there."""
    (tmp_path / "seenn_test_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "seenn_test_models", raising=False)
    return "seenn_test_models"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt18", "unknown model 'resnt18'. Did you mean 'resnet18'"),
        ("squeezenet1_0", "Did you mean 'torchvision:squeezenet1_0'"),
        ("torchvision:fcn_resnet50", "is no image classifier, its answers are boxes, masks or of videos: take a class"),
        ("torchvision:resnt18", "unknown model 'torchvision:resnt18'. Did you mean 'torchvision:resnet18'"),
        ("resnet18.a1_in2k", "unknown pretrained tag 'a1_in2k' of 'resnet18'. Did you mean 'a1_in1k'"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_source(ModelSpec(name=name))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["saved_model.pb", "variables"], "a SavedModel of TensorFlow; .*tf2onnx.convert --saved-model"),
        (["net.onnx"], "a folder; name the file in it: --model .*net.onnx"),
        (["config.json", "model.safetensors"], "a folder of a model; where timm made it, --model local-dir:"),
        (["a", "b"], "a folder with a, b; expected an .onnx file; weights go with --ckpt"),
        ([], "a folder with nothing; expected an .onnx file"),
    ],
)
@pytest.mark.parametrize("name", ["model", "net.onnx"])
def test_folders_say_what_they_are(name: str, files: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    for file in files:
        (tmp_path / name / file).touch()
    with pytest.raises((ModelError, CheckpointError), match=message):
        check_name(str(tmp_path / name))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty; copy it again"), (b"#!/bin/sh\n", "a file of no kind that holds layers: expected")],
)
def test_files_of_no_known_kind_say_so(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        check_name(str(tmp_path / "net"))


@pytest.mark.parametrize("name", ["test_resnet", "torchvision:squeezenet1_0"])
def test_arguments_that_a_model_refuses_are_reported(name: str) -> None:
    with pytest.raises(ModelError, match=r"cannot build .*'bogus': 1.*unexpected keyword argument"):
        build_source(ModelSpec(name=name, kwargs={"bogus": 1}))


@pytest.mark.parametrize("name", ["torchvision:googlenet", "torchvision:inception_v3"])
def test_torchvision_models_lose_their_training_heads(name: str) -> None:
    module = build_source(ModelSpec(name=name, kwargs={"init_weights": False}, num_classes=4))
    assert not any(key.lower().startswith("aux") for key in module.state_dict())
    assert module.train()(torch.zeros(2, 3, 96, 96)).shape == (2, 4)


def test_torchvision_takes_other_channels() -> None:
    module = build_model(ModelSpec(name="torchvision:squeezenet1_1", num_classes=3), (1, 64, 64)).module
    assert module(torch.zeros(1, 1, 64, 64)).shape == (1, 3)


def test_pretrained_torchvision_weights_are_for_three_channels() -> None:
    with pytest.raises(ModelError, match=r"images of 3 channels, got in_chans=1; leave --in-chans out"):
        build_source(ModelSpec(name="torchvision:resnet18", in_chans=1, pretrained=True))


def test_files_that_cannot_be_fetched_are_reported_with_the_way_round(tmp_path: Path) -> None:
    name = f"local-dir:{tmp_path}"
    with pytest.raises(ModelError, match=r"cannot be fetched .*download its weights elsewhere.*--ckpt FILE"):
        load_model(ModelSpec(name=name, pretrained=True))


def test_pretrained_preprocessing_is_the_librarys() -> None:
    for name in ("resnet18.a1_in1k", "torchvision:resnet18"):
        loaded = build_model(ModelSpec(name=name))
        got = pretrained_preprocessing(loaded.module, loaded.spec)
        assert got is not None
        assert (got.channels, got.height, got.mean) == (3, 224, (0.485, 0.456, 0.406))
    gray = build_model(ModelSpec(name="test_resnet", in_chans=1))
    assert pretrained_preprocessing(gray.module, gray.spec) is None


def test_factory_gets_the_sizes_that_it_takes(own_models: str) -> None:
    spec = ModelSpec(name=f"{own_models}:sized", kwargs={"width": 6}, num_classes=5, in_chans=2)
    module = build_source(spec)
    assert module(torch.zeros(1, 2, 8, 8)).shape == (1, 5)
    assert module.get_parameter("0.weight").shape == (6, 2, 3, 3)
    assert build_model(ModelSpec(name=f"{own_models}:anything", num_classes=5)).spec.num_classes == 5


@pytest.mark.parametrize(("name", "classes"), [("passes_on", 7), ("overrides", 10)])
def test_factory_that_passes_keywords_on_may_not_know_a_size(own_models: str, name: str, classes: int) -> None:
    spec = ModelSpec(name=f"{own_models}:{name}", in_chans=3)
    assert build_source(spec)(torch.zeros(1, 3, 8, 8)).shape == (1, classes)
    with pytest.raises(ModelError, match="in_chans=3, expected 2; let the factory take an argument 'in_chans'"):
        build_source(ModelSpec(name=f"{own_models}:{name}", in_chans=2))


def test_own_factory_may_be_told_not_to_download(own_models: str) -> None:
    spec = ModelSpec(name=f"{own_models}:pretrained_by_itself", kwargs={"pretrained": False})
    assert build_source(spec)(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


def test_factory_may_be_an_attribute_and_take_nothing(own_models: str) -> None:
    loaded = build_model(ModelSpec(name=f"{own_models}:Holder.fixed"))
    assert (loaded.spec.num_classes, loaded.spec.in_chans) == (10, 3)
    assert str(Path.cwd()) not in sys.path


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{}:fixd", "has no 'fixd'. Did you mean 'fixed'"),
        ("{}:not_callable", "is an int; expected a function or a class"),
        ("{}:broken", "failed: KeyError: 'no such layer'"),
        ("{}_absent:fixed", "cannot import .*current folder"),
        ("{}.py:fixed", r"names a file, expected a module: write seenn_test_models:fixed$"),
        ("./{}:fixed", r"names a file, expected a module: write seenn_test_models:fixed$"),
        ("sub/{}.py:fixed", r"write seenn_test_models:fixed, in the folder sub$"),
        ("os:getcwd", "returned a str; expected a torch.nn.Module"),
    ],
)
def test_bad_python_path_is_refused(own_models: str, path: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_source(ModelSpec(name=path.format(own_models)))


def test_factory_that_ignores_a_size_is_refused(own_models: str) -> None:
    with pytest.raises(ModelError, match="num_classes=10, expected 5; let the factory take an argument"):
        build_source(ModelSpec(name=f"{own_models}:fixed", num_classes=5))
