"""NLVR2 as it is trained: statements about two pictures, and a network that begins as one pre-trained on pairs."""

from random import Random

import pytest
import torch

from blip.data.loader import Batch
from blip.data.sample import Question, Sample
from blip.model.nlvr import pre_trained
from blip.model.statements import StatementBatch, StatementObjective
from blip.training.collate import StatementCollate, mirrored
from tests import tiny

TOKENS = tiny.tokenizer()
RIGHT, WRONG = "the left picture in red", "a dog in the right picture"
PAIRS = 3


def loaded(seed: int = 0) -> Batch:
    """Pairs of pictures: the left ones are 0, 1, 2 all over, the right ones 10, 11, 12."""
    answers = {RIGHT: {"true": 1.0}, WRONG: {"false": 1.0}, "untold": {}}
    told = tuple(Question(text, known, False) for text, known in answers.items())
    samples = tuple(Sample(f"s{n}", b"", "png", questions=told, width=8, height=8) for n in range(PAIRS))
    values = torch.tensor([0, 1, 2, 10, 11, 12], dtype=torch.uint8)
    images = values[:, None, None, None].expand(-1, 3, 16, 16)
    return Batch(images, samples, torch.arange(PAIRS), Random(seed), 0, 0)


def test_statements_follow_the_pictures_when_these_change_places() -> None:
    seen = set()
    for seed in range(20):
        made = StatementCollate(TOKENS, 16, 2)(loaded(seed))
        assert made.pair.tolist() == [0, 0, 1, 1, 2, 2]
        assert (made.statements[:, 0] == TOKENS.enc).all()
        texts = TOKENS.decode(made.statements)
        for text, pair, true in zip(texts, made.pair.tolist(), made.true.tolist(), strict=True):
            left, right = (int(made.images[row, 0, 0, 0]) for row in (pair, PAIRS + pair))
            swapped = left > right
            assert {left, right} == {pair, 10 + pair}
            told = RIGHT if true else WRONG
            assert text == TOKENS.decode(TOKENS.encode([mirrored(told) if swapped else told], 16)[0])[0]
            seen.add((swapped, true))
    assert len(seen) == 4


def test_no_more_statements_are_drawn_than_are_told() -> None:
    made = StatementCollate(TOKENS, 16, 5)(loaded())
    assert len(made.true) == 2 * PAIRS
    assert len(StatementCollate(TOKENS, 16, 1)(loaded()).true) == PAIRS


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("the left dog looks right", "the right dog looks left"),
        ("Left of it", "right of it"),
        ("a bright leftover", "a bright leftover"),
    ],
)
def test_left_and_right_change_places_as_whole_words(text: str, other: str) -> None:
    assert mirrored(text) == other


@torch.no_grad()
def test_a_pair_of_the_same_picture_is_read_as_pre_training_reads_the_picture() -> None:
    """Both cross-attentions begin as the pre-trained one, and merging them as averaging: equal images, equal states."""
    network = tiny.network()
    made = pre_trained(network).eval()
    images = tiny.images(2)
    ids, mask = TOKENS.encode(["the red dog", "a green apple on the table"], 16)
    ids[:, 0] = TOKENS.enc
    tokens = network.vision(images)
    own = network.text_encoder(ids, mask, network.text_encoder.project_context(tokens))
    both = made.vision(torch.cat((images, images)))
    twin = made.text_encoder(ids, mask, made.text_encoder.project_context(both))
    assert torch.allclose(own[:, 0], twin[:, 0], atol=1e-5)
    assert made.config.merged_from == network.config.text.layers // 2


def test_it_learns_which_pictures_make_a_statement_true() -> None:
    """True where the two pictures are the same, which neither of them tells by itself."""
    torch.manual_seed(0)
    objective = StatementObjective(pre_trained(tiny.network())).train()
    kinds = tiny.images(2)
    left = torch.tensor([0, 0, 1, 1])
    right = torch.tensor([0, 1, 0, 1])
    ids, mask = TOKENS.encode(["the picture of the apple"] * 4, 16)
    ids[:, 0] = TOKENS.enc
    batch = StatementBatch(
        torch.cat((kinds[left], kinds[right])), torch.arange(4), ids, mask, (left == right).long()
    )
    optimiser = torch.optim.AdamW(objective.parameters(), 1e-3)
    losses = []
    for _ in range(60):
        loss = objective(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.5 and losses[-1] < 0.05
