"""Models as they compute: without wrappers, with weights in place of what computes them, in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.ao.quantization as quantization
import torch.ao.quantization.quantize_fx as quantize_fx
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

from converter import convert_module
from seenn.errors import UnsupportedError

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")
]
X = torch.rand(32, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def body() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)
    ).eval()


def normed() -> nn.Module:
    model = body()
    weight_norm(model[0])
    spectral_norm(model[3])
    model(X)  # leaves a weight with a history, which cannot be copied
    return model.eval()


def parametrised() -> nn.Module:
    model = body()
    parametrizations.weight_norm(model[0])
    parametrizations.spectral_norm(model[3])
    return model.eval()


def pruned() -> nn.Module:
    model = body()
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_unstructured(model[0], "weight", 0.2)
    return model


def compiled_inside() -> nn.Module:
    model = body()
    model[3] = torch.compile(model[3])  # type: ignore[assignment]
    model.compile()
    return model


def observed() -> nn.Module:
    model = body()
    model.qconfig = quantization.get_default_qconfig("x86")  # type: ignore[assignment]
    quantization.prepare(model, inplace=True)
    model(X)
    return model


class Loose(nn.Module):
    """Computes with tensors that are plain attributes, or lie in containers: ``Module.to`` passes over them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = body(), nn.Linear(6, 3)
        self.mixed = torch.randn(5, 4)
        self.kept: dict[str, Any] = {"mean": torch.rand(1, 3, 1, 1), "parts": [torch.randn(6, 4)]}

    def forward(self, x: Tensor) -> Tensor:
        scores = self.body(x - self.kept["mean"]) @ self.mixed
        found: Tensor = self.head((self.kept["parts"][0] @ scores.unsqueeze(-1)).flatten(1))
        return found


MODELS: dict[str, Callable[[], nn.Module]] = {
    "old weight and spectral norm": normed,
    "parametrisations": parametrised,
    "prune masks": pruned,
    "compiled": lambda: torch.compile(body()),  # type: ignore[dict-item]
    "compiled inside": compiled_inside,
    "data parallel": lambda: nn.DataParallel(nn.Sequential(nn.DataParallel(body()))),
    "averaged": lambda: AveragedModel(body()),
    "observed": observed,
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_is_converted_as_it_computes_and_stays_as_it_was(kind: str) -> None:
    model = MODELS[kind]()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network = convert_module(model, X).network
    assert len(network.sites) == 2
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    with torch.no_grad():
        torch.testing.assert_close(network.analog()(X), model(X), rtol=1e-4, atol=1e-5)


def test_tensors_that_are_plain_attributes_are_converted_in_the_precision_of_the_rest() -> None:
    model = Loose().eval()
    network = convert_module(model, X).network
    assert model.mixed.dtype == model.kept["parts"][0].dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(network.analog()(X), model(X), rtol=1e-4, atol=1e-5)


def test_weights_without_values_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="weights without values, on the device meta: load its checkpoint first"):
        convert_module(body().to("meta"), X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_converted_in_single_precision_and_said(
    dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    model = body().to(dtype)
    network = convert_module(model, X).network
    assert f"the weights are in {str(dtype)[6:]}: converted, and computed with, in float32" in caplog.text
    torch.testing.assert_close(network.analog()(X), body().to(dtype).float()(X), rtol=1e-4, atol=1e-5)
    assert next(model.parameters()).dtype == dtype


def test_half_precision_inside_forward_is_followed() -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body().bfloat16()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.to(torch.bfloat16)).float()  # type: ignore[no-any-return]

    assert len(convert_module(Cast().eval(), X).network.sites) == 2


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_distributed_wrappers_are_taken_off_and_what_they_share_is_gathered() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    cpu = torch.device("cpu")
    nested = body()
    nested[3] = FullyShardedDataParallel(nested[3], device_id=cpu)  # type: ignore[assignment]
    for model in (nn.parallel.DistributedDataParallel(body()), FullyShardedDataParallel(nested, device_id=cpu)):
        network = convert_module(model.eval(), X).network
        assert network.sites == ("2", "4")
        torch.testing.assert_close(network.analog()(X), body()(X), rtol=1e-4, atol=1e-5)
    fully_shard(sharded := body(), mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(UnsupportedError, match="Sequential is sharded by fully_shard: gather its weights with"):
        convert_module(sharded, X)


class Stubs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.body, self.dequant = quantization.QuantStub(), body(), quantization.DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.body(self.quant(x)))  # type: ignore[no-any-return]


def fused() -> nn.Module:
    model = Stubs().train()
    model.qconfig = quantization.get_default_qat_qconfig("x86")  # type: ignore[assignment]
    quantization.fuse_modules_qat(model, [["body.0", "body.1", "body.2"], ["body.3", "body.4"]], inplace=True)
    quantization.prepare_qat(model, inplace=True)
    return model


def by_module() -> nn.Module:
    model = body().train()
    activation = quantization.FakeQuantize.with_args(
        observer=quantization.MovingAverageMinMaxObserver, quant_min=0, quant_max=15, dtype=torch.quint8
    )
    weight = quantization.default_per_channel_weight_fake_quant
    model.qconfig = quantization.QConfig(activation=activation, weight=weight)  # type: ignore[assignment]
    quantization.prepare_qat(model, inplace=True)
    return model


def by_graph(pool: type[nn.Module] = nn.MaxPool2d) -> nn.Module:
    """One quantiser stands before and after the pool, under two names."""
    mapping = quantization.get_default_qat_qconfig_mapping("x86")
    pooled = nn.Sequential(*body()[:5], pool(2), nn.Flatten(), nn.Linear(4, 5))
    model: nn.Module = quantize_fx.prepare_qat_fx(pooled.train(), mapping, (X,))
    assert len(list(model.named_modules())) < len(list(model.named_modules(remove_duplicate=False)))
    return model


@pytest.mark.parametrize("make", [fused, by_module, by_graph])
def test_quantisation_aware_training_is_taken_with_its_scales(make: Callable[[], nn.Module]) -> None:
    model = make()
    with torch.no_grad():
        for _ in range(3):
            model(X)
    model.eval()
    network = convert_module(model, X).network
    assert {"if_neuron", "quantiser_neuron"} >= {network.graph[site].op.kind for site in network.sites}
    model.apply(quantization.disable_observer)
    with torch.no_grad():
        close = (network.analog()(X) - model(X)).abs().amax(1) < 1e-5
    assert float(close.double().mean()) > 0.9  # rounding may move a value across the edge of a level


@pytest.mark.parametrize(("pool", "halves"), [(nn.AvgPool2d, True), (nn.MaxPool2d, False)])
def test_halves_after_a_mean_are_rounded_up_which_is_said(
    pool: type[nn.Module], halves: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = by_graph(pool)
    with torch.no_grad():
        for _ in range(3):
            model(X)
    convert_module(model.eval(), X)
    assert ("are rounded up, and to even by the model" in caplog.text) == halves


def test_quantisers_that_have_seen_nothing_are_named() -> None:
    with pytest.raises(UnsupportedError, match=r"FakeQuantize\): it has seen no values and has no scale: train"):
        convert_module(fused().eval(), X)


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


def test_torchscript_and_integers_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"Outer\.inner is TorchScript, .*: give the nn.Module"):
        convert_module(Outer(torch.jit.script(body())).eval(), X)
    with pytest.raises(UnsupportedError, match="TopLevelTracedModule is TorchScript"):
        convert_module(torch.jit.trace(body(), X), X)
    dynamic = quantization.quantize_dynamic(body(), {nn.Linear})
    with pytest.raises(
        UnsupportedError, match=r"Sequential\.6 \(Linear\) computes with integers of torch\.ao: give the"
    ):
        convert_module(dynamic, X)
