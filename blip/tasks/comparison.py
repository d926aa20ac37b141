"""A model on a test set as others are compared with it: what every query got, and what it cost.

    found = evaluate(model, samples, How(rerank=128))
    found.heads["itc"].recalls                 # by the embeddings alone: {"i2t_r1": 0.62, ..., "t2i_r10": 0.89}
    found.heads["itm"].ranks.image_to_text     # re-ranked: the rank of each picture's best text
    found.cost.images_per_second

BLIP or CLIP: whatever embeds pictures and texts; what has a matching head (ITM) is re-ranked by it too. A model's image
tokens are gone when it has been evaluated: ranks stay, and what each query ranked first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, cast

import torch
from PIL import Image
from torch import Tensor

from blip.config import RerankBy
from blip.data.images import ImageInput
from blip.data.sample import Sample
from blip.model.device import now
from blip.tasks.classification import Classified, classify
from blip.tasks.gallery import Encode, Gallery, Queries, encode_pictures, gather
from blip.tasks.ranking import RECALLS
from blip.tasks.retrieval import (
    Found,
    Head,
    QueryRanks,
    RetrievalModel,
    by_embeddings,
    query_ranks,
    recalls_of,
    reranked,
)

WARM_UP = 32  # pixels a side of the picture that is encoded before the clock runs

Hits = dict[str, Tensor]  # by measure: of each query, whether it is one


class EmbeddingModel(Protocol):
    """What a comparison asks of a model, a BLIP or a CLIP; to re-rank it asks for a `RetrievalModel`."""

    network: Any
    device: torch.device
    image_size: int

    def embed_images(self, images: Sequence[ImageInput], /) -> Tensor:
        """Unit vectors ``[N, P]``."""
        ...

    def embed_texts(self, texts: Sequence[str], /) -> Tensor:
        """Unit vectors ``[M, P]``."""
        ...

    def cut_texts(self, texts: Sequence[str], /) -> int:
        """How many texts are longer than what it reads."""
        ...


@dataclass(frozen=True)
class How:
    """How a model is evaluated.

    Attributes:
        rerank: candidates of each query that the matching head scores again; 0: none.
        templates: texts that class names are put into.
    """

    batch_size: int = 64
    rerank: int = 128
    rerank_by: RerankBy = "published"
    templates: Sequence[str] = ("{}",)


@dataclass(frozen=True)
class Answers:
    """What one head made of the queries.

    Attributes:
        ranks: of the best right candidate of every query.
        best_text_N: index of the text that each picture has ranked first.
        best_image_Q: index of the picture that each caption has ranked first.
    """

    ranks: QueryRanks
    best_text_N: Tensor
    best_image_Q: Tensor

    @classmethod
    def of(cls, gallery: Gallery, found: Found) -> "Answers":
        """Without the candidates that are not the first."""
        best_image_M = found.text_to_image.best_QK[:, 0]
        best_text_N = found.image_to_text.best_QK[:, 0]
        return cls(query_ranks(gallery, found), best_text_N, best_image_M[gallery.caption_text])

    @property
    def recalls(self) -> dict[str, float]:
        """As `retrieval.metrics`."""
        return recalls_of(self.ranks)

    @property
    def hits(self) -> Hits:
        """Of each measure in `recalls`, the queries that are within it."""
        ways = zip(("i2t", "t2i"), self.ranks, strict=True)
        return {f"{way}_r{k}": ranks <= k for way, ranks in ways for k in RECALLS}


@dataclass
class Cost:
    """What was done, and the seconds that it took.

    Pictures are decoded, scaled and encoded; with `rerank_seconds` the scores of both directions' short lists are
    computed, None where nothing is re-ranked.
    """

    parameters: int
    image_size: int
    images: int = 0
    texts: int = 0
    cut_texts: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Pictures from their files' bytes to embeddings."""
        return self.images / self.seconds["images"]

    @property
    def texts_per_second(self) -> float:
        """Texts to embeddings."""
        return self.texts / self.seconds["texts"]

    @property
    def rerank_seconds(self) -> float | None:
        """Of the matching head, for all queries."""
        return self.seconds.get("reranking")

    @contextmanager
    def clocked(self, what: str, device: torch.device) -> Iterator[None]:
        """Add the seconds of what is done inside, to the end of what it started on the device."""
        start = now(device)
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + now(device) - start


@dataclass(frozen=True)
class Evaluated:
    """A model on the test set.

    Attributes:
        heads: by the embeddings alone (``itc``), and re-ranked (``itm``) where it has a matching head.
        classified: the pictures among all classes, by the embeddings; None where no labels were given.
    """

    queries: Queries
    heads: dict[Head, Answers]
    classified: Classified | None
    cost: Cost

    def hits(self, head: Head) -> Hits:
        """Of each measure the queries that a head gets right; ``top1`` and ``top5`` are the embeddings'."""
        of_classes = self.classified.hits if self.classified and head == "itc" else {}
        return self.heads[head].hits | of_classes


@torch.inference_mode()
def evaluate(
    model: EmbeddingModel, samples: Iterable[Sample], how: How, labels: Mapping[str, str] | None = None
) -> Evaluated:
    """Retrieval both ways, and classification where there are labels.

    Args:
        how: with `how.rerank` the model has a matching head.
        labels: the class name of each sample, by key.

    Raises:
        BlipError: no sample has a caption, none has a label, or the model lacks a part.
    """
    cost = Cost(sum(weights.numel() for weights in model.network.parameters()), model.image_size)
    _warm_up(model)
    gallery = gather(samples, partial(_clocked, _encoder(model, how), cost, model.device), how.batch_size)
    cost.images, cost.texts = len(gallery.keys), len(gallery.texts)
    cost.cut_texts = model.cut_texts(gallery.texts)
    with cost.clocked("texts", model.device):
        texts_MP = model.embed_texts(gallery.texts)
    cosines = gallery.cosines(texts_MP)
    heads: dict[Head, Answers] = {"itc": Answers.of(gallery, by_embeddings(gallery, cosines))}
    if how.rerank:
        with cost.clocked("reranking", model.device):
            found = reranked(cast(RetrievalModel, model), gallery, cosines, how.rerank, how.rerank_by)
        heads["itm"] = Answers.of(gallery, found)
    classified = None
    if labels is not None:
        classified = classify(model, gallery.keys, gallery.embeddings_NP, labels, how.templates)
    return Evaluated(gallery.queries, heads, classified, cost)


def _encoder(model: EmbeddingModel, how: How) -> Encode:
    """Tokens are kept for the matching head alone."""
    return partial(encode_pictures, cast(RetrievalModel, model)) if how.rerank else partial(_embed, model)


def _embed(model: EmbeddingModel, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    embeddings_BP = model.embed_images([sample.media for sample in samples])
    return embeddings_BP.new_empty(len(samples), 0, 0), embeddings_BP


def _clocked(
    encode: Encode, cost: Cost, device: torch.device, samples: Sequence[Sample]
) -> tuple[Tensor, Tensor]:
    with cost.clocked("images", device):
        return encode(samples)


def _warm_up(model: EmbeddingModel) -> None:
    """What a device does at the first call alone is no cost of a picture or a text."""
    model.embed_images([Image.new("RGB", (WARM_UP, WARM_UP))])
    model.embed_texts(["a picture"])
