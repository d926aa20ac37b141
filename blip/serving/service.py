"""What the page of `blip app` asks of its models, with what a visitor may have got wrong said in words.

    service = Service.open({"caption": "models/captioning", "match": "models/retrieval"}, "cpu")
    service.caption(data, "beam", 1, 0)          # [("red apple", 0.71)]

A visitor is not one who may read this machine's files: pictures come as bytes, and are bounded before they are decoded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor

import blip
from blip.data.decode import BadMedia, decode
from blip.errors import BadArguments, BlipError
from blip.model.api import Blip
from blip.model.explain import Explanation
from blip.model.parts import Task, require
from blip.serving.answers import Match, captions, matches, require_words, shares
from blip.serving.collection import Collection, Place
from blip.tracking import registry

Role = Literal["caption", "match", "answer"]
NEEDED: dict[Role, tuple[Task, ...]] = {
    "caption": ("caption",),
    "match": ("match", "embed images", "embed texts"),
    "answer": ("answer",),
}
MAX_BYTES = 20 * 2**20  # of a picture as it comes
MAX_PIXELS = 50_000_000
LONGEST = 2_000  # characters of a text
MOST_TEXTS, MOST_NAMES, MOST_CAPTIONS, MOST_FOUND = 50, 200, 8, 48
MOST_PICTURES = 20_000  # that are embedded
SHORTLIST = 64  # pictures that the embeddings find, and the matching head looks at
LONGEST_SIDE = 1024  # pixels, of a picture that was found


class Served(NamedTuple):
    """An open model, as it was asked for, and its version where that was in the registry."""

    name: str
    path: Path
    version: int | None
    model: Blip

    @property
    def parameters(self) -> int:
        """How many there are, shared ones once."""
        return sum(parameter.numel() for parameter in self.model.network.parameters())


class Found(NamedTuple):
    """A picture that was found, made small: cosine of the embeddings, and the matching head's probability if asked."""

    place: Place
    picture: Image.Image
    cosine: float
    probability: float | None = None


@dataclass(frozen=True)
class Service:
    """Models by what they are there for, each open once, and pictures to search; for one thread at a time."""

    models: Mapping[Role, Served]
    collection: Collection | None = None

    @classmethod
    def open(
        cls, names: Mapping[Role, str], device: str, pictures: Path | None, left_out: Callable[[str], None]
    ) -> "Service":
        """Open the models, one that has two roles once, and embed the first pictures of a folder or dataset.

        Raises:
            BlipError: there is no such model, it has not the parts for its role, or there are no pictures.
        """
        opened: dict[Path, Blip] = {}
        models: dict[Role, Served] = {}
        for role, name in names.items():
            path = registry.resolve(name)
            if path not in opened:
                opened[path] = blip.load(str(path), device)
            for task in NEEDED[role]:
                try:
                    require(task, opened[path].card.missing)
                except BlipError as error:
                    raise BlipError(f"--{role} {name}: {error}") from None
            version = registry.named(name).number if name.startswith(registry.SCHEME) else None
            models[role] = Served(name, path, version, opened[path])
        embeds = models.get("match")
        if pictures is None or embeds is None:
            return cls(models)
        return cls(models, Collection.of(pictures, embeds.model, left_out, MOST_PICTURES))

    def caption(self, data: bytes, decoding: Any, count: Any, seed: Any) -> list[tuple[str, float]]:
        """Captions with the likelihood of a word, likeliest first."""
        number = _whole("captions", count, 1, MOST_CAPTIONS)
        return captions(self._of("caption"), _picture(data), decoding, number, _whole("seed", seed, 0, 2**31))

    def match(self, data: bytes, texts: Any) -> list[Match]:
        """Both scores of texts that stand a line each."""
        return matches(self._of("match"), _picture(data), _several("text", _lines(texts), 1, MOST_TEXTS))

    def answer(self, data: bytes, question: Any, candidates: Any) -> str:
        """The model's own answer, or one of the candidates, which stand a line each."""
        asked, choices = _text("question", question), _lines(candidates)
        chosen = _several("candidate", choices, 0, MOST_NAMES) or None
        return self._of("answer").answer([_picture(data)], [asked], chosen)[0]

    def explain(self, data: bytes, text: Any) -> tuple[Image.Image, Explanation]:
        """Where each word is seen, and the picture that it was looked for in."""
        picture = _picture(data)
        return picture, self._of("match").explain(picture, _text("text", text))

    def classify(self, data: bytes, names: Any, template: Any) -> list[tuple[str, float]]:
        """The shares of names that stand a line each."""
        chosen, sentence = _several("name", _lines(names), 2, MOST_NAMES), _text("template", template)
        if "{}" not in sentence:
            raise BadArguments(f"the template {sentence!r} has no {{}}, where a name goes")
        return shares(self._of("match"), _picture(data), chosen, sentence)

    def search(self, text: Any, most: Any) -> list[Found]:
        """The pictures that fit a text: of the nearest those first that both heads find likely, as retrieval ranks."""
        asked, count = _text("text", text), _whole("pictures", most, 1, MOST_FOUND)
        model = self._of("match")
        near = self._nearest(model.embed_texts([asked])[0])
        seen = dict(self._collection.readable(near, lambda place: place.squashed(model.image_size)))
        tokens, row = model.encode_images(list(seen.values())), torch.arange(len(seen))
        fits = model.score_pairs(tokens, row, [asked], torch.zeros_like(row))
        both = fits.cpu() + torch.tensor([near[place] for place in seen]) / model.temperature
        places, likely = list(seen), dict(zip(seen, fits.sigmoid().tolist(), strict=True))
        ranked = [places[at] for at in both.argsort(descending=True).tolist()]
        return [
            Found(place, picture, near[place], likely[place]) for place, picture in self._shown(ranked, count)
        ]

    def similar(self, data: bytes, most: Any) -> list[Found]:
        """The pictures that are nearest to one, by the embeddings."""
        count = _whole("pictures", most, 1, MOST_FOUND)
        near = self._nearest(self._of("match").embed_images([_picture(data)])[0])
        return [Found(place, picture, near[place]) for place, picture in self._shown(near, count)]

    def _nearest(self, vector_P: Tensor) -> dict[Place, float]:
        """The shortlist with its cosines, best first."""
        return {place: cosine for cosine, place in self._collection.nearest(vector_P, SHORTLIST)}

    def _shown(self, places: Iterable[Place], count: int) -> Iterator[tuple[Place, Image.Image]]:
        """The first so many that can be used, as the page shows them."""
        return islice(self._collection.readable(places, lambda place: place.thumbnail(LONGEST_SIDE)), count)

    def _of(self, role: Role) -> Blip:
        return self.models[role].model

    @property
    def _collection(self) -> Collection:
        if self.collection is None:
            raise BlipError("there are no pictures to search: name some with --pictures")
        return self.collection


def _picture(data: bytes) -> Image.Image:
    if len(data) > MAX_BYTES:
        raise BadArguments(f"the picture has {len(data):,} bytes, more than the {MAX_BYTES:,} that are taken")
    try:
        return Image.fromarray(decode(data, MAX_PIXELS))
    except BadMedia as error:
        raise BadArguments(f"that cannot be used as a picture: {error.detail}") from None


def _text(what: str, value: Any) -> str:
    text = value if isinstance(value, str) else ""
    if len(text) > LONGEST:
        raise BadArguments(
            f"the {what} has {len(text):,} characters, more than the {LONGEST:,} that are read"
        )
    require_words(what, [text])
    return text.strip()


def _lines(value: Any) -> list[str]:
    """The lines of a text that are not empty."""
    return [line.strip() for line in str(value or "").splitlines() if line.strip()]


def _several(what: str, texts: list[str], least: int, most: int) -> list[str]:
    if not least <= len(texts) <= most:
        raise BadArguments(f"{len(texts)} {what}(s): write {least} to {most}, a line each")
    return [_text(what, text) for text in texts]


def _whole(what: str, value: Any, least: int, most: int) -> int:
    if not isinstance(value, int | float) or value != int(value) or not least <= value <= most:
        raise BadArguments(f"{value!r} {what}: a whole number from {least} to {most:,} is expected")
    return int(value)
