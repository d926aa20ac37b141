"""Zero-shot classification."""

import pytest
import torch

from blip.errors import BlipError
from blip.tasks.classification import class_embeddings, evaluate

TEMPLATES = ["{}", "a picture of {}"]


@pytest.fixture
def samples(painted, colours):
    return [painted(f"k{n}", colour) for n, colour in enumerate(colours)]


@pytest.fixture
def labels(colours):
    return {f"k{n}": colour for n, colour in enumerate(colours)}


def classified(model, samples, labels):
    return evaluate(model, samples, labels, templates=TEMPLATES, temperature=0.1, batch_size=3, seed=1)


def test_a_model_that_knows_the_colours_classifies_all(colour_model, samples, labels):
    outcome = classified(colour_model, samples, labels)
    assert outcome.metrics == {
        "classification.top1": 1.0, "classification.top5": 1.0, "classification.classes": 8.0,
    }  # fmt: skip
    for example in outcome.examples["examples"]:
        assert example["top"][0]["label"] == example["label"]
        assert len(example["top"]) == 5 and sum(top["probability"] for top in example["top"]) <= 1.001


def test_a_wrong_label_is_a_miss(colour_model, samples, labels):
    outcome = classified(colour_model, samples, labels | {"k0": "white", "k1": "black"})
    assert outcome.metrics["classification.top1"] == pytest.approx(6 / 8)
    assert {row["key"] for row in outcome.predictions if row["rank"] != 1} == {"k0", "k1"}


def test_a_collapsed_model_classifies_nothing(colour_model, samples, labels):
    colour_model.embed_texts = lambda texts: torch.ones(len(texts), 3) / 3**0.5
    assert classified(colour_model, samples, labels).metrics["classification.top1"] == 0.0


def test_the_embedding_of_a_class_is_the_mean_over_the_templates(tiny_blip):
    found = class_embeddings(tiny_blip, ["red", "blue"], TEMPLATES)
    texts = tiny_blip.embed_texts(["red", "a picture of red"])
    torch.testing.assert_close(found[0], torch.nn.functional.normalize(texts.mean(0), dim=0))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_labels_are_required(colour_model, samples):
    with pytest.raises(BlipError, match="needs labels"):
        classified(colour_model, samples, {})


def test_a_real_network_runs_through(tiny_blip, samples, labels):
    outcome = classified(tiny_blip, samples, labels)
    assert 0 <= outcome.metrics["classification.top1"] <= outcome.metrics["classification.top5"] <= 1
    assert len(outcome.predictions) == len(samples)


def test_labels_that_are_one_text_to_the_model_are_one_class(colour_model, samples, labels, painted):
    more = [painted(f"m{n}", "red") for n in range(3)]
    also = {f"m{n}": label for n, label in enumerate(["Red", "red.", "RED!"])}
    outcome = classified(colour_model, [*samples, *more], labels | also)
    assert outcome.metrics["classification.top1"] == 1.0
