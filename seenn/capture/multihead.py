"""``nn.MultiheadAttention`` in calls that keep images apart, for traces that see into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def heads_after_images() -> Iterator[None]:
    """Inside, ``nn.MultiheadAttention`` computes on ``[B, heads, tokens, width]``.

    Its own code computes on ``[tokens, B·heads, width]``, where the images cannot be told apart.
    """
    own = nn.MultiheadAttention.forward

    def forward(
        self: nn.MultiheadAttention,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        odd = query.dim() != 3 or key_padding_mask is not None or (attn_mask is not None and attn_mask.dim() != 2)
        more = self.bias_k is not None or self.add_zero_attn or (self.training and self.dropout > 0)
        if odd or more or (is_causal and attn_mask is None):
            rest: Any = (key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
            return own(self, query, key, value, *rest)
        made, weights = _attend(
            self, [x if self.batch_first else x.transpose(0, 1) for x in (query, key, value)], attn_mask
        )
        if not need_weights:
            shown = None
        else:
            shown = weights.mean(1) if average_attn_weights else weights
        return made if self.batch_first else made.transpose(0, 1), shown

    with patch.object(nn.MultiheadAttention, "forward", forward):
        yield


def _attend(m: nn.MultiheadAttention, read: list[Tensor], mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of queries, keys and values with the images first; and each head's weights, ``[B, heads, tokens, tokens]``."""
    joint: Tensor | None = m.in_proj_weight  # None where keys or values have a width of their own
    bias: Tensor | None = m.in_proj_bias
    weights = (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight) if joint is None else joint.chunk(3)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    q, k, v = (
        functional.linear(x, weight, bias).reshape(*x.shape[:2], m.num_heads, m.head_dim).transpose(1, 2)
        for x, weight, bias in zip(read, weights, biases, strict=True)
    )
    scores = (q * m.head_dim**-0.5) @ k.transpose(-2, -1)
    if mask is not None and mask.dtype == torch.bool:  # true where nothing is read
        scores = scores.masked_fill(mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask
    shares = scores.softmax(-1)
    return functional.linear((shares @ v).transpose(1, 2).flatten(2), m.out_proj.weight, m.out_proj.bias), shares
