"""Finding a module's weights in a file, under whatever a training put around their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.utils.prune as prune
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from converter.load.names import Named, name_as_in
from converter.load.weights import Weights
from seenn.errors import CheckpointError

State = dict[str, Tensor]


def body() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.fc = body()[:3], nn.Linear(8, 5)


@pytest.fixture
def state() -> State:
    torch.manual_seed(0)
    return dict(Net().state_dict())


def under(path: str, state: State) -> State:
    return {path + name: tensor for name, tensor in state.items()}


def named(own: State, tensors: State, *roots: str, ema: bool = False, others: tuple[str, ...] = ()) -> Named:
    return name_as_in(own, Weights(Path("w.pth"), tensors, roots or ("",), others), ema=ema)


def assert_found(found: Named, own: State) -> None:
    assert {n for n in own if not n.endswith("num_batches_tracked")} <= found.tensors.keys() <= own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.tensors.items())


@pytest.mark.parametrize(
    "path",
    ["module.", "model.", "net.", "backbone.", "_orig_mod.module.", "model.net._orig_mod.", "_fsdp_wrapped_module.",
     "timm_model.", "my_network.", "task.student."],
)  # fmt: skip
def test_a_path_before_every_name_goes(state: State, path: str) -> None:
    assert_found(named(state, under(path, state)), state)


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_inside_names_go_on_either_side(state: State, wrapper: str) -> None:
    wrapped = {name.replace("features.", f"features.{wrapper}."): tensor for name, tensor in state.items()}
    assert_found(named(state, wrapped), state)
    back = named(wrapped, state).tensors
    assert back.keys() == wrapped.keys()


def test_a_file_written_from_the_inside_gets_the_path_of_the_module(state: State) -> None:
    own = under("model.", state)
    assert_found(named(own, state), own)


@pytest.mark.parametrize(
    "extra",
    ["criterion.pos_weight", "model.total_ops", "model.features.0.total_params", "loss_fn.weight", "train_acc.tp",
     "projector.0.weight"],
)  # fmt: skip
def test_what_lies_beside_the_model_is_left_out_and_said(state: State, extra: str) -> None:
    found = named(state, {**under("model.", state), extra: torch.ones(2)})
    assert_found(found, state)
    assert found.notes == (f"left out {extra.removeprefix('model.')}",)


def test_unknown_weights_within_the_model_are_kept_for_the_caller_to_refuse(state: State) -> None:
    found = named(state, {**under("model.", state), "model.layer5.weight": torch.ones(2, 2)})
    assert "layer5.weight" in found.tensors
    beside_an_unknown_part = named(state, {**under("first.", state), "second.weight": torch.ones(2, 2)})
    assert "second.weight" in beside_an_unknown_part.tensors


def test_optimizers_and_settings_do_not_matter(state: State) -> None:
    tensors = {**under("state_dict.", state), "optimizer.state.momentum": torch.ones(9)}
    found = named(state, tensors, "state_dict.", "optimizer.state.", others=("epoch", "state_dict._extra"))
    assert_found(found, state)
    assert found.notes == ("left out _extra",)


@pytest.mark.parametrize(
    ("plain", "average"),
    [("state_dict.", "state_dict_ema."), ("model.", "model_ema.module."), ("model.", "ema."),
     ("model.", "ema_model."), ("online_model.", "ema_model."), ("state_dict.model.", "state_dict.model_ema."),
     ("params.", "params_ema."), ("current_model_state.model.", "state_dict.model.")],
)  # fmt: skip
def test_averages_are_taken_when_asked_for_and_said(state: State, plain: str, average: str) -> None:
    other = {name: tensor + 1 for name, tensor in state.items()}
    both = {**under(plain, state), **under(average, other)}
    roots = ("state_dict.", "current_model_state.") if plain.startswith("current") else ()
    found = named(state, both, *roots)
    assert_found(found, state)
    assert "averaged (EMA) weights are there too: see --use-ema" in found.notes
    averaged = named(state, both, *roots, ema=True)
    assert_found(averaged, other)
    assert "averaged (EMA) weights are taken" in averaged.notes


def test_torchs_averaged_model_is_read(state: State) -> None:
    net = Net()
    found = named(dict(net.state_dict()), dict(AveragedModel(net).state_dict()), ema=True)
    assert_found(found, dict(net.state_dict()))


def test_the_set_whose_shapes_fit_is_taken(state: State) -> None:
    larger = {name: torch.cat([tensor, tensor]) if tensor.ndim else tensor for name, tensor in state.items()}
    assert_found(
        named(state, {**under("generator.", state), **under("critic.", larger)}, "generator.", "critic."), state
    )


def test_several_sets_that_fit_are_refused_unless_they_are_the_same(state: State) -> None:
    other = {name: tensor + 1 for name, tensor in state.items()}
    with pytest.raises(CheckpointError, match="several state dicts fit the model: 'generator', 'critic'; save the one"):
        named(state, {**under("generator.", state), **under("critic.", other)}, "generator.", "critic.")
    assert_found(named(state, {**under("a.", state), **under("b.", state)}, "a.", "b."), state)


def test_backbone_and_head_apart_are_one_model(state: State) -> None:
    parts = {f"{'head' if n.startswith('fc') else 'backbone'}.{n}": tensor for n, tensor in state.items()}
    assert_found(named(state, {**parts, "data_preprocessor.mean": torch.ones(3)}), state)
    with pytest.raises(CheckpointError, match="no averaged"):
        named(state, parts, ema=True)


def test_old_names_of_torchvisions_densenet_are_read() -> None:
    own = dict(torchvision.models.densenet121(num_classes=3).state_dict())
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): t for name, t in own.items()}
    assert old.keys() != own.keys()
    assert_found(named(own, old), own)


def pruned(net: nn.Sequential) -> None:
    prune.l1_unstructured(net[0], "weight", 0.5)
    prune.random_structured(net[4], "weight", 0.5, dim=0)


def old_weight_norm(net: nn.Sequential) -> None:
    for layer, dim in ((net[0], 0), (net[4], None)):
        with pytest.warns(FutureWarning, match="weight_norm"):
            nn.utils.weight_norm(layer, dim=dim)


def weight_norm(net: nn.Sequential) -> None:
    parametrizations.weight_norm(net[0])
    parametrizations.weight_norm(net[4], dim=1)


def old_spectral_norm(net: nn.Sequential) -> None:
    nn.utils.spectral_norm(net[0])
    nn.utils.spectral_norm(net[4])


def spectral_norm(net: nn.Sequential) -> None:
    parametrizations.spectral_norm(net[0])
    parametrizations.spectral_norm(net[4])


@pytest.mark.parametrize("change", [pruned, old_weight_norm, weight_norm, old_spectral_norm, spectral_norm])
@pytest.mark.parametrize("path", ["", "model.module."])
def test_weights_stored_in_parts_are_put_together(change: Callable[[nn.Sequential], None], path: str) -> None:
    torch.manual_seed(1)
    plain, net = body().eval(), body()
    change(net)
    net(torch.randn(2, 3, 3, 3))  # spectral norm finds its vectors
    net.eval()
    found = named(dict(plain.state_dict()), under(path, dict(net.state_dict())))
    assert found.tensors.keys() == plain.state_dict().keys()
    assert re.search("(mask|norm) applied to .*0.weight, .*4.weight", "; ".join(found.notes))
    plain.load_state_dict(found.tensors)
    images = torch.randn(4, 3, 3, 3)
    torch.testing.assert_close(plain(images), net(images), rtol=1e-5, atol=1e-6)


def test_spectral_norm_of_a_transposed_convolution_is_the_other_way_round() -> None:
    torch.manual_seed(0)
    layer = nn.utils.spectral_norm(nn.ConvTranspose2d(6, 6, 3))  # by its sizes it could be either
    for _ in range(3):
        layer(torch.randn(1, 6, 4, 4))
    layer.eval()
    plain = nn.ConvTranspose2d(6, 6, 3)
    plain.load_state_dict(named(dict(plain.state_dict()), dict(layer.state_dict())).tensors)
    image = torch.randn(1, 6, 4, 4)
    torch.testing.assert_close(plain(image), layer(image), rtol=1e-5, atol=1e-6)


def test_a_module_that_stores_parts_itself_keeps_them() -> None:
    net = body()
    weight_norm(net)
    own = dict(net.state_dict())
    assert_found(named(own, own), own)
