"""The filter's verdict: which of its heads decides, and against what the embeddings are compared."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from blip.capfilt.judge import REFERENCES, Judge, Jury, Verdicts
from blip.capfilt.neighbours import Neighbours
from blip.capfilt.pictures import View, look
from blip.data.images import normalise
from blip.errors import BlipError
from tests import tiny

from .conftest import strangers

TEXTS = ["red apple", "the dog", "green"]
PICTURES = list(np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8))
KEYS = ("web-1", "web-2")
HUMAN = ["red apple", "table", "the dog on the table"]


def judge(head: str, human: list[str] = HUMAN) -> tuple[Judge, torch.Tensor]:
    model = tiny.blip(2)
    return Judge.of(model, head, human), model.encode_images(PICTURES)  # type: ignore[arg-type]


def decide(jury: Jury, *arguments: torch.Tensor) -> Verdicts:
    return jury(look(PICTURES, jury.wanted), KEYS, TEXTS, *arguments)


def seen(share: float) -> torch.Tensor:
    """The pictures as a model sees them that looks at a share of both of their sides."""
    view = View(32, share)
    return normalise(look(PICTURES, [view])[view])


def test_the_published_filter_decides_by_its_matching_head_alone() -> None:
    made, tokens = judge("itm", human=[])
    index = torch.tensor([0, 1, 1])
    verdicts = decide(Jury([made]), index)
    expected = made.model.score_pairs(tokens, index, TEXTS, torch.arange(3)).sigmoid()
    assert torch.allclose(verdicts.probability.float(), expected, atol=1e-6)
    assert torch.allclose(verdicts.probability.float(), verdicts.itm)


def test_embeddings_are_compared_with_human_texts_one_by_one() -> None:
    made, tokens = judge("itc")
    index = torch.tensor([0, 1, 1])
    opinion = made(tokens, None, TEXTS, index)
    images, temperature = made.model.project_images(tokens), made.model.network.temperature.item()
    for n, text in enumerate(TEXTS):
        image = images[index[n]]
        cosine = float(image @ made.model.embed_texts([text])[0])
        others = [math.exp(float(image @ made.model.embed_texts([t])[0]) / temperature) for t in HUMAN]
        log_odds = cosine / temperature - math.log(sum(others) / len(others))
        assert opinion.itc[n].item() == pytest.approx(cosine, abs=1e-5)
        assert opinion.own[n].item() == pytest.approx(log_odds, abs=1e-4)


def test_both_is_the_mean_of_the_log_odds() -> None:
    index = torch.tensor([0, 1, 1])
    scores = {}
    for head in ("itm", "itc", "both"):
        made, tokens = judge(head)
        scores[head] = made(tokens, None, TEXTS, index).own
    assert torch.allclose(scores["both"], (scores["itm"] + scores["itc"]) / 2, atol=1e-4)


def test_without_human_texts_the_embeddings_have_nothing_to_compare_with() -> None:
    with pytest.raises(BlipError, match="human texts and there are none"):
        judge("both", human=["", ""])


def test_the_texts_compared_with_are_bounded() -> None:
    many = [f"red {'apple ' * (n % 7)}{n}" for n in range(2 * REFERENCES + 1)]
    references = judge("itc", many)[0].references
    assert references is not None
    assert REFERENCES / 2 < len(references) <= REFERENCES


def test_the_views_of_a_picture_are_averaged() -> None:
    made, _ = judge("both")
    index = torch.tensor([0, 1, 1])
    tokens = [made.model.encode_images(seen(share)) for share in (1.0, 0.5)]
    alone = [made(one, None, TEXTS, index) for one in tokens]
    both = decide(Jury([made], (1.0, 0.5)), index)
    expected = (alone[0].own + alone[1].own) / 2
    assert torch.allclose(both.probability.float().logit(), expected, atol=1e-4)
    assert torch.allclose(both.itc, (alone[0].itc + alone[1].itc) / 2, atol=1e-6)


def test_what_the_captioner_finds_likely_is_added() -> None:
    made, _ = judge("both")
    captioner, index = tiny.blip(5), torch.tensor([0, 1, 1])
    alone = decide(Jury([made]), index)
    both = decide(Jury([made], captioner=captioner, likelihood=0.5), index)
    found = captioner.likelihood(captioner.encode_images(PICTURES), index, TEXTS)
    assert torch.allclose(both.probability.logit(), alone.probability.logit() + found / 2, atol=1e-4)
    assert torch.equal(both.itm, alone.itm)
    assert torch.equal(both.likelihood, found / 2) and not both.neighbours.any()


def test_a_captioner_that_has_encoded_the_pictures_does_not_do_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, _ = judge("itm")
    captioner, index = tiny.blip(5), torch.tensor([0, 1, 1])
    jury = Jury([made], captioner=captioner, likelihood=0.5)
    expected, tokens = decide(jury, index), captioner.encode_images(PICTURES)
    monkeypatch.delattr(captioner.network, "vision")
    found = jury(look(PICTURES, jury.wanted), KEYS, TEXTS, index, tokens_NTD=tokens)
    assert torch.equal(found.probability, expected.probability)


def test_similar_pictures_of_the_pool_have_a_say_in_what_nobody_wrote_for_them() -> None:
    index, written = torch.tensor([0, 1, 1]), torch.tensor([False, False, True])
    made, _ = judge("both")
    random = torch.Generator().manual_seed(0)
    pool = torch.randn(2, 5, made.model.network.config.projection, generator=random)
    near = Neighbours.of(strangers(("a", "b", "c", "d", KEYS[1])), *pool)
    alone = decide(Jury([made], (1.0, 0.5)), index)
    asked = replace(made, neighbours=near, trust=0.5)
    found = decide(Jury([asked], (1.0, 0.5)), index, written)
    own = torch.tensor([[False] * 5, [False] * 4 + [True]])
    support = sum(
        near.support(images, own, made.model.embed_texts(TEXTS), index)
        for images in (made.model.embed_images(seen(share)) for share in (1.0, 0.5))
    )
    added = 0.5 * (support / 2).masked_fill(written, 0.0)
    expected = alone.probability.logit() + added
    assert torch.allclose(found.neighbours, added, atol=1e-5) and not found.likelihood.any()
    assert torch.allclose(found.probability.logit(), expected, atol=1e-4)
    assert torch.equal(found.itm, alone.itm)
