"""From a loader's batch to the input of an objective: choose a text for every image, encode, normalise."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from blip.data.images import normalise
from blip.data.loader import Batch
from blip.data.sample import Sample, stable_id
from blip.data.text import Tokenizer, clean_caption, clean_question
from blip.model.objectives import PairBatch
from blip.model.vqa import QuestionBatch

Positives = Literal["pair", "image", "text"]


@dataclass(frozen=True)
class PairCollate:
    """One caption for every image.

    Attributes:
        positives: which pairs are no negatives of each other: none but the pair itself, those of the same image, or
            those with the same text as well.
        captions: draw among all captions of an image, or take the shortest, which says what it is and no more.
        prompt: put before every caption; the decoder is not taught to write it.
    """

    tokenizer: Tokenizer
    max_tokens: int
    positives: Positives = "pair"
    captions: Literal["any", "shortest"] = "any"
    prompt: str = ""

    def __call__(self, batch: Batch) -> PairBatch:
        texts = [clean_caption(self._choose(sample, batch)) for sample in batch.samples]
        prompt = clean_caption(self.prompt)
        prompted = [f"{prompt} {text}".strip() for text in texts]
        ids, mask = self.tokenizer.encode(prompted, self.max_tokens)
        skip = int(self.tokenizer.encode([prompt], self.max_tokens)[1].sum()) - 1 if prompt else 0
        return PairBatch(normalise(batch.images), ids, mask, self._groups(batch, texts), skip)

    def _choose(self, sample: Sample, batch: Batch) -> str:
        if not sample.captions:
            return ""
        if self.captions == "shortest":
            return min((caption.text for caption in sample.captions), key=len)
        return batch.rng.choice(sample.captions).text

    def _groups(self, batch: Batch, texts: list[str]) -> Tensor:
        if self.positives == "pair":
            place = f"{batch.epoch}/{batch.index}"
            ids = [stable_id(f"{place}/{row}/{s.key}") for row, s in enumerate(batch.samples)]
            return torch.tensor(ids)[:, None].expand(-1, 2)
        if self.positives == "image":
            return batch.image_ids[:, None].expand(-1, 2)
        return torch.stack((batch.image_ids, torch.tensor([stable_id(text) for text in texts])), dim=1)


@dataclass(frozen=True)
class QuestionCollate:
    """Some questions about every image, each with one of its answers."""

    tokenizer: Tokenizer
    max_tokens: int
    per_image: int

    def __call__(self, batch: Batch) -> QuestionBatch:
        image: list[int] = []
        questions: list[str] = []
        answers: list[str] = []
        weights: list[float] = []
        for row, sample in enumerate(batch.samples):
            for question in batch.rng.sample(sample.questions, min(self.per_image, len(sample.questions))):
                answer = batch.rng.choice(list(question.answers))
                image.append(row)
                questions.append(clean_question(question.text))
                answers.append(clean_question(answer))
                weights.append(question.answers[answer])
        question_ids, question_mask = self.tokenizer.encode(questions, self.max_tokens)
        answer_ids, answer_mask = self.tokenizer.encode(answers, self.max_tokens)
        return QuestionBatch(
            normalise(batch.images),
            torch.tensor(image),
            question_ids,
            question_mask,
            answer_ids,
            answer_mask,
            torch.tensor(weights),
        )
