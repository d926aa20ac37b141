"""How many statements about two pictures are judged rightly, on the validation pairs."""

from pathlib import Path

from blip.config import Settings
from blip.model.device import device_of
from blip.model.two_images import TwoImages
from blip.stages.scores import Score, named
from blip.tasks import nlvr
from blip.tasks.inputs import read_samples
from blip.tracking.measured import Scores, measured


def measure(prefix: str, directory: Path, settings: Settings) -> Scores:
    """Nothing where the settings have no `evaluate.nlvr`."""
    how = settings.evaluate.nlvr
    if how is None:
        return Scores({}, {})
    outcome = nlvr.evaluate(
        TwoImages.open(directory, device_of(settings.compute.device)),
        read_samples(how.validation),
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
    )
    return Scores.of(
        named(prefix, outcome.metrics), measured([directory], how.validation, settings, "evaluate.nlvr")
    )


SCORE = Score(measure, decides=(".validation.accuracy",))
