"""A check of the vision starting weights without captions: the same thing by another artist is found.

    probe(vision, views)    # {"cls": 0.61, "patches": 0.55}, recall@1 from twemoji to fluent-emoji-flat

Both styles are among the training pictures; that two pictures show the same thing is known here only.
"""

import starting_teacher
import torch
import torch.nn.functional as F
from starting_views import Views
from torch import Tensor

from blip.model.vision import VisionTransformer

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
QUERIES, CANDIDATES = "twemoji", "fluent-emoji-flat"


@torch.inference_mode()
def probe(vision: VisionTransformer, views: Views) -> dict[str, float]:
    """Recall@1 of the first view, by centred cosine of CLS and of the mean patch token."""
    rows = [shared_rows(views.names, style) for style in (QUERIES, CANDIDATES)]
    tokens = [_encode(vision, views.pixels[row, 0]) for row in rows]
    return {
        "candidates": len(rows[0]),
        "cls": _recall(*(x[:, 0] for x in tokens)),
        "patches": _recall(*(x[:, 1:].mean(1) for x in tokens)),
    }


def references(views: Views) -> dict[str, float]:
    """The same recall of the teacher's pooled features and of the bare pixels."""
    rows = [shared_rows(views.names, style) for style in (QUERIES, CANDIDATES)]
    teacher, pixels = ([x[row, 0].float().flatten(1) for row in rows] for x in (views.pooled, views.pixels))
    return {"teacher": _recall(*teacher), "pixels": _recall(*pixels)}


def shared_rows(names: list[str], style: str) -> list[int]:
    """Rows of ``style`` whose picture names both styles have, in the order of those names."""
    index = {name: row for row, name in enumerate(names)}
    drawn = {s: {n.partition("/")[2] for n in names if n.startswith(f"{s}/")} for s in (QUERIES, CANDIDATES)}
    return [index[f"{style}/{name}"] for name in sorted(drawn[QUERIES] & drawn[CANDIDATES])]


def _encode(vision: VisionTransformer, pixels: Tensor) -> Tensor:
    images = starting_teacher.normalise(pixels.float() / 255, MEAN, STD)
    return torch.cat([vision(part) for part in images.split(256)])


def _recall(queries: Tensor, candidates: Tensor) -> float:
    centre = torch.cat((queries, candidates)).mean(0)
    similarity = F.normalize(queries - centre, dim=-1) @ F.normalize(candidates - centre, dim=-1).T
    best = similarity.argmax(1)
    return round((best == torch.arange(len(queries))).float().mean().item(), 4)
