"""Retrieval by a toy model that knows colours and by a real network."""

from functools import partial

import pytest
import torch

from blip.errors import BlipError
from blip.tasks import gallery as galleries
from blip.tasks import retrieval
from blip.tasks.gallery import encode_pictures, gather
from blip.tasks.retrieval import by_embeddings, evaluate, metrics, recalls, search


@pytest.fixture
def samples(painted, colours):
    return [painted(f"k{n}", colour, [f"a {colour}"]) for n, colour in enumerate(colours)]


def gathered(model, samples):
    return gather(samples, partial(encode_pictures, model), batch_size=3)


def test_a_model_that_knows_every_colour_finds_every_picture_and_text(colour_model, samples):
    outcome = evaluate(colour_model, samples, batch_size=3, rerank_size=4, seed=1)
    recalls = [f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
    assert {outcome.metrics[f"retrieval.{name}"] for name in recalls} == {1.0}
    at_random = [f"retrieval.chance.{name}" for name in recalls]
    counts = ["retrieval.images", "retrieval.texts"]
    assert list(outcome.metrics) == [*(f"retrieval.{name}" for name in recalls), *at_random, *counts]


def test_a_collapsed_model_finds_nothing(colour_model, painted):
    model = colour_model
    model.project_images = lambda tokens: torch.ones(len(tokens), 3) / 3**0.5
    model.embed_texts = lambda texts: torch.ones(len(texts), 3) / 3**0.5
    model.score_pairs = lambda tokens, image, texts, text, **_: torch.zeros(len(image))
    samples = [painted(f"k{n}", "red", [f"number {n}"]) for n in range(200)]
    found = evaluate(model, samples, batch_size=50, rerank_size=32, seed=1).metrics
    reached = {name: value for name, value in found.items() if "_r" in name and "chance" not in name}
    assert set(reached.values()) == {0.0} and len(reached) == 6


def test_any_caption_of_an_image_counts_and_every_caption_is_a_query(colour_model, painted):
    gallery = gathered(
        colour_model,
        [painted("a", "red", ["the blue", "the red"]), painted("b", "green", ["a green", "a green!"])],
    )
    assert gallery.texts == ["the blue", "the red", "a green"]
    assert gallery.caption_text.tolist() == [0, 1, 2]
    cosines = gallery.cosines(colour_model.embed_texts(gallery.texts))
    found = metrics(gallery, by_embeddings(gallery, cosines))
    assert found["i2t_r1"] == 1.0
    assert found["t2i_r1"] == pytest.approx(2 / 3)  # "the blue" is as far from red as from green


def test_a_caption_of_several_images_belongs_to_all_of_them(colour_model, painted):
    gallery = gathered(
        colour_model,
        [painted("a", "red", ["Red."]), painted("b", "red", ["red"]), painted("c", "blue", ["blue"])],
    )
    right = gallery.texts_of_images.of(slice(0, 3))
    assert right.tolist() == [[True, False], [True, False], [False, True]]
    assert torch.equal(gallery.images_of_texts.of(slice(0, 2)), right.T)
    assert set(metrics(gallery, search(colour_model, gallery, 2)).values()) == {1.0}


def test_chance_counts_every_caption_of_an_image_and_every_image_of_a_caption(colour_model, painted):
    samples = [
        painted("a", "red", ["red", "a red"]), painted("b", "red", ["red"]), painted("c", "blue", ["blue"]),
    ]  # fmt: skip
    found = evaluate(colour_model, samples, batch_size=3, rerank_size=4, seed=1).metrics
    assert (found["retrieval.images"], found["retrieval.texts"]) == (3.0, 3.0)
    assert found["retrieval.chance.i2t_r1"] == pytest.approx((2 + 1 + 1) / 3 / 3)
    assert found["retrieval.chance.t2i_r1"] == pytest.approx((2 + 1 + 2 + 1) / 4 / 3)
    assert found["retrieval.chance.i2t_r5"] == found["retrieval.chance.t2i_r10"] == 1.0


def test_the_itm_head_decides_among_the_short_listed(colour_model, samples):
    model = colour_model
    model.score_pairs = lambda tokens, image, texts, text, **_: torch.where(image == text, -5.0, 5.0)
    found = recalls(model, samples, batch_size=3, rerank_size=2)
    assert found["itc"]["i2t_r1"] == 1.0
    assert (found["itm"]["i2t_r1"], found["itm"]["i2t_r5"]) == (0.0, 1.0)


def test_a_pair_on_both_short_lists_is_scored_once_and_pairs_come_image_by_image(colour_model, samples):
    search(colour_model, gathered(colour_model, samples), 3)
    assert len(set(colour_model.scored)) == len(colour_model.scored) <= 2 * 3 * len(samples)
    assert colour_model.scored == sorted(colour_model.scored)


def test_samples_without_a_caption_are_left_out(colour_model, painted, samples):
    gallery = gathered(colour_model, [*samples, painted("bare", "red"), painted("dots", "red", ["..."])])
    assert gallery.keys == [sample.key for sample in samples]
    with pytest.raises(BlipError, match="no sample of the evaluation data has one"):
        gathered(colour_model, [painted("bare", "red")])


def test_examples_show_ranked_candidates_with_their_scores(colour_model, samples):
    outcome = evaluate(colour_model, samples, batch_size=8, rerank_size=8, seed=1)
    for example in outcome.examples["examples"]:
        tops = example["top_texts"]
        assert len(tops) == 5 and tops[0]["correct"] and tops[0]["text"] == example["caption"]
        assert [top["score"] for top in tops] == sorted((top["score"] for top in tops), reverse=True)
    for example in outcome.examples["text_to_image"]:
        assert example["top_images"][0]["correct"]
    assert outcome.pictures == {sample.key for sample in samples}
    assert [row["rank"] for row in outcome.predictions] == [1] * len(samples)


@torch.inference_mode()
def matched_logits(model, images, texts):
    """Of every pair by itself, straight from the head."""
    ids, mask = model._encode_texts(texts)
    ids[:, 0] = model.tokenizer.enc
    rows = []
    for tokens in model.encode_images(images):
        context = model.network.text_encoder.project_context(tokens.expand(len(texts), -1, -1))
        rows.append(model.network.itm_head(model.network.text_encoder(ids, mask, context)[:, 0])[:, 1])
    return torch.stack(rows)


def test_what_is_right_and_wrong_is_counted_as_such(colour_model, painted, colours):
    samples = [painted(f"k{n}", colour, [f"something {colour}"]) for n, colour in enumerate(colours)]
    astray = painted("astray", "red", ["rather green"])
    outcome = evaluate(colour_model, [*samples, astray], batch_size=8, rerank_size=8, seed=1)
    found = [row["rank"] == 1 for row in outcome.predictions]
    assert not found[-1] and any(found)
    chosen = outcome.selection
    assert (chosen.right_of_all, chosen.of) == (sum(found), len(found))
    assert (chosen.right, chosen.wrong) == (sum(found), len(found) - sum(found))


def ranked_as(found, scores_NM):
    """Every text belongs to the image of its own number, and scores differ by more than rounding."""
    for ranked, scores in zip(found, (scores_NM, scores_NM.T), strict=True):
        torch.testing.assert_close(ranked.scores_QK, scores.topk(5).values, atol=1e-3, rtol=1e-3)
        assert torch.equal(ranked.best_QK, scores.topk(5).indices)
        assert torch.equal(ranked.ranks_Q, (scores >= scores.diagonal()[:, None]).sum(dim=1))


def test_a_real_network_is_scored_as_its_public_calls_say(tiny_blip, painted, colours):
    samples = [painted(f"k{n}", colour, [f"a {colour}"]) for n, colour in enumerate(colours)]
    gallery = gathered(tiny_blip, samples)
    found = search(tiny_blip, gallery, 256)
    images = [sample.media for sample in samples]
    itc = tiny_blip.match(images, gallery.texts, head="itc")
    itm = tiny_blip.match(images, gallery.texts, head="itm").logit()
    ((_, cosines),) = gallery.cosines(tiny_blip.embed_texts(gallery.texts)).of_images()
    torch.testing.assert_close(cosines, itc, atol=1e-5, rtol=1e-4)
    ranked_as(found, (matched_logits(tiny_blip, images, gallery.texts) + itc).double())
    summed = search(tiny_blip, gallery, 256, "log_odds")
    ranked_as(summed, (itm + itc / tiny_blip.network.temperature.item()).double())
    assert cosines.std() > 1e-3  # the network tells the pairs apart at all


def test_tokens_are_kept_where_something_is_re_ranked_and_each_once(tiny_blip, painted, colours, monkeypatch):
    samples = [painted(f"k{n}", colour, [f"a {colour}"]) for n, colour in enumerate(colours)]
    made = []

    def gathered(*given):
        made.append(gather(*given))
        return made[-1]

    monkeypatch.setattr(retrieval, "gather", gathered)
    found = [recalls(tiny_blip, samples, batch_size=3, rerank_size=size) for size in (4, 0)]
    assert found[0]["itc"] == found[1]["itc"] and list(found[1]) == ["itc"]
    assert [gallery.tokens_NTD.numel() for gallery in made] == [8 * 17 * 32, 0]
    assert torch.equal(*(gallery.embeddings_NP for gallery in made))
    expected = [tiny_blip.encode_images([sample.media for sample in samples[n : n + 3]]) for n in (0, 3, 6)]
    assert torch.equal(made[0].tokens_NTD, torch.cat(expected))
    whole = galleries._joined(expected)
    assert torch.equal(whole, made[0].tokens_NTD) and expected == [], "what has been copied is given up"


@pytest.mark.parametrize("rerank_size", [0, 3])
def test_what_is_found_does_not_depend_on_how_much_is_in_memory(
    tiny_blip, painted, colours, monkeypatch, rerank_size
):
    samples = [painted(f"k{n}", colour, [f"a {colour}", f"so {colour}"]) for n, colour in enumerate(colours)]
    gallery = gathered(tiny_blip, samples)
    cosines = gallery.cosines(tiny_blip.embed_texts(gallery.texts))

    def found():
        if not rerank_size:
            return by_embeddings(gallery, cosines)
        return search(tiny_blip, gallery, rerank_size)

    at_once = found()
    monkeypatch.setattr(galleries, "AT_ONCE", 40)  # two images with 16 texts, five texts with 8 images
    assert [len(block) for _, block in cosines.of_images()] == [2] * 4
    assert [len(block) for _, block in cosines.of_texts()] == [5, 5, 5, 1]
    for one, other in zip(at_once, found(), strict=True):
        assert torch.equal(one.ranks_Q, other.ranks_Q) and torch.equal(one.best_QK, other.best_QK)
        torch.testing.assert_close(one.scores_QK, other.scores_QK, atol=1e-6, rtol=1e-5)
