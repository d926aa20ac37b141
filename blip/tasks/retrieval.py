"""Image-text retrieval: all texts for an image, all images for a text (BLIP paper, section 5.1).

    gallery = gather(samples, partial(encode_pictures, model), batch_size=64)
    scores = search(model, gallery, rerank_size=256)
    metrics(gallery, *scores)                    # {"i2t_r1": 0.82, ..., "t2i_r10": 0.97}

Embeddings (ITC) rank everything; the best `rerank_size` of each query are scored again by the ITM head, as
published (its logit of a match + the cosine), or by the sum of both log-odds (the head's + cosine / temperature).
N images, M texts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from blip.config import RerankBy
from blip.data.images import ImageInput
from blip.data.sample import Sample
from blip.data.text import clean_caption
from blip.tasks.batches import batches
from blip.tasks.outcome import Example, NothingToEvaluate, Outcome, choose, picture_of
from blip.tasks.ranking import RECALLS, chance_at, ranks, recall_at, rerank, shortlist

SHOWN = 5  # candidates of an example

Head = Literal["itc", "itm"]
Encode = Callable[[Sequence[Sample]], tuple[Tensor, Tensor]]  # samples -> tokens [B, T, D], embeddings [B, P]


class RetrievalModel(Protocol):
    """What retrieval asks of a model; `blip.load` gives one."""

    @property
    def temperature(self) -> float:
        """What cosines are divided by to be log-odds."""
        ...

    def encode_images(self, images: Sequence[ImageInput], batch_size: int, /) -> Tensor:
        """Image tokens ``[N, T, D]``."""
        ...

    def project_images(self, tokens_NTD: Tensor, /, *, unit: bool = True) -> Tensor:
        """Vectors ``[N, P]``, of length 1 unless `unit` is false."""
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


@dataclass(frozen=True)
class Gallery:
    """Encoded images (or clips) and the texts that go with them.

    Attributes:
        keys: of the N samples.
        texts: the M distinct captions, cleaned; a caption that several images share belongs to all of them.
        caption_text: index into `texts` of every caption that was written: the queries of text-to-image.
        positives_NM: which texts belong to which image.
        tokens_NTD, embeddings_NP: what the model made of the images. The tokens are in the host's memory: a GPU may
            have no room for all of them.
    """

    keys: list[str]
    texts: list[str]
    caption_text: Tensor
    positives_NM: Tensor
    tokens_NTD: Tensor
    embeddings_NP: Tensor

    @property
    def caption_image(self) -> Tensor:
        """The image of every caption that was written, int64."""
        return torch.arange(len(self.keys)).repeat_interleave(self.positives_NM.sum(dim=1))

    def text_of(self, image: int) -> str:
        """The first caption of an image."""
        return self.texts[int(self.positives_NM[image].nonzero()[0])]

    def cosines(self, texts_MP: Tensor) -> Tensor:
        """The cosine of every image and every text, float32 ``[N, M]``, on the CPU."""
        return self.embeddings_NP.float().cpu() @ texts_MP.float().cpu().T


class Scores(NamedTuple):
    """Scores of all candidates, comparable within a query: ``[N, M]`` and ``[M, N]``."""

    image_to_text: Tensor
    text_to_image: Tensor


class QueryRanks(NamedTuple):
    """The rank of every query's best candidate, int64: of N images, and of every caption that was written."""

    image_to_text: Tensor
    text_to_image: Tensor


def encode_pictures(model: RetrievalModel, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Tokens and embeddings of a batch of pictures."""
    tokens_BTD = model.encode_images([sample.media for sample in samples], len(samples))
    return tokens_BTD, model.project_images(tokens_BTD)


def embed_pictures(model: RetrievalModel, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
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
    image, text = torch.tensor(captions).T
    positives = torch.zeros(len(keys), len(texts), dtype=torch.bool)
    positives[image, text] = True
    return Gallery(keys, list(texts), text, positives, _joined(tokens), torch.cat(embeddings))


@torch.inference_mode()
def search(
    model: RetrievalModel, gallery: Gallery, rerank_size: int, rerank_by: RerankBy = "published"
) -> Scores:
    """Score all texts for every image and all images for every text: by their embeddings, and then by the ITM head."""
    similarity_NM = gallery.cosines(model.embed_texts(gallery.texts))
    return reranked(model, gallery, similarity_NM, rerank_size, rerank_by)


@torch.inference_mode()
def reranked(
    model: RetrievalModel, gallery: Gallery, similarity_NM: Tensor, rerank_size: int, rerank_by: RerankBy
) -> Scores:
    """The scores of both directions with the best `rerank_size` of each query scored by the ITM head."""
    texts_NK = shortlist(similarity_NM, rerank_size)
    images_MK = shortlist(similarity_NM.T, rerank_size)
    itm_NK, itm_MK = _score_shortlists(model, gallery, texts_NK, images_MK, rerank_by == "published")
    weighed_NM = similarity_NM / (model.temperature if rerank_by == "log_odds" else 1.0)
    return Scores(rerank(weighed_NM, texts_NK, itm_NK), rerank(weighed_NM.T, images_MK, itm_MK))


def metrics(gallery: Gallery, image_to_text_NM: Tensor, text_to_image_MN: Tensor) -> dict[str, float]:
    """Recall@1, 5, 10: for an image any of its captions counts; every caption written is a query."""
    return recalls_of(query_ranks(gallery, image_to_text_NM, text_to_image_MN))


def query_ranks(gallery: Gallery, image_to_text_NM: Tensor, text_to_image_MN: Tensor) -> QueryRanks:
    """The rank of every query's best candidate."""
    ranks_M = ranks(text_to_image_MN, gallery.positives_NM.T)
    return QueryRanks(ranks(image_to_text_NM, gallery.positives_NM), ranks_M[gallery.caption_text])


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
        similarity_NM = gallery.cosines(model.embed_texts(gallery.texts))
    found: dict[Head, dict[str, float]] = {"itc": metrics(gallery, similarity_NM, similarity_NM.T)}
    if rerank_size:
        found["itm"] = metrics(gallery, *reranked(model, gallery, similarity_NM, rerank_size, rerank_by))
    return found


def chance(gallery: Gallery) -> dict[str, float]:
    """What an order at random is expected to reach, named as by `metrics`."""
    of_images = chance_at(gallery.positives_NM)
    of_texts = chance_at(gallery.positives_NM.T[gallery.caption_text])
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
    scores = search(model, gallery, rerank_size, rerank_by)
    ranks_N = ranks(scores.image_to_text, gallery.positives_NM)
    ranks_M = ranks(scores.text_to_image, gallery.positives_NM.T)
    images = choose((ranks_N == 1).tolist(), seed)
    texts = choose((ranks_M == 1).tolist(), seed)
    for_images = [_image_example(gallery, scores.image_to_text, image) for image in images.rows]
    for_texts = [_text_example(gallery, scores.text_to_image, text) for text in texts.rows]
    best_M5 = scores.text_to_image.topk(min(SHOWN, len(gallery.keys))).indices
    shown = set(images.rows) | set(best_M5[texts.rows].flatten().tolist())
    found = recalls_of(QueryRanks(ranks_N, ranks_M[gallery.caption_text]))
    reached = {f"retrieval.{n}": value for n, value in found.items()}
    at_random = {f"retrieval.chance.{n}": value for n, value in chance(gallery).items()}
    counts = {"retrieval.images": float(len(gallery.keys)), "retrieval.texts": float(len(gallery.texts))}
    return Outcome(
        metrics=reached | at_random | counts,
        examples={"examples": for_images, "text_to_image": for_texts},
        pictures=frozenset(gallery.keys[image] for image in shown),
        selection=images,
        predictions=_predictions(gallery, scores.image_to_text, ranks_N),
    )


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


def _image_example(gallery: Gallery, scores_NM: Tensor, image: int) -> Example:
    score, text = scores_NM[image].topk(min(SHOWN, scores_NM.shape[1]))
    tops = [
        {"text": gallery.texts[t], "score": round(s, 4), "correct": bool(gallery.positives_NM[image, t])}
        for s, t in zip(score.tolist(), text.tolist(), strict=True)
    ]
    picture = picture_of(gallery.keys[image])
    return {"image": picture, "caption": gallery.text_of(image), "top_texts": tops}


def _text_example(gallery: Gallery, scores_MN: Tensor, text: int) -> Example:
    score, image = scores_MN[text].topk(min(SHOWN, scores_MN.shape[1]))
    tops = [
        {
            "image": picture_of(gallery.keys[i]),
            "score": round(s, 4),
            "correct": bool(gallery.positives_NM[i, text]),
        }
        for s, i in zip(score.tolist(), image.tolist(), strict=True)
    ]
    return {"query": gallery.texts[text], "top_images": tops}


def _predictions(gallery: Gallery, scores_NM: Tensor, ranks_N: Tensor) -> list[dict[str, object]]:
    best = scores_NM.argmax(dim=1).tolist()
    return [
        {"key": key, "caption": gallery.text_of(row), "best": gallery.texts[best[row]], "rank": rank}
        for row, (key, rank) in enumerate(zip(gallery.keys, ranks_N.tolist(), strict=True))
    ]
