"""The NLVR2 network against a reference in loops, written from the public checkpoint's keys and the paper."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import blip
from blip.errors import BlipError
from blip.model import two_images
from blip.model.context import Context
from blip.model.matching import context_bytes
from blip.model.nlvr import NlvrNetwork, load_nlvr, save_nlvr
from blip.model.public import open_public
from blip.model.two_images import TwoImages
from tests import public_files, tiny

State = dict[str, Tensor]
SENTENCES = ["the red dog on the table", "a green apple", "of x"]


def dense(state: State, name: str, x: Tensor) -> Tensor:
    return state[f"{name}.weight"] @ x + state[f"{name}.bias"]


def norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    return (x - x.mean()) / (x.var(unbiased=False) + eps).sqrt() * state[f"{name}.weight"] + state[
        f"{name}.bias"
    ]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def attend(queries: list[Tensor], keys: list[Tensor], values: list[Tensor]) -> list[Tensor]:
    """Heads of 64, one query and one head after the other."""
    found = []
    for query in queries:
        parts = []
        for start in range(0, len(query), 64):
            head = slice(start, start + 64)
            scores = torch.stack([query[head] @ key[head] for key in keys]) / 8
            weights = scores.exp() / scores.exp().sum()
            parts.append(sum(weight * value[head] for weight, value in zip(weights, values, strict=True)))
        found.append(torch.cat(parts))  # type: ignore[arg-type]
    return found


def see(state: State, image: Tensor, s: public_files.Sizes) -> list[Tensor]:
    """Image tokens by the vision tower, CLS first."""
    v = "visual_encoder"
    tokens = [state[f"{v}.cls_token"][0, 0]]
    for row in range(s.grid):
        for column in range(s.grid):
            patch = image[:, row * s.patch : (row + 1) * s.patch, column * s.patch : (column + 1) * s.patch]
            kernel = state[f"{v}.patch_embed.proj.weight"]
            tokens.append((kernel * patch).sum((1, 2, 3)) + state[f"{v}.patch_embed.proj.bias"])
    x = [token + state[f"{v}.pos_embed"][0, n] for n, token in enumerate(tokens)]
    for n in range(s.layers):
        block = f"{v}.blocks.{n}"
        qkv = [dense(state, f"{block}.attn.qkv", norm(state, f"{block}.norm1", t, 1e-6)).chunk(3) for t in x]
        found = attend([q for q, _, _ in qkv], [k for _, k, _ in qkv], [value for _, _, value in qkv])
        x = [t + dense(state, f"{block}.attn.proj", f) for t, f in zip(x, found, strict=True)]
        for at, t in enumerate(x):
            inner = gelu(dense(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", t, 1e-6)))
            x[at] = t + dense(state, f"{block}.mlp.fc2", inner)
    return [norm(state, f"{v}.norm", t, 1e-6) for t in x]


def look(state: State, cross: str, number: int, x: list[Tensor], image: list[Tensor]) -> list[Tensor]:
    """What the text's tokens find in one of the images, behind that image's own dense layer."""
    part = f"{cross}.self{number}"
    found = attend(
        [dense(state, f"{part}.query", t) for t in x],
        [dense(state, f"{part}.key", t) for t in image],
        [dense(state, f"{part}.value", t) for t in image],
    )
    return [dense(state, f"{cross}.output.dense{number}", f) for f in found]


def reference(state: State, left: Tensor, right: Tensor, ids: list[int], s: public_files.Sizes) -> Tensor:
    """Logits ``[2]`` of one sentence about two images."""
    images = [see(state, left, s), see(state, right, s)]
    e = "text_encoder.embeddings"
    words, places = state[f"{e}.word_embeddings.weight"], state[f"{e}.position_embeddings.weight"]
    x = [norm(state, f"{e}.LayerNorm", words[token] + places[n], 1e-12) for n, token in enumerate(ids)]
    for n in range(s.layers):
        layer = f"text_encoder.encoder.layer.{n}"
        own, cross = f"{layer}.attention", f"{layer}.crossattention"
        found = attend(
            *([dense(state, f"{own}.self.{part}", t) for t in x] for part in ("query", "key", "value"))
        )
        x = [
            norm(state, f"{own}.output.LayerNorm", dense(state, f"{own}.output.dense", f) + t, 1e-12)
            for f, t in zip(found, x, strict=True)
        ]
        both = zip(*(look(state, cross, number, x, images[number]) for number in (0, 1)), strict=True)
        merges = f"{cross}.output.merge_layer.weight" in state
        for at, (one, other) in enumerate(both):
            joint = (
                dense(state, f"{cross}.output.merge_layer", torch.cat((one, other)))
                if merges
                else (one + other) / 2
            )
            x[at] = norm(state, f"{cross}.output.LayerNorm", joint + x[at], 1e-12)
        for at, t in enumerate(x):
            inner = gelu(dense(state, f"{layer}.intermediate.dense", t))
            x[at] = norm(
                state, f"{layer}.output.LayerNorm", dense(state, f"{layer}.output.dense", inner) + t, 1e-12
            )
    return dense(state, "cls_head.2", dense(state, "cls_head.0", x[0]).clamp(min=0))


@pytest.fixture
def state() -> State:
    return public_files.state_of("nlvr")


@pytest.fixture
def network(state: State, tmp_path: Path) -> NlvrNetwork:
    opened = open_public(public_files.write(tmp_path / "model_base_nlvr.pth", state))
    assert (opened.report.kind, opened.report.missing, opened.report.unexpected) == ("nlvr", (), ())
    assert isinstance(opened.network, NlvrNetwork)
    return opened.network


def pairs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images = tiny.images(6)
    ids, mask = tiny.tokenizer().encode(SENTENCES, 30)
    ids[:, 0] = tiny.tokenizer().enc
    return images[:3], images[3:], ids, mask


@torch.no_grad()
def test_logits_are_those_of_the_reference(state: State, network: NlvrNetwork) -> None:
    left, right, ids, mask = pairs()
    logits = network(left, right, ids, mask)
    double = {name: tensor.double() for name, tensor in state.items()}
    for n in range(3):
        tokens = ids[n, : int(mask[n].sum())].tolist()
        expected = reference(double, left[n].double(), right[n].double(), tokens, public_files.Sizes())
        assert torch.allclose(logits[n].double(), expected, atol=1e-4)
    assert logits.std() > 0.01


@torch.no_grad()
def test_left_and_right_are_not_the_same(network: NlvrNetwork) -> None:
    left, right, ids, mask = pairs()
    assert (network(left, right, ids, mask) - network(right, left, ids, mask)).abs().max() > 1e-3


def test_the_first_layers_average_and_the_others_merge(network: NlvrNetwork, tmp_path: Path) -> None:
    assert network.config.merged_from == 1
    sizes = public_files.Sizes(layers=8)
    torch.manual_seed(0)
    deep = open_public(
        public_files.write(tmp_path / "deep.pth", public_files.nlvr(sizes, merged_from=6))
    ).network
    assert isinstance(deep, NlvrNetwork)
    assert deep.config.merged_from == 6
    merges = [hasattr(layer.cross_attention.merge, "weight") for layer in deep.text_encoder.layers]  # type: ignore[union-attr]
    assert merges == [False] * 6 + [True] * 2


@torch.no_grad()
def test_a_saved_model_opens_unchanged(network: NlvrNetwork, tmp_path: Path) -> None:
    opened = open_public(tmp_path / "model_base_nlvr.pth")
    save_nlvr(network, tiny.tokenizer(), tmp_path / "nlvr", opened.card)
    again, _ = load_nlvr(tmp_path / "nlvr")
    assert torch.equal(again(*pairs()), network(*pairs()))


def test_statements_are_judged_a_few_at_a_time_so_that_their_images_fit_the_memory(
    network: NlvrNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pair = TwoImages(network, tiny.tokenizer(), 30), [4, 0, 2, 0, 4, 1, 4]
    pictures = list(np.random.default_rng(0).integers(0, 255, (10, 32, 32, 3), dtype=np.uint8))
    left, right, statements = pictures[:5], pictures[5:], [SENTENCES[n % 3] for n in range(7)]
    of_a_pair = 2 * context_bytes(network.config.text, network.vision(tiny.images(1)))
    at_once: list[int] = []
    project = network.text_encoder.project_context

    def counted(tokens: Tensor) -> list[Context]:
        at_once.append(len(tokens))
        return project(tokens)

    monkeypatch.setattr(network.text_encoder, "project_context", counted)
    found = {}
    for size, most in ((1, 1), (3, 2), (100, 4)):  # statements at once, and the pairs that they are about
        monkeypatch.setattr(two_images, "CONTEXT_BYTES", size * of_a_pair)
        at_once.clear()
        found[size] = model.judge(left, right, statements, pair)
        assert max(at_once) == 2 * most
    assert torch.allclose(found[1], found[100], atol=1e-6) and torch.allclose(found[3], found[100], atol=1e-6)
    alone = [model.judge([left[n]], [right[n]], [text]) for n, text in zip(pair, statements, strict=True)]
    assert torch.allclose(found[3], torch.cat(alone), atol=1e-6)


def test_a_public_file_opens_as_it_is_and_one_of_another_kind_does_not(
    network: NlvrNetwork, tmp_path: Path
) -> None:
    tiny.tokenizer().save(tmp_path)
    opened = TwoImages.open(tmp_path / "model_base_nlvr.pth")
    assert torch.equal(opened.network.vision.class_embedding, network.vision.class_embedding)
    assert len(opened.tokenizer) == len(tiny.tokenizer())
    other = public_files.write(tmp_path / "other.pth", public_files.state_of("retrieval"))
    with pytest.raises(BlipError, match=r"other\.pth is a model for retrieval, not for NLVR2"):
        TwoImages.open(other)


def test_it_does_not_open_as_another_model(network: NlvrNetwork, tmp_path: Path) -> None:
    path = tmp_path / "model_base_nlvr.pth"
    save_nlvr(network, tiny.tokenizer(), tmp_path / "nlvr", open_public(path).card)
    for model in (tmp_path / "nlvr", path):
        with pytest.raises(BlipError, match=r"a model for NLVR2.*TwoImages opens"):
            blip.load(str(model))


def test_gradients_reach_every_weight(network: NlvrNetwork) -> None:
    network(*pairs()).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
