"""Recall both ways on the validation pairs: of what is pre-trained, and fine-tuned for retrieval."""

from pathlib import Path

from blip.config import Settings
from blip.stages.scores import Score, settings_of
from blip.tasks import retrieval
from blip.tasks.inputs import open_directory, read_samples
from blip.tracking.measured import Scores, measured

RERANKING = (".rerank", ".rerank_by")


def measure(prefix: str, directory: Path, settings: Settings) -> Scores:
    """By embeddings alone (``.itc``) and re-ranked, as far as the model has learnt it."""
    task = settings.validation.retrieval
    model = open_directory(directory, settings.compute)
    if not model.can_embed:
        print(f"{prefix}: it learns no embeddings (objective.itc is 0), so there are no figures of retrieval")
        return Scores({}, {})
    found = retrieval.recalls(
        model,
        read_samples(task.data),
        batch_size=settings.evaluate.batch_size,
        rerank_size=task.rerank if model.can_match else 0,
        rerank_by=task.rerank_by,
    )
    itc = {f"{prefix}.validation.itc.{name}": value for name, value in found["itc"].items()}
    itm = {f"{prefix}.validation.{name}": value for name, value in found.get("itm", {}).items()}
    names = settings_of(prefix, "retrieval", task)
    # Which embeddings alone know nothing of
    of_data = [name for name in names if not name.endswith(RERANKING)]
    return Scores.of(itc, measured([directory], task.data, settings, *of_data)) | Scores.of(
        itm, measured([directory], task.data, settings, *names)
    )


RECALLS = tuple(f".validation.{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10))
SCORE = Score(measure, decides=RECALLS, task="retrieval")
