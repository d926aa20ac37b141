"""Telling matching texts from others: the figures of a filter."""

import torch
from torch import Tensor

from blip.errors import BlipError

MEMBERS = "members"  # the folder of a filter in which others lie that decide with it


def roc_auc(scores_N: Tensor, matched_N: Tensor) -> float:
    """Area under the ROC curve: the chance that a matched pair scores above an unmatched one, a tie counting half.

    Raises:
        BlipError: a score is no finite number.
    """
    from sklearn.metrics import roc_auc_score

    if broken := int((~scores_N.isfinite()).sum()):
        raise BlipError(
            f"{broken:,} of {len(scores_N):,} scores of the filter are no finite numbers: its training went "
            "wrong. Look at its curve (metrics/curves), and train it again with a lower learning rate or with "
            "optimiser.clip"
        )
    return float(roc_auc_score(matched_N.numpy(), scores_N.double().numpy()))


def precision_recall(kept_N: Tensor, matched_N: Tensor) -> tuple[float, float]:
    """Of the kept texts how many match, and of the matching how many are kept."""
    both = (kept_N & matched_N).sum().item()
    return both / max(int(kept_N.sum()), 1), both / max(int(matched_N.sum()), 1)


def as_mask(values: list[bool]) -> Tensor:
    """A list of truths as a tensor."""
    return torch.tensor(values, dtype=torch.bool)
