"""The likelihood of given texts, and the winner by it, against the decoder read token by token."""

import pytest
import torch

from blip.model import api, attention, likelihood
from blip.model.api import Blip
from blip.model.likelihood import most_likely
from tests import tiny

TEXTS = ["red apple", "the dog on the table", "", "dog"]
CANDIDATES = ["red", "green apple", "dog on the table", "zebra", "the dog in the red picture", "table"]
IMAGES = torch.tensor([1, 0, 1, 0])


def slow(model: Blip, image: int, text: str, prompt: str = "") -> float:
    """The mean log-probability of the tokens behind the prompt, each from what stands before it."""
    network, tokens = model.network, model.encode_images(tiny.images(2))
    context = network.text_decoder.project_context(tokens[image : image + 1])
    ids, _ = model.tokenizer.encode([f"{prompt} {text}".strip()], 12)
    ids[:, 0] = model.tokenizer.bos
    given = model.tokenizer.encode([prompt], 12)[0].shape[1] - 1
    found = []
    for end in range(given, ids.shape[1]):
        states = network.text_decoder(ids[:, :end], torch.ones(1, end), context, causal=True)
        logits = network.lm_head(states[:, -1], network.word_embedding)
        found.append(logits.log_softmax(-1)[0, ids[0, end]].item())
    return sum(found) / len(found)


@pytest.mark.parametrize("prompt", ["", "the red"])
def test_it_is_the_mean_over_the_tokens_behind_the_prompt(prompt: str) -> None:
    model = tiny.blip(3, prompt=prompt)
    with torch.inference_mode():
        found = model.likelihood(model.encode_images(tiny.images(2)), IMAGES, TEXTS)
        expected = [slow(model, int(image), text, prompt) for image, text in zip(IMAGES, TEXTS, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_it_does_not_depend_on_what_is_at_hand_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.blip(3)
    tokens = model.encode_images(tiny.images(2))
    together = model.likelihood(tokens, IMAGES, TEXTS)
    monkeypatch.setattr(likelihood, "CONTEXT_BYTES", 1)
    assert torch.allclose(model.likelihood(tokens, IMAGES, TEXTS), together, atol=1e-5)


def one_by_one(keep: int, candidates: list[str]) -> tuple[list[int], list[int]]:
    """The winners of `most_likely`, and those of a plain loop over rows and candidates."""
    model = tiny.blip(seed=3)
    context = model.network.text_decoder.project_context(torch.randn(7, 17, 64))
    ids, mask = model.tokenizer.encode(candidates, 30)
    ids[:, 0] = model.tokenizer.bos
    found = most_likely(model.network, context, ids, mask, keep)
    expected = []
    with torch.inference_mode():
        for row in range(7):
            own = [layer.select(torch.tensor([row])) for layer in context]
            scores, first = [], []
            for tokens, length in zip(ids, mask.sum(1).tolist(), strict=True):
                states = model.network.text_decoder(tokens[None, : length - 1], None, own, causal=True)
                logits = model.network.lm_head(states, model.network.word_embedding)[0]
                steps = logits.log_softmax(-1).gather(1, tokens[1:length, None])[:, 0]
                scores.append(float(steps.sum()))
                first.append(float(steps[0]))
            kept = sorted(range(len(candidates)), key=lambda i: -first[i])[:keep]
            expected.append(max(kept, key=lambda i: scores[i]))
    return found.tolist(), expected


def test_the_winner_has_the_highest_likelihood_over_all_its_tokens() -> None:
    found, expected = one_by_one(keep=128, candidates=CANDIDATES)
    assert found == expected


def test_only_candidates_with_a_likely_first_token_are_compared() -> None:
    for keep in (1, 3):
        found, expected = one_by_one(keep, CANDIDATES)
        assert found == expected


def test_the_block_size_changes_nothing(monkeypatch) -> None:
    whole = one_by_one(128, CANDIDATES)[0]
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 200)
    assert one_by_one(128, CANDIDATES)[0] == whole


def test_candidates_of_one_token_are_ranked() -> None:
    found, expected = one_by_one(2, ["red", "table", "dog"])
    assert found == expected


def test_answers_are_ranked_whatever_leaves_the_cache(monkeypatch) -> None:
    """Without AMX, and with more rows than are attended to at once: the tokens of an answer see those before them."""
    expected = one_by_one(128, CANDIDATES)[0]
    monkeypatch.setattr(attention, "AMX", False)
    monkeypatch.setattr(attention, "BLOCK", 1)
    assert one_by_one(128, CANDIDATES)[0] == expected


@pytest.mark.parametrize(("limit", "value"), [("ANSWERS_AT_ONCE", 2 * len(CANDIDATES)), ("CONTEXT_BYTES", 1)])
def test_however_few_questions_are_ranked_at_once_the_answers_are_the_same(
    monkeypatch, limit: str, value: int
) -> None:
    model = tiny.blip(seed=3)
    images, questions = tiny.images(9), ["red table", "the dog", "what colour"] * 3
    whole = model.answer(images, questions, CANDIDATES)
    monkeypatch.setattr(api, limit, value)
    assert model.answer(images, questions, CANDIDATES) == whole
