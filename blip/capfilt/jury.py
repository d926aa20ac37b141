"""The filters of an order as one jury, opened once in a process.

jury = jury_of(models, settings, human, neighbours=work / "pool.safetensors")
"""

from functools import lru_cache
from pathlib import Path

from blip.capfilt.inputs import Models, Pairs, open_model
from blip.capfilt.judge import Judge, Jury
from blip.capfilt.neighbours import Neighbours
from blip.config import CapFilt, FilterHead


def jury_of(models: Models, settings: CapFilt, human: Pairs | None, neighbours: Path | None = None) -> Jury:
    """The filters, opened once in a process; their embeddings are compared with the texts of `human`.

    Args:
        neighbours: what `blip.capfilt.embedding` wrote of the pool; without it similar pictures have no say.
    """
    changed = neighbours.stat().st_mtime_ns if neighbours else 0
    near = (neighbours, changed, settings.neighbours) if neighbours else None
    texts_of = human if settings.head != "itm" else None
    return _assemble_jury(models, settings.head, settings.views, settings.likelihood, texts_of, near)


@lru_cache(maxsize=1)
def _assemble_jury(
    models: Models,
    head: FilterHead,
    views: tuple[float, ...],
    likelihood: float,
    human: Pairs | None,
    near: tuple[Path, int, float] | None,
) -> Jury:
    texts = list(human.texts()) if human else []
    judges = []
    for number, path in enumerate(models.filters):
        model = models.open(path)
        neighbours = Neighbours.read(near[0], number, model.device) if near else None
        judges.append(Judge.of(model, head, texts, neighbours, near[2] if near else 0.0))
    captioner = models.open(models.captioner) if likelihood else None
    return Jury(judges, views, captioner, likelihood)


def forget_models() -> None:
    """Free what this process has opened; where workers do the jobs, it needs no model."""
    open_model.cache_clear()
    _assemble_jury.cache_clear()
