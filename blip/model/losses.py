"""The three losses as pure functions of features and logits (BLIP paper, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def itc_loss(
    image_BP: Tensor,
    text_BP: Tensor,
    image_keys_KP: Tensor,
    text_keys_KP: Tensor,
    targets: tuple[Tensor, Tensor],
    temperature: Tensor,
) -> Tensor:
    """Image-text contrastive loss: cross-entropy of each image over text keys and of each text over image keys.

    Args:
        image_BP, text_BP: this batch's features, unit length.
        image_keys_KP, text_keys_KP: the keys, the batch's own momentum features first, then the queue.
        targets: target distributions ``[B, K]`` image->text and text->image.
        temperature: similarities are divided by it.
    """
    i2t = (image_BP @ text_keys_KP.T / temperature).log_softmax(dim=1)
    t2i = (text_BP @ image_keys_KP.T / temperature).log_softmax(dim=1)
    return -((i2t * targets[0]).sum(1).mean() + (t2i * targets[1]).sum(1).mean()) / 2


def same_group(group_BG: Tensor, other_KG: Tensor) -> Tensor:
    """Who is no negative of whom ``[B, K]``: rows that agree in any column (the image, or the text)."""
    return (group_BG[:, None, :] == other_KG[None, :, :]).any(dim=-1)


def hard_targets(same_BK: Tensor) -> Tensor:
    """The hard part of the targets ``[B, K]``: uniform over all keys of the same group (a pair's own is one)."""
    same = same_BK.float()
    return same / same.sum(1, keepdim=True)


def soft_targets(hard_BK: Tensor, logits_BK: Tensor, alpha: Tensor | float) -> Tensor:
    """Mix the momentum model's distribution into the hard targets with share `alpha`."""
    return alpha * logits_BK.softmax(dim=1) + (1 - alpha) * hard_BK


def hard_negatives(
    similarity_BB: Tensor, same_BB: Tensor, floor: float = 1e-4, random_share: float = 0.0
) -> Tensor:
    """Draw one negative column for every row in one batched draw.

    Args:
        similarity_BB: similarities already divided by the temperature.
        same_BB: True where the column is no negative of the row.
        floor: added to every weight, so that nothing is impossible (pre-training: 1e-4).
        random_share: share of the weight that is uniform over the negatives.

    Returns:
        column indices ``[B]``. A row without any negative (a batch of one distinct image) gets itself: its pair is
        then labelled matched by the caller's `same_BB`.
    """
    weights = similarity_BB.float().softmax(dim=1) + floor
    weights = weights.masked_fill(same_BB, 0)
    if random_share:
        uniform = (~same_BB).float()
        weights = (1 - random_share) * _rows(weights) + random_share * _rows(uniform)
    none = weights.sum(1, keepdim=True) == 0
    weights = torch.where(none, torch.eye(len(weights), device=weights.device), weights)
    return torch.multinomial(weights, 1).squeeze(1)


def _rows(weights: Tensor) -> Tensor:
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-12)


def lm_loss(
    logits_MV: Tensor, targets_M: Tensor, label_smoothing: float, weights_M: Tensor | None = None
) -> Tensor:
    """Token-mean cross-entropy with label smoothing; `weights_M` weighs the tokens (VQA answers)."""
    if weights_M is None:
        return F.cross_entropy(logits_MV.float(), targets_M, label_smoothing=label_smoothing)
    losses = F.cross_entropy(logits_MV.float(), targets_M, label_smoothing=label_smoothing, reduction="none")
    return (losses * weights_M).sum() / weights_M.sum()
