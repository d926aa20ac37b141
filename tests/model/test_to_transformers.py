"""A model directory written here gives the same figures and the same texts in `transformers`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from blip.model.api import Blip
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.checkpoints import ModelCard, save_model
from blip.model.generation import Decoding, generate
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig
from blip.model.vqa import untie
from tests import tiny

TEXTS = ["red apple", "the dog on the table", "a", "green picture of x"]
CAPTIONER, RETRIEVER, ANSWERER = (
    "BlipForConditionalGeneration",
    "BlipForImageTextRetrieval",
    "BlipForQuestionAnswering",
)
# What a directory holds that a class has no place for. Everything else has to be used.
UNUSED = {
    CAPTIONER: ("text_encoder.", "vision_proj.", "text_proj.", "itm_head.", "temp"),
    RETRIEVER: ("text_decoder.", "temp"),
    ANSWERER: ("vision_proj.", "text_proj.", "itm_head.", "temp"),
}


def tied() -> BlipNetwork:
    return tiny.network()


def untied() -> BlipNetwork:
    """As VQA fine-tuning leaves it: encoder and decoder apart in every weight."""
    return shaken(untie(tiny.network()))


def widths_apart() -> BlipNetwork:
    return built(
        VisionConfig(image_size=32, patch_size=8, width=96, layers=3, heads=6),
        TextConfig(len(tiny.tokenizer()), 40, 2, 4, 2, 64, dropout=0.1, context_width=96),
    )


def drop_path_and_size() -> BlipNetwork:
    return built(
        VisionConfig(image_size=48, patch_size=8, width=64, layers=3, heads=4, drop_path=0.3),
        TextConfig(len(tiny.tokenizer()), 64, 1, 8, max_positions=64, context_width=64),
    )


def built(vision: VisionConfig, text: TextConfig) -> BlipNetwork:
    torch.manual_seed(0)
    return shaken(BlipNetwork(BlipConfig(vision, text, projection=24)))


@torch.no_grad()
def shaken(network: BlipNetwork) -> BlipNetwork:
    for parameter in network.parameters():
        if parameter.ndim:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network.eval()


NETWORKS = {make.__name__: make for make in (tied, untied, widths_apart, drop_path_and_size)}


@dataclass(frozen=True)
class Saved:
    """A directory, our model opened from it, and pictures of its size."""

    directory: Path
    ours: Blip
    images: torch.Tensor

    def theirs(self, kind: str) -> Any:
        return getattr(transformers, kind).from_pretrained(self.directory).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    made: dict[str, Saved] = {}

    def get(name: str) -> Saved:
        if name not in made:
            directory = tmp_path_factory.mktemp("models") / "tiny"
            save(NETWORKS[name](), directory)
            ours = Blip.open(directory)
            made[name] = Saved(directory, ours, tiny.images(5, ours.image_size))
        return made[name]

    return get


def save(network: BlipNetwork, directory: Path) -> None:
    t = tiny.tokenizer()
    save_model(network, t, directory, ModelCard())


def largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_model_opens_unchanged(saved: Callable[[str], Saved], name: str) -> None:
    before, opened = NETWORKS[name](), saved(name).ours.network
    assert opened.config == before.config
    after = opened.state_dict()
    assert before.state_dict().keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.state_dict().items())


@pytest.mark.parametrize("kind", UNUSED)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_weight_is_missing_and_none_unexpected(
    saved: Callable[[str], Saved], name: str, kind: str
) -> None:
    _, info = getattr(transformers, kind).from_pretrained(saved(name).directory, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert all(key.startswith(UNUSED[kind]) for key in info["unexpected_keys"])


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_retrieval_scores_are_those_of_transformers(saved: Callable[[str], Saved], name: str) -> None:
    at = saved(name)
    model, ours, images = at.theirs(RETRIEVER), at.ours, at.images[:4]
    ids, mask = ours.tokenizer.encode(TEXTS, 30)
    itc = model(input_ids=ids, pixel_values=images, attention_mask=mask, use_itm_head=False)
    assert largest(itc.last_hidden_state, ours.encode_images(images)) < 1e-4
    assert largest(itc.itm_score, ours.match(images, TEXTS, head="itc")) < 1e-4
    ids[:, 0] = ours.tokenizer.enc
    logits = model(input_ids=ids, pixel_values=images, attention_mask=mask).itm_score
    rows = torch.arange(4)
    own = ours.score_pairs(ours.encode_images(images), rows, TEXTS, rows)
    assert largest(logits[:, 1] - logits[:, 0], own) < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_next_token_logits_are_those_of_transformers(saved: Callable[[str], Saved], name: str) -> None:
    at = saved(name)
    ids, mask = at.ours.tokenizer.encode(TEXTS, 30)
    ids[:, 0] = at.ours.tokenizer.bos
    model, network, images = at.theirs(CAPTIONER), at.ours.network, at.images[:4]
    expected = model(pixel_values=images, input_ids=ids, attention_mask=mask).logits
    context = network.text_decoder.project_context(network.vision(images))
    states = network.text_decoder(ids, mask, context, causal=True)
    there = mask.bool()
    assert largest(network.lm_head(states, network.word_embedding)[there], expected[there]) < 1e-4


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("minimum", [1, 6])
@pytest.mark.parametrize("prompt", ["", "picture of"])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_captions_are_those_of_transformers(
    saved: Callable[[str], Saved], name: str, prompt: str, minimum: int, beams: int
) -> None:
    at = saved(name)
    ours, count = at.ours, len(at.images)
    ids, _ = ours.tokenizer.encode([prompt] * count, 30)
    written = at.theirs(CAPTIONER).generate(
        pixel_values=at.images, input_ids=ids.clone(), max_length=14, min_length=minimum, num_beams=beams
    )
    ids[:, 0] = ours.tokenizer.bos
    start = ids[:, :-1]
    context = ours.network.text_decoder.project_context(ours.encode_images(at.images))
    own = generate(ours.network, context, start, ours.tokenizer.sep, Decoding(14, minimum, beams))
    expected = [row[start.shape[1] :] for row in written.tolist()]
    assert own == [cut(row, ours.tokenizer.sep) for row in expected]
    assert ours.caption_tokens(ours.encode_images(at.images), Decoding(14, minimum, beams), prompt) == (
        ours.tokenizer.decode(own)
    )


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "widths_apart"])
@torch.no_grad()
def test_answers_are_those_of_transformers(saved: Callable[[str], Saved], name: str) -> None:
    at = saved(name)
    model, ours, count = at.theirs(ANSWERER), at.ours, len(at.images)
    for question in ("is dog on the table", "red x"):  # one at a time: theirs attends to padding
        ids, _ = ours.tokenizer.encode([question] * count, 30)
        ids[:, 0] = ours.tokenizer.enc
        written = model.generate(
            input_ids=ids, pixel_values=at.images, max_length=10, min_length=1, num_beams=3
        )
        rows = [cut(row[1:], ours.tokenizer.sep) for row in written.tolist()]
        assert ours.answer(at.images, [question] * count) == ours.tokenizer.decode(rows)


def cut(row: list[int], end: int) -> list[int]:
    return row[: row.index(end)] if end in row else row


def test_the_bf16_network_answers_nearly_the_same(saved: Callable[[str], Saved]) -> None:
    at = saved("tied")
    half = Blip.open(at.directory, dtype="bfloat16")
    assert torch.allclose(half.embed_images(at.images), at.ours.embed_images(at.images), atol=0.05)


def test_a_text_is_matched_alike_once_it_begins_as_readme_says(tmp_path: Path) -> None:
    save_model(tiny.network(), tiny.tokenizer(), tmp_path / "model", ModelCard())
    picture = Image.effect_noise((40, 32), 90).convert("RGB")
    processor = transformers.BlipProcessor.from_pretrained(tmp_path / "model")
    theirs = transformers.BlipForImageTextRetrieval.from_pretrained(tmp_path / "model").eval()
    inputs = processor(images=picture, text="the dog on the table", return_tensors="pt")
    inputs.input_ids[:, 0] = processor.tokenizer.convert_tokens_to_ids("[ENC]")
    with torch.no_grad():
        logits = theirs(inputs.input_ids, inputs.pixel_values, attention_mask=inputs.attention_mask).itm_score
    ours = Blip.open(tmp_path / "model").match([picture], ["the dog on the table"])
    assert torch.allclose(logits.softmax(-1)[:, 1:], ours, atol=1e-4)
