"""Attention as all architectures here compute it, and sinusoidal positions."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from modeling.dropout import Dropout, has_noise
from modeling.dropped_attention import dropped_attention


class XavierLinear(nn.Linear):
    """Linear layer that starts with Xavier-uniform weights and zero biases, as attention layers do."""

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_mask: torch.Tensor | None = None,
    heads: int = 1,
    dropout: float = 0.0,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    softmax(Q K^T / sqrt(d / heads) + bias) V, head by head, over the keys that the mask leaves. A query without any key
    gets zeros.

    Args:
        query (`torch.Tensor` of shape `(B, N, d)`), key, value (of shape `(B, M, d)`): M is at least 1.
        key_mask (`torch.Tensor` of shape `(B, M)` or `(B, N, M)`, *optional*):
            True at the keys that count, for all queries alike or for each.
        heads (`int`): Equal parts of d that attend on their own.
        dropout (`float`): On the attention weights; the caller passes 0 outside of training.
        bias (`torch.Tensor` of shape `(B, N, M)`, *optional*): Added to the scores of all heads.

    Returns:
        (B, N, d).
    """
    query, key, value = (tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (query, key, value))
    mask = None
    if key_mask is not None:
        # A softmax over nothing is NaN, also in the gradient: such rows attend anyhow, and their result is dropped.
        key_mask = key_mask.unsqueeze(1) if key_mask.dim() == 2 else key_mask
        nothing = ~key_mask.any(dim=2, keepdim=True)
        mask = (key_mask | nothing).unsqueeze(1)
        if torch.compiler.is_exporting():  # a mask for all queries alike would have to know that they are not one
            mask = mask.expand(-1, -1, query.shape[2], -1)
    if bias is not None:
        bias = bias.unsqueeze(1).to(query.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    if dropout > 0 and has_noise(query, dropout):
        found = dropped_attention(query, key, value, mask, dropout)
    else:
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    found = found.transpose(1, 2).flatten(2)
    return found if key_mask is None else found.masked_fill(nothing, 0.0)


class MultiHeadAttention(nn.Module):
    """
    Multi-head attention with biases on all four projections and dropout on the weights.

    Args:
        size (`int`): Width of queries and of the result.
        heads (`int`): Must divide it.
        dropout (`float`): On the attention weights.
        context_size (`int`, *optional*): Width of what is attended to, where it is another one.
    """

    def __init__(self, size: int, heads: int, dropout: float, context_size: int | None = None):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = XavierLinear(size, size)
        self.key = XavierLinear(context_size or size, size)
        self.value = XavierLinear(context_size or size, size)
        self.output = XavierLinear(size, size)

    def forward(self, query: torch.Tensor, context: torch.Tensor, context_mask: torch.Tensor) -> torch.Tensor:
        """From queries (B, N, size) and a context (B, M, context_size) with its mask (B, M) to (B, N, size)."""
        found = attend(
            self.query(query),
            self.key(context),
            self.value(context),
            context_mask,
            self.heads,
            self.dropout if self.training else 0.0,
        )
        return self.output(found)


class FeedForward(nn.Module):
    """x + dropout(W2 dropout(ReLU(W1 LayerNorm(x)))), four times as wide inside."""

    def __init__(self, size: int, relu_dropout: float, residual_dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.inner = XavierLinear(size, 4 * size)
        self.outer = XavierLinear(4 * size, size)
        self.relu_dropout = Dropout(relu_dropout)
        self.residual_dropout = Dropout(residual_dropout)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        inner = self.relu_dropout(torch.relu(self.inner(self.norm(values))))
        return values + self.residual_dropout(self.outer(inner))


class ResidualLayer(nn.Module):
    """x + W2 dropout(ReLU(W1 x)): what MulT has before its output layer, and UCRN after it."""

    def __init__(self, size: int, dropout: float):
        super().__init__()
        self.inner = nn.Linear(size, size)
        self.outer = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.outer(self.dropout(torch.relu(self.inner(values))))


def with_positions(values: torch.Tensor, scale: float) -> torch.Tensor:
    """
    scale * values plus sinusoidal positions, counted from 1. The first half of the features has sines, the second one
    cosines, of frequencies from 1 down to 1/10,000; the last one of an odd number has none.

    The codes of MulT and SPT leave out the positions of steps whose first feature is exactly zero, which they take for
    padding; here the mask says what is padding.

    Args:
        values (`torch.Tensor` of shape `(B, T, d)`): Left-aligned steps.
    """
    steps, size = values.shape[1:]
    half = size // 2
    channel = torch.arange(half, device=values.device, dtype=torch.float32)
    frequency = torch.exp(channel * (-math.log(10_000) / max(half - 1, 1)))
    angle = torch.arange(1, steps + 1, device=values.device, dtype=torch.float32).unsqueeze(1) * frequency
    positions = torch.cat([angle.sin(), angle.cos(), angle.new_zeros(steps, size - 2 * half)], dim=1)
    return scale * values + positions.to(values.dtype)
