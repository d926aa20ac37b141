"""The network: sharing, masks, the cache, positions of another size."""

import pytest
import torch

from blip.model import text
from blip.model.context import Cache, Context, Tokens, select_rows
from blip.model.vision import positions_for
from tests import tiny


def test_encoder_and_decoder_share_all_but_self_attention() -> None:
    network = tiny.network()
    encoder, decoder = network.text_encoder, network.text_decoder
    assert encoder.embeddings is decoder.embeddings
    for one, other in zip(encoder.layers, decoder.layers, strict=True):
        assert one.cross_attention is other.cross_attention
        assert one.feed_forward is other.feed_forward
        assert one.self_attention is not other.self_attention


def test_padding_changes_no_state() -> None:
    # In float32 other shapes are other sums: 1e-6 on some processors
    encoder = tiny.network().double().text_encoder
    ids = torch.tensor([[2, 10, 11, 3]])
    padded = torch.tensor([[2, 10, 11, 3, 0, 0]])
    mask = (padded != 0).long()
    alone = encoder(ids, torch.ones_like(ids))
    assert torch.allclose(alone, encoder(padded, mask)[:, :4], rtol=0, atol=1e-12)


def test_packing_changes_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny.network()
    ids, mask = tiny.tokenizer().encode(["red apple on the table", "dog", "a green x"], 30)
    context = network.text_encoder.project_context(network.vision(tiny.images(3)))
    monkeypatch.setattr(text, "pays_to_pack", lambda states: False)
    padded = network.text_encoder(ids, mask, context)
    first = network.text_encoder(ids, mask, context, first_only=True)
    causal = network.text_decoder(ids, mask, context, causal=True)
    monkeypatch.setattr(text, "pays_to_pack", lambda states: True)
    tokens = mask.bool()
    assert torch.allclose(network.text_encoder(ids, mask, context)[tokens], padded[tokens], atol=1e-5)
    assert torch.allclose(network.text_encoder(ids, mask, context, first_only=True), first, atol=1e-5)
    assert torch.allclose(
        network.text_decoder(ids, mask, context, causal=True)[tokens], causal[tokens], atol=1e-5
    )


def test_packed_gradients_are_those_of_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, mask = tiny.tokenizer().encode(["red apple on the table", "dog"], 30)
    gradients = []
    for packs in (False, True):
        monkeypatch.setattr(text, "pays_to_pack", lambda states, packs=packs: packs)
        network = tiny.network().train()
        context = network.text_encoder.project_context(network.vision(tiny.images(2)))
        network.text_encoder(ids, mask, context)[mask.bool()].square().mean().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))


def test_a_count_from_the_host_changes_no_state_and_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "pays_to_pack", lambda states: True)
    ids, mask = tiny.tokenizer().encode(["red apple on the table", "dog", "a green x"], 30)
    results = []
    for count in (None, int(mask.sum())):
        monkeypatch.setattr(text, "count_for", lambda x, tokens: tokens)
        network = tiny.network()
        context = network.text_encoder.project_context(network.vision(tiny.images(3)))
        states = network.text_encoder(ids, mask, context, tokens=count)[mask.bool()]
        first = network.text_encoder(ids, mask, context, first_only=True, tokens=count)
        (states.square().mean() + first.square().mean()).backward()
        results.append([states, first, *(p.grad for p in network.parameters() if p.grad is not None)])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*results, strict=True))


def test_gradients_of_a_shared_context_repeat_to_the_bit_on_two_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        keys = torch.randn(64, 4, 37, 32, requires_grad=True)
        index, weights = torch.randint(64, (192,)), torch.randn(192, 4, 37, 32)
        gradients = []
        for _ in range(30):
            selected = Context(keys, keys).select(index)
            (gradient,) = torch.autograd.grad(((selected.keys + selected.values) * weights).sum(), keys)
            gradients.append(gradient)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(gradients[0], gradient) for gradient in gradients)


def test_position_0_alone_is_position_0_of_the_whole() -> None:
    network = tiny.network()
    ids, mask = tiny.tokenizer().encode(["red apple", "dog"], 30)
    context = network.text_encoder.project_context(network.vision(tiny.images(2)))
    whole = network.text_encoder(ids, mask, context)
    first = network.text_encoder(ids, mask, context, first_only=True)
    assert first.shape[1] == 1
    assert torch.allclose(first[:, 0], whole[:, 0], atol=1e-6)


def test_decoding_token_by_token_is_decoding_at_once() -> None:
    network = tiny.network()
    ids = torch.tensor([[2, 10, 11, 12, 13], [2, 14, 15, 16, 17]])
    context = network.text_decoder.project_context(network.vision(tiny.images(2)))
    whole = network.text_decoder(ids, None, context, causal=True)
    cache = Cache(2, (2, 4, 5, 16), context[0].keys)
    steps = [network.text_decoder(ids[:, :2], None, context, causal=True, cache=cache)]
    steps += [
        network.text_decoder(ids[:, n : n + 1], None, context, causal=True, cache=cache) for n in (2, 3, 4)
    ]
    assert torch.allclose(torch.cat(steps, dim=1), whole, atol=1e-5)


def test_texts_of_one_image_share_its_keys_uncopied() -> None:
    network = tiny.network()
    context = network.text_encoder.project_context(network.vision(tiny.images(2)))
    ids, mask = tiny.tokenizer().encode(["red apple", "dog", "the table", "a"], 30)
    copied = [layer.select(torch.tensor([0, 0, 1, 1])) for layer in context]
    assert torch.allclose(
        network.text_encoder(ids, mask, context), network.text_encoder(ids, mask, copied), atol=1e-6
    )


def test_attending_to_tokens_is_attending_to_their_keys_and_values() -> None:
    decoder = tiny.network().text_decoder
    with torch.no_grad():
        for layer in decoder.layers:
            layer.cross_attention.kv.bias.normal_()
    tokens = torch.randn(2, 17, 64)
    projected, unprojected = decoder.project_context(tokens), decoder.context_for(tokens, 1)
    assert isinstance(unprojected[0], Tokens)
    ids = torch.tensor([[2, 10, 11], [2, 12, 13], [2, 14, 15], [2, 16, 17]])  # two texts for each row
    expected = decoder(ids, None, projected, causal=True)
    assert torch.allclose(decoder(ids, None, unprojected, causal=True), expected, atol=1e-5)
    swapped = torch.tensor([1, 0])
    again = decoder(ids[[2, 3, 0, 1]], None, select_rows(unprojected, swapped), causal=True)
    assert torch.allclose(again, expected[[2, 3, 0, 1]], atol=1e-5)


def test_many_queries_have_keys_and_values_projected() -> None:
    decoder = tiny.network().text_decoder
    tokens = torch.randn(1, 17, 64)
    costs = {
        queries: isinstance(decoder.context_for(tokens, queries)[0], Context) for queries in (1, 9, 10, 100)
    }
    assert costs == {1: False, 9: False, 10: True, 100: True}


def test_another_resolution_keeps_cls_and_interpolates_the_rest() -> None:
    positions = torch.randn(1, 17, 8)
    larger = positions_for(positions, 6)
    assert larger.shape == (1, 37, 8)
    assert torch.equal(larger[:, 0], positions[:, 0])
    assert positions_for(positions, 4) is positions
    assert tiny.network().vision(tiny.images(1, size=48)).shape == (1, 37, 64)


def test_activation_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for switch in (False, True):
        vision = tiny.network().vision.train()
        vision.activation_checkpointing = switch
        vision(tiny.images(2)).square().mean().backward()
        gradients.append(vision.blocks[0].fc1.weight.grad)
    assert torch.equal(gradients[0], gradients[1])
