"""Image-text retrieval: all texts for an image, all images for a text (BLIP paper, section 5.1).

    gallery = gather(samples, partial(encode_pictures, model), batch_size=64)
    found = search(model, gallery, rerank_size=256)
    metrics(gallery, found)                      # {"i2t_r1": 0.82, ..., "t2i_r10": 0.97}

Embeddings (ITC) rank everything; the best `rerank_size` of each query are scored again by the ITM head, as
published (its logit of a match + the cosine), or by the sum of both log-odds (the head's + cosine / temperature).
N images, M texts.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from blip.config import RerankBy
from blip.data.sample import Sample
from blip.tasks.gallery import Cosines, Gallery, ImageEncoder, embed_pictures, encode_pictures, gather
from blip.tasks.outcome import Example, Outcome, choose, picture_of
from blip.tasks.ranking import RECALLS, Block, Ranked, chance_at, ranked, recall_at, rerank, shortlist

Head = Literal["itc", "itm"]


class RetrievalModel(ImageEncoder, Protocol):
    """What retrieval asks of a model; `blip.load` gives one."""

    @property
    def temperature(self) -> float:
        """What cosines are divided by to be log-odds."""
        ...

    def embed_texts(self, texts: list[str], /) -> Tensor:
        """Unit vectors ``[M, P]``."""
        ...

    def score_pairs(
        self,
        tokens_NTD: Tensor,
        image_index: Tensor,
        texts: list[str],
        text_index: Tensor,
        /,
        *,
        matched_logit: bool,
    ) -> Tensor:
        """ITM log-odds of a match, float32, of the pairs that the two int64 indices name; or its one logit."""
        ...


class Found(NamedTuple):
    """What N images got of the texts, and M texts of the images."""

    image_to_text: Ranked
    text_to_image: Ranked


class QueryRanks(NamedTuple):
    """The rank of every query's best candidate, int64: of N images, and of every caption that was written."""

    image_to_text: Tensor
    text_to_image: Tensor


@torch.inference_mode()
def by_embeddings(gallery: Gallery, cosines: Cosines) -> Found:
    """Both directions ranked by the embeddings alone."""
    return _found(gallery, cosines.of_images(), cosines.of_texts())


@torch.inference_mode()
def search(
    model: RetrievalModel, gallery: Gallery, rerank_size: int, rerank_by: RerankBy = "published"
) -> Found:
    """Rank all texts for every image and all images for every text: by their embeddings, and then by the ITM head."""
    return reranked(model, gallery, gallery.cosines(model.embed_texts(gallery.texts)), rerank_size, rerank_by)


@torch.inference_mode()
def reranked(
    model: RetrievalModel, gallery: Gallery, cosines: Cosines, rerank_size: int, rerank_by: RerankBy
) -> Found:
    """Both directions ranked with the best `rerank_size` of each query scored by the ITM head."""
    texts_NK, images_MK = (
        torch.cat([shortlist(block, rerank_size) for _, block in blocks])
        for blocks in (cosines.of_images(), cosines.of_texts())
    )
    itm_NK, itm_MK = _score_shortlists(model, gallery, texts_NK, images_MK, rerank_by == "published")
    divisor = model.temperature if rerank_by == "log_odds" else 1.0
    return _found(
        gallery,
        _rescored(cosines.of_images(), texts_NK, itm_NK, divisor),
        _rescored(cosines.of_texts(), images_MK, itm_MK, divisor),
    )


def metrics(gallery: Gallery, found: Found) -> dict[str, float]:
    """Recall@1, 5, 10: for an image any of its captions counts; every caption written is a query."""
    return recalls_of(query_ranks(gallery, found))


def query_ranks(gallery: Gallery, found: Found) -> QueryRanks:
    """The rank of every query's best candidate."""
    return QueryRanks(found.image_to_text.ranks_Q, found.text_to_image.ranks_Q[gallery.caption_text])


def recalls_of(found: QueryRanks) -> dict[str, float]:
    """`metrics` of ranks that are known."""
    of_images, of_texts = map(recall_at, found)
    return {f"i2t_r{k}": of_images[k] for k in RECALLS} | {f"t2i_r{k}": of_texts[k] for k in RECALLS}


def recalls(
    model: RetrievalModel,
    samples: Iterable[Sample],
    *,
    batch_size: int,
    rerank_size: int,
    rerank_by: RerankBy = "published",
) -> dict[Head, dict[str, float]]:
    """`metrics` by embeddings alone (``itc``), and re-ranked by the ITM head (``itm``) unless `rerank_size` is 0."""
    encode = encode_pictures if rerank_size else embed_pictures
    gallery = gather(samples, partial(encode, model), batch_size)
    with torch.inference_mode():
        cosines = gallery.cosines(model.embed_texts(gallery.texts))
    found: dict[Head, dict[str, float]] = {"itc": metrics(gallery, by_embeddings(gallery, cosines))}
    if rerank_size:
        found["itm"] = metrics(gallery, reranked(model, gallery, cosines, rerank_size, rerank_by))
    return found


def chance(gallery: Gallery) -> dict[str, float]:
    """What an order at random is expected to reach, named as by `metrics`."""
    of_images = chance_at(gallery.texts_of_images.counts_Q, len(gallery.texts))
    of_texts = chance_at(gallery.images_of_texts.counts_Q[gallery.caption_text], len(gallery.keys))
    return {f"i2t_r{k}": of_images[k] for k in RECALLS} | {f"t2i_r{k}": of_texts[k] for k in RECALLS}


def evaluate(
    model: RetrievalModel,
    samples: Iterable[Sample],
    *,
    batch_size: int,
    rerank_size: int,
    rerank_by: RerankBy = "published",
    seed: int,
) -> Outcome:
    """Retrieval over all samples, re-ranked."""
    gallery = gather(samples, partial(encode_pictures, model), batch_size)
    found = search(model, gallery, rerank_size, rerank_by)
    of_images, of_texts = found
    images = choose((of_images.ranks_Q == 1).tolist(), seed)
    texts = choose((of_texts.ranks_Q == 1).tolist(), seed)
    shown = set(images.rows) | set(of_texts.best_QK[texts.rows].flatten().tolist())
    reached = {f"retrieval.{n}": value for n, value in metrics(gallery, found).items()}
    at_random = {f"retrieval.chance.{n}": value for n, value in chance(gallery).items()}
    counts = {"retrieval.images": float(len(gallery.keys)), "retrieval.texts": float(len(gallery.texts))}
    return Outcome(
        metrics=reached | at_random | counts,
        examples={
            "examples": [_image_example(gallery, of_images, image) for image in images.rows],
            "text_to_image": [_text_example(gallery, of_texts, text) for text in texts.rows],
        },
        pictures=frozenset(gallery.keys[image] for image in shown),
        selection=images,
        predictions=_predictions(gallery, of_images),
    )


def _found(gallery: Gallery, of_images: Iterable[Block], of_texts: Iterable[Block]) -> Found:
    return Found(ranked(of_images, gallery.texts_of_images), ranked(of_texts, gallery.images_of_texts))


def _rescored(
    blocks: Iterable[Block], shortlist_QK: Tensor, itm_QK: Tensor, divisor: float
) -> Iterator[Block]:
    """The scores of some queries at a time, those of the short list by the ITM head too."""
    for rows, cosines_QC in blocks:
        yield rows, rerank(cosines_QC / divisor, shortlist_QK[rows], itm_QK[rows])


def _score_shortlists(
    model: RetrievalModel, gallery: Gallery, texts_NK: Tensor, images_MK: Tensor, matched_logit: bool
) -> tuple[Tensor, Tensor]:
    """ITM scores of both directions' short lists. A pair on both is scored once; pairs go image by image."""
    count = len(gallery.texts)
    of_images_NK = torch.arange(len(texts_NK))[:, None] * count + texts_NK
    of_texts_MK = images_MK * count + torch.arange(len(images_MK))[:, None]
    pairs, place = torch.cat((of_images_NK.flatten(), of_texts_MK.flatten())).unique(return_inverse=True)
    scores = model.score_pairs(
        gallery.tokens_NTD, pairs // count, gallery.texts, pairs % count, matched_logit=matched_logit
    )
    scores = scores.float().cpu()[place]
    return scores[: texts_NK.numel()].view_as(texts_NK), scores[texts_NK.numel() :].view_as(images_MK)


def _image_example(gallery: Gallery, found: Ranked, image: int) -> Example:
    tops = [
        {"text": gallery.texts[t], "score": score, "correct": gallery.texts_of_images.holds(image, t)}
        for t, score in best_of(found, image)
    ]
    picture = picture_of(gallery.keys[image])
    return {"image": picture, "caption": gallery.caption_of[image], "top_texts": tops}


def _text_example(gallery: Gallery, found: Ranked, text: int) -> Example:
    tops = [
        {
            "image": picture_of(gallery.keys[i]),
            "score": score,
            "correct": gallery.images_of_texts.holds(text, i),
        }
        for i, score in best_of(found, text)
    ]
    return {"query": gallery.texts[text], "top_images": tops}


def best_of(found: Ranked, query: int) -> list[tuple[int, float]]:
    """A query's first candidates, and their scores as they are shown."""
    scores = [round(score, 4) for score in found.scores_QK[query].tolist()]
    return list(zip(found.best_QK[query].tolist(), scores, strict=True))


def _predictions(gallery: Gallery, found: Ranked) -> list[dict[str, object]]:
    rows = zip(
        gallery.keys, gallery.caption_of, found.best_QK[:, 0].tolist(), found.ranks_Q.tolist(), strict=True
    )
    return [
        {"key": key, "caption": caption, "best": gallery.texts[best], "rank": rank}
        for key, caption, best, rank in rows
    ]
