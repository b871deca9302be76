"""Models that fail as they are run or traced: where, in whose words, and advice that fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import converter.pipeline
from converter import convert
from seenn.capture import capture
from seenn.errors import SeennError, UnsupportedError


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
