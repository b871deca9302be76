"""Random weights of unit gain, for trying architectures without trained ones, and how near the SNN then comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seenn.core.network import SpikingNetwork, evaluating

_SMALL = 1e-2  # initial values that switch a branch off until training raises them: zero gains, layer scales

_TINY = 1e-6


def lsuv_initialise(model: nn.Module, images: Tensor, *, seed: int = 0) -> nn.Module:
    """Layer-sequential unit-variance initialisation of a model, in place: activations neither die out nor explode.

    Layer by layer, in the order of one forward pass, as in Mishkin and Matas (ICLR 2016): a convolution's or
    linear layer's weight, and the variance of batch normalisation, become such that the root mean square of the
    output is 1. Gains that start near zero are drawn from [0.5, 1.5], biases from N(0, 0.1²), so that no branch is
    silent. No mean is removed: a random network that centres every layer amplifies small differences some 1.5 times
    a layer (π / (π − 1) behind a ReLU), and tells more about its own chaos than about whoever computes it.

    Args:
        images: what the statistics are of, ``[B, C, H, W]``.

    Returns:
        The model, in evaluation mode.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=random))
            elif float(parameter.abs().max()) <= _SMALL:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=random))
    seen: set[nn.Module] = set()

    def rescale(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if module in seen:
            return None
        seen.add(module)
        scale = float(output.square().mean().sqrt())
        if not scale > 0:
            return None
        gain = getattr(module, "gain", None)  # of standardised weights, which have no scale of their own
        (module.weight if gain is None else gain).data.div_(scale)  # type: ignore[operator]
        bias = module.bias
        if isinstance(bias, Tensor):
            bias.data.div_(scale)
        return output / scale

    def renormalise(module: nn.Module, args: tuple[Any, ...]) -> None:
        if module not in seen and isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            seen.add(module)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.zero_()
            module.running_var.fill_(float(args[0].square().mean().clamp_min(_TINY)))

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(rescale))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            hooks.append(module.register_forward_pre_hook(renormalise))
    try:
        with torch.no_grad(), evaluating(model):
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return model.eval()


def convergence(network: SpikingNetwork, images: Tensor, timesteps: Sequence[int] = (8, 32, 128)) -> tuple[float, ...]:
    """‖mean logits after T steps − the ANN's‖ / ‖the ANN's‖ for each T: the root mean square over the images.

    Membranes hold a bounded charge, so that the error of a network that is right falls as 1/T.
    """
    errors: dict[int, float] = {}
    with torch.no_grad(), evaluating(network):
        expected, current, state = network.analog()(images), network.encode(images), None
        scale, total = expected.norm(dim=-1), torch.zeros_like(expected)
        for t in range(1, max(timesteps) + 1):  # step by step: all at once would hold T times as much
            output, state = network.advance(current, state, in_place=True)
            total += output
            if t in timesteps:
                errors[t] = float(((total / t - expected).norm(dim=-1) / scale).square().mean().sqrt())
    return tuple(errors[t] for t in timesteps)
