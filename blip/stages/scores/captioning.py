"""Exact match and the usual caption figures on the validation pairs."""

from functools import partial
from pathlib import Path

from blip.config import Settings
from blip.stages.scores import Score, named, settings_of
from blip.tasks import captioning
from blip.tasks.inputs import open_directory, read_samples
from blip.tracking.measured import Scores, measured


def measure(prefix: str, directory: Path, settings: Settings) -> Scores:
    """Of the captions that the model writes for the validation pictures."""
    task = settings.validation.captioning
    model = open_directory(directory, settings.compute)
    outcome = captioning.evaluate(
        partial(model.caption, **task.decoding),
        read_samples(task.data),
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
        normal=model.tokenizer.normal,
    )
    decided = settings_of(prefix, "captioning", task)
    return Scores.of(named(prefix, outcome.metrics), measured([directory], task.data, settings, *decided))


SCORE = Score(measure, decides=(".validation.cider", ".validation.bleu4"), task="captioning")
