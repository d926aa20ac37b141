"""Scaled dot-product attention, by the kernel that is fastest where it runs.

On a CPU that is three plain operations where there are few keys, and the fused kernel elsewhere; how few differs by
type and processor (`is_plain`). Measured in bfloat16: the backward of the fused kernel takes two to four times as long
at 197 tokens, which with AMX pays for its quicker forward only where nothing is learnt; without AMX its forward takes
1.5 times as long, too, at 577 tokens as at 197. In float32 it is the quicker one from some hundred keys on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

try:
    from blip.model import short_rows
except ImportError:  # no Triton, which a CPU build of torch has not
    short_rows = None

AMX = torch.cpu._is_amx_tile_supported()
BLOCK = 4 << 20  # bytes of scores at once, which a cache holds


def attention(q_BHQC: Tensor, k_BHKC: Tensor, v_BHKC: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend queries to keys.

    Args:
        q_BHQC, k_BHKC, v_BHKC: queries, keys and values; C is the width of one head.
        mask: additive, broadcastable to ``[B, H, Q, K]``, or None.

    Returns:
        ``[B, H, Q, C]``.
    """
    # Asked first: a compiler makes a graph for either answer about the keys
    on_cpu = q_BHQC.device.type == "cpu"
    if on_cpu and is_plain(k_BHKC.shape[2], q_BHQC.element_size(), q_BHQC.requires_grad):
        return _plain(q_BHQC, k_BHKC, v_BHKC, mask)
    return F.scaled_dot_product_attention(q_BHQC, k_BHKC, v_BHKC, attn_mask=mask)


def is_plain(keys: int, item: int, training: bool) -> bool:
    """Whether this CPU is quicker by three plain operations; `item` is the bytes of a number.

    In training they keep the scores for the backward: over 256 keys these are more than the time is worth.
    """
    if item == 4:
        return keys <= (128 if training else 64)
    return keys <= 256 if training else keys <= 64 or not AMX


def ragged_attention(
    q_MHC: Tensor,
    k_NHC: Tensor,
    v_NHC: Tensor,
    starts: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    causal: bool = False,
) -> Tensor:
    """Attention within the rows of a batch whose queries, and keys, have different lengths; on a GPU, in 16 bits.

    Our own kernel where a row's keys are few enough to be held, flash attention elsewhere.

    Args:
        starts: int32 ``[B + 1]`` for queries and for keys: where each row begins, and the end of the last.
        longest: no fewer than the longest row has queries, and keys.

    Returns:
        ``[M, H, C]``.
    """
    if short_rows is not None and short_rows.holds(longest[1], q_MHC.shape[2]):
        return short_rows.attend(q_MHC, k_NHC, v_NHC, *starts, longest[1], causal)
    window = (-1, 0) if causal else (-1, -1)
    return varlen_attn(q_MHC, k_NHC, v_NHC, *starts, *longest, window_size=window)  # type: ignore[return-value]


def attention_to_tokens(
    q_BHQC: Tensor, tokens_BND: Tensor, key_weight_HCD: Tensor, value_weight_HCD: Tensor
) -> Tensor:
    """Attend to tokens that were never projected to keys and values; the result is that of `attention`.

    ``q . (W x) = (W^T q) . x``: the queries are moved into the tokens' space, and what they see comes back through the
    value projection. For a few queries this is less work than projecting every token. The bias of the keys adds the
    same to all scores of a query, so it changes nothing; the bias of the values is the caller's to add.

    Args:
        q_BHQC: queries.
        tokens_BND: what is attended to, one for all heads.
        key_weight_HCD, value_weight_HCD: the projections of each head.

    Returns:
        ``[B, H, Q, C]``.
    """
    b, h, q, c = q_BHQC.shape
    by_head = (q_BHQC * c**-0.5).transpose(0, 1).reshape(h, b * q, c)
    moved_BMD = (by_head @ key_weight_HCD).view(h, b, q, -1).transpose(0, 1).reshape(b, h * q, -1)
    scores_BMN = moved_BMD @ tokens_BND.transpose(1, 2)
    seen_BMD = scores_BMN.softmax(dim=-1, dtype=scores_BMN.dtype) @ tokens_BND
    by_head = seen_BMD.view(b, h, q, -1).transpose(0, 1).reshape(h, b * q, -1)
    return (by_head @ value_weight_HCD.transpose(1, 2)).view(h, b, q, c).transpose(0, 1)


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """A few rows at a time where their scores would leave the cache; with AMX that is not measured."""
    scores = q.shape[1] * q.shape[2] * k.shape[2] * q.element_size()  # bytes of a row
    rows = len(q) if AMX else max(1, BLOCK // max(1, scores))
    if rows >= len(q):
        return three_operations(q, k, v, mask)
    if mask is not None and mask.ndim < 4:
        mask = mask[(None,) * (4 - mask.ndim)]
    masks = [None] * len(q) if mask is None else mask.expand(len(q), *mask.shape[-3:]).split(rows)
    parts = zip(q.split(rows), k.split(rows), v.split(rows), masks, strict=False)
    return torch.cat([three_operations(*part) for part in parts])


def three_operations(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention in the tensors' own type; all scores are kept for the backward."""
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
