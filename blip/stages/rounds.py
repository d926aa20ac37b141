"""Stage rounds: CapFilt again, each time from the model that the round before made (the paper did it once).

Round 1 are the stages captioner, filter, capfilt and pretrain_bootstrapped. In every round after it, captioner and
filter are fine-tuned from the model that the one before pre-trained, they write and judge texts for the whole web pool,
and a new BLIP is pre-trained from the start on what is kept. `capfilt.rounds` says how many there are; of one alone,
nothing is left to do here. What is finished stays in data/datasets/.rounds.partial until the stage is done, so that a
run that was ended goes on where it was.

Data in: the pairs datasets, models/pretrain_bootstrapped, the figures of round 1.
Out: data/datasets/rounds/N, models/rounds/N/captioner, filter, pretrained, each with the curve of its losses; the
figures of every round as `rounds.N.*`.
"""

import shutil
from pathlib import Path

from blip.atomic import atomic_path, link_in_place
from blip.config import Settings
from blip.config.places import DATASETS, MODELS
from blip.config.rounds import ROUNDS, of_round
from blip.data.partial import begin
from blip.stages import prepare_random_numbers
from blip.tracking.gate import read_scores
from blip.tracking.measured import Scores
from blip.tracking.runs import StageRun

FIRST = MODELS / "pretrain_bootstrapped"
ROUNDS_MODELS, ROUNDS_DATASETS = MODELS / ROUNDS, DATASETS / ROUNDS


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Do the rounds after the first, as far as they are not done.

    Raises:
        BlipError: a dataset or the model of the first round is missing.
    """
    first = read_scores()
    figures = run.note(Scores(of_round(1, first.figures), of_round(1, first.measured)))
    if settings.capfilt.rounds > 1:
        return figures | _go_on(settings, run)
    for target in (ROUNDS_MODELS, ROUNDS_DATASETS):
        with atomic_path(target) as temporary:
            temporary.mkdir()
    return figures


def _go_on(settings: Settings, run: StageRun) -> dict[str, float]:
    """All rounds after the first; their figures."""
    # slow to import, and most often nothing is to be done
    from blip.stages.one_round import Round, do, plan, unset_of_plan

    prepare_random_numbers(settings)
    work = begin(ROUNDS_DATASETS, plan(FIRST, settings), unset=unset_of_plan(settings))
    start = FIRST
    figures: dict[str, float] = {}
    for number in range(2, settings.capfilt.rounds + 1):
        now = Round(number, start, work)
        figures |= run.note(do(now, settings, run))
        start = now.models / "pretrained"
    _put_in_place(work, settings.capfilt.rounds)
    run.work.append(str(work))
    return figures


def _put_in_place(work: Path, rounds: int) -> None:
    """Hand over models and datasets of as many rounds as are wanted; the working folder keeps them, too."""
    models, datasets = work / "models", work / "datasets"
    for folder in (*models.iterdir(), *datasets.iterdir()):
        if folder.name.isdecimal() and int(folder.name) > rounds:
            shutil.rmtree(folder)
    with atomic_path(ROUNDS_MODELS) as temporary:
        shutil.copytree(models, temporary)
    link_in_place(datasets, ROUNDS_DATASETS)
