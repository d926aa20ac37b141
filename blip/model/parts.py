"""What each task needs of a network, and what is said when the model at hand was saved without it.

A captioner of `transformers` has no text encoder and no heads but the language model's; a retrieval model has no
decoder. Such parts keep initial values, and nothing is computed with them.
"""

from collections.abc import Collection
from typing import Literal

from blip.errors import BlipError

Task = Literal["match", "embed images", "embed texts", "caption", "answer"]

RETRIEVAL = "a BlipForImageTextRetrieval, or a pre-training, retrieval or filter model of this project"
CAPTIONING = "a BlipForConditionalGeneration, or a pre-training or captioning model of this project"
ANSWERING = "a BlipForQuestionAnswering, or a VQA model of this project"

NEEDS: dict[Task, tuple[tuple[str, ...], str]] = {
    "match": (("text_encoder", "itm_head"), RETRIEVAL),
    "embed images": (("vision_projection",), RETRIEVAL),
    "embed texts": (("text_encoder", "text_projection"), RETRIEVAL),
    "caption": (("text_decoder", "lm_head"), CAPTIONING),
    "answer": (("text_encoder", "text_decoder", "lm_head"), ANSWERING),
}


# The parts that learn from a loss.
LEARNS: dict[str, tuple[str, ...]] = {
    "itc": ("text_encoder", "vision_projection", "text_projection", "temperature"),
    "itm": ("text_encoder", "itm_head"),
    "lm": ("text_decoder", "lm_head"),
    "answers": ("text_encoder", "text_decoder", "lm_head"),
    "statements": ("text_encoder",),
}

HEADS = ("vision_projection", "text_projection", "temperature", "itm_head", "lm_head")
"""Of a new network: what has no meaning until its loss has trained it; BERT's head, of texts alone, writes none."""


def still_missing(missing: Collection[str], losses: Collection[str]) -> tuple[str, ...]:
    """What of the `missing` parts of a network training by these losses has not made real."""
    learnt = {part for loss in losses for part in LEARNS[loss]}
    return tuple(part for part in missing if part not in learnt)


def part_of(name: str) -> str:
    """The part of the network that a parameter belongs to: ``itm_head`` of ``itm_head.weight``."""
    return name.partition(".")[0]


def lacks(task: Task, missing: Collection[str]) -> list[str]:
    """What a task needs of the `missing` parts."""
    return [part for part in NEEDS[task][0] if part in missing]


def require(task: Task, missing: Collection[str]) -> None:
    """Check that nothing a task needs is among the `missing` parts.

    Raises:
        BlipError: something is; it is named, with the kind of model that has it.
    """
    if lacking := lacks(task, missing):
        holder = NEEDS[task][1]
        raise BlipError(
            f"this model cannot {task}: its weights have no {' and no '.join(lacking)}; open {holder}"
        )
