"""What commands and pages ask of a model about one picture, as rows to be shown.

matches(model, picture, ["a cat", "a dog"])        # [Match("a cat", 0.97, 0.41), ...]
shares(model, picture, ["cat", "dog"])             # [("cat", 0.93), ("dog", 0.07)]
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL.Image import Image

from blip.data.text import says_something
from blip.errors import BadArguments
from blip.model.api import Blip, DecodingName


class Match(NamedTuple):
    """How well a text fits: probability by the matching head, cosine of the embeddings."""

    text: str
    probability: float
    cosine: float


def require_words(what: str, texts: Sequence[str]) -> None:
    """Raises BadArguments for a text that has no word: a model would give it some score all the same."""
    for text in texts:
        if not says_something(text):
            raise BadArguments(f"the {what} {text!r} has no word: write some")


def captions(
    model: Blip, picture: Image, decoding: DecodingName, count: int = 1, seed: int = 0
) -> list[tuple[str, float]]:
    """Captions and how likely the model finds a word of each, the geometric mean of its tokens; likeliest first.

    Args:
        count: how many to sample; equal ones are one. Other decodings than ``nucleus`` have one.
    """
    sampled = count if decoding == "nucleus" else 1
    texts = list(dict.fromkeys(model.caption([picture] * sampled, decoding, seed=seed)))
    tokens = model.encode_images([picture])
    likely = model.likelihood(tokens, torch.zeros(len(texts), dtype=torch.long), texts).exp().tolist()
    return sorted(zip(texts, likely, strict=True), key=lambda pair: -pair[1])


def matches(model: Blip, picture: Image, texts: Sequence[str]) -> list[Match]:
    """Both scores of each text, in the order given.

    Raises:
        BadArguments: a text has no word.
    """
    require_words("text", texts)
    itm, itc = (model.match([picture], texts, head=head)[0].tolist() for head in ("itm", "itc"))
    return [Match(*found) for found in zip(texts, itm, itc, strict=True)]


def shares(
    model: Blip, picture: Image, names: Sequence[str], template: str = "{}"
) -> list[tuple[str, float]]:
    """Which of some names fits best, by the embeddings: shares that add up to 1, the largest first.

    Args:
        names: one that is given twice counts once.
        template: the text made of a name; ``{}`` is where it goes.

    Raises:
        BadArguments: there are no two different names, or one has no word.
    """
    require_words("name", names)
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise BadArguments(f"there is one name to choose from, {', '.join(names)!r}: give two that differ")
    texts = [template.replace("{}", name) for name in names]
    cosines = model.match([picture], texts, head="itc")[0]
    found = (cosines.float() / model.temperature).softmax(dim=0).tolist()
    return sorted(zip(names, found, strict=True), key=lambda pair: -pair[1])
