"""Visual dialog: what is read with what, how answers are ranked, and that it is learnt."""

import pytest
import torch
from PIL import Image

from blip.errors import BlipError
from blip.model.dialogs import (
    DialogBatch,
    DialogObjective,
    Turn,
    answer_ranker,
    dialog_context,
    encode_dialogs,
)
from tests import tiny

TOKENS = tiny.tokenizer()
CAPTIONS = ["the red dog", "a green apple on the table"]
TURNS = [
    Turn(
        1,
        "the dog in the picture? red. of apple?",
        ("red", "green", "the table", "in the picture of the dog"),
    ),
    Turn(0, "apple?", ("dog", "red")),
]


@torch.no_grad()
def test_a_dialog_looks_at_the_image_and_at_its_caption() -> None:
    network = tiny.network()
    ids, mask = TOKENS.encode(CAPTIONS, 16)
    dialogs, dialog_mask = encode_dialogs(TOKENS, ["dog?", "dog?"], ["red", "red"], 16)
    images = tiny.images(2)

    def logits(images: torch.Tensor, captions: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        return network.match(
            dialogs, dialog_mask, dialog_context(network, network.vision(images), captions, of)
        )

    own = logits(images, ids, mask)
    assert (own - logits(images.flip(0), ids, mask)).abs().max() > 1e-3
    assert (own - logits(images, ids.flip(0), mask.flip(0))).abs().max() > 1e-3
    longer = torch.cat((ids, torch.full((2, 3), TOKENS.pad)), 1), torch.cat((mask, mask.new_zeros(2, 3)), 1)
    assert torch.allclose(own, logits(images, *longer), atol=1e-5), "padding is not looked at"


def test_every_candidate_is_scored_as_it_is_by_itself() -> None:
    rank = answer_ranker(tiny.blip())
    pixels = tiny.images(2).sigmoid().mul(255).byte().permute(0, 2, 3, 1)
    images = [Image.fromarray(one.numpy()) for one in pixels]
    found = rank(images, CAPTIONS, TURNS)
    assert [len(scores) for scores in found] == [4, 2]
    for turn, scores in zip(TURNS, found, strict=True):
        for candidate, score in zip(turn.candidates, scores, strict=True):
            alone = Turn(0, turn.dialog, (candidate,))
            (single,) = rank([images[turn.image]], [CAPTIONS[turn.image]], [alone])
            assert torch.allclose(single[0], score, atol=1e-4)


def test_of_a_long_dialog_the_beginning_is_left_out() -> None:
    dialog, answer = "the red dog? green apple. the picture of the table?", "in red"
    whole, whole_mask = encode_dialogs(TOKENS, [dialog], [answer], 64)
    length = int(whole_mask.sum())
    ids, mask = encode_dialogs(TOKENS, [dialog, "dog?"], [answer, "red"], 9)
    assert ids.shape == (2, 9) and mask.sum(1).tolist() == [9, ids[1].ne(TOKENS.pad).sum().item()]
    assert ids[:, 0].tolist() == [TOKENS.enc] * 2
    assert ids[0, 1:].tolist() == whole[0, length - 8 : length].tolist()
    assert ids[0, -1] == TOKENS.sep
    assert TOKENS.decode(ids)[1] == "dog red"  # this vocabulary has no question mark
    assert encode_dialogs(TOKENS, [], [], 9)[0].shape[0] == 0


def test_what_the_dialogs_do_not_use_keeps_its_weights() -> None:
    network = tiny.network()
    objective = DialogObjective(network)
    ids, mask = TOKENS.encode(CAPTIONS, 16)
    dialogs, dialog_mask = encode_dialogs(TOKENS, ["dog?"] * 4, ["red", "green"] * 2, 16)
    image, right = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 1, 0])
    objective(DialogBatch(tiny.images(2), ids, mask, image, dialogs, dialog_mask, right))["loss"].backward()
    learnt = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all((p.grad is not None) == (name in learnt) for name, p in network.named_parameters())
    assert not any(name.startswith(("lm_head", "vision_projection", "text_projection")) for name in learnt)


def test_it_learns_an_answer_that_only_the_caption_tells() -> None:
    torch.manual_seed(0)
    objective = DialogObjective(tiny.network()).train()
    ids, mask = TOKENS.encode(["red", "green"], 16)
    dialogs, dialog_mask = encode_dialogs(TOKENS, ["dog?"] * 4, ["red", "green", "green", "red"], 16)
    same = tiny.images(1).expand(2, -1, -1, -1)
    image, right = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 1, 0])
    batch = DialogBatch(same, ids, mask, image, dialogs, dialog_mask, right)
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(60):
        loss = objective(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.5 and losses[-1] < 0.05


def test_widths_that_differ_are_refused() -> None:
    network = tiny.network()
    object.__setattr__(network.config.text, "context_width", 32)
    with pytest.raises(
        BlipError, match="their width 64 must be the image tokens' 32; go on from a model whose"
    ):
        DialogObjective(network)
