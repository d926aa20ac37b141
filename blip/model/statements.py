"""Learning NLVR2: cross-entropy of statements about two images, true or false (BLIP paper, section 5.4)."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip.model.batch import all_to, counted
from blip.model.nlvr import NlvrNetwork


@dataclass(frozen=True)
class StatementBatch:
    """P pairs of images and Q statements ``[Q, T]``, statement i about pair ``pair[i]``.

    Attributes:
        images: ``[2 * P, 3, S, S]``, the left ones first, uint8 until `to` has normalised them on the device.
        statements, mask: they begin with ``[ENC]``.
        true: ``[Q]``, 1 where the statement is true, else 0; int64.
        tokens: of the statements, counted before they go to a GPU.
    """

    images: Tensor
    pair: Tensor
    statements: Tensor
    mask: Tensor
    true: Tensor
    tokens: int | None = None

    def to(self, device: torch.device | str) -> "StatementBatch":
        return replace(self, **all_to(self, device), tokens=counted(self.mask, self.tokens))


class StatementObjective(nn.Module):
    """The network with its loss."""

    def __init__(self, network: NlvrNetwork) -> None:
        super().__init__()
        self.network = network
        self.progress = 1.0  # of the run, set by the trainer

    def forward(self, batch: StatementBatch) -> dict[str, Tensor]:
        """``{"statements": ..., "loss": ...}``, float32 scalars."""
        tokens = self.network.vision(batch.images)
        logits = self.network.judge(tokens, batch.statements, batch.mask, batch.pair, batch.tokens)
        loss = F.cross_entropy(logits, batch.true)
        return {"statements": loss, "loss": loss}
