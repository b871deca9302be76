"""What of a model's results is converted, and what it says: classes, yes or no, labels, or quantities."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from converter.precision import computing_in
from seenn.capture.failure import failing, wrapped
from seenn.capture.head import followed, two_classes
from seenn.capture.state import WorkingCopy, run_apart
from seenn.capture.unreached import refuse_unreached
from seenn.core.graph import OpGraph, prune
from seenn.core.ops import Largest, Reshape
from seenn.errors import ConversionError, UnsupportedError, did_you_mean

log = logging.getLogger(__name__)

#: One of several classes; one logit above 0 for yes; a logit for each of several labels; numbers.
Task = Literal["classes", "binary", "labels", "values"]
TASKS: tuple[str, ...] = get_args(Task)


def choose_output(model: nn.Module, example: Tensor, output: str | int | None) -> nn.Module:
    """The model, made to return one tensor: of several, the one called ``output``; in place.

    Args:
        model: a copy.
        example: images.
        output: a key, a field or a position in what the model returns, from the end where it is negative; with dots in
            what is nested: ``"0.1"``.

    Raises:
        UnsupportedError: the model takes more than images, fails, or calls layers that ``eval()`` does not reach; or
            ``output`` names nothing, or is needed.
    """
    name = type(model).__name__
    _refuse_inputs(model)
    weight = next((p for p in model.parameters() if p.is_floating_point()), example)
    given = example[:1].to(weight.dtype)
    with computing_in(weight.dtype):
        refuse_unreached(model, given)
    try:
        with WorkingCopy(model) as copied, computing_in(weight.dtype):
            returned = run_apart(copied.model, (given,))
    except Exception as error:
        raise failing(model, given, error) from error
    output = None if output is None else str(output)
    if isinstance(returned, Tensor):
        if not returned.is_floating_point() and not returned.is_complex():
            raise UnsupportedError(
                f"{name} returns {_whole(returned)}, as argmax, topk or a comparison give, and no scores: {_SCORES}"
            )
        if output not in (None, "0", "-1"):
            raise UnsupportedError(f"{name} returns one tensor, and nothing called {output!r}: leave the output out")
        return model
    found = _tensors(returned)
    listed = ", ".join(f"{key} {list(value.shape)}" for key, (_, value) in found.items())
    if not found:
        raise UnsupportedError(f"{name} returns {type(returned).__name__}, and no tensor in it: let it return one")
    ordered = type(returned).__module__ == "torch.return_types"  # of topk, sort, max and their like
    if output is None and (ordered or _are_places(found)):
        how = f"what {type(returned).__name__} does" if ordered else "values with their places"
        raise UnsupportedError(f"{name} returns {how}, {listed}: {_SCORES}")
    scores = [key for key, (_, value) in found.items() if value.is_floating_point()]
    if output is None and len(found) > 1 and len(scores) == 1:
        log.warning("of what the model returns, %s, %s is taken", listed, scores[0])
        output = scores[0]
    if output is None and len(found) > 1:
        raise UnsupportedError(f"{name} returns several tensors: {listed}; name one (output=, --output-name)")
    chosen = next(iter(found)) if output is None else _named(output, list(_parts(returned)))
    if chosen not in found:
        raise UnsupportedError(f"{name} returns {listed}, and no {chosen!r}.{did_you_mean(chosen, found)}")
    path, value = found[chosen]
    if not value.is_floating_point():
        raise UnsupportedError(f"{name} returns {_whole(value)} as {chosen}, and no scores: {_SCORES}")

    def pick(module: nn.Module, args: Any, returned: Any) -> Any:
        for part in path:
            returned = _parts(returned)[part]
        return returned

    model.register_forward_hook(pick)
    return model


_SCORES = "let it return the scores that these are chosen from, one for each class [B, classes]"


def _whole(value: Tensor) -> str:
    return "yes or no" if value.dtype == torch.bool else "whole numbers"


def _are_places(found: Mapping[str, tuple[tuple[str, ...], Tensor]]) -> bool:
    """Whether values come with whole numbers of the same shape, one each, as the best scores with their places."""
    values = [value for _, value in found.values()]
    real = [value.shape for value in values if value.is_floating_point()]
    return len(real) <= 1 and len(real) < len(values) and all(value.shape in real or not real for value in values)


def _refuse_inputs(model: nn.Module) -> None:
    """Raises UnsupportedError for a model whose forward does not take one batch by position."""
    name = type(model).__name__
    parameters = list(inspect.signature(model.forward).parameters.values())
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if len(needed) > 1:
        raise UnsupportedError(
            f"{name} takes several inputs ({', '.join(p.name for p in needed)}): wrap it in a module whose forward "
            "takes the images alone"
        )
    if (needed and needed[0].name in by_name) or not any(
        p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters
    ):
        key = (*(p.name for p in needed), *by_name, "NAME")[0]
        takes = f"but by keyword ({', '.join(by_name) or 'any'})" if parameters else "and none by keyword"
        how = wrapped(f"{key}=x") if parameters else "let its forward take images"
        raise UnsupportedError(f"{name} takes no input by position, {takes}; change that: {how}")


def _parts(returned: Any) -> dict[str, Any]:
    """What a model returns, by key, field or position."""
    if isinstance(returned, Mapping):
        return {str(key): value for key, value in returned.items()}
    if hasattr(returned, "_fields"):
        return returned._asdict()  # type: ignore[no-any-return]
    if isinstance(returned, tuple | list):
        return {str(place): value for place, value in enumerate(returned)}
    if dataclasses.is_dataclass(returned):
        return {field.name: getattr(returned, field.name) for field in dataclasses.fields(returned)}
    return {}


def _named(output: str, keys: list[str]) -> str:
    """The key that is meant: by itself, or by its place, also from the end."""
    try:
        return output if output in keys else keys[int(output)]
    except (ValueError, IndexError):
        return output


def _tensors(returned: Any, above: tuple[str, ...] = ()) -> dict[str, tuple[tuple[str, ...], Tensor]]:
    """The tensors in what a model returns, by name: where they lie, and what they are."""
    found: dict[str, tuple[tuple[str, ...], Tensor]] = {}
    for key, value in _parts(returned).items():
        path = (*above, key)
        found |= {".".join(path): (path, value)} if isinstance(value, Tensor) else _tensors(value, path)
    return found


def with_scores(graph: OpGraph, input_shape: Sequence[int], task: str | None, head: str | None) -> tuple[OpGraph, str]:
    """The graph with one score a class, label or quantity, ``[B, K]``, and the task.

    A logit z that says yes or no becomes the scores −z/2 and z/2 of two classes, whose softmax is its sigmoid.

    Args:
        graph: ends in logits.
        input_shape: of one image.
        task: one of ``TASKS``; None follows from ``head`` and the number of scores.
        head: the function that was taken off the model's end.

    Raises:
        ConversionError: scores that fit no task, or not the one given; or the task does not follow from them.
        ValueError: there is no such task.
    """
    if task not in (None, *TASKS):
        raise ValueError(f"unknown task {task!r}.{did_you_mean(str(task), TASKS)}")
    shape = graph.shapes(input_shape)[graph.output]
    if refusal := refuse_scores(shape):
        raise ConversionError(f"the model {refusal}")
    if len(shape) > 1:
        shape = (math.prod(shape),)
        graph = followed(graph, "scores", Reshape(shape=shape))
    while not shape and isinstance(graph[graph.output].op, Reshape):
        before = graph[graph.output].inputs[0]
        graph = OpGraph(prune(graph, before), before)
        shape = graph.shapes(input_shape)[before]
    if task is None and math.prod(shape) == 1 and isinstance(graph[graph.output].op, Largest):
        raise ConversionError(f"the model returns the largest of its scores alone: {_SCORES}")
    if not shape:
        graph = followed(graph, "scores", Reshape(shape=(1,)))
    scores = shape[0] if shape else 1
    sigmoid = head in ("sigmoid", "logsigmoid")
    if task is None and scores == 1 and not sigmoid:
        raise ConversionError(
            "the model returns one number an image: say whether it is a logit for yes or no, or a quantity "
            "(task='binary' or 'values', --task)"
        )
    task = task or ("binary" if scores == 1 else "labels" if sigmoid else "classes")
    if (task == "binary") != (scores == 1) and task in ("binary", "classes"):
        raise ConversionError(f"the model returns {scores} scores an image, which fits no {task} task: {_FITS[task]}")
    if task == "labels" and head in ("softmax", "log_softmax"):
        raise ConversionError(
            f"the model ends in a {head}, which is for one class of several: leave --task out, or let it return logits"
        )
    return (two_classes(graph) if task == "binary" else graph), task


def refuse_scores(shape: Sequence[int]) -> str:
    """Why scores of that shape are none of classes; of more axes than one, all but one may have size 1."""
    if len(shape) < 2 or math.prod(shape) == max(shape):
        return ""
    return f"returns [{', '.join(map(str, ('B', *shape)))}]: return one score per class, [B, K], and cut off the rest"


_FITS = {
    "binary": "one logit does; for several classes leave --task out",
    "classes": "two or more do; for one logit give --task binary",
}
