"""A saved model gives the same figures and the same texts in `transformers`."""

from pathlib import Path

import pytest
import torch

from blip.model.api import Blip
from blip.model.checkpoints import ModelCard, save_model
from blip.model.generation import Decoding
from tests import tiny

TEXTS = ["red apple", "the dog on the table", "a", "green picture of x"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny.blip()
    t = model.tokenizer
    directory = tmp_path_factory.mktemp("models") / "tiny"
    save_model(
        model.network, t, directory, ModelCard(), {"bos": t.bos, "sep": t.sep, "pad": t.pad, "enc": t.enc}
    )
    return directory


@pytest.fixture(scope="module")
def ours(saved: Path) -> Blip:
    return Blip.open(saved)


def opened(name: str, directory: Path):
    import transformers

    transformers.logging.set_verbosity_error()
    return getattr(transformers, name).from_pretrained(directory).eval()


def test_a_saved_model_opens_unchanged(ours: Blip) -> None:
    before = tiny.blip().network.state_dict()
    after = ours.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@torch.no_grad()
def test_retrieval_scores_are_those_of_transformers(saved: Path, ours: Blip) -> None:
    theirs = opened("BlipForImageTextRetrieval", saved)
    images = tiny.images(4)
    ids, mask = ours.tokenizer.encode(TEXTS, 30)
    cosine = theirs(input_ids=ids, pixel_values=images, attention_mask=mask, use_itm_head=False).itm_score
    assert torch.allclose(cosine, ours.match(images, TEXTS, head="itc"), atol=1e-5)
    ids[:, 0] = ours.tokenizer.enc
    logits = theirs(input_ids=ids, pixel_values=images, attention_mask=mask).itm_score
    rows = torch.arange(4)
    own = ours.score_pairs(ours.encode_images(images), rows, TEXTS, rows)
    assert torch.allclose(logits[:, 1] - logits[:, 0], own, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("minimum", [1, 6])
@torch.no_grad()
def test_captions_are_those_of_transformers(saved: Path, ours: Blip, beams: int, minimum: int) -> None:
    theirs = opened("BlipForConditionalGeneration", saved)
    images = tiny.images(5)
    ids = theirs.generate(pixel_values=images, max_length=14, min_length=minimum, num_beams=beams)
    own = ours.caption_tokens(ours.encode_images(images), Decoding(14, minimum, beams))
    assert own == ours.tokenizer.decode(ids)


@torch.no_grad()
def test_a_prompt_goes_through_in_one_pass(saved: Path, ours: Blip) -> None:
    theirs = opened("BlipForConditionalGeneration", saved)
    images = tiny.images(3)
    prompt, _ = ours.tokenizer.encode(["picture of"] * 3, 30)
    ids = theirs.generate(pixel_values=images, input_ids=prompt, max_length=14, min_length=1)
    full = [text.removeprefix("picture of").strip() for text in ours.tokenizer.decode(ids)]
    own = ours.caption_tokens(ours.encode_images(images), Decoding(14, 1), "picture of ")
    assert [text.removeprefix("##") for text in own] == [text.removeprefix("##") for text in full]


def test_the_bf16_network_answers_nearly_the_same(saved: Path, ours: Blip) -> None:
    half = Blip.open(saved, dtype="bfloat16")
    images = tiny.images(4)
    assert torch.allclose(half.embed_images(images), ours.embed_images(images), atol=0.05)
