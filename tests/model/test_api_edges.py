"""What the public object does with nothing, with a text without a word, and with a name that is none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blip.data.decode import BadImage
from blip.errors import BadArguments
from blip.model.api import Blip
from blip.model.context import Context
from blip.model.explain import explain
from blip.model.text import TextTransformer
from tests import tiny


@pytest.fixture(scope="module")
def model() -> Blip:
    return tiny.blip(prompt="a picture of the")


@pytest.mark.parametrize("decoding", ["greedy", "nucleus", "beam"])
def test_a_caption_without_room_behind_the_prompt_is_empty(model: Blip, decoding) -> None:
    assert model.caption(tiny.images(2), decoding, max_length=3, min_length=1) == ["", ""]


def test_no_texts_have_no_scores(model: Blip) -> None:
    assert model.match(tiny.images(2), []).shape == (2, 0)
    assert model.match(tiny.images(2), [], head="itc").shape == (2, 0)
    nothing = torch.empty(0, dtype=torch.int64)
    assert model.likelihood(model.encode_images(tiny.images(2)), nothing, []).shape == (0,)


def test_every_image_has_one_question(model: Blip) -> None:
    with pytest.raises(BadArguments, match=r"2 image\(s\) and 1 question\(s\)"):
        model.answer(tiny.images(2), ["red"])
    with pytest.raises(BadArguments, match="candidates is empty"):
        model.answer(tiny.images(1), ["red"], candidates=[])


@pytest.mark.parametrize("candidates", [None, ["red", "a dog", "the table"]])
def test_questions_are_answered_a_block_of_images_at_a_time(model: Blip, candidates, monkeypatch) -> None:
    images, questions = tiny.images(5), ["a dog?", "red?", "the table?", "green?", "a?"]
    projected, project = [], TextTransformer.project_context

    def counted(stack: TextTransformer, tokens: torch.Tensor, *rest: torch.Tensor):
        projected.append(len(tokens))
        return project(stack, tokens, *rest)

    at_once = model.answer(images, questions, candidates)
    monkeypatch.setattr(TextTransformer, "project_context", counted)
    assert model.answer(images, questions, candidates, batch_size=2) == at_once
    assert max(projected) == 2


def test_images_that_nothing_is_asked_about_are_not_read(model: Blip, monkeypatch) -> None:
    tokens, asked = model.encode_images(tiny.images(5)), torch.tensor([3, 1, 3])
    questions, candidates = ["a dog?", "red?", "the table?"], ["red", "a dog", "the table"]
    alone = [
        model.rank_answers(tokens[n : n + 1], torch.zeros(1, dtype=torch.int64), [question], candidates)[0]
        for n, question in zip(asked.tolist(), questions, strict=True)
    ]
    assert model.rank_answers(tokens, asked, questions, candidates) == alone
    select = Context.select
    monkeypatch.setattr(
        Context, "select", lambda layer, index: seen.append(layer.rows) or select(layer, index)
    )
    seen: list[int] = []
    model.rank_answers(tokens, asked, questions, candidates)
    assert set(seen) == {2}


@pytest.mark.parametrize("text", ["", "...", "!?"])
def test_a_text_without_a_word_cannot_be_explained(model: Blip, text: str) -> None:
    with pytest.raises(BadArguments, match="has no word to look for"):
        model.explain(Image.new("RGB", (32, 32)), text)


def test_a_word_has_one_map_the_mean_of_its_tokens(model: Blip) -> None:
    """Here `with` and `t-shirt` are spelled letter by letter, the hyphen is unknown and `apple` is one token."""
    image = tiny.images(1)[0].permute(1, 2, 0).numpy().astype("uint8")
    whole = model.explain(image, "Apple with a t-shirt!")
    assert whole.words == ["apple", "with", "a", "t-shirt"]
    ids, _ = model._encode_texts(["apple with a t-shirt"])
    ids[:, 0] = model.tokenizer.enc
    maps, _ = explain(model.network, model._pixels([image]), ids, torch.ones_like(ids))
    expected = torch.stack([maps[1], maps[2:6].mean(0), maps[6], maps[[7, *range(9, 14)]].mean(0)])
    torch.testing.assert_close(torch.from_numpy(whole.maps), expected / expected.amax())


def test_a_way_that_is_none_is_named_with_those_there_are(model: Blip) -> None:
    with pytest.raises(BadArguments, match="decoding='Beam': it is one of greedy, beam, nucleus"):
        model.caption(tiny.images(1), "Beam")  # type: ignore[arg-type]
    with pytest.raises(BadArguments, match="head='ITC': it is one of itm, itc"):
        model.match(tiny.images(1), ["red"], head="ITC")  # type: ignore[arg-type]


def test_a_prompt_has_the_tokens_that_training_gave_it() -> None:
    marked, plain = tiny.blip(prompt="The picture:"), tiny.blip(prompt="the picture")
    images = tiny.images(2)
    assert marked.caption(images, "greedy") == plain.caption(images, "greedy")
    texts = ["red apple", "dog"]
    found = [m.likelihood(m.encode_images(images), torch.arange(2), texts) for m in (marked, plain)]
    assert torch.equal(*found)


def test_one_picture_that_is_in_no_list_is_refused(model: Blip) -> None:
    drawn = Image.new("RGB", (9, 5))
    for picture in (
        np.zeros((5, 9, 3), np.uint8),
        np.zeros((5, 9), np.uint8),
        "cat.jpg",
        Path("cat.jpg"),
        drawn,
    ):
        for ask in (model.caption, model.embed_images, lambda one: model.answer(one, ["red"])):
            with pytest.raises(BadArguments, match="put the one picture into a list"):
                ask(picture)


def test_one_text_that_is_in_no_list_is_refused(model: Blip) -> None:
    one = tiny.images(1)
    for ask in (
        lambda text: model.match(one, text),
        lambda text: model.match(one, text, head="itc"),
        model.embed_texts,
        lambda text: model.answer(one, text),
        lambda text: model.answer(one, ["what?"], candidates=text),
    ):
        with pytest.raises(BadArguments, match="put the one, 'w', into a list"):
            ask("w")


def test_arrays_of_paths_and_of_pictures_are_lists(model: Blip, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        Image.new("RGB", (32, 32), (90 * number, 40, 9)).save(path)
    expected = model.embed_images(paths)
    assert torch.equal(model.embed_images(np.array([str(path) for path in paths])), expected)
    pictures = np.stack([np.asarray(Image.open(path)) for path in paths])
    assert torch.equal(model.embed_images(pictures), expected)


def test_grey_arrays_and_tensors_of_other_floats_are_pictures(model: Blip) -> None:
    grey = np.full((32, 32), 90, np.uint8)
    assert torch.equal(model.embed_images([grey]), model.embed_images([grey[:, :, None]]))
    with pytest.raises(BadImage, match=r"\[32, 32, 2\], not uint8"):
        model.embed_images([np.zeros((32, 32, 2), np.uint8)])
    images = tiny.images(2)
    assert torch.equal(model.embed_images(images.double()), model.embed_images(images))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"top_p": 0.0}, "top_p=0.0: it is above 0 and at most 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0: it is above 0"),
        ({"max_length": 1000}, "max_length=1000: this model has positions for"),
    ],
)
def test_decoding_that_cannot_be_is_refused_by_name(model: Blip, settings, said: str) -> None:
    with pytest.raises(BadArguments, match=said):
        model.caption(tiny.images(1), "nucleus", **settings)


def test_cosines_need_no_tokens_of_the_pictures(model: Blip, monkeypatch) -> None:
    whole = model.match(tiny.images(3), ["red", "a dog"], head="itc")
    asked: list[bool] = []
    encode = Blip.encode_images

    def seen(self: Blip, *arguments, first_only: bool = False):
        asked.append(first_only)
        return encode(self, *arguments, first_only=first_only)

    monkeypatch.setattr(Blip, "encode_images", seen)
    assert torch.equal(model.match(tiny.images(3), ["red", "a dog"], head="itc"), whole) and asked == [True]
