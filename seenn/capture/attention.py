"""Products of two activations: matrix products, attention, contractions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seenn.capture.contraction import alike
from seenn.capture.handlers import IMAGE, Call, Made, Refused, Result, handles
from seenn.capture.probed import SHUT
from seenn.core.ops import (
    Add,
    Constant,
    ElementwiseAffine,
    LayerNorm,
    Linear,
    MatMul,
    Permute,
    Pointwise,
    ReLU,
    Reshape,
    Scale,
    Softmax,
)


@handles("matmul", "bmm", "mm", any_layout=True)
def matmul(call: Call) -> Result:
    return _product(call, call.args[0], call.argument(1, "other", call.kwargs.get("mat2")))


@handles("addmm", "baddbmm", any_layout=True)
def product_and_sum(call: Call) -> Result:
    """``beta · input + alpha · a @ b``."""
    start, (a, b) = call.args[0], (call.argument(i, f"mat{i}", call.kwargs.get(f"batch{i}")) for i in (1, 2))
    alpha, beta = float(call.argument(4, "alpha", 1)), float(call.argument(3, "beta", 1))
    made = _product(call, a, b)
    made = made if alpha == 1 else Made(Scale(factor=alpha), (made,))
    if (known := call.known(start)) is not None:
        return made if beta == 0 else Made(ElementwiseAffine(bias=call.meeting(beta * known)), (made,))
    call.shared(start, call.node)
    return Made(Add(), (made, start if beta == 1 else Made(Scale(factor=beta), (start,))))


def _product(call: Call, a: Any, b: Any) -> Made:
    weight = alike(call, b)
    if weight is not None and weight.dim() < 3:
        _keep_apart(call, a, axes=1)
        made = Made(Linear(weight.mT if weight.dim() == 2 else weight.unsqueeze(0)), (a,))
        return made if weight.dim() == 2 else Made(Reshape(shape=call.image(call.node)), (made,))
    if (weight := alike(call, a)) is not None and weight.dim() == 2:  # (b^T a^T)^T
        if call.layout(b).axis == len(call.shape(b)) - 1:  # W @ x with images in columns
            if call.layout(b).fold > 1:
                raise Refused("the batch is on the last axis, and more with it", "write F.linear(x, W) on [B, ..., in]")
            return Made(Linear(weight), (b,))
        _keep_apart(call, b, axes=2)
        rank = len(call.image(b)) + 1
        swapped = Permute(axes=(*range(rank - 2), rank - 1, rank - 2))
        return Made(swapped, (Made(Linear(weight), (Made(swapped, (b,)),)),))
    if call.known(a) is None and call.known(b) is None:
        call.shared(a, b)
    return Made(MatMul(), (_factor(call, a, b), _factor(call, b, a)))


def _factor(call: Call, value: Any, other: Any) -> Any:
    """A factor of a product; a constant as it meets the other one, image by image."""
    if alike(call, value) is None:
        _keep_apart(call, value, axes=2)
        return value
    rank, constant = len(call.image(other)), call.layout(other).constant(call.constant(value), len(call.shape(other)))
    if constant is None:
        raise Refused("multiplies each image by a constant of its own", "give all images the same")
    return Made(Constant(constant.reshape(*[1] * (rank - constant.dim()), *constant.shape)), (IMAGE,))


def _keep_apart(call: Call, value: Any, *, axes: int) -> None:
    """Refuses a product over the axis of images."""
    if call.layout(value).axis >= len(call.shape(value)) - axes:
        raise Refused(
            "it multiplies across the batch",
            "keep images independent, as F.linear(x, W) with x [B, ..., features] does",
        )


@handles("scaled_dot_product_attention", any_layout=True)
def attention(call: Call) -> Result:
    """``softmax(q kᵀ · scale + mask) v``."""
    q, k, v = call.args[0], call.argument(1, "key"), call.argument(2, "value")
    call.shared(q, k, v)
    if call.argument(4, "dropout_p", 0.0) or call.kwargs.get("enable_gqa"):
        raise Refused("attention with dropout or grouped queries", "use plain attention, in eval mode")
    for value in (q, k, v):
        _keep_apart(call, value, axes=2)
    mask = call.argument(3, "attn_mask")
    known = call.known(mask)
    if call.argument(5, "is_causal", False):
        known = torch.ones(call.shape(q)[-2], call.shape(k)[-2], dtype=torch.bool).tril()
    if known is not None:
        mask = _scores(known, call.layout().constant(known, len(call.shape())), call.node.meta["dtype"])
    elif mask is not None:
        call.shared(q, mask)
    scale = call.kwargs.get("scale")
    width = call.shape()[-1]
    return attend(q, k, v, axes=len(call.image()) + 1, scale=width**-0.5 if scale is None else scale, bias=mask)


def _scores(mask: Tensor, met: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What a mask adds to scores; what it shuts out is so far below all others that softmax makes it 0."""
    if met is None or not (met.dtype == torch.bool or met.is_floating_point()):
        raise Refused(
            f"its mask has shape {list(mask.shape)} and type {mask.dtype}", "give the same mask to all images"
        )
    open_ = met if met.dtype == torch.bool else met > -torch.inf
    if not bool(open_.any(-1).all()):
        raise Refused("its mask shuts out everything in a row", "leave at least one entry open")
    return torch.where(open_, 0.0 if met.dtype == torch.bool else met, SHUT).to(dtype)


def attend(q: Any, k: Any, v: Any, *, axes: int, scale: float, bias: Any) -> Made:
    """The attention of queries ``[B, ..., n, d]`` to keys ``[B, ..., m, d]`` and values; ``axes`` counts them all.

    ``bias`` is added to the scores: a constant, a value of the model, or None.
    """
    order = (*range(axes - 2), axes - 1, axes - 2)
    scores = Made(MatMul(), (Made(Scale(factor=float(scale)), (q,)), Made(Permute(axes=order), (k,))))
    if isinstance(bias, Tensor):
        scores = Made(ElementwiseAffine(bias=bias), (scores,))
    elif bias is not None:
        scores = Made(Add(), (scores, bias))
    return Made(MatMul(), (Made(Softmax(axis=axes - 1), (scores,)), v))


@handles(nn.MultiheadAttention, any_layout=True)
def multihead_attention(call: Call) -> Result:
    """Self- or cross-attention in either order of its axes; the averaged weights are not offered."""
    m = call.module
    assert isinstance(m, nn.MultiheadAttention)
    q, k, v = call.args[0], call.argument(1, "key"), call.argument(2, "value")
    if call.argument(3, "key_padding_mask") is not None or call.argument(5, "attn_mask") is not None:
        raise Refused("attention with a mask", "leave it out: attend to the whole image")
    return _heads(m, (q, k, v), [call.image(value)[0] for value in (q, k, v)]), None


def _heads(m: nn.MultiheadAttention, read: Sequence[Any], tokens: Sequence[int]) -> Made:
    """The attention of queries, keys and values of so many ``tokens`` an image."""
    if m.bias_k is not None or m.add_zero_attn or (m.training and m.dropout > 0):
        raise Refused("attention with extra keys or dropout", "use plain attention, in eval mode")
    width, heads = m.embed_dim, m.num_heads
    joint: Tensor | None = m.in_proj_weight  # None where keys or values have a width of their own
    bias: Tensor | None = m.in_proj_bias
    weights = (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight) if joint is None else joint.chunk(3)
    biases = (None, None, None) if bias is None else bias.chunk(3)

    def project(x: Any, count: int, weight: Tensor, bias: Tensor | None) -> Made:
        split = Made(Reshape(shape=(count, heads, width // heads)), (Made(Linear(weight, bias), (x,)),))
        return Made(Permute(axes=(0, 2, 1, 3)), (split,))

    parts = [project(*each) for each in zip(read, tokens, weights, biases, strict=True)]
    attended = attend(*parts, axes=4, scale=(width // heads) ** -0.5, bias=None)
    merged = Made(Reshape(shape=(tokens[0], width)), (Made(Permute(axes=(0, 2, 1, 3)), (attended,)),))
    return Made(Linear(m.out_proj.weight, m.out_proj.bias), (merged,))


@handles(nn.TransformerEncoderLayer, nn.TransformerEncoder, any_layout=True)
def encoder(call: Call) -> Result:
    """Self-attention and two linear layers, each added to its input and normalised; or several in a row."""
    m, tokens = call.module, call.image()[0]
    if any(value is not None and value is not False for value in (*call.args[1:], *call.kwargs.values())):
        raise Refused("attention with a mask", "leave it out: attend to the whole image")
    value: Any = call.args[0]
    for layer in m.layers if isinstance(m, nn.TransformerEncoder) else [m]:
        value = _encoded(layer, value, tokens)
    return _normalised(m.norm, value) if isinstance(m, nn.TransformerEncoder) and m.norm is not None else value


def _encoded(m: Any, x: Any, tokens: int) -> Made:
    own = m.activation
    activation = getattr(own, "__name__", type(own).__name__).lower()
    if activation not in ("relu", "gelu") or (m.training and m.dropout.p > 0):
        raise Refused(f"an encoder with dropout, or {activation}", "use ReLU or GELU, in eval mode")
    if activation == "gelu" and getattr(own, "approximate", "none") != "none":
        activation = "gelu_tanh"

    def attended(x: Any) -> Made:
        return _heads(m.self_attn, (x, x, x), (tokens, tokens, tokens))

    def mixed(x: Any) -> Made:
        inner = Made(Linear(m.linear1.weight, m.linear1.bias), (x,))
        active = Made(ReLU() if activation == "relu" else Pointwise(function=activation), (inner,))
        return Made(Linear(m.linear2.weight, m.linear2.bias), (active,))

    for block, norm in ((attended, m.norm1), (mixed, m.norm2)):
        if m.norm_first:
            x = Made(Add(), (x, block(_normalised(norm, x))))
        else:
            x = _normalised(norm, Made(Add(), (x, block(x))))
    return x  # type: ignore[no-any-return]


def _normalised(norm: Any, x: Any) -> Made:
    if not isinstance(norm, nn.LayerNorm):
        raise Refused(f"an encoder with {type(norm).__name__}", "use LayerNorm")
    made = Made(LayerNorm(axes=(2,), eps=norm.eps), (x,))
    return made if norm.weight is None else Made(ElementwiseAffine(norm.weight, norm.bias), (made,))
