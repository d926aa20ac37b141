"""Scaled dot-product attention, by the kernel that is fastest where it runs.

Measured on a CPU with AMX-BF16: the fused kernel is quick forward but about four times slower backward than
three plain operations at BLIP's lengths, and slower forward too where there are few keys. So on a CPU short
attention is plain, and everything else is fused.
"""

import torch.nn.functional as F
from torch import Tensor

SHORT_TRAINING, SHORT_INFERENCE = 256, 64  # keys up to which three plain operations win on a CPU


def attention(q_BHQC: Tensor, k_BHKC: Tensor, v_BHKC: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend queries to keys.

    Args:
        q_BHQC, k_BHKC, v_BHKC: queries, keys and values; C is the width of one head.
        mask: additive, broadcastable to ``[B, H, Q, K]``, or None.

    Returns:
        ``[B, H, Q, C]``.
    """
    few = SHORT_TRAINING if q_BHQC.requires_grad else SHORT_INFERENCE
    if q_BHQC.device.type == "cpu" and k_BHKC.shape[2] <= few:
        return _plain(q_BHQC, k_BHKC, v_BHKC, mask)
    return F.scaled_dot_product_attention(q_BHQC, k_BHKC, v_BHKC, attn_mask=mask)


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1, dtype=q.dtype) @ v


def split_heads(x_BTD: Tensor, heads: int) -> Tensor:
    """``[B, T, D]`` -> ``[B, H, T, D / H]``, a view."""
    return x_BTD.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x_BHTC: Tensor) -> Tensor:
    """``[B, H, T, C]`` -> ``[B, T, H * C]``."""
    return x_BHTC.transpose(1, 2).flatten(2)
