"""The language model's loss of given texts, for captions and for answers."""

from collections.abc import Sequence

from torch import Tensor

from blip.model.blip import BlipNetwork
from blip.model.context import AnyContext
from blip.model.losses import IGNORED
from blip.model.packing import count_for, places


def decoder_loss(
    network: BlipNetwork,
    ids_BT: Tensor,
    targets_BT: Tensor,
    mask_BT: Tensor,
    context: Sequence[AnyContext],
    label_smoothing: float,
    weights_B: Tensor | None = None,
    written: int | None = None,
) -> Tensor:
    """Next-token loss; logits are computed where there is a target and nowhere else.

    Args:
        ids_BT: decoder input, ``[DEC]`` first.
        targets_BT: the token at each position, `IGNORED` where none is learnt; shifted here.
        weights_B: a weight for every text.
        written: how many tokens the texts have without the last column, where the host knows it.
    """
    ids_BT, mask_BT = ids_BT[:, :-1], mask_BT[:, :-1]
    states = network.text_decoder(ids_BT, mask_BT, context, causal=True, tokens=written)
    targets = targets_BT[:, 1:].flatten()
    place = places(targets != IGNORED, count_for(states, written))
    targets = targets[place].masked_fill(place < 0, IGNORED)
    logits = network.lm_head(states.flatten(0, 1)[place.clamp_min(0)], network.word_embedding)
    weights = None if weights_B is None else weights_B[place.clamp_min(0) // ids_BT.shape[1]]
    return network.lm_loss(logits, targets, label_smoothing, weights)
