"""What a GPU does with packed texts, a loop in its kernel's place: the same losses and gradients."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from blip.data.sample import stable_id
from blip.model import decoder_loss, objectives, text
from blip.model.attention import attention
from blip.model.batch import PairBatch
from blip.model.grouping import Groups
from blip.model.objectives import ObjectiveConfig, PairObjective
from tests import tiny

TOKENS = tiny.tokenizer()
TEXTS = ["red apple on the table", "dog", "a green x", "the dog on the table"]


def row_by_row(
    q_MHC: Tensor,
    k_NHC: Tensor,
    v_NHC: Tensor,
    starts: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    causal: bool = False,
) -> Tensor:
    """`ragged_attention`, a row at a time; it checks what the kernel relies on."""
    bounds = [list(zip(s.tolist(), s[1:].tolist(), strict=False)) for s in starts]
    assert [s[-1] for s in starts] == [len(q_MHC), len(k_NHC)] and all(s.dtype == torch.int32 for s in starts)
    assert all(max(b - a for a, b in rows) <= most for rows, most in zip(bounds, longest, strict=True))
    found = []
    for (a, b), (c, d) in zip(*bounds, strict=True):
        q, k, v = (x.transpose(0, 1)[None] for x in (q_MHC[a:b], k_NHC[c:d], v_NHC[c:d]))
        unseen = torch.full((b - a, d - c), torch.finfo(q.dtype).min).triu(1) if causal else None
        found.append(attention(q, k, v, unseen)[0].transpose(0, 1))
    return torch.cat(found)


def losses_and_gradients(batch: PairBatch, monkeypatch: pytest.MonkeyPatch, ragged: bool) -> list[Tensor]:
    with monkeypatch.context() as patch:
        for module in (text, objectives):
            patch.setattr(module, "takes_ragged", lambda like, width: ragged)
        for module in (text, decoder_loss):
            patch.setattr(module, "count_for", lambda x, tokens: tokens if ragged else None)
        patch.setattr(text, "pays_to_pack", lambda states: ragged)
        patch.setattr(text, "ragged_attention", row_by_row)
        torch.manual_seed(0)
        ids = TOKENS.special_tokens
        made = PairObjective(tiny.network(), ObjectiveConfig(queue=4), ids).train()
        torch.manual_seed(1)  # the negatives that are drawn
        losses = made(batch.to("cpu"))
        losses["loss"].backward()
    return [*losses.values(), *(p.grad for p in made.parameters() if p.grad is not None)]


def batch_of(texts: list[str], image: list[int] | None) -> PairBatch:
    ids, mask = TOKENS.encode(texts, 12)
    index = None if image is None else torch.tensor(image)
    own = torch.arange(len(texts)) if index is None else index
    group = torch.stack((own, torch.tensor([stable_id(text) for text in texts])), dim=1)
    return PairBatch(tiny.images(len(texts) if image is None else 3), ids, mask, group, image=index)


@pytest.mark.parametrize("image", [None, [0, 0, 1, 2], [2, 0, 1, 0]])
@pytest.mark.parametrize("distractors", [False, True])
def test_packed_attention_gives_the_losses_and_gradients_of_padding(
    monkeypatch: pytest.MonkeyPatch, image: list[int] | None, distractors: bool
) -> None:
    batch = replace(batch_of(TEXTS, image), prompt_tokens=2)
    if distractors:
        ids, mask = TOKENS.encode(["a table", "x", "green", "red dog", *TEXTS], 12)
        batch = replace(batch, distractor_ids=ids[:4], distractor_mask=mask[:4])
    padded, packed = (losses_and_gradients(batch, monkeypatch, ragged) for ragged in (False, True))
    assert len(padded) == len(packed)
    for one, other in zip(padded, packed, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)


def test_groups_of_images_of_which_some_have_no_text() -> None:
    groups = Groups.of(torch.tensor([0, 0, 2, 2, 2]), torch.tensor([3, 4, 5, 6, 7]), images=4)
    assert groups.texts_E.tolist() == [0, 2, 2, 5, 5]
    assert groups.tokens_E.tolist() == [0, 7, 7, 25, 25]


def test_only_a_gpu_in_16_bits_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    encoder, batch = tiny.network().text_encoder, TOKENS.encode(TEXTS, 12)
    monkeypatch.setattr(text, "ragged_attention", lambda *_, **__: calls.append("the GPU's kernel"))
    monkeypatch.setattr(text, "pays_to_pack", lambda states: True)
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder(*batch)
    assert calls == []
    assert states.shape[:2] == batch[0].shape
    assert torch.isfinite(states).all()
