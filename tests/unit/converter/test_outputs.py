"""What a model returns: functions that it ends in, several tensors, and scores that are not of classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seenn
from converter import ConvertConfig, convert, convert_module
from converter.inspect import inspect_model
from converter.load.classes import ChosenClasses
from seenn import Batch
from seenn.errors import ConversionError, UnsupportedError

X = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """Two layers, and a function of their scores at the end."""

    def __init__(self, end: Callable[[Tensor], Any], scores: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, scores))
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.body(x))


HEADS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "module": (nn.Softmax(1), "softmax"),
    "in a sequence": (nn.Sequential(nn.Dropout(), nn.LogSoftmax(dim=-1), nn.Identity()), "log_softmax"),
    "function": (lambda y: F.log_softmax(y, 1), "log_softmax"),
    "logarithm of it": (lambda y: torch.log(torch.softmax(y, 1)), "log_softmax"),
    "before a reshape": (lambda y: y.unsqueeze(-1).softmax(1).flatten(1), "softmax"),
    "of each": (lambda y: torch.sigmoid(y), "sigmoid"),
    "written out": (lambda y: y.exp() / y.exp().sum(1, keepdim=True), "softmax"),
    "written out, stable": (lambda y: _shifted(y) / _shifted(y).sum(1, keepdim=True), "softmax"),
    "of its logarithm": (lambda y: F.log_softmax(y, 1).exp(), "softmax"),
    "in percent": (lambda y: 100 * y.softmax(1), "softmax"),
    "of each, written out": (lambda y: 1 / (1 + (-y).exp()), "sigmoid"),
    "of each, by tanh": (lambda y: 0.5 + 0.5 * torch.tanh(y / 2), "sigmoid"),
    "by log Σ exp": (lambda y: y - torch.logsumexp(y, 1, keepdim=True), "log_softmax"),
    "by log Σ exp, behind it": (lambda y: y - y.logsumexp(1)[:, None], "log_softmax"),
    "by log Σ exp, as powers": (lambda y: torch.exp(y - torch.special.logsumexp(y, 1, keepdim=True)), "softmax"),
    "before a choice": (lambda y: y.softmax(1)[:, :4], "softmax"),
}


def _shifted(y: Tensor) -> Tensor:
    return (y - y.max(1, keepdim=True).values).exp()


def _both(p: Tensor) -> Tensor:
    return torch.stack([p, 1 - p], 1)


TWO: dict[str, Callable[[Tensor], Tensor]] = {
    "joined": lambda z: torch.cat([1 - z.sigmoid(), z.sigmoid()], 1),
    "of one call": lambda z: torch.cat([1 - (p := z.sigmoid()), p], 1),
    "stacked, the other way": lambda z: _both(z.sigmoid()[:, 0]),
}


@pytest.mark.parametrize("spelling", TWO)
def test_the_two_probabilities_of_one_logit_are_scores_of_two_classes(spelling: str) -> None:
    model = Model(TWO[spelling], scores=1).eval()
    found = convert_module(model, X, ConvertConfig(strict=True))
    assert (found.head, found.task) == ("softmax", "classes")
    torch.testing.assert_close(found.network.analog()(X).softmax(1), model(X))


@pytest.mark.parametrize("end", [lambda y: (2 * y).relu(), lambda y: F.normalize(y, dim=1), lambda y: y.tanh()])
def test_what_is_no_function_of_that_kind_stays(end: Callable[[Tensor], Tensor]) -> None:
    model = Model(end).eval()
    snn = convert(model, X, ConvertConfig(timesteps=2))
    with torch.no_grad():
        torch.testing.assert_close(snn.network.analog()(X), model(X))


def test_probabilities_that_cannot_be_taken_back_are_said(caplog: pytest.LogCaptureFixture) -> None:
    def mean(y: Tensor) -> Tensor:
        return (y.softmax(1) + (2 * y).softmax(1)) / 2

    assert convert_module(Model(mean).eval(), X).head is None
    assert "the model returns probabilities, and no softmax at its end could be left out" in caplog.text


@pytest.mark.parametrize("spelling", HEADS)
def test_the_function_that_a_model_ends_in_is_left_out_and_named(
    spelling: str, caplog: pytest.LogCaptureFixture
) -> None:
    end, name = HEADS[spelling]
    model = Model(end).eval()
    found = convert_module(model, X, ConvertConfig(strict=True))
    assert found.head == name
    assert f"the final {name} is left out: the network returns logits" in caplog.text
    torch.testing.assert_close(found.network.analog()(X), model.body(X))
    assert inspect_model(model, (12,), strict=True).notes == (
        f"the final {name} is left out: the network returns logits",
    )


@pytest.mark.parametrize(("end", "name"), [(nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid")])
def test_it_is_left_out_before_a_choice_of_classes_too(end: nn.Module, name: str) -> None:
    model = Model(end).eval()
    found = convert_module(ChosenClasses(model, (3, 1)).eval(), X)
    assert found.head == name
    torch.testing.assert_close(found.network.analog()(X), model.body(X)[:, [3, 1]])


def test_a_softmax_that_others_read_or_that_is_of_something_else_stays() -> None:
    inside = Model(nn.Sequential(nn.Softmax(1), nn.Linear(4, 3))).eval()
    assert convert_module(inside, X).head is None
    elsewhere = Model(lambda y: y.view(-1, 2, 2).softmax(1).flatten(1)).eval()
    assert convert_module(elsewhere, X).head is None


@pytest.mark.parametrize("end", [nn.Sigmoid(), lambda y: torch.sigmoid(y).squeeze(1), lambda y: y.sigmoid().view(-1)])
def test_one_logit_becomes_the_scores_of_two_classes(end: Any) -> None:
    model = Model(end, 1).eval()
    snn = convert(model, Batch(X, (model.body(X)[:, 0] > 0).long()))
    assert snn.task == "binary"
    assert snn.manifest["outputs"]["head"] == "sigmoid"
    torch.testing.assert_close(snn.network.analog()(X).softmax(1)[:, 1], model.body(X)[:, 0].sigmoid())
    assert snn.manifest["check"]["ann_accuracy"] == 1.0
    assert snn.predict(X[:8], policy=seenn.ConfidenceExit(threshold=0.6)).labels.max() <= 1


def _of_two(y: Tensor) -> Tensor:
    """The scores whose softmax has the probability of the second class that y has."""
    return torch.cat([y, 3 * y + 1], 1)


@pytest.mark.parametrize(
    "end",
    [lambda y: 1 - y.sigmoid(), lambda y: _of_two(y).softmax(1)[:, 1], lambda y: 1 - _of_two(y).softmax(1)[:, :1]],
)
def test_a_probability_of_yes_is_taken_back_to_its_logit(end: Any) -> None:
    model = Model(end, 1).eval()
    found = convert_module(model, X, ConvertConfig(strict=True))
    assert (found.head, found.task) == ("sigmoid", "binary")
    torch.testing.assert_close(found.network.analog()(X).softmax(1)[:, 1], model(X).flatten())


@pytest.mark.parametrize("task", ["binary", "labels"])
def test_probabilities_that_are_taken_for_logits_are_said(task: str, caplog: pytest.LogCaptureFixture) -> None:
    convert_module(Model(nn.Hardsigmoid(), 1 if task == "binary" else 3).eval(), X, task=task)
    assert "numbers from 0 to 1, as probabilities are, and they are taken for logits" in caplog.text


@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.Softmax(1), nn.Tanh()])
def test_quantities_are_what_the_model_returns(end: nn.Module) -> None:
    model = Model(end).eval()
    found = convert_module(model, X, task="values")
    assert found.head is None
    torch.testing.assert_close(found.network.analog()(X), model(X))


def test_a_softmax_is_not_of_several_labels() -> None:
    with pytest.raises(ConversionError, match="ends in a softmax, which is for one class of several: leave --task out"):
        convert_module(Model(nn.Softmax(1)).eval(), X, task="labels")


def test_labels_and_quantities_are_checked_as_such_and_know_no_exits() -> None:
    labels = convert(Model(nn.Sigmoid()).eval(), X)
    assert labels.task == "labels"
    assert labels.manifest["check"]["agreement"] > 0.9
    assert labels.manifest["check"]["output_error"] < 0.2
    values = convert(model := Model(nn.Identity(), 1).eval(), X, task="values")
    assert values.manifest["check"]["agreement"] is None
    given, wanted = values.predict(X).logits_sum / values.timesteps, model(X).detach()
    assert float((given - wanted).norm() / wanted.norm()) < 0.2
    for snn in (labels, values):
        with pytest.raises(
            UnsupportedError, match=f"ConfidenceExit compares the scores of classes, .* {snn.task}: use"
        ):
            snn.predict(X, policy=seenn.ConfidenceExit(threshold=0.9))


def test_what_scores_say_is_asked_for_where_it_does_not_follow() -> None:
    with pytest.raises(ConversionError, match="one number an image: say whether it is a logit for yes or no"):
        convert_module(Model(nn.Identity(), 1).eval(), X)
    with pytest.raises(ConversionError, match="returns 4 scores an image, which fits no binary task: one logit does"):
        convert_module(Model(nn.Identity()).eval(), X, task="binary")
    with pytest.raises(ValueError, match=r"unknown task 'class'.* Did you mean 'classes'"):
        convert_module(Model(nn.Identity()).eval(), X, task="class")


class Both(NamedTuple):
    features: Tensor
    logits: Tensor


@dataclass
class Result:
    loss: Tensor | None
    logits: Tensor
    features: Tensor


RETURNED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a tuple": (lambda y: (y * 2, y), "1"),
    "a dictionary": (lambda y: {"features": y * 2, "logits": y}, "logits"),
    "one and none": (lambda y: (y, None), ""),
    "one by name": (lambda y: {"out": y}, ""),
    "nested": (lambda y: ((y, y * 2), {"features": y * 3}), "0.0"),
    "nested by name": (lambda y: {"heads": {"main": y, "aux": y * 2}}, "heads.main"),
    "a dictionary by place": (lambda y: {"logits": y, "features": y * 2}, "0"),
    "the last of a tuple": (lambda y: (y * 2, y), "-1"),
    "a named tuple by place": (lambda y: Both(y * 2, y), "1"),
    "a named tuple by name": (lambda y: Both(y * 2, y), "logits"),
    "a dataclass by place": (lambda y: Result(None, y, y * 2), "1"),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_of_several_tensors_one_is_chosen_by_name_or_place(kind: str) -> None:
    end, output = RETURNED[kind]
    model = Model(end).eval()
    found = convert_module(model, X, output=output or None)
    assert found.network.sites == ("body.1",)
    torch.testing.assert_close(found.network.analog()(X), model.body(X))


def test_an_output_may_be_named_by_its_number() -> None:
    snn = convert(Model(lambda y: (y, y * 2)).eval(), X, output=0)
    assert snn.manifest["outputs"]["name"] == "0"


def test_outputs_are_listed_where_none_or_a_wrong_one_is_named() -> None:
    model = Model(RETURNED["a dictionary"][0]).eval()
    with pytest.raises(
        UnsupportedError, match=r"returns several tensors: features \[1, 4\], logits \[1, 4\]; name one"
    ):
        convert_module(model, X)
    with pytest.raises(UnsupportedError, match=r"returns features .*, and no 'logit'. Did you mean 'logits'"):
        inspect_model(model, (12,), output="logit")
    for place in ("2", "-3"):
        with pytest.raises(UnsupportedError, match=rf"and no '{place}'\. Choose one of features, logits"):
            convert_module(model, X, output=place)
    nested = Model(lambda y: ((y, y), y)).eval()
    with pytest.raises(UnsupportedError, match=r"several tensors: 0.0 \[1, 4\], 0.1 \[1, 4\], 1 \[1, 4\]; name one"):
        convert_module(nested, X)
    with pytest.raises(UnsupportedError, match="returns str, and no tensor in it"):
        convert_module(Model(lambda y: "scores").eval(), X)


CHOSEN: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "argmax": (lambda y: y.argmax(1), "returns whole numbers, as argmax, topk or a comparison give, and no scores"),
    "places of topk": (lambda y: y.topk(2).indices, "returns whole numbers"),
    "argsort": (lambda y: y.argsort(1), "returns whole numbers"),
    "a comparison": (lambda y: y > 0, "returns yes or no"),
    "topk": (lambda y: y.softmax(1).topk(2), r"returns what topk does, 0 \[1, 2\], 1 \[1, 2\]"),
    "max": (lambda y: y.max(1), "returns what max does"),
    "sort": (lambda y: y.sort(1), "returns what sort does"),
    "by name": (lambda y: {"label": y.argmax(1), "score": y.amax(1)}, "returns values with their places"),
    "the largest": (lambda y: y.max(1).values, "returns the largest of its scores alone"),
}


@pytest.mark.parametrize("kind", CHOSEN)
def test_a_choice_from_the_scores_is_no_output_and_the_scores_are_asked_for(kind: str) -> None:
    end, reason = CHOSEN[kind]
    with pytest.raises((UnsupportedError, ConversionError), match=f"{reason}.*: let it return the scores") as refused:
        convert_module(Model(end).eval(), X)
    assert "\n" not in str(refused.value)


def test_labels_beside_scores_are_none_of_the_outputs(caplog: pytest.LogCaptureFixture) -> None:
    model = Model(lambda y: (y.argmax(1), y)).eval()
    found = convert_module(model, X)
    torch.testing.assert_close(found.network.analog()(X), model(X)[1])
    assert "of what the model returns, 0 [1], 1 [1, 4], 1 is taken" in caplog.text
    with pytest.raises(UnsupportedError, match="returns whole numbers as 0, and no scores: let it return"):
        convert_module(model, X, output=0)
