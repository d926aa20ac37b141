"""ITM negatives out of the batches of all ranks: texts and images travel, images with their gradient."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from blip.model.ranks import gather, gather_with_gradient, rank


class Negatives(NamedTuple):
    """For each of a rank's P pairs another text and another image, with the groups that these are of.

    Attributes:
        ids_PT, mask_PT: padded to the longest text of any rank.
        text_group_P2, image_group_P2: of the pairs they come from.
    """

    ids_PT: Tensor
    mask_PT: Tensor
    text_group_P2: Tensor
    tokens_PND: Tensor
    image_group_P2: Tensor


def negatives_of_all_ranks(
    texts: tuple[Tensor, Tensor],
    group_P2: Tensor,
    tokens_BND: Tensor,
    image_P: Tensor | None,
    drawn_P2: Tensor,
    longest: int,
) -> Negatives:
    """Fetch what was drawn for this rank's pairs.

    Args:
        texts: this rank's ids and mask ``[P, T]``; T may differ between ranks.
        tokens_BND: this rank's image tokens.
        image_P: the image of each text; None where text i is of image i.
        drawn_P2: the pair, counted over all ranks, that gives the text and the one that gives the image.
        longest: tokens of the longest text of any rank.
    """
    ids_PT, mask_PT = texts
    ids, mask, group = (
        gather(to_length(ids_PT, longest)),
        gather(to_length(mask_PT, longest)),
        gather(group_P2),
    )
    own_image_P = torch.arange(len(ids_PT), device=ids_PT.device) if image_P is None else image_P
    image = gather(own_image_P + rank() * len(tokens_BND))
    text_pair, image_pair = drawn_P2.unbind(1)
    tokens = gather_with_gradient(tokens_BND).index_select(0, image[image_pair])
    return Negatives(ids[text_pair], mask[text_pair], group[text_pair], tokens, group[image_pair])


def to_length(x_PT: Tensor, length: int) -> Tensor:
    """Longer by padding, or shorter by leaving out columns that are padding in every row."""
    return F.pad(x_PT, (0, length - x_PT.shape[1]))
