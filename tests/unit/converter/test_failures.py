"""Models that fail as they are run or traced: where, in whose words, and advice that fits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import converter.pipeline
from converter import convert
from seenn.capture import capture, trace_exported
from seenn.errors import ConversionError, SeennError, UnsupportedError


class Net(nn.Module):
    """Convolution, ReLU and head; subclasses put something before them."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(144, 5)

    def scores(self, x: Any) -> Tensor:
        return self.head(F.relu(self.conv(x)).flatten(1))


X = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Body = Callable[[Net, Any], Any]


def net(body: Body) -> Net:
    """A model whose forward is ``body``."""
    return type("Own", (Net,), {"forward": lambda self, x: body(self, x)})().eval()


def message(model: nn.Module) -> str:
    with pytest.raises(UnsupportedError) as caught:
        convert(model, X)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_check_of_the_models_own_is_quoted_with_its_line_and_what_it_was_given() -> None:
    class Gray(Net):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1] == 1, "one channel, please"
            return self.scores(x)

    said = message(Gray())
    assert said.startswith("Gray fails on input of shape [1, 3, 8, 8] at test_failures.py:")
    assert '(`assert x.shape[1] == 1, "one channel, please"`) (AssertionError: one channel, please): ' in said
    assert said.endswith("the model's own code refuses this: give it input that it takes, or take the check out")

    class Strict(Net):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError(f"no such pictures: {list(x.shape)}")

    assert "(ValueError: no such pictures: [1, 3, 8, 8]): the model's own code refuses this" in message(Strict())


def test_the_layer_that_fails_is_named() -> None:
    said = message(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 5)))
    assert "Sequential fails on input of shape [1, 3, 8, 8] at 2 (RuntimeError: mat1 and mat2 shapes" in said
    assert said.endswith("give it the channels, size and layout that it was trained on")


FAILING: dict[str, tuple[Body, str]] = {
    "a dictionary": (lambda m, x: m.scores(x["image"]), r"it takes a dict: .* return self.model\({'image': x}\)"),
    "a list": (lambda m, x: m.scores(x[0].flatten()), r"it takes a list: .* return self.model\(\[x\]\)"),
    "several": (lambda m, x: m.scores(sum(*x)), r"it takes a list: .* return self.model\(\[x\]\)"),
    "joined": (lambda m, x: m.scores(torch.cat(x, 1)), "it takes a list: "),
    "an object": (lambda m, x: m.scores(x.pixels), r"it takes an object: .*SimpleNamespace\(pixels=x\)"),
    "a device": (lambda m, x: m.scores(x.cuda()), r"leave devices to seenn.* take .cuda\(\) and .to\(device\) out"),
    "double precision": (lambda m, x: m.scores(x.double()), r"it mixes kinds of numbers: cast to .*self.weight.dtype"),
    "tokens": (lambda m, x: F.embedding(x, m.head.weight), "it takes whole numbers, such as those of tokens"),
    "a lost attribute": (
        lambda m, x: m.tabel,
        r"mend the model until model.eval\(\)\(torch.zeros\(1, 3, 8, 8\)\) runs",
    ),
}


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_a_model_that_fails_gets_advice_that_fits(kind: str) -> None:
    if kind == "a device" and torch.cuda.is_available():
        pytest.skip("there is one")
    body, advice = FAILING[kind]
    with pytest.raises(UnsupportedError, match=f"Own fails on input of shape .*{advice}"):
        convert(net(body), X)


def test_inputs_by_keyword_say_how_to_wrap_the_model() -> None:
    class Named(Net):
        def forward(self, *, pixels: Tensor, labels: Any = None) -> Tensor:
            return self.scores(pixels)

    class Any_(Net):
        def forward(self, **given: Any) -> Tensor:
            return self.scores(given["x"])

    class Second(Net):
        def forward(self, tokens: Any = None, pixels: Any = None) -> Tensor:
            return self.scores(pixels)

    class Nothing(Net):
        def forward(self) -> Tensor:
            return self.scores(torch.zeros(1, 3, 8, 8))

    assert message(Named()) == (
        "Named takes no input by position, but by keyword (pixels, labels); change that: wrap it in a module whose "
        "forward takes the images alone, def forward(self, x): return self.model(pixels=x)"
    )
    assert "no input by position, but by keyword (any); change that: wrap it" in message(Any_())
    assert message(Second()).endswith("wrap it in a module that passes them on by name, self.model(NAME=x)")
    assert "by position, and none by keyword; change that: let its forward take images" in message(Nothing())


def test_complex_weights_are_refused_before_they_lose_their_imaginary_part() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = nn.Linear(192, 4, dtype=torch.cfloat)

        def forward(self, x: Tensor) -> Tensor:
            return self.scores(x.flatten(1).to(self.scores.weight.dtype)).abs()

    assert "Complex has complex weights (scores.weight, scores.bias), and spikes carry real" in message(Complex())


def test_any_number_of_inputs_may_be_one() -> None:
    class Several(Net):
        def forward(self, *inputs: Tensor) -> Tensor:
            return self.scores(inputs[0])

    model = Several().eval()
    snn = convert(model, X)
    torch.testing.assert_close(snn.network.analog()(X), model(X))


def test_lazy_modules_that_never_ran_are_named() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    expected = r"0, 3 are lazy and never ran, so without weights: call the model once on a batch, model\(images"
    for call in (convert, capture):
        with pytest.raises(UnsupportedError, match=expected):
            call(model, X)
    model(X[:2])
    convert(model.eval(), X)


def test_memory_that_runs_out_is_no_question_of_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def body(m: Net, x: Tensor) -> Tensor:
        return m.scores(x) + torch.empty(1 << 50)[0]

    advice = "give fewer images or smaller ones, or free memory"
    with pytest.raises(SeennError, match=rf"memory ran out while running Own on input of shape .*: {advice}"):
        convert(net(body), X)

    def check(*args: Any, **kwargs: Any) -> None:
        torch.empty(1 << 50)

    monkeypatch.setattr(converter.pipeline, "check", check)
    with pytest.raises(SeennError, match=rf"memory ran out while converting .*: {advice}"):
        convert(net(Net.scores), X)


TAKING: dict[str, Body] = {
    "a branch": lambda m, x: m.scores(x) if x.sum() > 0 else m.scores(-x),
    "a check of values": lambda m, x: m.scores(x) if torch.isfinite(m.conv(x)).all() else None,
    "a loop": lambda m, x: [m.scores(x) for _ in range(1 + int((x > 2).sum()))][-1],
    "an array": lambda m, x: m.scores(torch.from_numpy(x.numpy() * 2)),
    "a list of numbers": lambda m, x: m.scores(torch.tensor(x.tolist(), dtype=x.dtype)),
}


@pytest.mark.parametrize("kind", TAKING)
def test_values_that_python_asks_for_are_refused_at_their_line(kind: str) -> None:
    said = message(net(TAKING[kind]))
    assert said.startswith("Own cannot be traced on input of shape [2, 3, 8, 8] at test_failures.py:")
    assert (
        "must not branch on the values in it, nor take them out of tensors (.item(), .tolist(), .numpy(), int())"
        in said
    )


def test_the_line_that_is_in_the_way_is_named_and_not_a_check_of_sizes_before() -> None:
    class Checked(Net):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1] == 3
            return self.scores(x) if x.sum() > 0 else x

    assert "(`return self.scores(x) if x.sum() > 0 else x`): Python asks for a value of the image" in message(
        Checked().eval()
    )


def _filled(m: Net, x: Tensor) -> Tensor:
    found = torch.zeros(len(x), 5, dtype=x.dtype)
    for place in range(len(x)):
        found[place] = m.scores(x[place : place + 1])[0]
    return found


LOOPING: dict[str, Body] = {
    "by number": lambda m, x: torch.stack([m.scores(x[i : i + 1])[0] for i in range(x.shape[0])]),
    "by itself": lambda m, x: torch.stack([m.scores(image[None])[0] for image in x]),
    "by parts": lambda m, x: torch.cat([m.scores(image) for image in x.split(1)]),
    "into a table": _filled,
}


@pytest.mark.parametrize("kind", LOOPING)
def test_a_loop_over_the_images_is_refused_before_it_is_traced(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def traced(*_: object) -> None:
        raise AssertionError("a call for each image would be traced")

    monkeypatch.setattr(sys.modules[trace_exported.__module__], "export_graph", traced)
    said = message(net(LOOPING[kind]))
    assert said.startswith("Own cannot be traced: it loops over the images of a batch at test_failures.py:")
    assert said.endswith("Give whole batches to its layers: write it without a loop over x.shape[0], or over x itself.")
    assert "Own cannot be traced: it loops over" in message(nn.Sequential(net(LOOPING[kind]))).replace(
        "Sequential", "Own"
    )


def test_a_loop_over_what_is_not_the_batch_is_followed() -> None:
    model = net(lambda m, x: torch.stack([m.scores(x[:, [i, 1, 2]]) for i in range(x.shape[1])]).mean(0))
    torch.testing.assert_close(convert(model, X).network.analog()(X), model(X), rtol=1e-4, atol=1e-5)


def _checked(m: Net, x: Tensor) -> Tensor:
    assert x.shape[0] <= 2, "two at most"
    return m.scores(x)


def _one(m: Net, x: Tensor) -> Tensor:
    assert len(x) == 8
    return m.scores(x)


def _many(m: Net, x: Tensor) -> Tensor:
    if x.shape[0] > 20:
        raise ValueError("too many")
    return m.scores(x)


SIZES: dict[str, tuple[Body, str]] = {
    "a check": (
        _checked,
        r"takes 2 images and refuses 3 at .* \(AssertionError: two at most\)\. A network takes any number of images",
    ),
    "a limit": (
        _many,
        r"takes 2 images and refuses 1009 at .* \(ValueError: too many\)\. A network takes any number of images",
    ),
    "one size": (_one, r"it was run on 1: a network takes any number of images: take out what depends on the batch"),
    "a branch": (
        lambda m, x: m.scores(x) * 2 if x.shape[0] > 1 else m.scores(x),
        "and calls other functions: it must not branch on how many images there are",
    ),
}


@pytest.mark.parametrize("kind", SIZES)
def test_what_depends_on_the_batch_size_gets_advice_about_it(kind: str) -> None:
    body, advice = SIZES[kind]
    with pytest.raises(UnsupportedError, match=advice) as refused:
        convert(net(body), X)
    assert "values in it" not in str(refused.value)


CONSTANTS: dict[str, Body] = {
    "item": lambda m, x: m.scores(x) * m.head.bias.abs().max().item(),
    "float": lambda m, x: m.scores(x) * float(m.head.bias[0].detach()),
    "list": lambda m, x: m.scores(x) * m.head.weight.sum(1).tolist()[1],
    "branch": lambda m, x: m.scores(x) * 3 if m.head.bias[0] < 9 else m.scores(x),
}


@pytest.mark.parametrize("kind", CONSTANTS)
def test_values_of_weights_are_numbers(kind: str) -> None:
    model = net(CONSTANTS[kind])
    torch.testing.assert_close(convert(model, X).network.analog()(X), model(X), rtol=1e-4, atol=1e-5)


def test_of_a_long_line_the_part_that_fails_is_quoted() -> None:
    model = net(
        lambda m, x: m.scores(x) + m.scores(x) + m.scores(x) + m.scores(x) + m.scores(x) + (x.mean().item() > 9)
    )
    assert "x.mean().item()" in message(model)
    assert "net(lambda" not in message(model)


def test_a_layer_that_takes_the_statistics_of_the_batch_is_named() -> None:
    layer = nn.BatchNorm2d(3, track_running_stats=False)
    said = message(nn.Sequential(nn.Conv2d(3, 3, 1), layer, nn.ReLU(), nn.Flatten(), nn.Linear(192, 5)).eval())
    assert "first in 1 (BatchNorm2d), which has no running statistics and takes those of the batch: train it" in said
    dropping = nn.Sequential(nn.Conv2d(3, 3, 1), net(lambda m, x: F.dropout(x, 0.5, True)), nn.Flatten())
    assert "Sequential draws at random in its forward, first in 1 (Own)" in message(dropping.eval())
    between = net(lambda m, x: m.scores(F.batch_norm(x, None, None, training=True)))
    assert "beside others: it keeps values from call to call" in message(between)  # and no layer is blamed


def test_a_method_of_an_instance_that_calls_the_one_before_is_captured_or_refused_by_name() -> None:
    model = net(lambda m, x: m.scores(x))
    before = model.head.forward
    model.head.forward = lambda x: 2 * before(x)  # type: ignore[method-assign]
    torch.testing.assert_close(convert(model, X).network.analog()(X), model(X), rtol=1e-4, atol=1e-5)
    for name in ("forward", "scores"):
        model = net(lambda m, x: m.scores(x))
        old = getattr(model, name)
        setattr(model, name, lambda x, old=old: 2 * old(x))
        assert f"Put the {name} that was assigned to the model into a subclass" in message(model)


def test_what_stands_for_a_module_is_refused_where_an_instance_has_a_forward_of_its_own() -> None:
    class Act(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu()

    act = Act()
    act.forward = lambda x: 2 * x.relu()  # type: ignore[method-assign]
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), act, nn.Linear(8, 5)).eval()
    with pytest.raises(UnsupportedError, match=r"^2 \(Act\) has a forward of its own, .* put that forward into a sub"):
        convert(model, X, activations={Act: lambda m: nn.ReLU()})


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.1))])
@pytest.mark.parametrize("kept", [lambda layer: [layer], lambda layer: {"a": (layer,)}])
def test_a_list_of_layers_that_eval_does_not_reach_is_named(layer: nn.Module, kept: Callable[..., Any]) -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        return m.scores((m.layers[0] if isinstance(m.layers, list) else m.layers["a"][0])(x))

    model = net(body)
    model.layers = kept(layer.train())
    kind = "BatchNorm2d" if isinstance(layer, nn.BatchNorm2d) else "Dropout"
    said = message(model)
    assert said.startswith(f"Own.layers holds layers ({kind}) that are not part of the model, so that neither eval() ")
    assert said.endswith("keep them in nn.ModuleList or nn.ModuleDict")


def test_a_list_of_layers_that_is_not_called_is_no_harm() -> None:
    model = net(lambda m, x: m.scores(x))
    model.teacher = [nn.Dropout(0.1)]  # type: ignore[assignment]
    assert convert(model, X).network


IN_PLACE: dict[str, Body] = {
    "a chain": lambda m, x: m.scores(x.mul_(2).sub_(1)),
    "a name": lambda m, x: (x.mul_(2), m.scores(x))[1],
    "a part": lambda m, x: (x.__setitem__((slice(None), 0), 0.5), m.scores(x))[1],
    "a view": lambda m, x: (x[:, :1].mul_(2), m.scores(x))[1],
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_a_model_that_writes_into_its_input_is_converted_and_the_images_stay(kind: str) -> None:
    model, images = net(IN_PLACE[kind]), X.clone()
    network = convert(model, images).network
    assert torch.equal(images, X)
    torch.testing.assert_close(network.analog()(X), model(X.clone()), rtol=1e-4, atol=1e-5)


def test_a_model_that_answers_nan_is_told_so_with_the_layer_that_does_first() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.Sequential(nn.BatchNorm2d(3)), nn.ReLU(), nn.Flatten(), nn.Linear(192, 5)
    )
    model[1][0].running_var.fill_(-1)  # type: ignore[index, union-attr, operator]
    with pytest.raises(ConversionError) as caught:
        convert(model.eval(), X)
    assert str(caught.value) == (
        "the model itself answers NaN or infinite values, first in 1.0 (BatchNorm2d): load a sound checkpoint, or mend "
        "what it computes"
    )
    between = net(lambda m, x: m.scores((x - 5).sqrt()))
    with pytest.raises(ConversionError, match="the model itself answers NaN or infinite values: load"):
        convert(between, X)
