"""A model made and saved by `transformers` gives the same figures and the same texts here.

Where the published code differs from ours (it reads [CLS] where ITM and VQA were trained with [ENC], and its answer
decoder attends to the padding of questions), the tests give it our tokens, and questions of one length.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import blip
from blip.errors import BlipError
from blip.model.api import Blip
from blip.model.checkpoints import save_model
from blip.model.generation import Decoding, generate
from tests import tiny
from tests.model import theirs

CAPTIONER, RETRIEVER, ANSWERER = (
    "BlipForConditionalGeneration",
    "BlipForImageTextRetrieval",
    "BlipForQuestionAnswering",
)
TEXTS = ["red apple", "the dog on the table", "a", "green picture of x"]
QUESTIONS = ["red apple on the table", "is dog in picture", "a b c d e"]
ONE_WIDTH = [size for size in theirs.SIZES if size != "widths apart"]  # answers are read from question states

Opened = Callable[[str, str], tuple[Any, Blip]]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Their model of a class and size, and ours opened from what theirs saved."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    made: dict[tuple[str, str], tuple[Any, Blip]] = {}

    def get(kind: str, size: str) -> tuple[Any, Blip]:
        if (kind, size) not in made:
            model = theirs.make(kind, size)
            made[kind, size] = (
                model,
                blip.load(str(theirs.save(model, tmp_path_factory.mktemp("theirs")))),
            )
        return made[kind, size]

    return get


def images_for(model: Blip, count: int) -> torch.Tensor:
    return tiny.images(count, model.image_size)


def largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


@pytest.mark.parametrize("kind", [CAPTIONER, RETRIEVER, ANSWERER])
@pytest.mark.parametrize("size", theirs.SIZES)
@torch.no_grad()
def test_image_tokens_are_theirs(opened: Opened, kind: str, size: str) -> None:
    model, ours = opened(kind, size)
    images = images_for(ours, 3)
    expected = model.vision_model(pixel_values=images).last_hidden_state
    assert expected.std(dim=0).mean() > 0.1  # the images make a difference
    assert largest(ours.encode_images(images), expected) < 1e-4


@torch.no_grad()
def test_image_tokens_of_another_resolution_are_theirs(opened: Opened) -> None:
    model, ours = opened(RETRIEVER, "even")
    for side in (24, 64):
        images = tiny.images(2, side)
        expected = model.vision_model(pixel_values=images, interpolate_pos_encoding=True).last_hidden_state
        assert largest(ours.encode_images(images), expected) < 1e-4


@torch.no_grad()
def test_a_model_opened_at_another_size_has_its_positions_interpolated(tmp_path: Path) -> None:
    model = theirs.make(RETRIEVER, "even")
    directory = theirs.save(model, tmp_path)
    ours = blip.load(edited(directory, "vision_config", image_size=56))
    images = tiny.images(2, 56)
    assert ours.image_size == 56
    assert ours.network.vision.position_embedding.shape == (1, 50, 32)
    expected = model.vision_model(pixel_values=images, interpolate_pos_encoding=True).last_hidden_state
    assert largest(ours.encode_images(images), expected) < 1e-4


@pytest.mark.parametrize("shape", [(2, 3, 30, 30), (2, 3, 32, 40), (3, 32, 32), (2, 1, 32, 32)])
def test_a_tensor_that_is_no_batch_of_square_images_is_refused(
    opened: Opened, shape: tuple[int, ...]
) -> None:
    _, ours = opened(RETRIEVER, "even")
    with pytest.raises(BlipError, match=r"S a multiple of the patch size 8 is expected"):
        ours.encode_images(torch.zeros(shape))


@pytest.mark.parametrize("size", theirs.SIZES)
@torch.no_grad()
def test_text_states_and_both_scores_are_those_of_their_retrieval_model(opened: Opened, size: str) -> None:
    model, ours = opened(RETRIEVER, size)
    images = images_for(ours, 4)
    ids, mask = ours.tokenizer.encode(TEXTS, 30)
    tokens, there = ours.encode_images(images), mask.bool()

    itc = model(input_ids=ids, pixel_values=images, attention_mask=mask, use_itm_head=False)
    assert largest(ours.network.text_encoder(ids, mask)[there], itc.question_embeds[there]) < 1e-4
    assert largest(ours.embed_images(images) @ ours.embed_texts(TEXTS).T, itc.itm_score) < 1e-4
    assert largest(ours.match(images, TEXTS, head="itc"), itc.itm_score) < 1e-4

    ids[:, 0] = ours.tokenizer.enc
    itm = model(input_ids=ids, pixel_values=images, attention_mask=mask)
    context = ours.network.text_encoder.project_context(tokens)
    assert largest(ours.network.text_encoder(ids, mask, context)[there], itm.question_embeds[there]) < 1e-4
    assert itm.itm_score.std(dim=0).min() > 0.01
    assert largest(ours.network.match(ids, mask, context), itm.itm_score) < 1e-4
    assert largest(ours.match(images, TEXTS).diagonal(), itm.itm_score.softmax(dim=1)[:, 1]) < 1e-4


@pytest.mark.parametrize("size", theirs.SIZES)
@torch.no_grad()
def test_features_are_their_projections(opened: Opened, size: str) -> None:
    model, ours = opened(RETRIEVER, size)
    images = images_for(ours, 4)
    ids, mask = ours.tokenizer.encode(TEXTS, 30)
    image = model.vision_proj(model.vision_model(pixel_values=images).last_hidden_state[:, 0])
    text = model.text_proj(model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0])
    assert largest(ours.embed_images(images), torch.nn.functional.normalize(image, dim=-1)) < 1e-4
    assert largest(ours.embed_texts(TEXTS), torch.nn.functional.normalize(text, dim=-1)) < 1e-4


@pytest.mark.parametrize("size", theirs.SIZES)
@torch.no_grad()
def test_next_token_logits_are_those_of_their_captioner(opened: Opened, size: str) -> None:
    model, ours = opened(CAPTIONER, size)
    images = images_for(ours, 4)
    ids, mask = ours.tokenizer.encode(TEXTS, 30)
    ids[:, 0] = ours.tokenizer.bos
    expected = model(pixel_values=images, input_ids=ids, attention_mask=mask).logits
    network = ours.network
    context = network.text_decoder.project_context(ours.encode_images(images))
    states = network.text_decoder(ids, mask, context, causal=True)
    there = mask.bool()
    assert largest(network.lm_head(states, network.word_embedding)[there], expected[there]) < 1e-4


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompt", ["", "picture of"])
@pytest.mark.parametrize(("minimum", "maximum", "penalty"), [(1, 14, 1.0), (9, 12, 1.0), (5, 20, 1.7)])
@pytest.mark.parametrize("size", theirs.SIZES)
@torch.no_grad()
def test_captions_are_theirs_token_by_token(
    opened: Opened, size: str, beams: int, prompt: str, minimum: int, maximum: int, penalty: float
) -> None:
    model, ours = opened(CAPTIONER, size)
    images = images_for(ours, 6)
    ids, _ = ours.tokenizer.encode([prompt] * 6, 30)
    written = model.generate(
        pixel_values=images,
        input_ids=ids.clone(),
        max_length=maximum,
        min_length=minimum,
        num_beams=beams,
        do_sample=False,
        repetition_penalty=penalty,
    )
    ids[:, 0] = ours.tokenizer.bos
    start = ids[:, :-1]
    context = ours.network.text_decoder.project_context(ours.encode_images(images))
    decoding = Decoding(maximum, minimum, beams, repetition_penalty=penalty)
    own = generate(ours.network, context, start, ours.tokenizer.sep, decoding)
    assert own == bodies(written, start.shape[1], ours.tokenizer.sep)
    assert ours.caption_tokens(ours.encode_images(images), decoding, prompt) == ours.tokenizer.decode(own)


@pytest.mark.parametrize("size", ONE_WIDTH)
@torch.no_grad()
def test_answers_are_theirs_token_by_token(opened: Opened, size: str) -> None:
    model, ours = opened(ANSWERER, size)
    for question in QUESTIONS:
        images = images_for(ours, 5)
        ids, _ = ours.tokenizer.encode([question] * 5, 30)
        ids[:, 0] = ours.tokenizer.enc
        written = model.generate(
            input_ids=ids, pixel_values=images, max_length=10, min_length=1, num_beams=3, do_sample=False
        )
        expected = ours.tokenizer.decode(bodies(written, 1, ours.tokenizer.sep))
        assert ours.answer(images, [question] * 5) == expected


@torch.no_grad()
def test_the_padding_of_a_question_changes_no_answer(opened: Opened) -> None:
    _, ours = opened(ANSWERER, "even")
    images = images_for(ours, 3)
    assert ours.answer(images, QUESTIONS) == [
        ours.answer(images[n : n + 1], QUESTIONS[n : n + 1])[0] for n in range(3)
    ]


@pytest.mark.parametrize(
    ("size", "seed"), [("other epsilons", 4), ("deep image tower", 4), ("even", 4), ("even", 1)]
)
@torch.no_grad()
def test_beams_that_end_at_different_times_are_theirs(tmp_path: Path, size: str, seed: int) -> None:
    model = theirs.make(CAPTIONER, size, seed, end=3.0)
    ours = blip.load(str(theirs.save(model, tmp_path)))
    images, start = images_for(ours, 8), torch.full((8, 1), ours.tokenizer.bos)
    context = ours.network.text_decoder.project_context(ours.encode_images(images))
    lengths = set()
    for minimum, maximum, penalty in ((1, 14, 1.0), (9, 12, 1.0), (5, 20, 1.7), (1, 20, 0.8)):
        limits = {"repetition_penalty": penalty, "max_length": maximum, "min_length": minimum}
        written = model.generate(pixel_values=images, num_beams=3, do_sample=False, **limits)
        decoding = Decoding(maximum, minimum, 3, repetition_penalty=penalty)
        own = generate(ours.network, context, start, ours.tokenizer.sep, decoding)
        assert own == bodies(written, 1, ours.tokenizer.sep)
        lengths |= {len(text) for text in own}
    assert len(lengths) > 3


def bodies(sequences: torch.Tensor, prompt: int, end: int) -> list[list[int]]:
    """What `transformers` wrote after the prompt, up to the end token."""
    rows = [row[prompt:] for row in sequences.tolist()]
    return [row[: row.index(end)] if end in row else row for row in rows]


def test_a_model_says_which_head_it_lacks_and_what_has_it(opened: Opened) -> None:
    _, captioner = opened(CAPTIONER, "even")
    _, retriever = opened(RETRIEVER, "even")
    _, answerer = opened(ANSWERER, "even")
    images = images_for(captioner, 2)
    with pytest.raises(BlipError, match=r"no text_encoder and no itm_head; open a BlipForImageTextRetrieval"):
        captioner.match(images, TEXTS)
    with pytest.raises(BlipError, match=r"cannot embed images: .* no vision_projection"):
        captioner.match(images, TEXTS, head="itc")
    with pytest.raises(
        BlipError, match=r"cannot answer: .* no text_encoder; open a BlipForQuestionAnswering"
    ):
        captioner.answer(images, QUESTIONS[:2])
    with pytest.raises(BlipError, match=r"text_decoder and no lm_head; open a BlipForConditionalGeneration"):
        retriever.caption(images)
    with pytest.raises(BlipError, match=r"cannot match: its weights have no itm_head"):
        answerer.match(images, TEXTS)
    with pytest.raises(BlipError, match=r"cannot embed texts: .* no text_projection"):
        answerer.embed_texts(TEXTS)


def test_a_text_transformer_that_a_model_lacks_takes_little_memory(opened: Opened) -> None:
    for kind, shared in ((CAPTIONER, True), (RETRIEVER, True), (ANSWERER, False)):
        network = opened(kind, "even")[1].network
        assert network.config.tied is shared
        assert (network.text_encoder.embeddings is network.text_decoder.embeddings) is shared


def test_towers_of_two_widths_answer_nothing(opened: Opened) -> None:
    _, answerer = opened(ANSWERER, "widths apart")
    with pytest.raises(BlipError, match="question states of width 24 where it has weights for 64"):
        answerer.answer(images_for(answerer, 1), ["a"])


def test_a_temperature_that_was_not_saved_is_said(opened: Opened) -> None:
    _, retriever = opened(RETRIEVER, "even")
    with pytest.warns(UserWarning, match=r"without its temperature; 0\.07 is used"):
        assert retriever.temperature == pytest.approx(0.07)


def test_heads_a_model_lacks_are_not_saved_as_if_it_had_them(opened: Opened, tmp_path: Path) -> None:
    model, captioner = opened(CAPTIONER, "even")
    save_model(captioner.network, captioner.tokenizer, tmp_path / "again", captioner.card)
    again = blip.load(str(tmp_path / "again"))
    assert again.card.missing == captioner.card.missing
    assert set(again.card.missing) == {
        "text_encoder",
        "itm_head",
        "vision_projection",
        "text_projection",
        "temperature",
    }
    reopened, info = type(model).from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reopened.parameters(), strict=True))


def edited(directory: Path, section: str, **values: object) -> str:
    """The directory with values of config.json changed."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config[section].update(values)
    path.write_text(json.dumps(config))
    return str(directory)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("vision_config", {"hidden_act": "quick_gelu"}, r"vision_config\.hidden_act is 'quick_gelu'"),
        ("text_config", {"hidden_act": "relu"}, r"text_config\.hidden_act is 'relu'"),
        ("vision_config", {"image_size": [32, 64]}, r"image_size is \[32, 64\]; .* square"),
        (
            "text_config",
            {"intermediate_size": 65},
            r"intermediate_size is 65; that is no multiple of hidden_size 32",
        ),
        ("text_config", {"num_attention_heads": 5}, r"text width 32 is not a multiple of 5 heads"),
        ("text_config", {"bos_token_id": 1}, r"bos_token_id 1, the tokenizer's is \d+"),
        ("vision_config", {"num_hidden_layers": 1}, r"vision_model\.encoder\.layers\.1\..* of no layer"),
        ("vision_config", {"num_hidden_layers": 3}, r"vision_model\.encoder\.layers\.2\..* is missing"),
        ("text_config", {"num_hidden_layers": 3}, r"text_encoder\.encoder\.layer\.2\..* is missing"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(
    tmp_path: Path, section: str, values: dict[str, object], message: str
) -> None:
    directory = theirs.save(theirs.make(RETRIEVER, "even"), tmp_path)
    with pytest.raises(BlipError, match=message):
        blip.load(edited(directory, section, **values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resample": 2}, r"the image processor has resample 2; BLIP's pictures are prepared with 3"),
        ({"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}, "do_center_crop True"),
        ({"image_std": [0.5, 0.5, 0.5]}, r"image_std \(0\.5, 0\.5, 0\.5\)"),
        ({"do_rescale": False}, r"rescale_factor 1\.0"),
    ],
)
def test_pictures_that_were_prepared_otherwise_are_refused(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    path = theirs.save(theirs.make(RETRIEVER, "even"), tmp_path) / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(BlipError, match=message):
        blip.load(str(tmp_path))


def test_square_sides_may_be_written_twice(tmp_path: Path) -> None:
    directory = theirs.save(theirs.make(RETRIEVER, "even"), tmp_path)
    assert blip.load(edited(directory, "vision_config", image_size=[32, 32])).image_size == 32


def test_an_output_matrix_that_is_not_the_word_embedding_is_refused(tmp_path: Path) -> None:
    weights = theirs.save(theirs.make(CAPTIONER, "even"), tmp_path) / "model.safetensors"
    state = load_file(weights)
    words = state["text_decoder.bert.embeddings.word_embeddings.weight"]
    save_file(state | {"text_decoder.cls.predictions.decoder.weight": words + 1}, weights, {"format": "pt"})
    with pytest.raises(
        BlipError, match=r"decoder\.weight differs from .*word_embeddings\.weight.*model\.tie_weights\(\)"
    ):
        blip.load(str(tmp_path))
    model = transformers.BlipForConditionalGeneration.from_pretrained(tmp_path)
    model.tie_weights()
    model.save_pretrained(tmp_path)
    output = model.text_decoder.cls.predictions.decoder.weight
    assert torch.equal(blip.load(str(tmp_path)).network.word_embedding, output)
    del state["text_decoder.bert.embeddings.word_embeddings.weight"]
    save_file(state | {"text_decoder.cls.predictions.decoder.weight": words}, weights)
    assert torch.equal(blip.load(str(tmp_path)).network.word_embedding, words)


def test_a_pickle_beside_the_configuration_is_not_opened(tmp_path: Path) -> None:
    directory = theirs.save(theirs.make(CAPTIONER, "even"), tmp_path)
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    with pytest.raises(BlipError, match=r"no model\.safetensors \(but pytorch_model\.bin\)") as refused:
        blip.load(str(directory))
    way_out = str(refused.value).partition("safetensors file: ")[2].replace("'OUT'", repr(f"{tmp_path}/out"))
    assert f"transformers.{CAPTIONER}." in way_out
    exec(way_out, {"transformers": transformers})
    assert blip.load(f"{tmp_path}/out").caption(tiny.images(1))
