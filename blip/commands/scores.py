"""The table of `blip evaluate`: what a task came to, beside what is reached without learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from blip.spelling import plain

if TYPE_CHECKING:
    from blip.tasks.outcome import Outcome

Line = tuple[str, str, str]  # a figure, its name for a person, the figure it is to be read beside

WAYS = {"i2t": "image to text", "t2i": "text to image", "v2t": "video to text", "t2v": "text to video"}


def _recalls(*ways: str) -> list[Line]:
    names = [(f"{way}_r{k}", f"{WAYS[way]}, R@{k}") for way in ways for k in (1, 5, 10)]
    return [(name, label, f"chance.{name}") for name, label in names]


LINES: dict[str, list[Line]] = {
    "retrieval": _recalls("i2t", "t2i"),
    "captioning": [
        ("exact_match", "exact match", "always_commonest"),
        ("cider", "CIDEr", ""),
        *((f"{domain}-domain.cider", f"CIDEr, {domain}-domain", "") for domain in ("in", "near", "out")),
        ("bleu4", "BLEU-4", ""),
        ("rouge_l", "ROUGE-L", ""),
    ],
    "vqa": [
        ("accuracy", "all questions", "question_only"),
        ("open_accuracy", "open questions", "question_only_open"),
        ("yes_no_accuracy", "yes or no", "question_only_yes_no"),
    ],
    "classification": [("top1", "top 1", "chance.top1"), ("top5", "top 5", "chance.top5")],
    "video": _recalls("t2v", "v2t"),
    "nlvr": [("accuracy", "accuracy", "majority")],
    "visdial": [
        ("mrr", "mean reciprocal rank", "chance_mrr"),
        *((f"r{k}", f"R@{k}", "") for k in (1, 5, 10)),
        ("mean_rank", "mean rank", ""),
    ],
}
BESIDE = {  # what a line's second figure is
    "captioning": "always the commonest",
    "vqa": "question only",
    "nlvr": "always the same",
}
DECIMALS = {"cider": 2, "bleu4": 3, "rouge_l": 3, "mrr": 3, "mean_rank": 1}  # of figures that are no shares
SIZES = {
    "retrieval": "{images:,.0f} images, {texts:,.0f} texts",
    "captioning": "{samples:,} images, references of {reference_words:.1f} words",
    "vqa": "{samples:,} images, {queries:,} questions",
    "classification": "{samples:,} images, {classes:,.0f} classes",
    "video": "{clips:,.0f} clips, {texts:,.0f} texts",
    "nlvr": "{samples:,} pairs of images, {queries:,} statements",
    "visdial": "{samples:,} images, {queries:,} questions",
}


def show_scores(task: str, outcome: Outcome, what: str, left_out: int, console: Console) -> None:
    """Print the figures of a task, and beside them what chance, or an answer without looking, reaches.

    Args:
        what: the dataset and the model.
        left_out: samples of the dataset that validation set aside.
    """
    figures = _figures(task, outcome)
    samples = len({row.get("key") for row in outcome.predictions})
    sizes = SIZES[task].format(samples=samples, queries=len(outcome.predictions), **figures)
    sizes += f"; {left_out:,} left out, which validation set aside" if left_out else ""
    console.print(Text.assemble((task, "bold"), f": {plain(what)}"), soft_wrap=True)
    console.print(sizes, highlight=False)
    if not figures:
        console.print("no figures: there are no answers to compare with; --out DIR keeps what is said")
        return
    table = Table("", "value", BESIDE.get(task, "at random"))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, label, beside in LINES[task]:
        if name in figures:
            table.add_row(label, _shown(name, figures[name]), _shown(name, figures.get(beside)))
    console.print(table)


def _figures(task: str, outcome: Outcome) -> dict[str, float]:
    """By their names within the task, with what is expected of classes drawn at random."""
    figures = {name.removeprefix(f"{task}."): value for name, value in outcome.metrics.items()}
    drawn = {f"chance.top{k}": min(1.0, k / figures["classes"]) for k in (1, 5) if "classes" in figures}
    return figures | drawn


def _shown(name: str, value: float | None) -> str:
    """Shares in percent, other figures as they are."""
    if value is None:
        return ""
    decimals = DECIMALS.get(name.rpartition(".")[2])
    return f"{value:.1%}" if decimals is None else f"{value:.{decimals}f}"
