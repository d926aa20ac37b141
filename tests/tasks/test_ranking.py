"""Ranks and recall, the pure part."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from blip.tasks.ranking import (
    RECALLS,
    Positives,
    chance_at,
    ranked,
    ranks,
    recall_at,
    rerank,
    shortlist,
)


def one_each(count: int) -> Tensor:
    return torch.eye(count, dtype=torch.bool)


def recall(scores: Tensor, positives: Tensor, ks: Sequence[int] = RECALLS) -> dict[int, float]:
    return recall_at(ranks(scores, positives), ks)


def test_constant_scores_have_no_hits():
    found = recall(torch.zeros(430, 430), one_each(430), ks=(1, 5, 10))
    assert found == {1: 0.0, 5: 0.0, 10: 0.0}


def test_scores_that_bfloat16_makes_equal_are_misses():
    scores = torch.full((50, 50), 0.9)
    scores[one_each(50)] = 0.9001
    assert recall(scores, one_each(50), ks=(1,)) == {1: 1.0}
    assert recall(scores.bfloat16(), one_each(50), ks=(1,)) == {1: 0.0}


def test_the_rank_is_one_more_than_the_others_that_score_as_high():
    scores = torch.tensor([[0.9, 0.5, 0.5, 0.1], [0.1, 0.2, 0.3, 0.4]])
    positives = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0]]).bool()
    assert ranks(scores, positives).tolist() == [3, 4]


def test_the_best_of_several_positives_counts_and_they_do_not_stand_in_each_others_way():
    scores = torch.tensor([[0.7, 0.7, 0.8, 0.1]])
    positives = torch.tensor([[1, 1, 0, 0]]).bool()
    assert ranks(scores, positives).tolist() == [2]
    assert recall(scores, positives, ks=(1, 2)) == {1: 0.0, 2: 1.0}


def test_a_model_that_returns_nan_finds_nothing():
    scores = torch.full((20, 20), torch.nan)
    assert recall(scores, one_each(20), ks=(1, 10)) == {1: 0.0, 10: 0.0}
    assert ranks(torch.tensor([[0.5, torch.nan]]), torch.tensor([[True, False]])).tolist() == [2]


def test_a_query_without_a_positive_is_named():
    with pytest.raises(ValueError, match="query 1 has no positive"):
        ranks(torch.zeros(2, 3), torch.tensor([[1, 0, 0], [0, 0, 0]]).bool())


def test_the_shortlist_is_no_longer_than_the_candidates():
    similarity = torch.tensor([[0.1, 0.9, 0.5]])
    assert shortlist(similarity, 256).tolist() == [[1, 2, 0]]
    assert shortlist(similarity, 2).tolist() == [[1, 2]]


def test_re_ranking_orders_the_shortlist_by_itm_and_cosine_and_leaves_the_rest_below():
    similarity = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.6]])
    chosen = shortlist(similarity, 2)
    scores = rerank(similarity, chosen, torch.tensor([[-7.0, -2.0]]))
    assert scores[0, :2].tolist() == pytest.approx([-6.1, -1.2])
    assert scores[0].argsort(descending=True, stable=True).tolist() == [1, 0, 2, 3, 4]
    assert scores[0, 3] == scores[0, 4]


def test_re_ranking_keeps_the_smallest_differences_among_the_rest():
    similarity = torch.tensor([[0.9, 0.5, torch.tensor(0.5).nextafter(torch.tensor(1.0))]])
    scores = rerank(similarity, shortlist(similarity, 1), torch.tensor([[40.0]]))
    assert scores[0, 2] > scores[0, 1]


def test_a_collapsed_model_stays_without_hits_after_re_ranking():
    similarity = torch.full((100, 100), 0.5)
    chosen = shortlist(similarity, 32)
    scores = rerank(similarity, chosen, torch.zeros(100, 32))
    assert recall(scores, one_each(100), ks=(1, 10)) == {1: 0.0, 10: 0.0}


def test_chance_is_what_orders_at_random_reach_on_average():
    positives = torch.zeros(2, 6, dtype=torch.bool)
    positives[0, :2], positives[1, 3] = True, True
    drawn = [recall(torch.rand(2, 6), positives) for _ in range(4000)]
    expected = chance_at(positives.sum(dim=1), 6)
    assert expected[1] == pytest.approx((2 / 6 + 1 / 6) / 2)
    assert expected[5] == pytest.approx((1 + 5 / 6) / 2)
    assert expected[10] == 1.0
    for k in (1, 5, 10):
        assert expected[k] == pytest.approx(sum(one[k] for one in drawn) / len(drawn), abs=0.02)


def test_queries_that_come_a_few_at_a_time_rank_as_all_at_once():
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(50, 30, generator=generator).round(decimals=1)  # many ties
    positives = torch.rand(50, 30, generator=generator) < 0.05
    positives[torch.arange(50), torch.randint(30, (50,), generator=generator)] = True
    query, candidate = positives.nonzero().T
    order = torch.randperm(len(query), generator=generator)
    pairs = Positives(query[order], candidate[order], 50, 30)
    blocks = [(slice(first, min(first + 7, 50)), scores[first : first + 7]) for first in range(0, 50, 7)]
    found = ranked(blocks, pairs)
    assert torch.equal(found.ranks_Q, ranks(scores, positives))
    assert torch.equal(found.scores_QK, scores.topk(5).values)
    assert torch.equal(scores.gather(1, found.best_QK), found.scores_QK)
    assert torch.equal(pairs.counts_Q, positives.sum(dim=1))
    assert [[pairs.holds(q, c) for c in range(30)] for q in range(50)] == positives.tolist()
