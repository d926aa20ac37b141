"""Texts that do not belong to their picture, in the ways the web's do not.

The kinds and their shares among the wrong texts are in ``SHARES``; whatever is drawn shares no word with the
picture's label or tags, so that a text counted as wrong is wrong.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from clipart import clipart_texts
from concepts import Concept
from sentences import sentences

SHARES: dict[str, float] = {
    "other_caption": 0.50,
    "clipart_title": 0.13,
    "clipart_description": 0.06,
    "clipart_file": 0.04,
    "clipart_address": 0.02,
    "camera_file": 0.12,
    "shop": 0.13,
}
BARE_LABEL_SHARE = 0.65
"""How many captions of the web, right or another picture's, are the label alone and not a sentence."""

_CAMERAS = (
    "DSC_{n:04d}.JPG",
    "IMG_{n:04d}.jpg",
    "P10{n:05d}.JPG",
    "IMG_{date}_{time}.jpg",
    "{date}_{time}.jpg",
)
_MORE_CAMERAS = (
    "DSCF{n:04d}.JPG",
    "PXL_{date}_{time}.jpg",
    "Screenshot {date}-{time}.png",
    "image ({small}).png",
)
_OTHER_FILES = ("scan{small:03d}.tif", "untitled-{small}.png", "photo_{small}_copy.jpg", "DSC{n:05d}.ARW")

_SHOP = (
    "Buy {one} get {two} free - this week only",
    "Free shipping on orders over ${price}",
    "{percent}% off everything, use code SAVE{percent} at checkout",
    "Item no. {number} - in stock, ships in {two} days",
    "click to enlarge",
    "Sign up for our newsletter and save {percent}%",
    "Only {one} left in stock - order soon",
    "Add to cart",
    "Size chart: S M L XL, see description",
    "As low as ${price}.99 per month",
    "SKU {number} pack of {two}",
    "Customers who bought this also bought",
    "Rated {rating} out of 5 by {number} customers",
    "New arrival {year} - best price guaranteed",
    "Image not available",
    "Royalty free stock vector {number}",
    "Product photo {one} of {two}",
    "Return within {percent} days for a full refund",
    "Was ${high}.00 now ${price}.99",
    "Download free preview, licence from ${price}",
    "Share this page with your friends",
    "All rights reserved {year}",
    "Wholesale lot {number}, minimum order {percent} pieces",
    "Gift wrapping available at checkout",
)


@dataclass(frozen=True)
class WebText:
    """The text of one web picture and what is known about it."""

    caption: str
    noise: str
    """Empty where the text is right."""


class WebTexts:
    """Draws the texts of the web pool."""

    def __init__(self, concepts: list[Concept]) -> None:
        self._concepts = concepts
        self._clipart = clipart_texts()

    def draw(self, concept: Concept, wrong_share: float, rng: np.random.Generator) -> WebText:
        """A right text with probability ``1 - wrong_share``, otherwise one of the wrong kinds."""
        if rng.random() >= wrong_share:
            return WebText(caption_of(concept, rng), "")
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        draw = self._source(kind)
        for _ in range(1000):
            text = draw(rng)
            if not _overlaps(text, concept):
                return WebText(text, kind)
        raise RuntimeError(f"no {kind} text is without a word of {concept.label!r}")

    def _source(self, kind: str) -> Callable[[np.random.Generator], str]:
        if kind == "other_caption":
            return self._other_caption
        if kind == "camera_file":
            return _camera_file
        if kind == "shop":
            return _shop
        texts = self._clipart[kind.removeprefix("clipart_")]
        return lambda rng: texts[rng.integers(len(texts))]

    def _other_caption(self, rng: np.random.Generator) -> str:
        return caption_of(self._concepts[rng.integers(len(self._concepts))], rng)


def caption_of(concept: Concept, rng: np.random.Generator) -> str:
    """A right text: mostly the label alone."""
    if rng.random() < BARE_LABEL_SHARE:
        return concept.label
    return str(rng.choice(sentences(concept, rng)))


def _overlaps(text: str, concept: Concept) -> bool:
    """Whether a text has a word of the label or tags, or one that begins like a word of the label."""
    words = set(re.findall(r"[a-z]{3,}", text.lower()))
    named = {word for word in re.findall(r"[a-z]{3,}", concept.label.lower()) if word not in {"with", "and"}}
    if words & (named | set(concept.tags)):
        return True
    return any(word.startswith(name[:5]) or name.startswith(word[:5]) for word in words for name in named)


def _camera_file(rng: np.random.Generator) -> str:
    year, month, day = rng.integers(2004, 2025), rng.integers(1, 13), rng.integers(1, 29)
    clock = f"{rng.integers(24):02d}{rng.integers(60):02d}{rng.integers(60):02d}"
    pattern = str(rng.choice([*_CAMERAS, *_MORE_CAMERAS, *_OTHER_FILES]))
    numbers = {"n": int(rng.integers(1, 9999)), "small": int(rng.integers(1, 60))}
    return pattern.format(**numbers, date=f"{year}{month:02d}{day:02d}", time=clock)


def _shop(rng: np.random.Generator) -> str:
    small = {
        "one": rng.integers(1, 5),
        "two": rng.integers(5, 13),
        "percent": rng.choice([10, 15, 20, 25, 30, 50]),
    }
    prices = {"price": rng.integers(5, 80), "high": rng.integers(80, 300), "year": rng.integers(2009, 2025)}
    number, rating = int(rng.integers(10_000, 999_999)), f"{rng.uniform(3.0, 5.0):.1f}"
    return str(rng.choice(_SHOP)).format(**small, **prices, number=number, rating=rating)
