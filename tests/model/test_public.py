"""Public checkpoints load whole or not at all, and what they become computes the same in `transformers`."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import blip
from blip.data.text import clean_question
from blip.data.vocabulary import find_tokenizer
from blip.errors import BlipError
from blip.model.api import Blip
from blip.model.blip import BlipNetwork
from blip.model.checkpoints import ModelCard, save_model
from blip.model.generation import Decoding
from blip.model.public import PublicModel, open_public
from tests import public_files, tiny
from tests.model import theirs

TEXTS = ["red apple", "the dog on the table", "a", "green picture of x"]
WORDS = "embeddings.word_embeddings.weight"
KINDS = ("pretrain", "retrieval", "captioning", "vqa")


def opened(folder: Path, kind: str, state: dict[str, Tensor] | None = None, **options: int) -> PublicModel:
    path = public_files.write(folder / f"{kind}.pth", state or public_files.state_of(kind))
    return open_public(path, **options)


def network_of(model: PublicModel) -> BlipNetwork:
    assert isinstance(model.network, BlipNetwork)
    return model.network


@pytest.fixture
def converted(tmp_path: Path):
    """A kind of file as a model directory: ours, and in a class of transformers."""

    def convert(kind: str, name: str):
        import transformers

        transformers.logging.set_verbosity_error()
        model, t = opened(tmp_path, kind), tiny.tokenizer()
        save_model(network_of(model), t, tmp_path / kind, model.card)
        theirs = getattr(transformers, name).from_pretrained(tmp_path / kind).eval()
        return Blip.open(tmp_path / kind), theirs

    return convert


def test_sizes_and_kind_are_read_off_keys_and_shapes(tmp_path: Path) -> None:
    sizes = public_files.Sizes(
        vision=192, layers=3, patch=4, grid=6, vocabulary=40, positions=20, projection=16
    )
    model = opened(tmp_path, "pretrain", public_files.state_of("pretrain", sizes))
    config = network_of(model).config
    vision, text = config.vision, config.text
    assert (vision.image_size, vision.patch_size, vision.width, vision.layers, vision.heads) == (
        24,
        4,
        192,
        3,
        3,
    )
    assert (text.vocabulary, text.width, text.layers, text.heads) == (40, 128, 3, 2)
    assert (text.max_positions, text.context_width, config.projection) == (20, 192, 16)
    assert (model.report.kind, model.card.task, model.report.image_size) == ("pretrain", "pretrain", 24)


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (1024, 16)])
def test_towers_of_public_width_have_the_published_heads(tmp_path: Path, width: int, heads: int) -> None:
    sizes = public_files.Sizes(vision=width, text=768, layers=1, patch=16, grid=2)
    config = network_of(opened(tmp_path, "captioning", public_files.state_of("captioning", sizes))).config
    assert (config.vision.heads, config.text.heads, config.text.context_width) == (heads, 12, width)


def test_every_public_tensor_arrives_under_our_names(tmp_path: Path) -> None:
    state = public_files.state_of("pretrain")
    network = network_of(opened(tmp_path, "pretrain", state))
    ours = network.state_dict()
    block, layer = "visual_encoder.blocks.1", "encoder.layer.1"
    key, value = (
        state[f"text_encoder.{layer}.crossattention.self.{part}.weight"] for part in ("key", "value")
    )
    expected = {
        "vision.blocks.1.qkv.weight": state[f"{block}.attn.qkv.weight"],
        "vision.blocks.1.projection.bias": state[f"{block}.attn.proj.bias"],
        "vision.blocks.1.fc2.weight": state[f"{block}.mlp.fc2.weight"],
        "vision.patch_embedding.weight": state["visual_encoder.patch_embed.proj.weight"],
        "vision.class_embedding": state["visual_encoder.cls_token"],
        "text_encoder.layers.1.cross_attention.kv.weight": torch.cat((key, value)),
        "text_decoder.layers.1.self_attention.output.norm.bias": state[
            f"text_decoder.bert.{layer}.attention.output.LayerNorm.bias"
        ],
        "text_encoder.layers.1.feed_forward.output.dense.weight": state[
            f"text_encoder.{layer}.output.dense.weight"
        ],
        "lm_head.dense.weight": state["text_decoder.cls.predictions.transform.dense.weight"],
        "lm_head.bias": state["text_decoder.cls.predictions.bias"],
        "temperature": state["temp"].reshape(1),
    }
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


def test_twins_queues_and_counters_are_dropped_and_counted(tmp_path: Path) -> None:
    pretrain = opened(tmp_path, "pretrain").report
    assert pretrain.dropped == {"momentum twins": 91, "queues and their pointers": 3, "position counters": 2}
    assert (pretrain.missing, pretrain.unexpected, pretrain.notes) == ((), (), ())
    retrieval = opened(tmp_path, "retrieval").report
    assert retrieval.dropped["queues and their pointers"] == 4


def test_what_a_kind_never_has_is_listed_and_the_rest_is_filled(tmp_path: Path) -> None:
    model = opened(tmp_path, "captioning")
    missing = model.report.missing
    assert {name.split(".")[0] for name in missing} == {
        "temp", "vision_proj", "text_proj", "itm_head", "text_encoder",
    }  # fmt: skip
    assert all(".attention." in name for name in missing if name.startswith("text_encoder."))
    assert model.card.prompt == "a picture of "
    assert {name.split(".")[0] for name in opened(tmp_path, "retrieval").report.missing} == {"text_decoder"}


def test_a_tied_file_opens_tied_and_a_file_with_other_weights_untied(tmp_path: Path) -> None:
    assert network_of(opened(tmp_path, "pretrain")).config.tied
    state = public_files.state_of("pretrain")
    name = "text_decoder.bert.encoder.layer.1.output.dense.bias"
    state[name] = state[name] + 1
    model = opened(tmp_path, "pretrain", state)
    assert not network_of(model).config.tied
    ours = network_of(model).state_dict()
    assert torch.equal(ours["text_decoder.layers.1.feed_forward.output.dense.bias"], state[name])
    encoders = state["text_encoder.encoder.layer.1.output.dense.bias"]
    assert torch.equal(ours["text_encoder.layers.1.feed_forward.output.dense.bias"], encoders)
    assert "untied" in model.report.notes[0]
    assert not network_of(opened(tmp_path, "vqa")).config.tied


def test_an_output_matrix_of_its_own_becomes_the_decoders_embedding_and_is_told(tmp_path: Path) -> None:
    state = public_files.state_of("pretrain")
    matrix = torch.randn_like(state[f"text_encoder.{WORDS}"])
    state["text_decoder.cls.predictions.decoder.weight"] = matrix
    model = opened(tmp_path, "pretrain", state)
    assert torch.equal(network_of(model).word_embedding, matrix)
    assert torch.equal(network_of(model).text_encoder.embeddings.word.weight, state[f"text_encoder.{WORDS}"])
    assert f"text_decoder.bert.{WORDS} is that of" in model.report.notes[0]


def test_another_image_size_interpolates_positions(tmp_path: Path) -> None:
    state = public_files.state_of("retrieval")
    network = network_of(opened(tmp_path, "retrieval", state, image_size=48))
    positions, own = network.vision.position_embedding, state["visual_encoder.pos_embed"]
    square = own[:, 1:].reshape(1, 4, 4, 64).permute(0, 3, 1, 2)
    larger = torch.nn.functional.interpolate(square, size=(6, 6), mode="bicubic", align_corners=False)
    assert torch.equal(positions[:, :1], own[:, :1])
    assert torch.allclose(positions[:, 1:], larger.permute(0, 2, 3, 1).reshape(1, 36, 64), atol=1e-6)
    assert network.config.vision.image_size == 48
    with pytest.raises(BlipError, match="image size 50 is no multiple of the patch size 8"):
        opened(tmp_path, "retrieval", state, image_size=50)


def test_half_precision_and_bare_files_open_too(tmp_path: Path) -> None:
    state = {
        name: t.half() if t.is_floating_point() else t for name, t in public_files.state_of("vqa").items()
    }
    torch.save(state, tmp_path / "bare.pth", _use_new_zipfile_serialization=False)
    network = network_of(open_public(tmp_path / "bare.pth"))
    assert network.vision.norm.weight.dtype is torch.float32
    assert torch.equal(network.vision.norm.weight, state["visual_encoder.norm.weight"].float())


@pytest.mark.parametrize("kind", ["pretrain", "retrieval"])
@torch.no_grad()
def test_scores_are_those_of_transformers(converted, kind: str) -> None:
    ours, theirs = converted(kind, "BlipForImageTextRetrieval")
    images, (ids, mask) = tiny.images(4), ours.tokenizer.encode(TEXTS, 30)
    cosine = theirs(input_ids=ids, pixel_values=images, attention_mask=mask, use_itm_head=False).itm_score
    assert torch.allclose(cosine, ours.match(images, TEXTS, head="itc"), atol=1e-5)
    ids[:, 0] = ours.tokenizer.enc
    logits = theirs(input_ids=ids, pixel_values=images, attention_mask=mask).itm_score
    context = ours.network.text_encoder.project_context(ours.encode_images(images))
    assert torch.allclose(logits, ours.network.match(ids, mask, context), atol=1e-5)
    assert logits[:, 1].std() > 1e-3


@pytest.mark.parametrize("kind", ["pretrain", "captioning"])
@pytest.mark.parametrize("beams", [1, 3])
@torch.no_grad()
def test_captions_are_those_of_transformers(converted, kind: str, beams: int) -> None:
    ours, theirs = converted(kind, "BlipForConditionalGeneration")
    images = tiny.images(4)
    ids = theirs.generate(pixel_values=images, max_length=12, min_length=5, num_beams=beams)
    own = ours.caption_tokens(ours.encode_images(images), Decoding(12, 5, beams), prompt="")
    assert own == ours.tokenizer.decode(ids)
    assert len(set(own)) > 1


@torch.no_grad()
def test_answers_are_those_of_transformers(converted) -> None:
    ours, theirs = converted("vqa", "BlipForQuestionAnswering")
    images, questions = tiny.images(3), ["the dog in", "red apple of", "green table on"]
    ids, mask = ours.tokenizer.encode(questions, 30)
    ids[:, 0] = ours.tokenizer.enc
    written = theirs.generate(
        input_ids=ids, pixel_values=images, attention_mask=mask, max_length=10, min_length=1, num_beams=3
    )
    assert ours.answer(images, questions) == ours.tokenizer.decode(written)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("captioning", "text_decoder.bert.encoder.layer.1.crossattention.self.key.bias"),
        ("captioning", "text_decoder.cls.predictions.transform.dense.weight"),
        ("retrieval", "text_encoder.encoder.layer.0.intermediate.dense.bias"),
        ("retrieval", "itm_head.weight"),
        ("vqa", "visual_encoder.blocks.1.attn.qkv.bias"),
        ("pretrain", f"text_encoder.{WORDS}"),
        ("nlvr", "text_encoder.encoder.layer.0.crossattention.self1.value.weight"),
    ],
)
def test_a_missing_weight_is_refused_by_name(tmp_path: Path, kind: str, name: str) -> None:
    state = public_files.state_of(kind)
    del state[name]
    with pytest.raises(BlipError, match=f"{kind}.pth.*missing.*") as refused:
        opened(tmp_path, kind, state)
    assert name in str(refused.value)


def test_a_decoder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    state = {name: t for name, t in public_files.state_of("captioning").items() if "text_" not in name}
    with pytest.raises(
        BlipError, match="needs visual_encoder and text_encoder or text_decoder, and has visual"
    ):
        opened(tmp_path, "captioning", state)
    headless = {n: t for n, t in public_files.state_of("captioning").items() if ".cls." not in n}
    with pytest.raises(BlipError, match=r"5 missing: text_decoder.cls.predictions.bias"):
        opened(tmp_path, "captioning", headless)


def test_another_shape_is_refused_with_both(tmp_path: Path) -> None:
    state = public_files.state_of("retrieval")
    state["visual_encoder.blocks.1.mlp.fc2.weight"] = torch.zeros(64, 255)
    message = r"1 of another shape: visual_encoder.blocks.1.mlp.fc2.weight \(64, 255\) instead of \(64, 256\)"
    with pytest.raises(BlipError, match=message):
        opened(tmp_path, "retrieval", state)


def test_a_decoder_of_another_width_than_its_encoder_is_refused(tmp_path: Path) -> None:
    state = public_files.state_of("vqa", public_files.Sizes(vision=64, text=128))
    with pytest.raises(
        BlipError, match=r"crossattention.self.key.weight \(128, 128\) instead of \(128, 64\)"
    ):
        opened(tmp_path, "vqa", state)


def test_an_unknown_weight_in_a_tower_is_refused_and_one_beside_them_listed(tmp_path: Path) -> None:
    state = {**public_files.state_of("retrieval"), "prompt_pool.weight": torch.ones(2)}
    assert opened(tmp_path, "retrieval", state).report.unexpected == ("prompt_pool.weight",)
    state["text_encoder.embeddings.token_type_embeddings.weight"] = torch.ones(2, 128)
    with pytest.raises(BlipError, match=r"1 unknown: text_encoder.embeddings.token_type_embeddings.weight"):
        opened(tmp_path, "retrieval", state)


class Program:
    """An object whose pickle runs a function when it is opened."""

    def __reduce__(self):
        return (os.system, ("touch opened-it",))


def test_a_file_with_more_than_tensors_is_refused_and_does_not_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": public_files.state_of("vqa"), "config": Program()}, "evil.pth")
    with pytest.raises(
        BlipError, match=r"evil.pth is not opened: it asks for \w+.system, .* run any program"
    ):
        open_public(Path("evil.pth"))
    assert not Path("opened-it").exists()


def test_files_of_transformers_are_opened_by_their_directory(tmp_path: Path) -> None:
    directory = theirs.save(theirs.make("BlipForConditionalGeneration", "even"), tmp_path / "theirs")
    with pytest.raises(BlipError, match=r"theirs is a directory.*needs no import: --model"):
        open_public(directory)
    with pytest.raises(BlipError, match=rf"a model is opened by its directory: {directory}$"):
        open_public(directory / "model.safetensors")
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    with pytest.raises(BlipError, match=r"these are names of transformers: give its directory$"):
        open_public(directory / "pytorch_model.bin")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"model": public_files.state_of("vqa")}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in (len(whole) // 2, 300):
        path.write_bytes(whole[:length])
        with pytest.raises(BlipError, match=r"cut.pth is truncated.*download it again"):
            open_public(path)


def test_what_is_no_checkpoint_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>404</html>")
    torch.save({"model": {"conv1.weight": torch.ones(3)}}, tmp_path / "resnet.pth")
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    for name, message in {
        "page": "not a file of torch.save: it begins with b'<htm'",
        "resnet": "not a public BLIP checkpoint: .* has conv1",
        "tensor": "holds a Tensor, not a network's tensors by name",
        "nothing": "no such file",
    }.items():
        with pytest.raises(BlipError, match=message):
            open_public(tmp_path / f"{name}.pth")


def test_a_model_argument_may_be_a_checkpoint_with_its_vocabulary_beside_it(tmp_path: Path) -> None:
    path = public_files.write(tmp_path / "retrieval.pth", public_files.state_of("retrieval"))
    tiny.tokenizer().save(tmp_path)
    model = blip.load(str(path))
    assert (model.card.task, model.card.max_tokens, model.image_size) == ("retrieval", 35, 32)
    expected = Blip(network_of(open_public(path)), tiny.tokenizer())
    assert torch.allclose(
        model.match(tiny.images(2), TEXTS), expected.match(tiny.images(2), TEXTS), atol=1e-5
    )
    with pytest.raises(BlipError, match=r"other.pth: no such file"):
        blip.load(str(tmp_path / "other.pth"))


def test_the_vocabulary_must_be_the_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.tokenizer().save(tmp_path)
    with pytest.raises(
        BlipError, match="has 67 entries; the network's 30,524 word embeddings ask for 30,522"
    ):
        find_tokenizer(30524, None, tmp_path)
    words = [*tiny.tokenizer().vocabulary, *(f"word{n}" for n in range(30522 - 67))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(
        BlipError, match=r"not that of bert-base-uncased: .* instead of \(0, 100, 101, 102, 103\)"
    ):
        find_tokenizer(30524, tmp_path / "vocab.txt", tmp_path)
    special = words[1:5]
    (tmp_path / "vocab.txt").write_text("\n".join([words[0], *words[5:104], *special, *words[104:]]))
    found = find_tokenizer(30524, None, tmp_path)
    assert (found.cls, found.sep, found.bos, found.enc) == (101, 102, 30522, 30523)


@pytest.mark.parametrize("size", ["base", "large"])
def test_golden_values_of_the_published_retrieval_checkpoints(size: str) -> None:
    """LAVIS tests/models/test_blip.py, test_itm: 384 px, texts "merlion in Singapore" and an irrelevant one."""
    folder = os.environ.get("BLIP_CHECKPOINTS")
    if not folder:
        pytest.skip("BLIP_CHECKPOINTS names no directory with model_base_retrieval_coco.pth and merlion.png")
    path, picture = Path(folder) / f"model_{size}_retrieval_coco.pth", Path(folder) / "merlion.png"
    for file in (path, picture):
        if not file.is_file():
            pytest.skip(f"{file} is not there")
    from PIL import Image

    image = Image.open(picture).convert("RGB")
    texts = ["merlion in Singapore", "a random irrelevant caption"]
    model = blip.load(str(path))
    itm, itc = {
        "base": ([0.98613, 0.05704], [0.4633, 0.23282]),
        "large": ([0.99466, 0.04744], [0.4474, 0.12821]),
    }[size]
    assert model.match([image], texts)[0].tolist() == pytest.approx(itm, abs=1e-3)
    assert model.match([image], texts, head="itc")[0].tolist() == pytest.approx(itc, abs=1e-3)


def test_a_text_of_more_words_than_are_read_is_said_to_be_cut_whatever_its_tokens() -> None:
    model = Blip(tiny.network(), tiny.tokenizer(), ModelCard(max_tokens=60))
    long = " ".join(["red"] * 40)
    assert model.cut_texts([long, "red apple"]) == 1
    assert model.cut_texts([long, "red apple"], clean_question) == 0
    assert model.cut_texts([f"{long} {long}"], clean_question) == 1
