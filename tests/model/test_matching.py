"""Scores of many pairs, against each pair by itself."""

import pytest
import torch

from blip.model import matching
from blip.model.matching import match_pairs
from tests import tiny

TEXTS = [
    "red apple",
    "the dog on the table",
    "a",
    "green picture of x",
    "dog",
    "in the red of the picture on",
]


def pair_by_pair(image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The scores of `match_pairs`, and those of one forward a pair."""
    model = tiny.blip()
    ids, mask = model.tokenizer.encode(TEXTS, 30)
    ids[:, 0] = model.tokenizer.enc
    tokens = model.encode_images(tiny.images(5))
    found = match_pairs(model.network, tokens, image, ids, mask, text)
    expected = []
    with torch.inference_mode():
        for i, t in zip(image.tolist(), text.tolist(), strict=True):
            length = int(mask[t].sum())
            context = model.network.text_encoder.project_context(tokens[i : i + 1])
            states = model.network.text_encoder(ids[t : t + 1, :length], None, context)
            logits = model.network.itm_head(states[0, 0])
            expected.append(logits[1] - logits[0])
    return found, torch.stack(expected)


@pytest.mark.parametrize("budget", [(1 << 30, 8192, 64), (1, 30, 2), (40_000, 8, 4)])
def test_blocks_and_groups_change_no_score(
    monkeypatch: pytest.MonkeyPatch, budget: tuple[int, int, int]
) -> None:
    for name, value in zip(("CONTEXT_BYTES", "TOKENS_AT_ONCE", "LARGEST_GROUP"), budget, strict=True):
        monkeypatch.setattr(matching, name, value)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(5, (37,), generator=generator)
    text = torch.randint(len(TEXTS), (37,), generator=generator)
    found, expected = pair_by_pair(image, text)
    assert torch.allclose(found, expected, atol=1e-5)


def test_an_image_without_a_text_and_a_pair_twice_are_fine() -> None:
    found, expected = pair_by_pair(torch.tensor([4, 0, 4, 4]), torch.tensor([1, 5, 1, 0]))
    assert torch.allclose(found, expected, atol=1e-5)
    assert found[0].item() == pytest.approx(found[2].item(), abs=1e-6)


def test_no_pair_gives_no_score() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    model = tiny.blip()
    ids, mask = model.tokenizer.encode(TEXTS, 30)
    assert match_pairs(
        model.network, model.encode_images(tiny.images(2)), nothing, ids, mask, nothing
    ).shape == (0,)
