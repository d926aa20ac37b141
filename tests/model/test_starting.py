"""What a new network starts from: BERT's layers and a ViT of timm, under the names of their files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from blip.errors import BlipError
from blip.model.starting import load_starting_text, load_starting_vision
from tests import public_files, tiny

WORDS = len(tiny.tokenizer()) - 2  # BLIP adds [DEC] and [ENC]


def bert(words: int = WORDS, width: int = 64) -> BertForMaskedLM:
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=4 * width,
        max_position_embeddings=64,
    )
    made = BertForMaskedLM(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        made.bert.embeddings.token_type_embeddings.weight.zero_()  # BLIP has none
    return made.eval()


@pytest.mark.parametrize("old_names", [False, True])
def test_texts_are_read_as_bert_reads_them(tmp_path: Path, old_names: bool) -> None:
    theirs, ours = bert(), tiny.network()
    theirs.save_pretrained(tmp_path)
    if old_names:  # as the file on the Hub has them
        state = load_file(tmp_path / "model.safetensors")
        renamed = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): one
            for name, one in state.items()
        }
        save_file(renamed, tmp_path / "model.safetensors")
    looking = ours.text_encoder.layers[0].cross_attention.query.weight.clone()
    new_words = ours.word_embedding[WORDS:].clone()
    load_starting_text(ours, tmp_path / "model.safetensors")
    ids = torch.randint(5, WORDS, (3, 7))
    with torch.inference_mode():
        expected = theirs.bert(ids).last_hidden_state
        for stack in (ours.text_encoder, ours.text_decoder):
            torch.testing.assert_close(stack(ids, None), expected, atol=1e-5, rtol=1e-4)
        logits = ours.lm_head(expected, ours.word_embedding)[..., :WORDS]
        torch.testing.assert_close(logits, theirs(ids).logits, atol=1e-5, rtol=1e-4)
    assert torch.equal(ours.text_encoder.layers[0].cross_attention.query.weight, looking)
    assert torch.equal(ours.word_embedding[WORDS:], new_words)
    assert isinstance(ours.lm_head.bias, nn.Parameter)


def test_a_bert_of_other_sizes_is_refused_by_name(tmp_path: Path) -> None:
    bert(words=WORDS + 3, width=32).save_pretrained(tmp_path)
    with pytest.raises(
        BlipError, match=r"does not fit.*other sizes: text_encoder\.embeddings\.word\.weight.*and \d+ more"
    ):
        load_starting_text(tiny.network(), tmp_path / "model.safetensors")
    save_file({"bert.embeddings.LayerNorm.weight": torch.ones(64)}, tmp_path / "part.safetensors")
    with pytest.raises(BlipError, match=r"it lacks text_encoder\.embeddings\.word\.weight"):
        load_starting_text(tiny.network(), tmp_path / "part.safetensors")
    with pytest.raises(BlipError, match=r"no such file; model\.text_start"):
        load_starting_text(tiny.network(), tmp_path / "none.safetensors")


def test_an_encoder_of_timm_opens_as_one_of_ours(tmp_path: Path) -> None:
    ours = tiny.network()
    encoder = public_files.visual_encoder(public_files.Sizes())
    theirs = {name.removeprefix("visual_encoder."): one for name, one in encoder.items()}
    save_file(theirs | {"head.weight": torch.zeros(10, 64)}, tmp_path / "timm.safetensors")
    load_starting_vision(ours, tmp_path / "timm.safetensors")
    state = ours.vision.state_dict()
    assert len(state) == len(theirs)
    for own, name in (
        ("class_embedding", "cls_token"),
        ("position_embedding", "pos_embed"),
        ("patch_embedding.weight", "patch_embed.proj.weight"),
        ("blocks.1.qkv.bias", "blocks.1.attn.qkv.bias"),
        ("blocks.0.projection.weight", "blocks.0.attn.proj.weight"),
        ("blocks.1.fc2.weight", "blocks.1.mlp.fc2.weight"),
        ("blocks.0.norm2.weight", "blocks.0.norm2.weight"),
        ("norm.bias", "norm.bias"),
    ):
        assert torch.equal(state[own], theirs[name]), own
    del theirs["blocks.1.attn.qkv.weight"]
    save_file(theirs, tmp_path / "cut.safetensors")
    with pytest.raises(
        BlipError, match=r"does not fit the model's vision settings[^$]*blocks\.1\.qkv\.weight"
    ):
        load_starting_vision(ours, tmp_path / "cut.safetensors")


def test_the_weights_of_a_whole_blip_are_no_image_encoder(tmp_path: Path) -> None:
    directory = tiny.save(tmp_path / "blip", seed=0)
    with pytest.raises(
        BlipError, match=rf"is a whole BLIP, of which model\.start names the directory: {directory}$"
    ):
        load_starting_vision(tiny.network(), directory / "model.safetensors")
    bert().save_pretrained(tmp_path)
    with pytest.raises(
        BlipError, match=r"no image encoder .* no pos_embed and no position_embedding, but bert\."
    ):
        load_starting_vision(tiny.network(), tmp_path / "model.safetensors")
