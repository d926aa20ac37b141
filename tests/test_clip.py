"""A CLIP of `transformers` embeds here what it embeds there, from files alone."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image

import blip
from blip.clip import Clip
from blip.errors import BadArguments, BlipError
from tests.tiny_clip import processor_of, save, tokenizer

TEXTS = ["a photo of a cat", "the dog", "it's 2 birds!", "a " * 40, ""]
SHAPES = [(40, 40), (61, 33), (33, 61), (300, 47), (20, 24), (97, 96)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return save(tmp_path_factory.mktemp("clip"), processor_of())


@pytest.fixture(scope="module")
def clip(saved: Path) -> Clip:
    return blip.load_clip(str(saved))


def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    coarse = [generator.integers(0, 256, (5, 5, 3), dtype=np.uint8) for _ in SHAPES]
    return [
        Image.fromarray(c).resize(s, Image.Resampling.BICUBIC) for c, s in zip(coarse, SHAPES, strict=True)
    ]


@pytest.mark.parametrize(("width", "layers"), [(32, 2), (64, 3)])
@torch.no_grad()
def test_features_are_those_of_transformers(tmp_path: Path, width: int, layers: int) -> None:
    ours = Clip.open(save(tmp_path, processor_of(), width, layers))
    theirs = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    pixels = torch.as_tensor(np.stack(processor_of()(pictures())["pixel_values"]))
    tokens = transformers.CLIPTokenizer.from_pretrained(tmp_path)(
        TEXTS, padding=True, truncation=True, max_length=24, return_tensors="pt"
    )
    out = theirs(**tokens, pixel_values=pixels)
    assert out.image_embeds.std(dim=0).mean() > 0.01 and out.text_embeds.std(dim=0).mean() > 0.01
    assert torch.allclose(ours.embed_images(pictures()), out.image_embeds, atol=1e-5)
    assert torch.allclose(ours.embed_images(pixels), out.image_embeds, atol=1e-5)
    assert torch.allclose(ours.embed_texts(TEXTS), out.text_embeds, atol=1e-5)
    cosine = out.image_embeds @ out.text_embeds.T
    assert torch.allclose(ours.match(pictures(), TEXTS), cosine, atol=1e-5)
    assert torch.allclose(out.logits_per_image, cosine / ours.temperature, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": {"height": 40, "width": 50}},
        {"size": {"shortest_edge": 36}, "resample": 2},
        {"size": {"shortest_edge": 29}},  # smaller than the crop: a black border
        {"do_center_crop": False, "size": {"height": 32, "width": 32}},
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5]},
        {"do_normalize": False},
    ],
)
def test_pictures_are_prepared_as_the_processor_of_the_directory_does(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    processor = processor_of(**settings)
    ours = Clip.open(save(tmp_path, processor)).image_processor
    expected = torch.as_tensor(np.stack(processor(pictures())["pixel_values"]))
    assert (ours(pictures()) - expected).abs().max() < 1e-4  # equal but for rounding in float32


def test_an_old_processor_file_with_plain_numbers_is_read(tmp_path: Path, clip: Clip) -> None:
    save(tmp_path, processor_of())
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": 32, "crop_size": 32}))
    assert Clip.open(tmp_path).image_processor == clip.image_processor


def test_a_processor_saved_as_a_whole_is_read(tmp_path: Path, clip: Clip) -> None:
    save(tmp_path, processor_of())
    (tmp_path / "preprocessor_config.json").unlink()
    transformers.CLIPProcessor(processor_of(), tokenizer()).save_pretrained(tmp_path)
    assert Clip.open(tmp_path).image_processor == clip.image_processor


def test_paths_bytes_pictures_and_arrays_are_one_picture(clip: Clip, tmp_path: Path) -> None:
    picture = pictures()[1]
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    (tmp_path / "one.png").write_bytes(buffer.getvalue())
    forms = [picture, np.asarray(picture), buffer.getvalue(), tmp_path / "one.png", str(tmp_path / "one.png")]
    embedded = clip.embed_images(forms)
    assert all(torch.allclose(embedded[0], other, atol=1e-6) for other in embedded)


def test_embeddings_are_unit_vectors_whatever_the_batch(clip: Clip) -> None:
    images, texts = clip.embed_images(pictures()), clip.embed_texts(TEXTS)
    assert images.dtype == texts.dtype == torch.float32
    assert torch.allclose(images.norm(dim=1), torch.ones(len(images)))
    assert torch.allclose(clip.embed_images(pictures(), batch_size=1), images, atol=1e-5)
    assert torch.allclose(clip.embed_texts(TEXTS, batch_size=2), texts, atol=1e-5)
    assert clip.embed_images([]).shape == clip.embed_texts([]).shape == (0, 20)


def test_texts_that_lose_their_end_are_counted(clip: Clip) -> None:
    longest = "a " * 22  # 22 letters between a beginning and an end
    assert clip.max_tokens == 24
    assert clip.cut_texts(["the dog", longest, longest + "a", "a " * 40]) == 2
    assert clip.cut_texts([]) == 0
    assert torch.equal(clip.embed_texts([longest + "a"]), clip.embed_texts([longest + "b"]))


def test_half_precision_is_nearly_the_same_and_float32(clip: Clip, saved: Path) -> None:
    half = blip.load_clip(str(saved), dtype="bfloat16").embed_texts(TEXTS)
    assert half.dtype == torch.float32
    assert F.cosine_similarity(half, clip.embed_texts(TEXTS)).min() > 0.99


def test_clip_has_no_matching_head(clip: Clip) -> None:
    with pytest.raises(BlipError, match="no 'itm' head"):
        clip.match(pictures(), TEXTS, head="itm")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("model.safetensors", r"no model\.safetensors; pickled weights are not opened"),
        ("tokenizer.json", "no tokenizer"),
        ("preprocessor_config.json", r"no preprocessor_config\.json"),
        ("config.json", r"no config\.json"),
    ],
)
def test_a_directory_without_a_file_says_which(tmp_path: Path, lost: str, message: str) -> None:
    save(tmp_path, processor_of())
    (tmp_path / lost).unlink()
    with pytest.raises(BlipError, match=message):
        blip.load_clip(str(tmp_path))


def test_a_configuration_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BlipError, match=r"config\.json is no JSON"):
        blip.load_clip(str(tmp_path))


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save(tmp_path, processor_of())
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["num_hidden_layers"] = 3
    path.write_text(json.dumps(config))
    with pytest.raises(BlipError, match=r"do not fit: text_model\.encoder\.layers\.2\.\S+ is missing"):
        blip.load_clip(str(tmp_path))
    config["text_config"] |= {"num_hidden_layers": 2, "max_position_embeddings": 30}
    path.write_text(json.dumps(config))
    with pytest.raises(BlipError, match=r"position_embedding\.weight: \(24, 32\) instead of \(30, 32\)"):
        blip.load_clip(str(tmp_path))


def test_a_tokenizer_of_a_larger_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path, processor_of())
    larger = tokenizer()
    larger.add_tokens(["ø-one", "ø-two"])
    larger.save_pretrained(tmp_path)
    with pytest.raises(BlipError, match=r"tokenizer has \d+ entries, the network only \d+"):
        blip.load_clip(str(tmp_path))


def test_each_loader_names_the_other(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BlipError, match=r"model_type is 'clip', not 'blip'; blip\.load_clip opens it"):
        blip.load(str(saved))
    (tmp_path / "config.json").write_text('{"model_type": "blip"}')
    with pytest.raises(BlipError, match=r"model_type is 'blip', not 'clip'; blip\.load opens it"):
        blip.load_clip(str(tmp_path))


def test_a_missing_directory_is_named() -> None:
    with pytest.raises(BlipError, match=r"nowhere/at/all: no such model directory"):
        blip.load_clip("nowhere/at/all")


def test_one_picture_or_text_that_is_in_no_list_is_refused(clip: Clip) -> None:
    with pytest.raises(BadArguments, match="put the one picture into a list"):
        clip.embed_images("cat.jpg")
    with pytest.raises(BadArguments, match="put the one, 'a cat', into a list"):
        clip.match(pictures(), "a cat")
