"""A BLIP and a CLIP with random weights, measured alike."""

from functools import partial

import pytest
import torch
import transformers

from blip.clip import Clip
from blip.data.sample import Sample
from blip.errors import BlipError
from blip.model.api import Blip
from blip.tasks.classification import evaluate as classify
from blip.tasks.comparison import How, evaluate
from blip.tasks.gallery import encode_pictures, gather
from blip.tasks.retrieval import by_embeddings, metrics, search
from tests import tiny_clip

TEMPLATES = ("{}", "a picture of {}")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return Clip.open(tiny_clip.save(tmp_path_factory.mktemp("clip"), tiny_clip.processor_of()))


@pytest.fixture
def samples(painted, colours) -> list[Sample]:
    """Eight pictures, one with two captions, and two with the same."""
    made = [painted(f"k{n}", colour, [f"something {colour}"]) for n, colour in enumerate(colours)]
    more = [painted("two", "red", ["red", "it is red"]), painted("same", "cyan", ["something blue"])]
    return [*made, *more]


def test_a_blips_figures_are_those_of_retrieval(tiny_blip: Blip, samples):
    how = How(batch_size=3, rerank=4, rerank_by="log_odds")
    found = evaluate(tiny_blip, samples, how)
    gallery = gather(samples, partial(encode_pictures, tiny_blip), 3)
    cosines = gallery.cosines(tiny_blip.embed_texts(gallery.texts))
    by_itm = search(tiny_blip, gallery, 4, "log_odds")
    for head, expected in {"itc": by_embeddings(gallery, cosines), "itm": by_itm}.items():
        answers = found.heads[head]
        of_images, of_texts = expected
        assert answers.recalls == metrics(gallery, expected)
        assert torch.equal(answers.best_text_N, of_images.best_QK[:, 0])
        assert torch.equal(answers.best_image_Q, of_texts.best_QK[:, 0][gallery.caption_text])
        assert {name: float(hits.double().mean()) for name, hits in answers.hits.items()} == answers.recalls
    assert found.classified is None


def test_a_clip_is_ranked_by_its_embeddings_alone(clip: Clip, samples):
    found = evaluate(clip, samples, How(batch_size=3, rerank=0))
    assert list(found.heads) == ["itc"] and found.cost.rerank_seconds is None
    images = clip.embed_images([sample.media for sample in samples])
    cosines = images @ clip.embed_texts(found.queries.texts).T
    assert torch.equal(found.heads["itc"].best_text_N, cosines.argmax(dim=1))


@pytest.mark.parametrize("rerank", [0, 2])
def test_without_re_ranking_a_blip_finds_the_same_by_its_embeddings(tiny_blip: Blip, samples, rerank: int):
    found = evaluate(tiny_blip, samples, How(rerank=rerank))
    alone = evaluate(tiny_blip, samples, How(rerank=0))
    for mine, other in zip(found.heads["itc"].ranks, alone.heads["itc"].ranks, strict=True):
        assert torch.equal(mine, other)


def test_every_caption_is_a_query_of_its_picture(tiny_blip: Blip, samples):
    asked = evaluate(tiny_blip, samples, How(rerank=0)).queries
    written = [(sample.key, caption.text) for sample in samples for caption in sample.captions]
    owners = [asked.keys[image] for image in asked.caption_image.tolist()]
    texts = [asked.texts[text] for text in asked.caption_text.tolist()]
    assert list(zip(owners, texts, strict=True)) == written
    assert asked.caption_of == [sample.captions[0].text for sample in samples]
    assert len(asked.texts) == len(written) - 1


def test_classes_are_those_of_classification(tiny_blip: Blip, clip: Clip, samples, colours):
    labels = {f"k{n}": colour for n, colour in enumerate(colours)} | {"two": "Red", "elsewhere": "green"}
    for model in (tiny_blip, clip):
        found = evaluate(model, samples, How(batch_size=3, rerank=0, templates=TEMPLATES), labels)
        expected = classify(
            model, samples, labels, templates=TEMPLATES, temperature=0.1, batch_size=3, seed=0
        )
        assert found.classified is not None
        top1, top5 = found.classified.within.values()
        assert top1 == expected.metrics["classification.top1"]
        assert top5 == expected.metrics["classification.top5"]
        ranks = [row["rank"] for row in expected.predictions]
        assert found.classified.ranks_N.tolist() == ranks
        assert found.hits("itc")["top1"].tolist() == [rank == 1 for rank in ranks]


def test_labels_of_other_samples_are_none(tiny_blip: Blip, samples):
    with pytest.raises(BlipError, match="needs labels"):
        evaluate(tiny_blip, samples, How(rerank=0), {"elsewhere": "red"})


def test_what_it_cost_is_told(tiny_blip: Blip, samples):
    cost = evaluate(tiny_blip, samples, How(batch_size=3, rerank=2)).cost
    assert (cost.images, cost.texts, cost.cut_texts) == (10, 10, 0)
    assert cost.parameters == sum(weights.numel() for weights in tiny_blip.network.parameters())
    assert cost.image_size == 32
    assert set(cost.seconds) == {"images", "texts", "reranking"}
    assert min(cost.images_per_second, cost.texts_per_second, cost.rerank_seconds or 0) > 0


def test_texts_that_a_model_reads_only_the_beginning_of_are_counted(clip: Clip, samples, painted):
    long = painted("long", "red", [" ".join(["redder"] * 12), "short"])
    assert evaluate(clip, [*samples, long], How(rerank=0)).cost.cut_texts == 1


def test_samples_without_captions_are_refused(clip: Clip, painted):
    with pytest.raises(BlipError, match="needs captions"):
        evaluate(clip, [painted("bare", "red")], How(rerank=0))
