"""Tracing models of timm and torchvision: by torch.fx, aware of what timm keeps opaque, then by torch.export."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from converter.outputs import choose_output
from seenn.capture import CapturedGraph, Tracer, build_graph, trace, trace_exported
from seenn.capture.counted import OfImages, branches
from seenn.capture.draws import refuse_draws
from seenn.capture.failure import depends_on_values, failing
from seenn.capture.places import place
from seenn.capture.plain import Substitutes, plain_copy
from seenn.capture.state import WorkingCopy, run_apart, tensors_in
from seenn.core.graph import OpGraph
from seenn.device import is_out_of_memory
from seenn.errors import UnsupportedError, first_line


def prepared(
    model: nn.Module, example: Tensor, *, output: str | int | None = None, activations: Substitutes | None = None
) -> nn.Module:
    """A copy to trace that returns one tensor: see ``plain_copy`` and ``choose_output``.

    Args:
        model: any.
        example: images.
        output: which of the tensors that the model returns.
        activations: what stands in place of modules of these classes, which have no equivalent.

    Raises:
        UnsupportedError: it cannot be copied, computes with integers, or does not take images or return tensors.
    """
    substitutes = dict(activations or {})
    if "torchvision" in _sources(model):
        from converter.torchvision_calls import SUBSTITUTES

        substitutes |= SUBSTITUTES
    return choose_output(plain_copy(model, substitutes), example.cpu(), output)


def trace_model(model: nn.Module, example: Tensor, *, strict: bool = False) -> OpGraph:
    """``model`` as a graph over the closed op set, one node a call.

    Raises:
        UnsupportedError: it cannot be traced, or lists every call that cannot be expressed, or (``strict``) not by
            affine ops and neurons.
    """
    return capture_graph(model, example).checked(strict=strict)


def capture_graph(model: nn.Module, example: Tensor) -> CapturedGraph:
    """``model`` as a graph over the closed op set, one node a call, with the calls that cannot be expressed.

    By torch.fx, which names calls as the model's code does. Where it cannot follow the model, or stops at helpers
    that timm keeps opaque, by ``torch.export``, which sees through them.

    Raises:
        UnsupportedError: it cannot be traced.
    """
    with WorkingCopy(model) as copied:
        # Models keep what they compute from weights alone (tables of position biases): of this run, not of a trace.
        _refuse_dependent_images(copied.model, example)
        try:
            followed = build_graph(trace_fx(copied.model, example))
        except UnsupportedError as error:
            try:
                return build_graph(trace_exported(copied.model, example))
            except UnsupportedError as second:  # torch.fx stops at checks of sizes, too, which are not in the way
                first = depends_on_values(error.__cause__) or not depends_on_values(second.__cause__)
                raise (error if first else second) from None
        if not followed.refused(strict=False):
            return followed
        try:
            exported = build_graph(trace_exported(copied.model, example))
        except UnsupportedError as error:
            if isinstance(error.__cause__, OfImages):  # of which torch.fx saw that it cannot be followed, and not why
                raise
            return followed
        return min(followed, exported, key=lambda found: len(found.refused(strict=False)))


def _refuse_dependent_images(model: nn.Module, example: Tensor) -> None:
    """Raises UnsupportedError for a model that fails, or whose answer to an image is another in another call.

    In training mode it may be: images are normalised together there.
    """
    name, training = type(model).__name__, any(module.training for module in model.modules())
    given = example if training else example[:1]
    try:
        alone = run_apart(model, (given,))
    except Exception as error:
        raise failing(model, given, error) from error
    if training:
        return
    refuse_draws(model, example)
    fix = "keep the batch axis, as in x.flatten(1)"
    try:
        together = run_apart(model, (example,))
    except Exception as error:
        if is_out_of_memory(error):
            raise failing(model, example, error) from error
        raise UnsupportedError(
            f"{name} takes one image at a time, and fails on {len(example)}{place(error)} ({first_line(error)}): {fix}"
        ) from error
    for one, all_ in zip(tensors_in(alone), tensors_in(together), strict=False):
        if one.dim() and one.shape != all_[:1].shape:
            both = f"{list(one.shape)} for one image and {list(all_.shape)} for {len(example)}"
            raise UnsupportedError(f"{name} returns {both}, not one row an image: {fix}")
        if _differ(one, all_):
            raise UnsupportedError(
                f"{name} gives an image another answer in a second call, beside others{_first_other(model, example)}"
            )


def _first_other(model: nn.Module, example: Tensor) -> str:
    """Which module is the first whose answer to an image is another beside others, and what to do about it."""
    runs: list[list[tuple[str, nn.Module, Any, Any]]] = []
    with WorkingCopy(model) as copied:

        def note(path: str) -> Callable[[nn.Module, Any, Any], None]:
            return lambda module, args, returned: runs[-1].append((path, module, args, returned))

        for path, module in copied.model.named_modules():
            if path:
                module.register_forward_hook(note(path))
        for given in (example[:1], example):
            runs.append([])
            run_apart(copied.model, (given,))
    for (path, module, *values), (_, _, *others) in zip(*runs, strict=False):
        differs = [any(map(_differ, tensors_in(a), tensors_in(b))) for a, b in zip(values, others, strict=True)]
        if differs[0]:  # by what is called between modules
            break
        if differs[1] and isinstance(module, nn.modules.batchnorm._BatchNorm):
            return (
                f", first in {path} ({type(module).__name__}), which has no running statistics and takes those of the "
                "batch: train it with track_running_stats=True, or put nn.GroupNorm in its place"
            )
        if differs[1]:
            return f", first in {path} ({type(module).__name__}): {_MIXES}"
    if branches(model, example):
        return ", and calls other functions: it must not branch on how many images there are"
    return f": {_MIXES}"


_MIXES = (
    "it keeps values from call to call, or mixes the images, as .max().item() of a batch does; make it a function of "
    "each image"
)


def _differ(one: Tensor, among: Tensor) -> bool:
    """Whether what a model or a part of it gives one image is not what it gives the same one among others."""
    if not one.is_floating_point() or not one.dim() or one.shape != among[:1].shape:
        return False
    return not torch.allclose(one, among[:1], rtol=1e-4, atol=1e-5, equal_nan=True)


def trace_fx(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """``model`` as traced calls by torch.fx, before they become a graph.

    Raises:
        UnsupportedError: it cannot be traced.
    """
    sources = _sources(model)
    if "torchvision" in sources:
        import converter.torchvision_calls  # noqa: F401 - registers handlers
    if "timm" not in sources:
        return trace(model, example)
    with WorkingCopy(model) as copied:
        _split_norm_act(copied.model)
        return trace(copied.model, example, _timm_tracer())


def _sources(model: nn.Module) -> set[str]:
    return {type(module).__module__.partition(".")[0] for module in model.modules()}


def _timm_tracer() -> Tracer:
    import timm.models._features_fx  # noqa: F401 - registers the leaves
    from timm import layers

    return Tracer(tuple(layers.get_notrace_modules()), tuple(layers.get_notrace_functions()))


def _split_norm_act(model: nn.Module) -> None:
    """Puts the parts that timm's norm-and-activation leaves are made of in their place."""
    from timm.layers import BatchNormAct2d

    for name, module in list(model.named_modules()):
        if type(module) is BatchNormAct2d:
            norm = nn.BatchNorm2d(module.num_features, eps=module.eps, momentum=module.momentum)
            norm.weight, norm.bias = module.weight, module.bias
            norm.running_mean, norm.running_var = module.running_mean, module.running_var
            parts = OrderedDict(norm=norm.train(module.training), drop=module.drop, act=module.act)
            model.set_submodule(name, nn.Sequential(parts))
