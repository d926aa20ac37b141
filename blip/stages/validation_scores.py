"""What a training stage says of the model in a directory, on the validation style; every choice is made on that."""

from functools import partial
from pathlib import Path

from blip.config import Settings
from blip.config.section import Section
from blip.config.sections import VALIDATION
from blip.model.device import device_of
from blip.model.dialogs import answer_ranker
from blip.model.two_images import TwoImages
from blip.stages.training import open_dataset
from blip.tasks import captioning, matching, nlvr, retrieval, visdial, vqa
from blip.tasks.inputs import open_directory, read_samples
from blip.tasks.outcome import Outcome
from blip.tracking.measured import Scores, measured

RERANKING = (".rerank", ".rerank_by")


def retrieval_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """Recall both ways, by embeddings alone (``.itc``) and re-ranked, as far as the model has learnt it."""
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
    names = _settings_of(prefix, "retrieval", task)
    # Which embeddings alone know nothing of
    of_data = [name for name in names if not name.endswith(RERANKING)]
    return Scores.of(itc, measured([directory], task.data, settings, *of_data)) | Scores.of(
        itm, measured([directory], task.data, settings, *names)
    )


def caption_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """Exact match and the usual caption figures."""
    task = settings.validation.captioning
    model = open_directory(directory, settings.compute)
    outcome = captioning.evaluate(
        partial(model.caption, **task.decoding),
        read_samples(task.data),
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
        normal=model.tokenizer.normal,
    )
    scores = _named(f"{prefix}.validation", outcome)
    return Scores.of(
        scores, measured([directory], task.data, settings, *_settings_of(prefix, "captioning", task))
    )


def match_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """How well a filter and its members together tell a picture's own text from those of others, as they are trained.

    By their ITM heads, ROC AUC and accuracy at a probability of 0.5, and by their embeddings, ROC AUC, each of the
    whole picture. By the heads and views that CapFilt decides by, stage capfilt measures.

    Raises:
        BlipError: the validation data have no two pictures with different texts.
    """
    filters = [open_directory(path, settings.compute) for path in matching.with_members(directory)]
    found = matching.evaluate(filters, *open_dataset(VALIDATION))
    scores = {f"{prefix}.validation_{name}": value for name, value in found.items()}
    return Scores.of(scores, measured([directory], VALIDATION, settings))


def question_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """The official accuracy on the validation questions."""
    how = settings.validation.vqa
    outcome = vqa.evaluate(
        open_directory(directory, settings.compute),
        read_samples(how.data),
        vqa.QuestionOnly.count(read_samples(how.train)),
        keep=how.candidates,
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
    )
    scores = _named(f"{prefix}.validation", outcome)
    return Scores.of(scores, measured([directory], how.data, settings, *_settings_of(prefix, "vqa", how)))


def statement_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """How many statements about two pictures are judged rightly, on the validation pairs."""
    how = settings.evaluate.nlvr
    if how is None:
        return Scores({}, {})
    outcome = nlvr.evaluate(
        TwoImages.open(directory, device_of(settings.compute.device)),
        read_samples(how.validation),
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
    )
    scores = _named(f"{prefix}.validation", outcome)
    return Scores.of(scores, measured([directory], how.validation, settings, "evaluate.nlvr"))


def dialog_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """Where the right answer comes among its candidates, on the validation dialogs."""
    how = settings.evaluate.visdial
    if how is None:
        return Scores({}, {})
    outcome = visdial.evaluate(
        answer_ranker(open_directory(directory, settings.compute)),
        read_samples(how.validation),
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
    )
    scores = _named(f"{prefix}.validation", outcome)
    return Scores.of(scores, measured([directory], how.validation, settings, "evaluate.visdial"))


def _settings_of(prefix: str, task: str, how: Section) -> list[str]:
    """Those that decide a figure; the name of the data of fine-tuned models alone, which are one dataset's.

    Whoever registers for one dataset has no use for a model that was fine-tuned and validated on another, but for the
    pre-trained one that both began from.
    """
    names = [name for name in type(how).model_fields if name != "data" or prefix.startswith("finetune.")]
    return [f"validation.{task}.{name}" for name in names]


def _named(prefix: str, outcome: Outcome) -> dict[str, float]:
    """A task's figures, `prefix` in place of the task's name."""
    return {f"{prefix}.{name.split('.')[-1]}": value for name, value in outcome.metrics.items()}
