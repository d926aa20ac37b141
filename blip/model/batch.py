"""What a step of the pair objective is given: images, their texts, and who matches whom."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from blip.data.images import arrive, send
from blip.model.context import Context


@dataclass(frozen=True)
class PairBatch:
    """Tensors of one step: images, padded texts starting with ``[CLS]``, and who matches whom.

    With several captions for an image, P texts for B images, a pair is a text with its image: every loss is that of
    the same batch with each image repeated for each of its texts, but the image is encoded once.

    Attributes:
        images: ``[B, 3, S, S]``, uint8 until `to` has normalised them on the device.
        ids, mask: ``[P, T]``; the end of a text, ``[SEP]``, is there however short it is or was cut.
        group: ``[P, 2]``; pairs that agree in either column (the image, the text) are no negatives of each other.
            Captions of one image agree in the first.
        prompt_tokens: leading tokens of every text that the decoder is not taught to write.
        image: ``[P]``, the image of each text; None where text i is of image i.
        counts: counted before the texts go to a GPU.
        distractor_ids, distractor_mask: ``[P, T]`` texts of no image: keys that no image has in ITC, and negative
            texts of ITM. None without any.
    """

    images: Tensor
    ids: Tensor
    mask: Tensor
    group: Tensor
    prompt_tokens: int = 0
    image: Tensor | None = None
    counts: "Counts | None" = None
    distractor_ids: Tensor | None = None
    distractor_mask: Tensor | None = None

    def to(self, device: torch.device | str) -> "PairBatch":
        counts = self._counted() if self.mask.device.type == "cpu" else self.counts
        return replace(self, **all_to(self, device), counts=counts)

    def _counted(self) -> "Counts":
        own, written = int(self.mask.sum()), int(self.mask[:, :-1].sum())
        others = 0 if self.distractor_mask is None else int(self.distractor_mask.sum())
        most = 1 if self.image is None else int(self.image.bincount().max())
        return Counts(own, own + others, written, most)

    def with_distractors(self) -> tuple[Tensor, Tensor, int | None]:
        """Ids and mask of the texts and behind them of the distractors, and how many tokens they have."""
        ids, mask, counts = self.distractor_ids, self.distractor_mask, self.counts
        if ids is None or mask is None:
            return self.ids, self.mask, counts and counts.tokens
        return torch.cat((self.ids, ids)), torch.cat((self.mask, mask)), counts and counts.with_distractors

    def for_texts(self, x_BX: Tensor) -> Tensor:
        """What there is of each image, for each text: ``[B, ...]`` -> ``[P, ...]``."""
        return x_BX if self.image is None else x_BX.index_select(0, self.image)

    def contexts_for(self, context: list[Context], pairs: Tensor | None = None) -> list[Context]:
        """The images' contexts for each text, or for the texts `pairs`."""
        index = self.image if pairs is None else pairs if self.image is None else self.image[pairs]
        return context if index is None else [layer.select(index) for layer in context]


def all_to(batch: object, device: torch.device | str) -> dict[str, Tensor]:
    """A batch's tensors on the device, its ``images`` normalised there."""
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return {name: (arrive if name == "images" else send)(value, device) for name, value in tensors.items()}


def counted(mask: Tensor, known: int | None = None) -> int | None:
    """How many tokens there are, if the host can tell without waiting for a device, else what is `known`."""
    return int(mask.sum()) if mask.device.type == "cpu" else known


class Counts(NamedTuple):
    """What the host knows of a batch's texts, so that it need not wait for a GPU to count.

    Attributes:
        tokens, with_distractors: of the texts, and of the texts and the distractors.
        written: without the last column, as the decoder takes them.
        most_texts: of an image.
    """

    tokens: int
    with_distractors: int
    written: int
    most_texts: int
