"""Zero-shot text-video retrieval with an image-text model (BLIP paper, section 5.6).

A clip is some frames spread evenly. Its embedding is the mean of their projections, made a unit vector; the ITM head
reads the tokens of all frames one after another. Nothing is trained on video.
"""

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor

from blip.config import RerankBy
from blip.data.sample import Sample
from blip.data.video import frames
from blip.tasks.outcome import Example, Outcome, choose, frames_of
from blip.tasks.ranking import ranks
from blip.tasks.retrieval import SHOWN, Gallery, RetrievalModel, Scores, chance, gather, metrics, search

DIRECTIONS = {"i2t": "v2t", "t2i": "t2v"}


def encode_clips(model: RetrievalModel, samples: Sequence[Sample], count: int) -> tuple[Tensor, Tensor]:
    """Tokens ``[B, F * T, D]`` and embeddings ``[B, P]`` of a batch of clips, `count` = F frames each."""
    pictures = [frame for sample in samples for frame in frames(sample.media, count)]
    tokens_RTD = model.encode_images(pictures, len(pictures))
    frames_BFP = model.project_images(tokens_RTD, unit=False).float().unflatten(0, (len(samples), count))
    tokens_BND = tokens_RTD.unflatten(0, (len(samples), count)).flatten(1, 2)
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
    scores = search(model, gallery, rerank_size, rerank_by)
    ranks_M = ranks(scores.text_to_image, gallery.positives_NM.T)
    chosen = choose((ranks_M == 1).tolist(), seed)
    best_M5 = scores.text_to_image.topk(min(SHOWN, len(gallery.keys))).indices
    return Outcome(
        metrics=_figures(gallery, scores),
        examples={"examples": [_example(gallery, scores.text_to_image, text) for text in chosen.rows]},
        pictures=frozenset(gallery.keys[clip] for text in chosen.rows for clip in best_M5[text].tolist()),
        selection=chosen,
        predictions=_predictions(gallery, best_M5, ranks_M),
    )


def _figures(gallery: Gallery, scores: Scores) -> dict[str, float]:
    counts = {"video.clips": float(len(gallery.keys)), "video.texts": float(len(gallery.texts))}
    reached, at_random = metrics(gallery, *scores), chance(gallery)
    return _renamed("video.", reached) | _renamed("video.chance.", at_random) | counts


def _renamed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}{DIRECTIONS[name[:3]]}{name[3:]}": value for name, value in values.items()}


def _example(gallery: Gallery, scores_MN: Tensor, text: int) -> Example:
    score, clip = scores_MN[text].topk(min(SHOWN, scores_MN.shape[1]))
    clips = [
        {
            "frames": frames_of(gallery.keys[c]),
            "label": gallery.text_of(c),
            "score": round(s, 4),
            "correct": bool(gallery.positives_NM[c, text]),
        }
        for s, c in zip(score.tolist(), clip.tolist(), strict=True)
    ]
    return {"query": gallery.texts[text], "clips": clips}


def _predictions(gallery: Gallery, best_M5: Tensor, ranks_M: Tensor) -> list[dict[str, object]]:
    return [
        {"query": text, "best": gallery.keys[int(best)], "rank": int(rank)}
        for text, best, rank in zip(gallery.texts, best_M5[:, 0], ranks_M, strict=True)
    ]
