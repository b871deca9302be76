"""The attention of several heads as torch has it, in calls that keep the images apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from seenn.capture.probed import SHUT


def attend_by_image(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """As ``functional.multi_head_attention_forward``, on values ``[B, heads, tokens, width]`` inside.

    torch computes on ``[tokens, B·heads, width]``, where images cannot be told from heads. Queries, keys and values
    come as torch has them, ``[tokens, B, E]``. ``NotImplemented`` for one image without its axis, keys beside those of
    the image, dropout, and masks that differ between images.
    """
    own = (bias_k, key_padding_mask, static_k, static_v)
    if query.dim() != 3 or any(x is not None for x in own) or add_zero_attn or (training and dropout_p > 0):
        return NotImplemented
    if (attn_mask is None and is_causal) or (attn_mask is not None and attn_mask.dim() != 2):
        return NotImplemented
    joint = None if use_separate_proj_weight else in_proj_weight
    weights = (q_proj_weight, k_proj_weight, v_proj_weight) if joint is None else joint.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)

    def heads(x: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
        x = functional.linear(x.transpose(0, 1), weight, bias)
        return x.reshape(*x.shape[:2], num_heads, -1).transpose(1, 2)

    q, k, v = map(heads, (query, key, value), weights, biases)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if attn_mask is not None:  # booleans are true where nothing is read
        boolean = attn_mask.dtype == torch.bool
        scores = scores + (torch.where(attn_mask, SHUT, 0.0) if boolean else attn_mask.clamp(min=SHUT))
    shares = scores.softmax(-1)
    made = functional.linear((shares @ v).transpose(1, 2).flatten(2), out_proj_weight, out_proj_bias).transpose(0, 1)
    if not need_weights:
        return made, None
    return made, shares.mean(1) if average_attn_weights else shares
