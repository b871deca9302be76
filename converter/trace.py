"""Tracing models of timm and torchvision: by torch.fx, aware of what timm keeps opaque, then by torch.export."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, fx, nn

from seenn.capture import CapturedGraph, Tracer, build_graph, trace, trace_exported
from seenn.capture.state import WorkingCopy, run_apart
from seenn.capture.trace import untraceable
from seenn.core.graph import OpGraph
from seenn.errors import UnsupportedError


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
        try:
            # Models keep what they compute from weights alone (tables of position biases): of this run, not of a trace.
            run_apart(copied.model, (example[:1],))
        except Exception as error:
            raise untraceable(model, example, error) from error
        try:
            followed = build_graph(trace_fx(copied.model, example))
        except UnsupportedError as error:
            try:
                return build_graph(trace_exported(copied.model, example))
            except UnsupportedError:
                raise error from None  # fx names the line of the model that stands in the way
        if not followed.refused(strict=False):
            return followed
        try:
            exported = build_graph(trace_exported(copied.model, example))
        except UnsupportedError:
            return followed
        return min(followed, exported, key=lambda found: len(found.refused(strict=False)))


def trace_fx(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """``model`` as traced calls by torch.fx, before they become a graph.

    Raises:
        UnsupportedError: it cannot be traced.
    """
    sources = {type(module).__module__.partition(".")[0] for module in model.modules()}
    if "torchvision" in sources:
        import converter.torchvision_calls  # noqa: F401 - registers handlers
    if "timm" not in sources:
        return trace(model, example)
    with WorkingCopy(model) as copied:
        _split_norm_act(copied.model)
        return trace(copied.model, example, _timm_tracer())


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
