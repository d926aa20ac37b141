"""Where the right answer comes among its candidates, on the validation dialogs."""

from pathlib import Path

from blip.config import Settings
from blip.model.dialogs import answer_ranker
from blip.stages.scores import Score, named
from blip.tasks import visdial
from blip.tasks.inputs import open_directory, read_samples
from blip.tracking.measured import Scores, measured


def measure(prefix: str, directory: Path, settings: Settings) -> Scores:
    """Nothing where the settings have no `evaluate.visdial`."""
    how = settings.evaluate.visdial
    if how is None:
        return Scores({}, {})
    outcome = visdial.evaluate(
        answer_ranker(open_directory(directory, settings.compute)),
        read_samples(how.validation),
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
    )
    return Scores.of(
        named(prefix, outcome.metrics), measured([directory], how.validation, settings, "evaluate.visdial")
    )


SCORE = Score(measure, decides=(".validation.mrr",))
