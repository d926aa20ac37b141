"""From a loader's batch to the input of an objective: choose texts for every image and encode them.

collate = PairCollate(tokenizer, max_tokens=30)
losses = objective(collate(batch).to("cpu"))       # `to` normalises the images there
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

import torch
from torch import Tensor

from blip.data.loader import Batch
from blip.data.sample import Caption, Sample, stable_id
from blip.data.text import (
    Tokenizer,
    clean_answer,
    clean_caption,
    clean_question,
    clean_statement,
    says_something,
)
from blip.errors import BlipError
from blip.model.batch import PairBatch
from blip.model.dialogs import CAPTION_TOKENS, DialogBatch, encode_dialogs
from blip.model.statements import StatementBatch
from blip.model.vqa import QuestionBatch

Positives = Literal["pair", "image", "text"]

SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class PairCollate:
    """One caption for every image, or several; an empty one where an image has none.

    Attributes:
        positives: which pairs are no negatives of each other: none but the pair itself, those of the same image, or
            those with the same text as well.
        captions: draw among all captions of an image, or take the shortest, which says what it is and no more. One of
            marks only, as "...", is taken where an image has no other.
        prompt: put before every caption; the decoder is not taught to write it.
        per_image: how many captions of each image. One that has fewer gives some of them again, so that every batch
            of every rank has equally many. Captions of an image are no negatives of each other, whatever `positives`.
        distractors: texts that are taken to match no image of the batch; of them one is drawn for every caption.
        weights: of the captions in the draw, by their origin; 1 where none is given. What weighs 0 is drawn only where
            an image has nothing else.

    A caption longer than `max_tokens` is cut, with ``[SEP]`` last; an empty one is ``[CLS] [SEP]``.
    """

    tokenizer: Tokenizer
    max_tokens: int
    positives: Positives = "pair"
    captions: Literal["any", "shortest"] = "any"
    prompt: str = ""
    per_image: int = 1
    weights: Mapping[str, float] = field(default_factory=dict)
    distractors: Sequence[str] = ()

    def __call__(self, batch: Batch) -> PairBatch:
        choices = [self._choose(sample, batch.rng_of(row)) for row, sample in enumerate(batch.samples)]
        texts = [clean_caption(text) for chosen in choices for text in chosen]
        prompt = clean_caption(self.prompt)
        prompted = [f"{prompt} {text}".strip() for text in texts]
        others = self._others(batch) if self.distractors else []
        ids, mask = self.tokenizer.encode([*prompted, *others], self.max_tokens)
        (ids, *more), (mask, *more_masks) = ids.split(len(prompted)), mask.split(len(prompted))
        skip = int(self.tokenizer.encode([prompt], self.max_tokens)[1].sum()) - 1 if prompt else 0
        image = None
        if self.per_image > 1:
            image = torch.arange(len(batch.samples)).repeat_interleave(self.per_image)
        pairs = PairBatch(batch.images, ids, mask, self._groups(batch, texts), skip, image)
        return replace(pairs, distractor_ids=more[0], distractor_mask=more_masks[0]) if others else pairs

    def _others(self, batch: Batch) -> list[str]:
        """A distractor for every caption, drawn as these are, behind them."""
        rows = range(len(batch.samples))
        return [
            text for row in rows for text in batch.rng_of(row).choices(self.distractors, k=self.per_image)
        ]

    def _choose(self, sample: Sample, rng: Random) -> list[str]:
        """Texts of one image; of one caption only, the draw is that of a single choice."""
        captions = [caption for caption in sample.captions if says_something(caption.text)] or sample.captions
        texts = [caption.text for caption in captions] or [""]
        if self.captions == "shortest":
            texts = sorted(texts, key=len)
        elif self.weights and captions:
            texts = _drawn(captions, self.weights, rng)
        elif self.per_image > 1:
            texts = rng.sample(texts, len(texts))
        elif captions:
            texts = [rng.choice(texts)]
        return [texts[number % len(texts)] for number in range(self.per_image)]

    def _groups(self, batch: Batch, texts: list[str]) -> Tensor:
        """Image and text of every pair, as numbers."""
        images = batch.image_ids
        if self.positives == "pair":
            place = f"{batch.epoch}/{batch.index}"
            ids = [stable_id(f"{place}/{row}/{s.key}") for row, s in enumerate(batch.samples)]
            images = torch.tensor(ids)
        images = images.repeat_interleave(self.per_image)
        if self.positives != "text":
            return images[:, None].repeat(1, 2)
        return torch.stack((images, torch.tensor([stable_id(text) for text in texts])), dim=1)


def _drawn(captions: Sequence[Caption], weights: Mapping[str, float], rng: Random) -> list[str]:
    """Texts in a random order in which each next one is drawn by its weight among those that are left."""
    weighed = [(caption.text, weights.get(caption.origin, 1.0)) for caption in captions]
    weighed = [one for one in weighed if one[1]] or [(text, 1.0) for text, _ in weighed]
    return [text for text, _ in sorted(weighed, key=lambda one: rng.expovariate(one[1]))]


@dataclass(frozen=True)
class QuestionCollate:
    """Some questions about every image, each with one of its answers, drawn by how many people gave it.

    In the mean that is the sum over the answers by their shares. A question counts as much whether its annotators agree
    or not, and as much as its answers' shares come to: Visual Genome's 0.2 beside 1.
    """

    tokenizer: Tokenizer
    max_tokens: int
    per_image: int

    def __call__(self, batch: Batch) -> QuestionBatch:
        image: list[int] = []
        questions: list[str] = []
        answers: list[str] = []
        weights: list[float] = []
        for row, sample in enumerate(batch.samples):
            rng = batch.rng_of(row)
            asked = [question for question in sample.questions if any(question.answers.values())]
            for question in rng.sample(asked, min(self.per_image, len(asked))):
                shares = question.answers
                (answer,) = rng.choices(list(shares), weights=list(shares.values()))
                image.append(row)
                questions.append(clean_question(question.text))
                answers.append(clean_answer(answer))
                weights.append(sum(shares.values()))
        if not image:
            raise BlipError(
                f"none of {len(batch.samples)} samples ({batch.samples[0].key}, ...) has a question with an answer; "
                "ingest a dataset of questions (kind: vqa)"
            )
        question_ids, question_mask = self.tokenizer.encode(questions, self.max_tokens)
        answer_ids, answer_mask = self.tokenizer.encode(answers, self.max_tokens)
        return QuestionBatch(
            batch.images,
            torch.tensor(image),
            question_ids,
            question_mask,
            answer_ids,
            answer_mask,
            torch.tensor(weights),
        )


@dataclass(frozen=True)
class StatementCollate:
    """Some statements about every pair of images; in half of the pairs, left and right change places.

    So do the words in the statements then, which stay as true as they were (the public code did so, and at evaluation
    as well, where it has no place).
    """

    tokenizer: Tokenizer
    max_tokens: int
    per_pair: int

    def __call__(self, batch: Batch) -> StatementBatch:
        count = len(batch.samples)
        pair: list[int] = []
        texts: list[str] = []
        true: list[int] = []
        left, right = list(range(count)), list(range(count, 2 * count))
        for row, sample in enumerate(batch.samples):
            rng = batch.rng_of(row)
            swapped = rng.random() < 0.5
            if swapped:
                left[row], right[row] = right[row], left[row]
            told = [question for question in sample.questions if question.answers]
            for question in rng.sample(told, min(self.per_pair, len(told))):
                text = clean_statement(question.text)
                pair.append(row)
                texts.append(mirrored(text) if swapped else text)
                true.append(int(question.answers.get("true", 0.0) >= 0.5))
        ids, mask = self.tokenizer.encode(texts, self.max_tokens)
        ids[:, 0] = self.tokenizer.enc
        return StatementBatch(
            batch.images[left + right], torch.tensor(pair), ids, mask, torch.tensor(true, dtype=torch.int64)
        )


def mirrored(text: str) -> str:
    """The text with the words left and right in each other's place."""
    return SIDE.sub(lambda found: "right" if found[1].lower() == "left" else "left", text)


@dataclass(frozen=True)
class DialogCollate:
    """Some questions of every dialog, each twice: with its right answer, and with another of its candidates."""

    tokenizer: Tokenizer
    max_tokens: int
    per_image: int

    def __call__(self, batch: Batch) -> DialogBatch:
        image: list[int] = []
        dialogs: list[str] = []
        answers: list[str] = []
        for row, sample in enumerate(batch.samples):
            rng = batch.rng_of(row)
            asked = [question for question in sample.questions if question.answers and question.candidates]
            for question in rng.sample(asked, min(self.per_image, len(asked))):
                (right,) = question.answers
                wrong = rng.choice([text for text in question.candidates if text != right] or [""])
                image += [row, row]
                dialogs += [question.text] * 2
                answers += [right, wrong]
        if not image:
            raise BlipError(
                f"none of {len(batch.samples)} samples ({batch.samples[0].key}, ...) has a question with its answer "
                "among candidates; ingest a dataset of dialogs (kind: visdial)"
            )
        captions = [
            clean_caption(sample.captions[0].text if sample.captions else "") for sample in batch.samples
        ]
        caption_ids, caption_mask = self.tokenizer.encode(captions, CAPTION_TOKENS)
        ids, mask = encode_dialogs(self.tokenizer, dialogs, answers, self.max_tokens)
        right_or_wrong = torch.tensor([1, 0] * (len(image) // 2))
        return DialogBatch(
            batch.images, caption_ids, caption_mask, torch.tensor(image), ids, mask, right_or_wrong
        )
