"""Encoded pictures (or clips) and the texts that go with them: what retrieval searches.

    gallery = gather(samples, partial(encode_pictures, model), batch_size=64)
    gallery.cosines(model.embed_texts(gallery.texts)).of_images()      # [b, M] at a time, and which images those are

N images, M texts, W captions that were written, of which several may be one text.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from blip.data.images import ImageInput
from blip.data.sample import Sample
from blip.data.text import clean_caption
from blip.tasks.batches import batches
from blip.tasks.outcome import NothingToEvaluate
from blip.tasks.ranking import Block, Positives

AT_ONCE = 1 << 24  # cosines in memory, of which re-ranking makes float64 and copies: some 700 MB

Encode = Callable[[Sequence[Sample]], tuple[Tensor, Tensor]]  # samples -> tokens [B, T, D], embeddings [B, P]


class ImageEncoder(Protocol):
    """What a gallery asks of a model; `blip.load` gives one."""

    def encode_images(self, images: Sequence[ImageInput], batch_size: int, /) -> Tensor:
        """Image tokens ``[N, T, D]``."""
        ...

    def project_images(self, tokens_NTD: Tensor, /, *, unit: bool = True) -> Tensor:
        """Vectors ``[N, P]``, of length 1 unless `unit` is false."""
        ...


@dataclass(frozen=True)
class Cosines:
    """The cosine of every image and every text, float32 on the CPU, as many queries at a time as memory is meant for.

    All of them at once are 40 GB for 30,000 images with a text each.
    """

    images_NP: Tensor
    texts_MP: Tensor

    def of_images(self) -> Iterator[Block]:
        """Which images, and their cosines with all texts, ``[b, M]``."""
        for rows in _rows(len(self.images_NP), len(self.texts_MP)):
            yield rows, self.images_NP[rows] @ self.texts_MP.T

    def of_texts(self) -> Iterator[Block]:
        """Which texts, and their cosines with all images, ``[b, N]``."""
        for rows in _rows(len(self.texts_MP), len(self.images_NP)):
            yield rows, (self.images_NP @ self.texts_MP[rows].T).T


@dataclass(frozen=True)
class Queries:
    """What is asked: N images for their texts, and every caption that was written for its image.

    Attributes:
        keys: of the samples.
        texts: the M distinct captions, cleaned; a caption that several images share belongs to all of them.
        caption_text, caption_image: of every caption that was written its index into `texts` and into `keys`, int64
            ``[W]``, image by image.
    """

    keys: list[str]
    texts: list[str]
    caption_text: Tensor
    caption_image: Tensor

    @cached_property
    def texts_of_images(self) -> Positives:
        """The right texts of every image."""
        return Positives(self.caption_image, self.caption_text, len(self.keys), len(self.texts))

    @cached_property
    def images_of_texts(self) -> Positives:
        """The right images of every text."""
        return Positives(self.caption_text, self.caption_image, len(self.texts), len(self.keys))

    @cached_property
    def caption_of(self) -> list[str]:
        """The first caption of each image."""
        first_N = torch.searchsorted(self.caption_image, torch.arange(len(self.keys)))
        return [self.texts[text] for text in self.caption_text[first_N].tolist()]


@dataclass(frozen=True)
class Gallery(Queries):
    """What is asked, and what a model made of the images (or clips).

    Attributes:
        tokens_NTD, embeddings_NP: the tokens are in the host's memory: a GPU may have no room for all of them.
    """

    tokens_NTD: Tensor
    embeddings_NP: Tensor

    @property
    def queries(self) -> Queries:
        """What is asked alone."""
        return Queries(self.keys, self.texts, self.caption_text, self.caption_image)

    def cosines(self, texts_MP: Tensor) -> Cosines:
        """Those of every image with every text, given the texts' embeddings."""
        return Cosines(self.embeddings_NP.float().cpu(), texts_MP.float().cpu())


def encode_pictures(model: ImageEncoder, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Tokens and embeddings of a batch of pictures."""
    tokens_BTD = model.encode_images([sample.media for sample in samples], len(samples))
    return tokens_BTD, model.project_images(tokens_BTD)


def embed_pictures(model: ImageEncoder, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """As `encode_pictures`, without the tokens, which the matching head alone reads."""
    tokens_BTD, embeddings_BP = encode_pictures(model, samples)
    return tokens_BTD.new_empty(len(samples), 0, 0), embeddings_BP


@torch.inference_mode()
def gather(samples: Iterable[Sample], encode: Encode, batch_size: int) -> Gallery:
    """Encode samples and collect their captions. Samples without a caption are left out.

    Raises:
        NothingToEvaluate: no sample has a caption.
    """
    keys: list[str] = []
    tokens: list[Tensor] = []
    embeddings: list[Tensor] = []
    captions: list[tuple[int, int]] = []
    texts: dict[str, int] = {}
    for batch in batches((sample for sample in samples if _captions(sample)), batch_size):
        for row, sample in enumerate(batch, start=len(keys)):
            captions += [(row, texts.setdefault(text, len(texts))) for text in _captions(sample)]
        keys += [sample.key for sample in batch]
        tokens_BTD, embeddings_BP = encode(batch)
        tokens.append(tokens_BTD.cpu())
        embeddings.append(embeddings_BP)
    if not keys:
        raise NothingToEvaluate("retrieval needs captions, and no sample of the evaluation data has one")
    image_W, text_W = torch.tensor(captions).T.contiguous()
    return Gallery(keys, list(texts), text_W, image_W, _joined(tokens), torch.cat(embeddings))


def _rows(queries: int, candidates: int) -> Iterator[slice]:
    rows = max(1, AT_ONCE // max(1, candidates))
    for first in range(0, queries, rows):
        yield slice(first, min(first + rows, queries))


def _joined(parts: list[Tensor]) -> Tensor:
    """As `torch.cat`, but each part is given up when it has been copied, so that they are not twice in memory."""
    whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def _captions(sample: Sample) -> list[str]:
    cleaned = (clean_caption(caption.text) for caption in sample.captions)
    return list(dict.fromkeys(text for text in cleaned if text))
