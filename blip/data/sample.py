"""One sample of a pairs dataset: a picture or clip with its captions and questions."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

VIDEO_EXTENSIONS = frozenset({"mp4", "webm", "mkv", "mov", "avi"})
IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})
PARTNER = "partner."  # between key and extension of a second picture
ANNOTATORS = 10  # of every question of the public VQA sets
_KEY = re.compile(r"[A-Za-z0-9_\-]+")


@dataclass(frozen=True)
class Caption:
    """A text that goes with a sample.

    Attributes:
        text: the caption as its author wrote it; `blip.data.text.clean_caption` is applied where it is read.
        origin: `human`, `web` or `synthetic`.
        itm: probability that it matches, by the filter's ITM head; None if never scored.
        itc: cosine of the filter's embeddings; None if never scored.
    """

    text: str
    origin: str
    itm: float | None = None
    itc: float | None = None


@dataclass(frozen=True)
class Question:
    """A question about a sample; `answers` maps each answer to the share of annotators who gave it.

    `open` is False where the question itself names its possible answers (yes or no). `candidates`, if there are
    any, are the answers to be ranked. `annotators` is how many people answered. `id` is what an evaluation server
    knows it by.
    """

    text: str
    answers: dict[str, float]
    open: bool
    candidates: tuple[str, ...] = ()
    annotators: int = ANNOTATORS
    id: int | None = None


@dataclass(frozen=True)
class Sample:
    """A picture or clip (`media`, encoded as `extension` says) and everything known about it.

    `url` is where it was fetched from, if it was; `name` what its file is called in the source, where the key,
    which is made of that, does not tell it.
    `partner` is the second picture of a pair, which questions compare with the first.
    `truth` is for audits and evaluation only: it is written to the metadata and never into the shards that
    training reads.
    """

    key: str
    media: bytes
    extension: str
    captions: tuple[Caption, ...] = ()
    questions: tuple[Question, ...] = ()
    width: int = 0
    height: int = 0
    truth: dict[str, str | int | float] | None = None
    url: str | None = None
    partner: bytes | None = None
    partner_extension: str = ""
    name: str | None = None

    def without_media(self) -> Sample:
        """The sample without its pictures, as training keeps it beside what was made of them."""
        return replace(self, media=b"", partner=None)

    @property
    def is_video(self) -> bool:
        """Whether `media` is a clip rather than a picture."""
        return self.extension in VIDEO_EXTENSIONS


def plain_key(key: str) -> bool:
    """Whether a key has the characters only that it may have: letters, digits, `_` and `-`."""
    return _KEY.fullmatch(key) is not None


def stable_id(key: str) -> int:
    """A signed 64-bit number that is the same for the same key in every process."""
    return int.from_bytes(
        blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "little", signed=True
    )


def annotations_to_json(sample: Sample) -> bytes:
    """The KEY.json of a shard: captions, questions and size, without the truth."""
    value: dict[str, Any] = {"width": sample.width, "height": sample.height}
    if sample.captions:
        value["captions"] = [vars(caption) for caption in sample.captions]
    if sample.questions:
        value["questions"] = [_question_to_json(question) for question in sample.questions]
    if sample.url:
        value["url"] = sample.url
    if sample.name:
        value["name"] = sample.name
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _question_to_json(question: Question) -> dict[str, Any]:
    value = dict(vars(question))
    if not question.candidates:
        del value["candidates"]
    if len(question.answers) < 2 or question.annotators == ANNOTATORS:  # of one answer it does not matter
        del value["annotators"]
    if question.id is None:
        del value["id"]
    return value


def sample_from_json(key: str, media: bytes, extension: str, annotations: bytes) -> Sample:
    """Put a sample together again from the members of a shard.

    Raises:
        ValueError, KeyError, TypeError: the annotations are not what `annotations_to_json` writes.
    """
    value = json.loads(annotations)
    return Sample(
        key=key,
        media=media,
        extension=extension,
        captions=tuple(Caption(**caption) for caption in value.get("captions", ())),
        questions=tuple(_question_from_json(question) for question in value.get("questions", ())),
        width=int(value["width"]),
        height=int(value["height"]),
        url=value.get("url"),
        name=value.get("name"),
    )


def _question_from_json(value: dict[str, Any]) -> Question:
    return Question(**{**value, "candidates": tuple(value.get("candidates", ()))})
