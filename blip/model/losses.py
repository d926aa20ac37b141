"""The three losses as pure functions of features and logits (BLIP paper, section 3.2).

LM's is a module, too, without weights: it goes some ten times over the logits of all words, and less often compiled.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -100  # a target that is not learnt


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


def sigmoid_itc_loss(
    image_BP: Tensor, text_KP: Tensor, same_BK: Tensor, temperature: Tensor, bias: Tensor
) -> Tensor:
    """Every pair of an image and a text is a question of its own: do they match? (SigLIP, Zhai et al. 2023, eq. 1).

    The sum over all K texts of the log-sigmoid losses, as a mean over the B images.

    Args:
        image_BP, text_KP: features of the network itself, unit length; there are no momentum keys and no queue.
        same_BK: True where they match: the pair itself, and pairs of its group.
        temperature: the scale of the similarities is its inverse.
        bias: added to the scaled similarities; far below 0 at the start, as most pairs do not match.
    """
    logits_BK = image_BP @ text_KP.T / temperature + bias
    return -F.logsigmoid(torch.where(same_BK, logits_BK, -logits_BK)).sum(1).mean()


def same_group(group_BG: Tensor, other_KG: Tensor) -> Tensor:
    """Who is no negative of whom ``[B, K]``: rows that agree in any column (the image, or the text)."""
    return (group_BG[:, None, :] == other_KG[None, :, :]).any(dim=-1)


def same_row(group_BG: Tensor, other_BG: Tensor) -> Tensor:
    """As `same_group`, row by row ``[B]``."""
    return (group_BG == other_BG).any(dim=-1)


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

    Column j is the winner of a race of exponential waiting times with the weights as rates, so that it wins with
    probability ``weight[j] / weight.sum()``. These are the numbers that `torch.multinomial` draws with the same
    generator, without the look at the weights for which that one makes the host wait.

    Args:
        similarity_BB: similarities already divided by the temperature.
        same_BB: True where the column is no negative of the row.
        floor: added to every weight, so that nothing is impossible (pre-training: 1e-4; fine-tuning: 0).
        random_share: share of the weight that is uniform over the negatives.

    Returns:
        column indices ``[B]``. A row without any negative (a batch of one sample, or of one distinct image) gets
        itself: its pair is then labelled matched by the caller's `same_BB`.
    """
    weights = _weights(similarity_BB.float(), same_BB, floor)
    if random_share:
        uniform = (~same_BB).float()
        weights = (1 - random_share) * _rows(weights) + random_share * _rows(uniform)
    none = weights.sum(1, keepdim=True) == 0
    weights = torch.where(none, torch.eye(len(weights), device=weights.device), weights)
    return (weights / torch.empty_like(weights).exponential_()).argmax(1)


def _weights(similarity_BB: Tensor, same_BB: Tensor, floor: float) -> Tensor:
    """Softmax of the similarity plus the floor, 0 where there is no negative."""
    if floor:
        return (similarity_BB.softmax(dim=1) + floor).masked_fill(same_BB, 0)
    # Over the negatives alone, which is the same distribution: beside a sure pair all of them would round to 0.
    return similarity_BB.masked_fill(same_BB, -torch.inf).softmax(dim=1).masked_fill(same_BB, 0)


def _rows(weights: Tensor) -> Tensor:
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-12)


def lm_loss(
    logits_MV: Tensor, targets_M: Tensor, label_smoothing: float, weights_M: Tensor | None = None
) -> Tensor:
    """Token-mean cross-entropy with label smoothing; `weights_M` weighs the tokens (VQA answers).

    Targets that are `IGNORED` do not count. Without any (every caption is its prompt and no more) the loss is 0, not
    the mean of nothing.
    """
    losses = F.cross_entropy(
        logits_MV.float(),
        targets_M,
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
        reduction="none" if weights_M is not None else "sum",
    )
    if weights_M is None:
        return losses / (targets_M != IGNORED).sum().clamp_min(1)
    weights_M = weights_M.masked_fill(targets_M == IGNORED, 0)
    return (losses * weights_M).sum() / weights_M.sum()


class LanguageModelLoss(nn.Module):
    """`lm_loss` as a module."""

    def forward(
        self, logits_MV: Tensor, targets_M: Tensor, label_smoothing: float, weights_M: Tensor | None = None
    ) -> Tensor:
        """As `lm_loss`."""
        return lm_loss(logits_MV, targets_M, label_smoothing, weights_M)
