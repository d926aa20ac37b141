"""Texts chosen for a loader's pictures."""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Literal

import pytest
import torch

from blip.data.images import normalise
from blip.data.loader import Batch
from blip.data.sample import Caption, Question, Sample, stable_id
from blip.errors import BlipError
from blip.training.collate import PairCollate, QuestionCollate
from tests import tiny

TOKENS = tiny.tokenizer()
TEXTS = (("red apple", "the red apple", "apple"), ("green dog",), ())


def loaded(seed: int = 0) -> Batch:
    samples = tuple(
        Sample(f"s{n}", b"", "png", tuple(Caption(text, "human") for text in texts), width=8, height=8)
        for n, texts in enumerate(TEXTS)
    )
    ids = torch.tensor([stable_id(sample.key) for sample in samples])
    return Batch(torch.zeros(3, 3, 16, 16, dtype=torch.uint8), samples, ids, Random(seed), 0, 0)


def texts_of(collate: PairCollate, seed: int = 0) -> list[str]:
    return TOKENS.decode(collate(loaded(seed)).ids)


def test_one_caption_is_drawn_of_all_of_an_image_and_none_is_an_empty_one() -> None:
    collate = PairCollate(TOKENS, 12)
    seen = {tuple(texts_of(collate, seed)) for seed in range(40)}
    assert seen == {(text, "green dog", "") for text in TEXTS[0]}
    assert collate(loaded()).image is None


def test_several_captions_share_their_picture() -> None:
    made = PairCollate(TOKENS, 12, per_image=2)(loaded())
    assert made.images.shape[0] == 3
    assert made.image is not None and made.image.tolist() == [0, 0, 1, 1, 2, 2]
    texts = TOKENS.decode(made.ids)
    assert set(texts[:2]) < set(TEXTS[0]) and len(set(texts[:2])) == 2
    assert texts[2:] == ["green dog", "green dog", "", ""], "what is missing is given again"


ORIGINS = ("human", "web", "synthetic", "synthetic")


def of_origins(seed: int) -> Batch:
    """A picture with a caption of each origin, the last two of one, and a picture with a caption of the web's only."""
    batch = loaded(seed)
    mixed = tuple(
        Caption(text, origin) for text, origin in zip(("red", "green", "dog", "table"), ORIGINS, strict=True)
    )
    samples = [replace(batch.samples[0], captions=mixed), replace(batch.samples[1], captions=(mixed[1],))]
    return replace(batch, samples=(*samples, batch.samples[2]))


def drawn(weights: dict[str, float], seed: int, per_image: int = 1) -> list[str]:
    collate = PairCollate(TOKENS, 12, per_image=per_image, weights=weights)
    return TOKENS.decode(collate(of_origins(seed)).ids)


def test_captions_are_drawn_by_the_weight_of_their_origin() -> None:
    weights = {"human": 3.0, "web": 0.0}  # and 1 of each synthetic one
    counts = Counter(drawn(weights, seed)[0] for seed in range(2000))
    assert set(counts) == {"red", "dog", "table"}
    assert counts["red"] / 2000 == pytest.approx(3 / 5, abs=0.04)
    assert counts["dog"] / 2000 == pytest.approx(1 / 5, abs=0.04)


def test_what_weighs_nothing_is_drawn_where_there_is_nothing_else() -> None:
    assert {tuple(drawn({"web": 0.0}, seed)[1:]) for seed in range(20)} == {("green", "")}


def test_several_captions_are_drawn_by_weight_without_the_same_twice() -> None:
    pairs = [drawn({"human": 1000.0, "web": 0.001}, seed, per_image=2)[:2] for seed in range(50)]
    assert all(first == "red" for first, _ in pairs)
    assert {second for _, second in pairs} == {"dog", "table"}


def test_without_weights_the_draw_is_a_plain_choice() -> None:
    for seed in range(30):
        assert drawn({}, seed)[0] == Random(seed).choice(("red", "green", "dog", "table"))


def test_the_shortest_captions_come_first() -> None:
    assert texts_of(PairCollate(TOKENS, 12, captions="shortest"))[0] == "apple"
    several = texts_of(PairCollate(TOKENS, 12, captions="shortest", per_image=2))
    assert several[:2] == ["apple", "red apple"]


@pytest.mark.parametrize("per_image", [1, 2])
@pytest.mark.parametrize("weights", [{}, {"synthetic": 0.0}])
@pytest.mark.parametrize("captions", ["any", "shortest"])
def test_a_caption_without_a_word_is_taken_only_where_there_is_no_other(
    captions: Literal["any", "shortest"], weights: dict[str, float], per_image: int
) -> None:
    collate = PairCollate(TOKENS, 12, captions=captions, weights=weights, per_image=per_image)
    told = (Caption("...", "human"), Caption("red apple", "synthetic"), Caption(" ", "human"))
    for seed in range(10):
        batch = loaded(seed)
        samples = [replace(batch.samples[0], captions=told), replace(batch.samples[1], captions=told[:1])]
        made = collate(replace(batch, samples=(*samples, batch.samples[2])))
        assert TOKENS.decode(made.ids) == [text for text in ("red apple", "", "") for _ in range(per_image)]


@pytest.mark.parametrize("positives", ["pair", "image", "text"])
def test_captions_of_an_image_are_of_one_group_whatever_counts_as_positive(positives: str) -> None:
    group = PairCollate(TOKENS, 12, positives, per_image=2)(loaded()).group  # pyright: ignore[reportArgumentType]
    assert group.shape == (6, 2) and group.is_contiguous()
    assert group[0, 0] == group[1, 0] and group[2, 0] == group[3, 0]
    assert len(set(group[:, 0].tolist())) == 3


def test_a_long_caption_is_cut_with_its_end_last_behind_the_prompt() -> None:
    made = PairCollate(TOKENS, 6, prompt="a picture of")(loaded())
    assert made.prompt_tokens == 4
    assert (made.mask.sum(1) <= 6).all()
    last = made.mask.sum(1) - 1
    assert (made.ids.gather(1, last[:, None]) == TOKENS.sep).all()


def test_pictures_travel_as_bytes_and_are_normalised_where_they_arrive() -> None:
    batch = loaded()
    made = PairCollate(TOKENS, 12)(batch)
    assert made.images.dtype == torch.uint8
    arrived = made.to("cpu")
    assert torch.equal(arrived.images, normalise(batch.images))
    assert arrived.counts is not None and arrived.counts.tokens == made.mask.sum()
    assert torch.equal(arrived.to("cpu").images, arrived.images)


def test_a_text_of_no_image_is_drawn_for_every_caption() -> None:
    others = ["table", "red x"]
    plain = PairCollate(TOKENS, 12, per_image=2)(loaded())
    made = PairCollate(TOKENS, 12, per_image=2, distractors=others)(loaded())
    assert plain.distractor_ids is None
    assert made.distractor_ids is not None and made.distractor_mask is not None
    assert set(TOKENS.decode(made.distractor_ids)) == set(others)
    assert made.distractor_ids.shape == made.distractor_mask.shape == made.ids.shape
    assert TOKENS.decode(made.ids) == TOKENS.decode(plain.ids)


def test_with_lanes_a_text_of_no_image_is_the_same_however_many_ranks_there_are() -> None:
    collate = PairCollate(TOKENS, 12, per_image=2, distractors=TEXTS[0])
    batch = loaded()

    def drawn_for(first: int, end: int) -> list[str]:
        """By a rank that has these of the samples."""
        rngs = tuple(Random(f"lane/{number}") for number in range(first, end))
        own = replace(batch, samples=batch.samples[first:end], rng=rngs[0], rngs=rngs)
        ids = collate(replace(own, image_ids=batch.image_ids[first:end])).distractor_ids
        assert ids is not None
        return TOKENS.decode(ids)

    assert drawn_for(0, 3) == drawn_for(0, 2) + drawn_for(2, 3)


def test_without_lanes_texts_of_no_image_are_drawn_at_once_behind_the_captions() -> None:
    made, rng = PairCollate(TOKENS, 12, distractors=TEXTS[0])(loaded(3)), Random(3)
    for texts in TEXTS[:2]:
        rng.choice(texts)
    assert made.distractor_ids is not None
    assert TOKENS.decode(made.distractor_ids) == rng.choices(TEXTS[0], k=3)


def test_an_answer_is_drawn_by_its_share_and_a_question_counts_once() -> None:
    asked = (
        Question("the picture", {"red": 1.0}, False),
        Question("the dog", {"apple": 0.7, "table": 0.2, "green": 0.1}, True),
        Question("the apple", {"on": 0.2}, True),  # of Visual Genome
    )
    sample = Sample("s", b"", "png", questions=asked, width=8, height=8)
    drawn: dict[str, list[str]] = {}
    for seed in range(400):
        batch = Batch(torch.zeros(1, 3, 16, 16), (sample,), torch.tensor([1]), Random(seed), 0, 0)
        made = QuestionCollate(TOKENS, 12, 3)(batch)
        texts = zip(
            TOKENS.decode(made.questions), TOKENS.decode(made.answers), made.weights.tolist(), strict=True
        )
        for question, answer, weight in texts:
            drawn.setdefault(question, []).append(answer)
            assert weight == pytest.approx(0.2 if answer == "on" else 1.0)
    shares = [drawn["the dog"].count(name) / 400 for name in ("apple", "table", "green")]
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.06)


def asked(*questions: Question) -> Batch:
    sample = Sample("s", b"", "png", questions=questions, width=8, height=8)
    return Batch(torch.zeros(1, 3, 16, 16), (sample,), torch.tensor([1]), Random(0), 0, 0)


UNANSWERED = Question("the dog", {}, True), Question("the table", {"red": 0.0}, True)


def test_a_question_without_an_answer_teaches_nothing() -> None:
    made = QuestionCollate(TOKENS, 12, 3)(asked(*UNANSWERED, Question("the picture", {"red": 1.0}, False)))
    assert TOKENS.decode(made.questions) == ["the picture"]


def test_a_batch_without_an_answer_is_named() -> None:
    with pytest.raises(BlipError, match=r"none of 1 samples \(s, \.\.\.\) has a question with an answer"):
        QuestionCollate(TOKENS, 12, 3)(asked(*UNANSWERED))
