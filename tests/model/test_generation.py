"""Decoding: the nucleus by its distribution, seeds by key, lengths."""

from dataclasses import replace

import pytest
import torch

from blip.model import generation
from blip.model.api import Blip, keyed_uniforms
from blip.model.generation import Decoding, Normalise, decoding_context, generate, nucleus
from tests import tiny


def test_the_nucleus_is_the_smallest_set_that_reaches_p() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    uniform = torch.linspace(0, 0.9999, 2000)
    drawn = nucleus(logits.expand(2000, -1), 0.75, uniform)
    assert set(drawn.tolist()) == {0, 1}
    assert abs((drawn == 0).float().mean().item() - 0.5 / 0.8) < 0.01
    assert set(nucleus(logits.expand(2000, -1), 1.0, uniform).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("spread", [0.5, 2.0, 3.0, 6.0])
def test_the_likeliest_tokens_alone_give_the_draws_of_the_whole_vocabulary(spread: float) -> None:
    random = torch.Generator().manual_seed(1)
    logits = (torch.randn(200, 3000, generator=random) * spread).bfloat16().float()  # with many equals
    uniform = torch.rand(200, generator=random)
    probability, token = logits.softmax(-1).sort(descending=True, stable=True)
    kept = probability.masked_fill(probability.cumsum(1) - probability >= 0.9, 0)
    reach = kept.cumsum(1)
    place = torch.searchsorted(reach, uniform[:, None] * reach[:, -1:], right=True)
    assert torch.equal(nucleus(logits, 0.9, uniform), token.gather(1, place).squeeze(1))
    for row in range(0, 200, 50):  # alone, too
        assert nucleus(logits[row : row + 1], 0.9, uniform[row : row + 1]) == token[row, place[row]]


def test_a_sampled_caption_depends_on_its_key_and_not_on_its_batch() -> None:
    model = tiny.blip()
    images = tiny.images(6)
    keys = [f"web-{n}" for n in range(6)]
    together = model.caption(images, "nucleus", keys=keys, seed=3, max_length=12)
    alone = [
        model.caption(images[n : n + 1], "nucleus", keys=keys[n : n + 1], seed=3, max_length=12)[0]
        for n in range(6)
    ]
    assert together == alone
    assert together != model.caption(images, "nucleus", keys=keys, seed=4, max_length=12)


@torch.inference_mode()
def test_a_beam_caption_depends_on_its_image_alone() -> None:
    model = tiny.blip()
    model.network.lm_head.bias[model.tokenizer.sep] += 2
    tokens = model.encode_images(tiny.images(12))
    for penalty in (1.0, 0.8):
        decoding = Decoding(20, 1, 3, repetition_penalty=penalty)
        alone = [model.caption_tokens(tokens[n : n + 1], decoding)[0] for n in range(12)]
        assert model.caption_tokens(tokens, decoding) == alone


@torch.inference_mode()
@pytest.mark.parametrize("top_p", [None, 0.95])
def test_several_captions_of_an_image_are_what_each_is_by_itself(top_p: float | None) -> None:
    """They share the image's keys and values, end at different times, and leave the batch together."""
    model = tiny.blip()
    model.network.lm_head.bias[model.tokenizer.sep] += 3
    tokens, copies = model.encode_images(tiny.images(6)), 3
    decoding = Decoding(20, 1, top_p=top_p)
    uniforms = keyed_uniforms([str(n) for n in range(len(tokens) * copies)], 5, 20)
    together = model.caption_tokens(tokens, decoding, uniforms=uniforms, copies=copies)
    alone = [
        model.caption_tokens(tokens[n // copies : n // copies + 1], decoding, uniforms=uniforms[n : n + 1])[0]
        for n in range(len(uniforms))
    ]
    assert together == alone
    lengths = {len(text.split()) for text in together}
    assert len(lengths) > 2 or top_p is None


def test_uniform_numbers_are_in_range_and_repeat() -> None:
    one = keyed_uniforms(["a", "b"], 1, 50)
    assert torch.equal(one, keyed_uniforms(["a", "b"], 1, 50))
    assert one.min() >= 0 and one.max() < 1
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize("normalise", ["generated", "whole"])
@torch.inference_mode()
def test_beams_are_compared_by_the_length_that_is_asked_for(normalise: Normalise) -> None:
    model = tiny.blip(4, prompt="the red")
    model.network.lm_head.bias[model.tokenizer.sep] += 1.0  # texts end at different lengths
    decoding = Decoding(max_length=9, min_length=4, beams=3, normalise=normalise)
    tokens = model.encode_images(tiny.images(24))  # in one a better follows one that has just ended
    start = model._prompt_ids("the red").expand(len(tokens), -1)
    context = decoding_context(model.network, tokens, decoding)
    found = generate(model.network, context, start, model.tokenizer.sep, decoding)
    expected = [beams_by_hand(model, one[None], decoding) for one in tokens]
    assert found == expected
    other = replace(decoding, normalise="whole" if normalise == "generated" else "generated")
    assert expected != [beams_by_hand(model, one[None], other) for one in tokens]


def beams_by_hand(model: Blip, tokens: torch.Tensor, decoding: Decoding) -> list[int]:
    """The best text of one image, every sequence read anew at each of its tokens."""
    network, end, most = model.network, model.tokenizer.sep, decoding.beams
    prompt = model._prompt_ids("the red")[0].tolist()
    context = network.text_decoder.project_context(tokens)
    live, done = [(0.0, prompt)], []
    while True:
        candidates = []
        for score, sequence in live:
            states = network.text_decoder(torch.tensor([sequence]), None, context, causal=True)
            logs = network.lm_head(states[0, -1], network.word_embedding).log_softmax(dim=-1)
            if len(sequence) < decoding.min_length:
                logs[end] = -torch.inf
            candidates += [(score + log, [*sequence, token]) for token, log in enumerate(logs.tolist())]
        best = sorted(candidates, reverse=True)[: 2 * most]
        whole = len(best[0][1])
        ending = whole - len(prompt) if decoding.normalise == "generated" else whole - 1
        done += [(score / ending, one[:-1]) for score, one in best[:most] if one[-1] == end]
        live = [(score, one) for score, one in best if one[-1] != end][:most]
        done = sorted(done, reverse=True)[:most]
        goes_on = live if decoding.normalise == "generated" else best  # 4.15: ended or not
        settled = len(done) == most and done[-1][0] >= goes_on[0][0] / ending
        if whole == decoding.max_length and not settled:
            cut = whole - len(prompt) if decoding.normalise == "generated" else whole
            done = sorted(done + [(score / cut, one) for score, one in live], reverse=True)
        if whole == decoding.max_length or settled:
            return done[0][1][len(prompt) :]


@pytest.mark.parametrize("beams", [1, 3])
@torch.inference_mode()
def test_no_text_is_shorter_or_longer_than_asked(beams: int) -> None:
    model = tiny.blip()
    context = model.network.text_decoder.project_context(model.encode_images(tiny.images(6)))
    start = torch.full((6, 1), model.tokenizer.bos)
    for minimum, maximum in ((8, 8), (1, 5), (7, 12)):
        texts = generate(
            model.network, context, start, model.tokenizer.sep, Decoding(maximum, minimum, beams)
        )
        assert all(minimum - 2 <= len(ids) <= maximum - 1 for ids in texts)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("attended", ["projected", "tokens"])
@torch.inference_mode()
def test_leaving_the_batch_and_the_form_of_the_context_change_no_text(
    monkeypatch: pytest.MonkeyPatch, beams: int, attended: str
) -> None:
    model = tiny.blip()
    decoder = model.network.text_decoder
    tokens = model.encode_images(tiny.images(9))
    start = torch.full((9, 1), model.tokenizer.bos)
    context = decoder.project_context(tokens) if attended == "projected" else decoder.context_for(tokens, 1)
    end, texts = ends_at_several_lengths(model, context, start, beams)
    for leaving in (1, 10**9):
        monkeypatch.setattr(generation, "LEAVING", leaving)
        assert generate(model.network, context, start, end, Decoding(14, 1, beams)) == texts


@pytest.mark.parametrize("beams", [1, 3])
def test_no_image_gives_no_text(beams: int) -> None:
    model = tiny.blip()
    context = model.network.text_decoder.project_context(torch.randn(0, 17, 64))
    start = torch.empty(0, 1, dtype=torch.int64)
    assert generate(model.network, context, start, model.tokenizer.sep, Decoding(14, 1, beams)) == []


def ends_at_several_lengths(model, context, start, beams: int) -> tuple[int, list[list[int]]]:
    """An end token at which the texts are of many lengths, and these texts."""
    for end in range(len(model.tokenizer)):
        texts = generate(model.network, context, start, end, Decoding(14, 1, beams))
        if len({len(ids) for ids in texts}) > 3:
            return end, texts
    raise AssertionError("every end token gives texts of one length")


def test_an_explanation_has_a_map_for_every_word() -> None:
    explanation = tiny.blip().explain(tiny.images(1)[0].permute(1, 2, 0).numpy().astype("uint8"), "red apple")
    assert explanation.words == ["red", "apple"]
    assert explanation.maps.shape == (2, 32, 32)
    assert explanation.maps.min() >= 0 and explanation.maps.max() == 1
    assert 0 <= explanation.probability <= 1
