from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seenn.capture import Call, Made, capture, to_graph, trace
from seenn.capture.handlers import _HANDLERS, Handler, Result
from seenn.core.ops import Expand
from seenn.errors import UnsupportedError


class Model(nn.Module):
    def __init__(self, body: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.weight = nn.Parameter(torch.ones(4, 4))
        self.register_buffer("counts", torch.arange(4))
        self.body = body

    def forward(self, x: Tensor, offset: float = 0.0) -> Any:
        return self.body(self, x, offset)


def refusal(body: Callable[..., Any], *parts: nn.Module, images: int = 1, train: bool = False) -> str:
    model = Model(body, *parts).train(train)
    with pytest.raises(UnsupportedError) as caught:
        to_graph(trace(model, torch.zeros(images, 2, 4, 4)))
    return str(caught.value)


CASES: dict[str, tuple[Callable[..., Any], str]] = {
    "unknown function": (
        lambda m, x, o: torch.sigmoid(x),
        "sigmoid: neither linear over time nor spikes — convert",
    ),
    "unknown method": (lambda m, x, o: x.cummax(1)[0], "cummax: has no spiking equivalent"),
    "diff of more": (lambda m, x, o: x.diff(dim=2, append=x[:, :, :1]), "joins other values before it takes diff"),
    "mask": (lambda m, x, o: x[:, m.counts[:2] > 0], "How much comes out depends on values: keep indices, made in"),
    "one constant an image": (lambda m, x, o: x + torch.ones(1009, 1, 1, 1), "cannot be traced on input of shape"),
    "gate": (
        lambda m, x, o: x * x.mean((2, 3), keepdim=True),
        "mul: multiply: neither linear over time nor spikes — convert without --strict",
    ),
    "division": (lambda m, x, o: 1 / x, "truediv: reciprocal: neither linear over time nor spikes"),
    "division by zero": (lambda m, x, o: x / 0, "divides by 0 — divide by numbers above 0"),
    "rounding": (
        lambda m, x, o: torch.div(x, 2, rounding_mode="floor"),
        "divides and rounds — write it as",
    ),
    "two products": (lambda m, x, o: torch.addcmul(x, x, x), "multiplies activations and adds another"),
    "power of two": (lambda m, x, o: torch.pow(2.0, x), "its exponent is an activation"),
    "batch concat": (lambda m, x, o: torch.cat([x, x]), "concatenates along the batch — keep images independent"),
    "cat of a tuple": (lambda m, x, o: torch.cat(x.chunk(2, 1), 1), "joins a tuple as it is — name its parts"),
    "tuple slice": (lambda m, x, o: torch.cat(list(x.chunk(2, 1)[::-1]), 1), "cannot be traced"),
    "clip": (lambda m, x, o: x.clamp(-1, 1), "clamp: hardtanh: neither linear over time nor spikes"),
    "hardtanh": (lambda m, x, o: F.hardtanh(x), "hardtanh: neither linear over time"),
    "mean of all": (lambda m, x, o: x.mean(), "the mean over the whole batch — name the axes"),
    "mean of batch": (lambda m, x, o: x.mean(0), "it works across the batch"),
    "dropout default": (lambda m, x, o: F.dropout(x), "dropout that is always on — pass training=self.training"),
    "batch transpose": (lambda m, x, o: x.relu().transpose(0, 1), "with images along another axis than the first"),
    "batch reshape": (lambda m, x, o: x.view(-1, 16), "returns [2018, 16], with images along another axis"),
    "one image only": (lambda m, x, o: x.view(1, -1), "returns [1, 32288], with images along another axis"),
    "mixed images": (lambda m, x, o: x.transpose(0, 1).reshape(-1, 16), "to [2018, 16] across the batch — keep the"),
    "a shuffle of folded images": (
        lambda m, x, o: F.channel_shuffle(x.view(-1, 4, 2, 2), 2),
        "works on a value of shape [2018, 4, 2, 2], whose first axis is not the batch alone — bring it to [B, ...]",
    ),
    "a pool over images": (
        lambda m, x, o: F.avg_pool2d(x.transpose(0, 1), 2),
        "works on a value of shape [2, 1009, 4, 4], whose first axis is not the batch — bring it to [B, ...] before",
    ),
    "images repeated": (lambda m, x, o: x.repeat_interleave(2, 0), "returns [2018, 2, 4, 4], with images along"),
    "differently moved": (
        lambda m, x, o: x.flatten(1) @ x.flatten(1).mT,
        "along different axes, so that it mixes images — bring",
    ),
    "attention among images": (
        lambda m, x, o: F.scaled_dot_product_attention(*[x.flatten(2).transpose(0, 1)] * 3),
        "it multiplies across the batch — keep images independent",
    ),
    "dropout in attention": (lambda m, x, o: F.scaled_dot_product_attention(x, x, x, None, 0.1), "with dropout or"),
    "a mask of integers": (
        lambda m, x, o: F.scaled_dot_product_attention(x, x, x, torch.ones(4, 4, dtype=torch.int64)),
        "cannot be traced",
    ),
    "nothing attended": (
        lambda m, x, o: F.scaled_dot_product_attention(x, x, x, torch.zeros(4, 4, dtype=torch.bool)),
        "its mask shuts out everything in a row — leave at least one entry open",
    ),
    "moved mask": (
        lambda m, x, o: F.scaled_dot_product_attention(x, x, x, x.transpose(0, 1)[:, :, :1]),
        "cannot be traced: it takes 2 images and refuses 3 at ",
    ),
    "softmax of batch": (lambda m, x, o: x.softmax(0), "it works across the batch"),
    "other norm": (lambda m, x, o: F.normalize(x, p=0), "takes the norm of order 0"),
    "norm of all": (lambda m, x, o: x.norm(), "takes the norm of the whole batch — give it dim"),
    "roll of all": (lambda m, x, o: x.roll(1), "rolls the values of all images — say along which axes"),
    "computed repeats": (lambda m, x, o: x.repeat_interleave(2), "repeats by a computed number"),
    "new axes": (lambda m, x, o: x.repeat(2, 1, 1, 1, 1), "repeats along new axes"),
    "batch slice": (lambda m, x, o: x[1:], "it works across the batch"),
    "computed index": (lambda m, x, o: x[:, x[0, :, 0, 0] > 0], "cannot be traced"),
    "index of the batch": (lambda m, x, o: x[0], "it works across the batch"),
    "batch pad": (lambda m, x, o: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0)), "pads the batch"),
    "infinite pad": (lambda m, x, o: F.pad(x, (1, 1), value=float("inf")), "pads with constant inf — pad with zeros"),
    "divisor": (lambda m, x, o: F.avg_pool2d(x, 2, ceil_mode=True, divisor_override=3), "divisor_override with ceil"),
    "power pool": (lambda m, x, o: F.lp_pool2d(x, 2, 2), "lp_pool2d: has no spiking equivalent"),
    "maximum over channels": (lambda m, x, o: x.amax(1), "amax: largest: neither linear over time nor"),
    "label": (lambda m, x, o: x.flatten(1).argmax(1), "orders values, which spikes cannot — return the scores"),
    "some of the largest": (lambda m, x, o: x.flatten(1).topk(2)[0], "orders values, which spikes cannot — return"),
    "maximum of all": (lambda m, x, o: x.max(), "the maximum over the whole batch — name the axes"),
    "maximum of images": (lambda m, x, o: x.amax(0), "it works across the batch — keep images independent"),
    "variance of all": (lambda m, x, o: x.var(), "the variance over the whole batch — name the axes"),
    "a volume": (
        lambda m, x, o: F.interpolate(x[:, None], scale_factor=2),
        "resizes 3 axes by nearest — use one of nearest, nearest-exact, bilinear, bicubic and area, on images",
    ),
    "turned among images": (
        lambda m, x, o: torch.rot90(x, 2, (0, 2)),
        "it works across the batch — keep images independent",
    ),
    "gathered among images": (
        lambda m, x, o: x.gather(0, torch.zeros_like(x, dtype=torch.int64)),
        "it works across the batch — keep images independent",
    ),
    "filled with infinity": (
        lambda m, x, o: x.masked_fill(m.counts > 1, -torch.inf).relu(),
        "fills with values that are not finite — use a finite number, such as -1e4",
    ),
    "a grid of the image": (
        lambda m, x, o: F.grid_sample(x, x.permute(0, 2, 3, 1), align_corners=False),
        "samples at places that depend on the image — keep the places in a buffer",
    ),
    "a large map": (
        lambda m, x, o: torch.cumsum(x.repeat(1, 1, 16, 16).flatten(1), 1),
        "mixes 8192 values of an image into 8192 — use one axis at a time",
    ),
    "traces": (lambda m, x, o: torch.einsum("bcii->bc", x), "contract one or two values, and name all of their axes"),
    "a table of the batch": (
        lambda m, x, o: torch.einsum("bchw,bc->bhw", x, x[:, :, 0, 0]).cumsum(0),
        "across the batch",
    ),
    "threshold": (lambda m, x, o: F.threshold(x, 1.0, 0.0), "jumps to 0.0 at 1.0 — use nn.ReLU, or a threshold of 0"),
    "indices": (lambda m, x, o: F.max_pool2d(x, 2, return_indices=True)[0], "return_indices=True"),
    "computed weight": (lambda m, x, o: F.linear(x, m.weight * 2)[:, :1], "its weight is computed while the network"),
    "batch statistics": (lambda m, x, o: F.batch_norm(x, None, None, training=True), "statistics of the batch"),
    "two outputs": (lambda m, x, o: (x.relu(), x), "output (tuple): the model returns more than logits"),
    "a dictionary": (
        lambda m, x, o: {"logits": x.relu()},
        "output (immutable_dict): the model returns more than logits",
    ),
    "its input": (lambda m, x, o: x, "the model returns its input: there is nothing to convert"),
    "control flow": (lambda m, x, o: x if x.sum() > 0 else -x, "must not branch on the values in it"),
    "a failing forward": (lambda m, x, o: F.linear(x, torch.ones(3, 3)), "Model cannot be traced on input of shape"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_expressed_is_refused_with_reason_and_fix(case: str) -> None:
    body, message = CASES[case]
    assert message in refusal(body)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.BatchNorm2d(2, track_running_stats=False), "train it with track_running_stats=True"),
        (nn.Bilinear(4, 4, 2), "Model cannot be traced on input of shape [1, 2, 4, 4]: TypeError"),
        (nn.GELU(), "parts.0 (GELU): gelu: neither linear over time nor spikes — convert without"),
        (nn.LPPool2d(2, 2), "parts.0 (LPPool2d): has no spiking equivalent"),
    ],
)
def test_modules_that_cannot_be_expressed_are_refused(module: nn.Module, message: str) -> None:
    assert message in refusal(lambda m, x, o: m.parts[0](x), module)


COMPLEX: dict[str, tuple[Callable[..., Any], str]] = {
    "a spectrum": (lambda m, x, o: torch.fft.fft(x).real, "fft_fft: computes with complex numbers, and spikes"),
    "an attribute": (lambda m, x, o: (x * m.turns).real, "mul: computes with complex numbers of turns, and spikes"),
    "a number": (lambda m, x, o: (x * 1j).abs(), "mul: computes with complex numbers, and spikes"),
}


@pytest.mark.parametrize("kind", COMPLEX)
def test_complex_numbers_are_refused_once_and_by_name(kind: str) -> None:
    body, expected = COMPLEX[kind]
    model = Model(body)
    vars(model)["turns"] = torch.ones(4, dtype=torch.complex64)
    with pytest.raises(UnsupportedError, match="1 call is outside") as caught:
        to_graph(trace(model, torch.zeros(1, 2, 4, 4)))
    assert expected in str(caught.value)


def test_layers_in_a_list_are_no_part_of_the_model_and_the_list_is_named() -> None:
    inner = nn.Identity()
    vars(inner)["table"] = {"first": [nn.Conv2d(2, 2, 1)]}
    said = refusal(lambda m, x, o: m.parts[0].table["first"][0](x), inner)
    assert (
        "Keep layers in nn.ModuleList or nn.ModuleDict, or as attributes of a module: those in Model.parts.0.table"
        in said
    )
    assert "NameError" not in said


def test_layers_in_a_plain_list_are_no_part_of_the_model() -> None:
    layers = [nn.Conv2d(2, 2, 1)]
    assert "Keep layers in nn.ModuleList or nn.ModuleDict" in refusal(lambda m, x, o: layers[0](x))


def test_a_subclass_that_computes_something_else_does_not_count_as_its_base() -> None:
    class Standardized(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return F.conv2d(input, self.weight - self.weight.mean(), self.bias)

    assert "its weight is computed while the network runs" in refusal(
        lambda m, x, o: m.parts[0](x), Standardized(2, 2, 1)
    )


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_a_softmax_along_no_axis_in_particular_is_refused() -> None:
    assert "does not say along which axis — give it dim" in refusal(lambda m, x, o: F.softmax(x))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_hooks_that_write_weights_are_refused_because_training_would_not_reach_them() -> None:
    def weigh(module: nn.Module, args: Any) -> None:
        module.weight = module.raw * 2

    own = nn.Conv2d(2, 2, 1)
    own.raw = nn.Parameter(own.weight.detach() / 2)
    del own._parameters["weight"]
    own.register_forward_pre_hook(weigh)
    weigh(own, None)
    for layer in (own, nn.utils.weight_norm(nn.Conv2d(2, 2, 1))):
        message = refusal(lambda m, x, o: m.parts[0](x), layer)
        assert "parts.0 (Conv2d): has forward hooks that write into it — remove them first" in message


def test_random_slopes_are_refused_because_they_would_be_lost() -> None:
    message = refusal(lambda m, x, o: m.parts[0](x), nn.RReLU(), train=True)
    assert "draws its slopes at random in training mode — call model.eval() first" in message


def test_dropout_in_training_mode_is_refused_because_it_would_be_lost() -> None:
    message = refusal(lambda m, x, o: m.parts[0](x).relu(), nn.Dropout2d(), train=True)
    assert "drops values at random in training mode — call model.eval() first" in message


def test_all_offenders_are_listed_at_once_and_their_readers_are_not_blamed() -> None:
    def body(m: Model, x: Tensor, o: float) -> Tensor:
        a, b = torch.sigmoid(x).chunk(2, 1)
        values, _ = F.max_pool2d(torch.cat([a, b], 1) + m.counts, 2, return_indices=True)
        return torch.tanh(values.relu())

    lines = refusal(body).splitlines()
    assert lines[0] == "3 calls are outside what a spiking network can express:"
    assert [line.replace(":", " (").split(" (")[0] for line in lines[1:]] == [
        "  sigmoid",
        "  max_pool2d_with_indices",
        "  tanh",
    ]


IN_PLACE: dict[str, Callable[..., Any]] = {
    "a view": lambda m, x, o: (y := x * 2, z := y.flatten(1), y.relu_().flatten(1) + z)[2],
    "through a view": lambda m, x, o: (y := x * 2, y.view(-1, 32).relu_(), y.relu())[2],
}


@pytest.mark.parametrize("case", IN_PLACE)
def test_a_value_changed_in_place_must_not_be_read_by_its_old_name(case: str) -> None:
    message = refusal(IN_PLACE[case], nn.ReLU(inplace=True))
    assert re.search(r"reads \w+, which a later call has changed in place — keep the changed value by name", message)


def test_whatever_a_handler_raises_is_listed_at_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(call: Call) -> Result:
        raise RuntimeError("no such thing\nand more")

    monkeypatch.setitem(_HANDLERS, torch.cumsum, Handler(broken, any_layout=True))
    model = Model(lambda m, x, o: torch.tanh(torch.cumsum(x, 1))).requires_grad_(False)
    with pytest.raises(UnsupportedError) as caught:
        to_graph(trace(model, torch.zeros(1, 2, 4, 4)))
    assert "cumsum: cannot be translated: RuntimeError: no such thing — write it another way" in str(caught.value)
    assert "tanh" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_op_that_does_not_fit_its_call_is_listed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (3, 3)
    handler = Handler(lambda call: Made(Expand(shape=shape), (call.args[0],)), any_layout=True)
    for function in (torch.cumsum, torch.mean):
        monkeypatch.setitem(_HANDLERS, function, handler)
    assert "cumsum: cannot be translated: RuntimeError: " in refusal(lambda m, x, o: torch.cumsum(x, 1))
    shape = (2, 4, 4)
    assert "mean: becomes a value of shape [2, 4, 4] an image where the model has [1, 4, 4]" in refusal(
        lambda m, x, o: torch.mean(x, 1, True)
    )


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 2, 1), nn.BatchNorm2d(1)])
def test_weights_shared_between_parts_of_an_image_cannot_be_trained(layer: nn.Module) -> None:
    message = refusal(lambda m, x, o: m.parts[0](x.view(-1, 1, 4, 4)).view(-1, 2, 4, 4), layer)
    assert "shares its weights between parts of an image, which training would tear apart — freeze them" in message


def test_a_model_without_neurons_is_not_a_spiking_network() -> None:
    with pytest.raises(UnsupportedError, match=r"Sequential holds no neurons: put seenn.IFNeuron in place of its"):
        capture(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 1, 2, 2))
