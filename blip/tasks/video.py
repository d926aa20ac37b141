"""Zero-shot text-video retrieval with an image-text model (BLIP paper, section 5.6).

A clip is some frames spread evenly. Its embedding is the mean of their projections, made a unit vector; the ITM head
reads the tokens of all frames one after another. Nothing is trained on video.
"""

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor

from blip.config import RerankBy
from blip.data.sample import Sample
from blip.tasks.clips import encode_frames
from blip.tasks.gallery import Gallery, gather
from blip.tasks.outcome import Example, Outcome, choose, frames_of
from blip.tasks.ranking import Ranked
from blip.tasks.retrieval import Found, RetrievalModel, best_of, chance, metrics, search

DIRECTIONS = {"i2t": "v2t", "t2i": "t2v"}


def encode_clips(model: RetrievalModel, samples: Sequence[Sample], count: int) -> tuple[Tensor, Tensor]:
    """Tokens ``[B, F * T, D]`` and embeddings ``[B, P]`` of a batch of clips, `count` = F frames each."""
    tokens_BND = encode_frames(model.encode_images, samples, count)
    tokens_RTD = tokens_BND.unflatten(1, (count, -1)).flatten(0, 1)
    frames_BFP = model.project_images(tokens_RTD, unit=False).float().unflatten(0, (len(samples), count))
    return tokens_BND, F.normalize(frames_BFP.mean(1), dim=-1)


def evaluate(
    model: RetrievalModel,
    samples: Iterable[Sample],
    *,
    frame_count: int,
    batch_size: int,
    rerank_size: int,
    rerank_by: RerankBy = "published",
    seed: int,
) -> Outcome:
    """Retrieval over all clips, re-ranked; `batch_size` counts frames."""
    clips_at_once = max(1, batch_size // frame_count)
    gallery = gather(samples, lambda batch: encode_clips(model, batch, frame_count), clips_at_once)
    found = search(model, gallery, rerank_size, rerank_by)
    of_texts = found.text_to_image
    chosen = choose((of_texts.ranks_Q == 1).tolist(), seed)
    return Outcome(
        metrics=_figures(gallery, found),
        examples={"examples": [_example(gallery, of_texts, text) for text in chosen.rows]},
        pictures=frozenset(gallery.keys[clip] for clip in of_texts.best_QK[chosen.rows].flatten().tolist()),
        selection=chosen,
        predictions=_predictions(gallery, of_texts),
    )


def _figures(gallery: Gallery, found: Found) -> dict[str, float]:
    counts = {"video.clips": float(len(gallery.keys)), "video.texts": float(len(gallery.texts))}
    reached, at_random = metrics(gallery, found), chance(gallery)
    return _renamed("video.", reached) | _renamed("video.chance.", at_random) | counts


def _renamed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}{DIRECTIONS[name[:3]]}{name[3:]}": value for name, value in values.items()}


def _example(gallery: Gallery, found: Ranked, text: int) -> Example:
    clips = [
        {
            "frames": frames_of(gallery.keys[c]),
            "label": gallery.caption_of[c],
            "score": score,
            "correct": gallery.images_of_texts.holds(text, c),
        }
        for c, score in best_of(found, text)
    ]
    return {"query": gallery.texts[text], "clips": clips}


def _predictions(gallery: Gallery, found: Ranked) -> list[dict[str, object]]:
    return [
        {"query": text, "best": gallery.keys[best], "rank": rank}
        for text, best, rank in zip(
            gallery.texts, found.best_QK[:, 0].tolist(), found.ranks_Q.tolist(), strict=True
        )
    ]
