"""What evaluating a task leaves: metrics, examples to look at, and a table of every prediction.

reports/evaluate/vqa/examples.json       {"task": "vqa", "selection": {...}, "examples": [...]}
reports/evaluate/vqa/images/KEY.webp     the pictures the examples name
reports/evaluate/vqa/predictions.csv     one row a query
reports/evaluate/vqa/answers.json        for an evaluation server, where its questions or pictures are known
"""

import csv
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from blip.atomic import write_json
from blip.data.images import to_pil
from blip.data.sample import Sample
from blip.data.video import frames
from blip.errors import BlipError

EXAMPLES = 24
LONGEST_SIDE = 320  # of a picture in the report
FRAMES_SHOWN = 4  # of a clip
ANSWERS = "answers.json"

Example = Mapping[str, object]


class NothingToEvaluate(BlipError):
    """No sample has what the task asks about: it is a dataset of another kind."""


@dataclass(frozen=True)
class Selection:
    """Items drawn for show: which (`rows`), by what seed, and how many of them, and of all, are right."""

    rows: list[int]
    seed: int
    right: int
    wrong: int
    right_of_all: int
    of: int


@dataclass(frozen=True)
class Outcome:
    """The result of one task.

    Attributes:
        metrics: name to value, as in metrics/evaluate_TASK.json.
        examples: lists by section name; the first section is "examples".
        pictures: keys of the samples whose pictures the examples show.
        selection: how the examples of the first section were chosen.
        predictions: one row a query, all with the same columns.
        answers: what an evaluation server is given, as [{"question_id": 1, "answer": "yes"}]; [] where it asks nothing.
    """

    metrics: dict[str, float]
    examples: dict[str, list[Example]]
    pictures: frozenset[str]
    selection: Selection
    predictions: list[dict[str, object]]
    answers: list[dict[str, object]] = field(default_factory=list)


def choose(correct: Sequence[bool], seed: int, count: int = EXAMPLES) -> Selection:
    """Which items to show: drawn by seed, right and wrong in the proportion in which they occur.

    The rarer kind gets a sixth of the places at least, as far as there are so many, so that a good model
    shows its mistakes and a bad one its hits.
    """
    kinds = [[i for i, value in enumerate(correct) if bool(value) == kind] for kind in (True, False)]
    count = min(count, len(correct))
    least = count // 6
    share = len(kinds[0]) / max(1, len(correct))
    right = max(least, min(count - least, round(count * share)))
    right = min(len(kinds[0]), max(right, count - len(kinds[1])))
    generator = random.Random(seed)
    chosen = generator.sample(kinds[0], right) + generator.sample(kinds[1], count - right)
    generator.shuffle(chosen)
    return Selection(chosen, seed, right, count - right, len(kinds[0]), len(correct))


def picture_of(key: str) -> str:
    """Where the picture of a sample lies, relative to examples.json."""
    return f"images/{key}.webp"


def partner_of(key: str) -> str:
    """Where the second picture of a sample lies, relative to examples.json."""
    return f"images/{key}-partner.webp"


def frames_of(key: str) -> list[str]:
    """Where the frames of a clip lie, relative to examples.json."""
    return [f"images/{key}-{number}.webp" for number in range(FRAMES_SHOWN)]


def write_outcome(folder: Path, task: str, outcome: Outcome, samples: Iterable[Sample]) -> None:
    """Write examples.json, its pictures and what is predicted into `folder` (made atomically by the caller).

    Args:
        samples: the samples that were evaluated, streamed once more for the pictures.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for sample in samples:
        if sample.key in outcome.pictures:
            _write_pictures(folder, sample)
    selection = {name: value for name, value in asdict(outcome.selection).items() if name != "rows"}
    write_json(folder / "examples.json", {"task": task, "selection": selection, **outcome.examples})
    if outcome.answers:
        write_json(folder / ANSWERS, outcome.answers)
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, list(outcome.predictions[0]) if outcome.predictions else [])
        table.writeheader()
        table.writerows(outcome.predictions)


def _write_pictures(folder: Path, sample: Sample) -> None:
    if sample.is_video:
        images = [Image.fromarray(frame) for frame in frames(sample.media, FRAMES_SHOWN)]
        names = frames_of(sample.key)
    else:
        images, names = [to_pil(sample.media)], [picture_of(sample.key)]
        if sample.partner is not None:
            images, names = [*images, to_pil(sample.partner)], [*names, partner_of(sample.key)]
    for image, name in zip(images, names, strict=True):
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        image.save(folder / name, "WEBP", quality=90)
