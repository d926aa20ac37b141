"""Ranking texts by likelihood, against scoring each text by itself."""

import torch

from blip.model import api, attention, ranking
from blip.model.ranking import most_likely
from tests import tiny

CANDIDATES = ["red", "green apple", "dog on the table", "zebra", "the dog in the red picture", "table"]


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
    monkeypatch.setattr(ranking, "LOGITS_AT_ONCE", 200)
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


def test_however_few_questions_are_ranked_at_once_the_answers_are_the_same(monkeypatch) -> None:
    model = tiny.blip(seed=3)
    images, questions = tiny.images(9), ["red table", "the dog", "what colour"] * 3
    whole = model.answer(images, questions, CANDIDATES)
    monkeypatch.setattr(api, "ANSWERS_AT_ONCE", 2 * len(CANDIDATES))
    assert model.answer(images, questions, CANDIDATES) == whole
