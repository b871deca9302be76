"""Checkpoints into models: what is inferred, what the record says, and what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from converter.load import LoadedModel, ModelSpec, build_model, load_model
from seenn.data import Preprocessing
from seenn.errors import CheckpointError, ModelError

WriteCheckpoint = Callable[..., Path]


def plain_spec(trained: LoadedModel) -> ModelSpec:
    """What a user types for ``trained``: the name and the widths."""
    return ModelSpec(name="resnet18", kwargs=trained.spec.kwargs)


def test_classes_channels_and_stem_come_from_the_shapes(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    loaded = load_model(plain_spec(trained), checkpoint(trained.module))
    assert loaded.spec == replace(trained.spec, num_classes=7, in_chans=1, stem="cifar")
    x = torch.randn(2, 1, 28, 28)
    assert not loaded.module.training
    assert torch.equal(loaded.module(x), trained.module(x))


@pytest.mark.parametrize("name", ["resnet18d", "torchvision:resnet18", "test_vit", "test_convnext"])
def test_sizes_are_inferred_for_other_families(name: str, checkpoint: WriteCheckpoint) -> None:
    built = build_model(ModelSpec(name=name, num_classes=6), (1, 32, 32))
    assert load_model(ModelSpec(name=name), checkpoint(built.module)).spec == built.spec


def test_imagenet_stem_is_kept_when_the_checkpoint_has_one(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    built = build_model(replace(trained.spec, stem="imagenet"))
    loaded = load_model(plain_spec(trained), checkpoint(built.module), image_size=(1, 28, 28))
    assert loaded.spec.stem == "imagenet"


def test_record_fills_what_the_caller_leaves_open(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    prepared = Preprocessing(channels=1, height=28, width=28, mean=(0.3,), std=(0.4,))
    record = {"model": trained.record, "preprocessing": prepared.to_json()}
    loaded = load_model(ModelSpec(name="resnet18"), checkpoint(trained.module, record))
    assert loaded.spec == trained.spec
    assert loaded.record == trained.record
    assert loaded.preprocessing == prepared


def test_timm_tag_does_not_contradict_the_record(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    path = checkpoint(trained.module, {"model": trained.record})
    assert load_model(ModelSpec(name="resnet18.a1_in1k"), path).spec.kwargs == trained.spec.kwargs


def test_another_model_than_recorded_is_refused(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    path = checkpoint(trained.module, {"model": trained.record})
    with pytest.raises(ModelError, match="was trained as 'resnet18', got 'resnet34'; pass --model resnet18"):
        load_model(ModelSpec(name="resnet34"), path)


def test_checkpoint_of_another_architecture_lists_every_kind_of_offender(
    trained: LoadedModel, checkpoint: WriteCheckpoint
) -> None:
    tensors = trained.module.state_dict()
    tensors["extra.weight"] = tensors.pop("layer1.0.conv1.weight")
    tensors["layer2.0.bn1.bias"] = torch.zeros(9)
    with pytest.raises(CheckpointError) as caught:
        load_model(plain_spec(trained), checkpoint(tensors))
    text = str(caught.value)
    assert "missing (1 of " in text
    assert "layer1.0.conv1.weight" in text
    assert "unexpected (1 of " in text
    assert "extra.weight" in text
    assert "layer2.0.bn1.bias (9 float32, expected 8 float32)" in text
    assert "another architecture: check --model, --stem and --model-kwargs" in text


def test_a_missing_classifier_and_what_is_too_much_are_told_apart_from_another_architecture(
    trained: LoadedModel, checkpoint: WriteCheckpoint
) -> None:
    tensors = trained.module.state_dict()
    headless = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    for others in ({}, {"last.weight": tensors["fc.weight"]}):
        with pytest.raises(CheckpointError, match="Only the classifier fc is not there: train it first, or give"):
            load_model(plain_spec(trained), checkpoint({**headless, **others}))
    with pytest.raises(CheckpointError, match="All of the model is there, and more: save the part that is meant"):
        load_model(plain_spec(trained), checkpoint({**tensors, "mask.weight": torch.ones(3)}))


def test_what_is_missing_is_named_and_not_taken_for_another_architecture(
    trained: LoadedModel, checkpoint: WriteCheckpoint
) -> None:
    tensors = trained.module.state_dict()
    count = len(tensors)
    one = {name: tensor for name, tensor in tensors.items() if name != "layer1.0.conv1.weight"}
    with pytest.raises(CheckpointError) as caught:
        load_model(plain_spec(trained), checkpoint(one))
    assert (
        f"does not fit resnet18: {count - 1} of {count} tensors fit; missing (1 of {count}): layer1.0.conv1.weight. "
        in (str(caught.value))
    )
    assert "All that is there fits: save the whole model.state_dict(); or the weights are of a smaller" in str(
        caught.value
    )
    parameters = {name: tensor for name, tensor in tensors.items() if "running" not in name}
    with pytest.raises(CheckpointError, match=r"Only buffers, as running statistics, are not there: save model.state"):
        load_model(plain_spec(trained), checkpoint(parameters))


def test_a_layout_is_of_onnx_files(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    with pytest.raises(ModelError, match=r"--layout is of ONNX files, and resnet18 takes \[B, C, H, W\]: leave it out"):
        load_model(replace(plain_spec(trained), layout="nhwc"), checkpoint(trained.module))


def test_long_lists_of_offenders_are_cut_with_their_count(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        load_model(ModelSpec(name="resnet18"), checkpoint(trained.module))


def test_differing_ends_and_widths_are_told_apart(trained: LoadedModel, checkpoint: WriteCheckpoint) -> None:
    path = checkpoint(trained.module)
    with pytest.raises(CheckpointError, match=r"7×8 float32, expected 5×8 [\s\S]*check --num-classes"):
        load_model(replace(plain_spec(trained), num_classes=5), path)
    wider = {**trained.spec.kwargs, "channels": (8, 8, 8, 16)}
    with pytest.raises(CheckpointError, match="the widths do not: check --model-kwargs"):
        load_model(ModelSpec(name="resnet18", kwargs=wider), path)


def test_integer_and_complex_weights_are_not_taken_for_real_ones(
    trained: LoadedModel, checkpoint: WriteCheckpoint
) -> None:
    for dtype, name in ((torch.int8, "int8"), (torch.complex64, "complex64")):
        tensors = trained.module.state_dict()
        tensors["fc.bias"] = tensors["fc.bias"].to(dtype)
        message = (
            rf"fc\.bias \(7 {name}, expected 7 float32\)\. The shapes agree and the types do not: weights are real"
        )
        with pytest.raises(CheckpointError, match=message):
            load_model(plain_spec(trained), checkpoint(tensors))


def test_batch_counters_and_training_heads_may_be_absent_or_extra(
    trained: LoadedModel, checkpoint: WriteCheckpoint
) -> None:
    tensors = {k: t for k, t in trained.module.state_dict().items() if "num_batches" not in k}
    tensors["aux1.fc.weight"] = torch.zeros(2)
    loaded = load_model(plain_spec(trained), checkpoint(tensors))
    assert torch.equal(loaded.module.get_parameter("fc.weight"), tensors["fc.weight"])


def test_prefix_that_belongs_to_the_model_itself_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: WriteCheckpoint
) -> None:
    (tmp_path / "seenn_test_wrapped.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes=3):\n"
        "        super().__init__()\n"
        "        self.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = ModelSpec(name="seenn_test_wrapped:Net")
    built = build_model(replace(spec, num_classes=5)).module
    loaded = load_model(spec, checkpoint(built))
    assert loaded.spec.num_classes == 5
    assert torch.equal(loaded.module.get_parameter("model.2.weight"), built.get_parameter("model.2.weight"))


def test_pretrained_model_with_untrained_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    from timm.models import save_for_hf

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    narrow = {"channels": (8, 8, 8, 8), "stem_width": 8, "layers": (1, 1, 1, 1)}
    save_for_hf(timm.create_model("resnet18", num_classes=9, **narrow), tmp_path, model_args=narrow)
    spec = ModelSpec(name=f"local-dir:{tmp_path}", pretrained=True)
    loaded = load_model(spec)
    assert (loaded.spec.num_classes, loaded.spec.stem) == (9, "imagenet")
    assert loaded.preprocessing is not None
    with pytest.raises(ModelError, match="knows 9 classes, got num_classes=4: its head would be random"):
        load_model(replace(spec, num_classes=4))
    with pytest.raises(ModelError, match="has no weights for the CIFAR stem; train it first"):
        load_model(replace(spec, stem="cifar"))


@pytest.mark.parametrize(
    ("classes", "stated", "found"), [(1000, None, True), (1000, False, False), (5, None, False), (5, True, True)]
)
def test_what_a_library_gives_its_model_with_its_own_weights_goes_with_them(
    classes: int, stated: bool | None, found: bool, checkpoint: WriteCheckpoint, caplog: pytest.LogCaptureFixture
) -> None:
    plain = {"init_weights": False}
    path = checkpoint(build_model(ModelSpec(name="torchvision:googlenet", num_classes=classes, kwargs=plain)).module)
    kwargs = plain if stated is None else {**plain, "transform_input": stated}
    loaded = load_model(ModelSpec(name="torchvision:googlenet", kwargs=kwargs), path)
    assert loaded.module.transform_input is found
    assert ModelSpec.from_record(loaded.spec.to_record()).kwargs.get("transform_input", False) is found
    said = f"{path.name}: taken are its library's own weights, which go with transform_input=True"
    assert (said in caplog.text) == (found and stated is None)


def test_random_weights_are_announced(caplog: pytest.LogCaptureFixture, trained: LoadedModel) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = load_model(plain_spec(trained), image_size=(1, 28, 28))
    assert "resnet18 has random weights" in caplog.text
    assert isinstance(loaded.module.get_submodule("maxpool"), nn.Identity)
    assert loaded.spec.in_chans == 1
