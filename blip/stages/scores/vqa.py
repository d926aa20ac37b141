"""The official accuracy on the validation questions."""

from pathlib import Path

from blip.config import Settings
from blip.stages.scores import Score, named, settings_of
from blip.tasks import vqa
from blip.tasks.inputs import open_directory, read_samples
from blip.tracking.measured import Scores, measured


def measure(prefix: str, directory: Path, settings: Settings) -> Scores:
    """Of the candidates that the settings keep, beside what is reached without looking."""
    how = settings.validation.vqa
    outcome = vqa.evaluate(
        open_directory(directory, settings.compute),
        read_samples(how.data),
        vqa.QuestionOnly.count(read_samples(how.train)),
        keep=how.candidates,
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
    )
    decided = settings_of(prefix, "vqa", how)
    return Scores.of(named(prefix, outcome.metrics), measured([directory], how.data, settings, *decided))


SCORE = Score(measure, decides=(".validation.accuracy",), task="vqa")
