"""A task evaluated as its settings say: what `blip stage evaluate@TASK` and `blip evaluate TASK` have in common.

where = Conditions(DATASETS, "cpu", batch_size=64, seed=0)
outcome = evaluate("vqa", Path("models/vqa"), settings.evaluate.vqa, where)
write_report(Path("reports/evaluate/vqa"), "vqa", outcome, settings.evaluate.vqa, where)
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blip.atomic import atomic_path
from blip.config.section import Section
from blip.config.sections import (
    CaptioningEvaluation,
    ClassificationEvaluation,
    Evaluation,
    RetrievalEvaluation,
    VideoEvaluation,
    VqaEvaluation,
    VqaScoring,
)
from blip.data.pairs import PairsDataset, set_aside
from blip.data.quarantine import by_reason
from blip.data.sample import Sample
from blip.errors import BadArguments, BlipError
from blip.model import parts
from blip.model.api import Blip
from blip.model.device import device_of
from blip.model.dialogs import answer_ranker
from blip.model.two_images import TwoImages
from blip.tasks import captioning, classification, nlvr, retrieval, video, visdial, vqa
from blip.tasks.inputs import known_of, labels_of, samples_of
from blip.tasks.outcome import ANSWERS, NothingToEvaluate, Outcome, write_outcome


@dataclass(frozen=True)
class Conditions:
    """What an evaluation depends on beside the model and the task's settings.

    Attributes:
        datasets: the folder of the datasets that the settings name.
        device: ``auto`` stands for a GPU where there is one.
        batch_size: pictures, or frames of clips, at once.
        seed: of the choice of examples.
    """

    datasets: Path
    device: str
    batch_size: int
    seed: int = 0

    def pictures(self, name: str) -> Iterator[Sample]:
        """Stream the samples of a dataset. Raises BlipError at one that is a clip."""
        return self._all(name, video=False)

    def clips(self, name: str) -> Iterator[Sample]:
        """Stream the samples of a dataset. Raises BlipError at one that is a picture."""
        return self._all(name, video=True)

    def _all(self, name: str, video: bool) -> Iterator[Sample]:
        for sample in samples_of(self.datasets / name):
            if sample.is_video != video:
                what = "a clip" if sample.is_video else "a picture"
                raise BlipError(
                    f"{self.datasets / name}: sample {sample.key} is {what} (.{sample.extension}); the task video is "
                    "about clips, vqa about clips or pictures, all others about pictures"
                )
            yield sample


def evaluate(name: str, model: Path, how: Any, where: Conditions) -> Outcome:
    """Evaluate a model, opened in float32 whatever it was trained in: rounding makes ties.

    Args:
        name: of the task.
        model: a model directory or a public ``.pth`` checkpoint.
        how: the task's settings, of the class that `find_task` tells; they name the datasets.

    Raises:
        BadArguments: there is no such task.
        BlipError: the model cannot do it, a dataset is not there or damaged, or has nothing that the task asks about.
    """
    task = find_task(name)
    opened = task.open(model, device_of(where.device))
    try:
        return task.measure(opened, how, where)
    except NothingToEvaluate as error:
        place = where.datasets / how.data
        raise BlipError(f"{place}: {error}; `blip inspect {place}` shows what it holds") from None


def write_report(folder: Path, name: str, outcome: Outcome, how: Any, where: Conditions) -> None:
    """Write what an evaluation leaves (blip/tasks/outcome.py) into `folder`, in place of what is there.

    A server asks about all that its files list: it is said what the dataset lacks of that.
    """
    dataset = where.datasets / how.data
    with atomic_path(folder) as temporary:
        write_outcome(temporary, name, outcome, samples_of(dataset))
    if outcome.answers and (lacking := _lacking(dataset, questions=name == "vqa")):
        print(
            f"note: {folder / ANSWERS} has no answers about what the evaluation did not see: {lacking}. A server "
            f"that asks for all refuses such a file; `blip inspect {dataset}` shows what ingest refused",
            file=sys.stderr,
            flush=True,
        )


def _lacking(dataset: Path, questions: bool) -> str:
    """How many samples of its source validation has set aside, and ingest refused, by reason; "" if none.

    Args:
        questions: whether refused texts of samples that are kept count too: a question that is not asked has no answer.
    """
    aside, refused = len(set_aside(dataset)), PairsDataset.open(dataset).manifest.quarantined
    if not questions:
        refused, _ = by_reason(dataset, refused)
    by_ingest = ", ".join(f"{count:,} {reason}" for reason, count in refused.items())
    said = [f"{aside:,} set aside by validation"] if aside else []
    return "; ".join([*said, f"refused by ingest: {by_ingest}"] if by_ingest else said)


def _retrieval(model: Blip, how: RetrievalEvaluation, where: Conditions) -> Outcome:
    return retrieval.evaluate(
        model,
        where.pictures(how.data),
        batch_size=where.batch_size,
        rerank_size=how.rerank,
        rerank_by=how.rerank_by,
        seed=where.seed,
    )


def _captioning(model: Blip, how: CaptioningEvaluation, where: Conditions) -> Outcome:
    caption: Callable[[Sequence[bytes]], list[str]] = partial(model.caption, **how.decoding)
    dataset = PairsDataset.open(where.datasets / how.data)
    return captioning.evaluate(
        caption,
        where.pictures(how.data),
        batch_size=where.batch_size,
        seed=where.seed,
        domains=known_of(dataset, "domain"),
        numbers=known_of(dataset, "image_id"),
        normal=model.tokenizer.normal,
    )


def _vqa(model: Blip, how: VqaEvaluation, where: Conditions) -> Outcome:
    told = VqaScoring.model_validate(how.model_dump())
    listed = vqa.read_answers(Path(told.answers)) if told.answers else []
    baseline = _question_only(where.datasets / told.train) if told.train else vqa.QuestionOnly()
    first = next(samples_of(where.datasets / how.data), None)
    clips = first is not None and first.is_video
    return vqa.evaluate(
        model,
        where.clips(how.data) if clips else where.pictures(how.data),
        baseline,
        listed,
        keep=how.candidates,
        batch_size=where.batch_size,
        seed=where.seed,
        of_tests=True,
        frame_count=told.frames if clips else 0,
    )


def _question_only(train: Path) -> vqa.QuestionOnly:
    counted = vqa.QuestionOnly.count(samples_of(train))
    if not counted.answers():
        raise BlipError(f"{train}: no question has an answer; the candidates are those of training questions")
    return counted


def _classification(model: Blip, how: ClassificationEvaluation, where: Conditions) -> Outcome:
    return classification.evaluate(
        model,
        where.pictures(how.data),
        labels_of(PairsDataset.open(where.datasets / how.data)),
        templates=how.templates,
        temperature=model.temperature,
        batch_size=where.batch_size,
        seed=where.seed,
    )


def _video(model: Blip, how: VideoEvaluation, where: Conditions) -> Outcome:
    return video.evaluate(
        model,
        where.clips(how.data),
        frame_count=how.frames,
        batch_size=where.batch_size,
        rerank_size=how.rerank,
        rerank_by=how.rerank_by,
        seed=where.seed,
    )


def _nlvr(model: TwoImages, how: Evaluation, where: Conditions) -> Outcome:
    return nlvr.evaluate(model, where.pictures(how.data), batch_size=where.batch_size, seed=where.seed)


def _visdial(model: Blip, how: Evaluation, where: Conditions) -> Outcome:
    samples = where.pictures(how.data)
    return visdial.evaluate(answer_ranker(model), samples, batch_size=where.batch_size, seed=where.seed)


@dataclass(frozen=True)
class Task:
    """A task: the class of its settings, what measures it, and what its model has to do; nothing for two pictures."""

    settings: type[Section]
    measure: Callable[[Any, Any, Conditions], Outcome]
    needs: tuple[parts.Task, ...] = ()

    def open(self, model: Path, device: str) -> Blip | TwoImages:
        """Open a model of the kind that the task asks. Raises BlipError if it is another, or lacks a part."""
        if not self.needs:
            return TwoImages.open(model, device)
        opened = Blip.open(model, device, "float32")
        try:
            for need in self.needs:
                parts.require(need, opened.card.missing)
        except BlipError as error:
            raise BlipError(f"{model}: {error}") from None
        return opened


MATCHING: tuple[parts.Task, ...] = ("embed images", "embed texts", "match")
TASKS = {
    "retrieval": Task(RetrievalEvaluation, _retrieval, MATCHING),
    "captioning": Task(CaptioningEvaluation, _captioning, ("caption",)),
    "vqa": Task(VqaScoring, _vqa, ("answer",)),
    "classification": Task(ClassificationEvaluation, _classification, ("embed images", "embed texts")),
    "video": Task(VideoEvaluation, _video, MATCHING),
    "nlvr": Task(Evaluation, _nlvr),
    "visdial": Task(Evaluation, _visdial, ("match",)),
}


def find_task(name: str) -> Task:
    """The task of that name. Raises BadArguments, with the names there are, if there is none."""
    if name not in TASKS:
        raise BadArguments(f"{name}: no such task; there are: {', '.join(TASKS)}")
    return TASKS[name]
