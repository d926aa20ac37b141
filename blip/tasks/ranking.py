"""Ranks and recall@K, counted against the model wherever scores tie.

    shortlist_QK = shortlist(similarity_QC, 256)
    scores_QC = rerank(similarity_QC, shortlist_QK, itm_QK)
    recall_at(ranks(scores_QC, positives_QC))        # {1: 0.78, 5: 0.94, 10: 0.97}
    ranked(blocks, positives).ranks_Q                # the same of scores that come some queries at a time

Q queries, C candidates, K short-listed. A collapsed model scores every candidate the same; ties that counted
as hits (or were broken by the order of the data, where text i belongs to image i) would make it look perfect.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

RECALLS = (1, 5, 10)
SHOWN = 5  # candidates of a query that are kept, to be looked at

Block = tuple[slice, Tensor]  # which queries, and their scores of all candidates [b, C]


@dataclass(frozen=True)
class Positives:
    """Which candidates are right for which query: a query and a candidate of each of W pairs, int64."""

    query_W: Tensor
    candidate_W: Tensor
    queries: int
    candidates: int

    @property
    def counts_Q(self) -> Tensor:
        """How many each query has, int64."""
        return self.query_W.bincount(minlength=self.queries)

    def of(self, rows: slice) -> Tensor:
        """Those of some queries that follow each other, bool ``[b, C]``."""
        chosen = (self.query_W >= rows.start) & (self.query_W < rows.stop)
        found = torch.zeros(rows.stop - rows.start, self.candidates, dtype=torch.bool)
        found[self.query_W[chosen] - rows.start, self.candidate_W[chosen]] = True
        return found

    def holds(self, query: int, candidate: int) -> bool:
        """Whether a candidate is right for a query."""
        return bool(((self.query_W == query) & (self.candidate_W == candidate)).any())


class Ranked(NamedTuple):
    """What queries got.

    Attributes:
        ranks_Q: the rank of each one's best positive, int64.
        best_QK, scores_QK: its first `SHOWN` candidates, best first, and what they scored.
    """

    ranks_Q: Tensor
    best_QK: Tensor
    scores_QK: Tensor


def ranked(blocks: Iterable[Block], positives: Positives) -> Ranked:
    """Rank all queries, given the scores of some at a time."""
    parts: list[Ranked] = []
    for rows, scores_QC in blocks:
        scores, best = scores_QC.topk(min(SHOWN, scores_QC.shape[1]), dim=1)
        parts.append(Ranked(ranks(scores_QC, positives.of(rows)), best, scores))
    return Ranked(*map(torch.cat, zip(*parts, strict=True)))


def ranks(scores_QC: Tensor, positives_QC: Tensor) -> Tensor:
    """The rank of each query's best positive, int64 ``[Q]``: 1 + how many others score at least as high.

    Further positives of the query are not "others". NaN never beats anything.

    Raises:
        ValueError: a query without a positive, which no rank can be given.
    """
    if not positives_QC.any(dim=1).all():
        missing = int((~positives_QC.any(dim=1)).nonzero()[0])
        raise ValueError(f"query {missing} has no positive candidate")
    best_Q1 = scores_QC.masked_fill(~positives_QC, -torch.inf).amax(dim=1, keepdim=True)
    below_QC = scores_QC < best_Q1
    return 1 + (~(below_QC | positives_QC)).sum(dim=1)


def recall_at(ranks_Q: Tensor, ks: Sequence[int] = RECALLS) -> dict[int, float]:
    """The share of queries whose rank is within each K."""
    return {k: float((ranks_Q <= k).double().mean()) for k in ks}


def chance_at(positives_Q: Tensor, candidates: int) -> dict[int, float]:
    """The recall@K that an order at random is expected to reach: that any positive of a query is among K drawn.

    Args:
        positives_Q: how many each query has.
    """
    others_Q = candidates - positives_Q.double()
    missed_Q = torch.ones_like(others_Q)
    chance: dict[int, float] = {}
    for drawn in range(max(RECALLS)):
        missed_Q = missed_Q * ((others_Q - drawn) / max(candidates - drawn, 1)).clamp(min=0)
        chance[drawn + 1] = 1 - float(missed_Q.mean())
    return {k: chance[k] for k in RECALLS}


def shortlist(similarity_QC: Tensor, size: int) -> Tensor:
    """The `size` most similar candidates of each query, or all: int64 ``[Q, K]``, best first."""
    return similarity_QC.topk(min(size, similarity_QC.shape[1]), dim=1).indices


def rerank(similarity_QC: Tensor, shortlist_QK: Tensor, itm_QK: Tensor) -> Tensor:
    """Scores after re-ranking: ITM logit + similarity for the short-listed, the rest below in their own order.

    Float64, because the rest is moved below the short-listed by a constant and its order must survive that.

    Returns:
        scores ``[Q, C]``, comparable within a query only.
    """
    similarity_QC = similarity_QC.double()
    chosen_QK = itm_QK.double() + similarity_QC.gather(1, shortlist_QK)
    lowest_Q1 = chosen_QK.amin(dim=1, keepdim=True)
    highest_Q1 = similarity_QC.amax(dim=1, keepdim=True)
    return (similarity_QC - highest_Q1 + lowest_Q1 - 1).scatter(1, shortlist_QK, chosen_QK)
