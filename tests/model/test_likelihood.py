"""The likelihood of given texts against the decoder read token by token."""

import pytest
import torch

from blip.model import likelihood
from blip.model.api import Blip
from tests import tiny

TEXTS = ["red apple", "the dog on the table", "", "dog"]
IMAGES = torch.tensor([1, 0, 1, 0])


def slow(model: Blip, image: int, text: str, prompt: str = "") -> float:
    """The mean log-probability of the tokens behind the prompt, each from what stands before it."""
    network, tokens = model.network, model.encode_images(tiny.images(2))
    context = network.text_decoder.project_context(tokens[image : image + 1])
    ids, _ = model.tokenizer.encode([f"{prompt} {text}".strip()], 12)
    ids[:, 0] = model.tokenizer.bos
    given = model.tokenizer.encode([prompt], 12)[0].shape[1] - 1
    found = []
    for end in range(given, ids.shape[1]):
        states = network.text_decoder(ids[:, :end], torch.ones(1, end), context, causal=True)
        logits = network.lm_head(states[:, -1], network.word_embedding)
        found.append(logits.log_softmax(-1)[0, ids[0, end]].item())
    return sum(found) / len(found)


@pytest.mark.parametrize("prompt", ["", "the red"])
def test_it_is_the_mean_over_the_tokens_behind_the_prompt(prompt: str) -> None:
    model = tiny.blip(3, prompt=prompt)
    with torch.inference_mode():
        found = model.likelihood(model.encode_images(tiny.images(2)), IMAGES, TEXTS)
        expected = [slow(model, int(image), text, prompt) for image, text in zip(IMAGES, TEXTS, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_it_does_not_depend_on_what_is_at_hand_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.blip(3)
    tokens = model.encode_images(tiny.images(2))
    together = model.likelihood(tokens, IMAGES, TEXTS)
    monkeypatch.setattr(likelihood, "CONTEXT_BYTES", 1)
    assert torch.allclose(model.likelihood(tokens, IMAGES, TEXTS), together, atol=1e-5)
