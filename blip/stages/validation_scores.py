"""What a training stage says of the model in a directory, on the validation style; every choice is made on that."""

from functools import partial
from pathlib import Path

import torch

from blip.config import Settings
from blip.config.places import DATASETS
from blip.data.text import clean_caption
from blip.errors import BlipError
from blip.model.device import device_of
from blip.model.dialogs import answer_ranker
from blip.model.two_images import TwoImages
from blip.tasks import captioning, nlvr, retrieval, visdial, vqa
from blip.tasks.inputs import open_directory, read_samples
from blip.tasks.matching import roc_auc
from blip.tasks.outcome import Outcome
from blip.tracking.measured import Scores, measured

VALIDATION = "validation"


def retrieval_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """Recall both ways, by embeddings alone (``.itc``) and re-ranked."""
    task = settings.evaluate.retrieval
    found = retrieval.recalls(
        open_directory(directory, settings.compute),
        read_samples(VALIDATION),
        batch_size=settings.evaluate.batch_size,
        rerank_size=task.rerank,
        rerank_by=task.rerank_by,
    )
    scores = {f"{prefix}.validation.itc.{name}": value for name, value in found["itc"].items()}
    scores |= {f"{prefix}.validation.{name}": value for name, value in found["itm"].items()}
    deciding = ("evaluate.retrieval.rerank", "evaluate.retrieval.rerank_by")
    return Scores.of(scores, measured([directory], VALIDATION, settings, *deciding))


def caption_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """Exact match and the usual caption figures."""
    write = partial(
        open_directory(directory, settings.compute).caption, **settings.evaluate.captioning.decoding
    )
    outcome = captioning.evaluate(
        write, read_samples(VALIDATION), batch_size=settings.evaluate.batch_size, seed=settings.seed
    )
    scores = _named(prefix, outcome)
    return Scores.of(scores, measured([directory], VALIDATION, settings, "evaluate.captioning"))


def match_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """How well the ITM head tells a picture's own label from another one: ROC AUC and accuracy at the argmax.

    Raises:
        BlipError: the captions of the validation data are not at least two texts.
    """
    samples = [sample for sample in read_samples(VALIDATION) if sample.captions]
    own = [clean_caption(sample.captions[0].text) for sample in samples]
    places = {text: place for place, text in enumerate(dict.fromkeys(own))}
    texts = list(places)
    if len(texts) < 2:
        raise BlipError(
            f"validation of the filter needs pictures with different captions; {DATASETS / VALIDATION} has "
            f"{len(samples)} with a caption, {len(texts)} of them different"
        )
    model = open_directory(directory, settings.compute)
    tokens = model.encode_images([sample.media for sample in samples], settings.evaluate.batch_size)
    generator = torch.Generator().manual_seed(settings.seed)
    rows = torch.arange(len(samples)).repeat(2)
    right = torch.tensor([places[text] for text in own])
    wrong = (right + torch.randint(1, len(texts), (len(samples),), generator=generator)) % len(texts)
    scores = model.score_pairs(tokens, rows, texts, torch.cat((right, wrong))).cpu()
    matched = torch.arange(len(rows)) < len(samples)
    accuracy = ((scores > 0) == matched).float().mean().item()
    figures = {
        f"{prefix}.validation_auc": roc_auc(scores, matched),
        f"{prefix}.validation_accuracy": accuracy,
    }
    return Scores.of(figures, measured([directory], VALIDATION, settings, "seed"))


def question_scores(prefix: str, directory: Path, settings: Settings) -> Scores:
    """The official accuracy on the validation questions."""
    how = settings.evaluate.vqa
    outcome = vqa.evaluate(
        open_directory(directory, settings.compute),
        read_samples("vqa_validation"),
        vqa.QuestionOnly.count(read_samples(how.train)),
        keep=how.candidates,
        batch_size=settings.evaluate.batch_size,
        seed=settings.seed,
    )
    scores = _named(f"{prefix}.validation", outcome)
    return Scores.of(scores, measured([directory], "vqa_validation", settings, "evaluate.vqa"))


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


def _named(prefix: str, outcome: Outcome) -> dict[str, float]:
    """A task's figures, `prefix` in place of the task's name."""
    return {f"{prefix}.{name.split('.')[-1]}": value for name, value in outcome.metrics.items()}
