"""Signs that a run learns nothing, said once each with what to try.

    health = Health(objective, steps=1000, pairs=64)
    for warning in health.examine(step, figures):    # at the steps that log
        print(warning.text)

What each loss is worth when nothing is learnt follows from its definition: ITM's is the entropy of its share of matched
pairs (0.6365 for one in three, a frequent complaint of users of the published code), ITC's the logarithm of the number
of keys, LM's the logarithm of the vocabulary.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from blip.model.objectives import TEMPERATURE_RANGE, PairObjective
from blip.model.ranks import world_size

PATIENCE = 0.2  # share of the run that may pass first,
LEAST_STEPS = 200  # and steps (of a short run half)
IN_A_ROW = 3  # a sign has to last
MATCHED = 1 / 3  # of ITM's pairs: each has a negative text and a negative image
NEAR_ENTROPY, NEAR_UNIFORM, NEAR_VOCABULARY = 0.005, 0.05, 0.1
COLLAPSED = 0.95  # mean cosine of two features
PAIRS, DISTRACTORS = "pairs", "distractors"  # that ITC compares at a time, beside the figures


@dataclass(frozen=True)
class Warning:
    """One sign: a short name, and what it means with what to try."""

    name: str
    text: str


class Health:
    """Looks at the figures of a run and at its queue.

    Args:
        steps: of the whole run.
        pairs: that ITC compares at a time on one rank: of a batch, or of all of a step if their features are cached.
        said: names of the signs that need not be said again.
        distractors: texts that ITC compares the images with beside those.
    """

    def __init__(
        self, objective: nn.Module, steps: int, pairs: int, said: Iterable[str] = (), distractors: int = 0
    ) -> None:
        self._objective, self._compared = objective, {PAIRS: pairs, DISTRACTORS: distractors}
        self._from = max(PATIENCE * steps, min(LEAST_STEPS, steps / 2))
        self._seen: Counter[str] = Counter()  # how often in a row
        self._said = set(said)

    def examine(self, step: int, figures: Mapping[str, float]) -> list[Warning]:
        """What is wrong after step `step`, was so the last times and was not said before.

        Args:
            figures: means over the steps since the last time.
        """
        if not isinstance(self._objective, PairObjective) or step < self._from:
            return []
        figures = {**figures, **self._compared}
        found = [warning for check in CHECKS for warning in check(self._objective, figures)]
        self._seen = Counter({warning.name: self._seen[warning.name] + 1 for warning in found})
        lasting = [warning for warning in found if self._seen[warning.name] >= IN_A_ROW]
        new = [warning for warning in lasting if warning.name not in self._said]
        self._said |= {warning.name for warning in new}
        return new


Check = Callable[[PairObjective, Mapping[str, float]], Iterator[Warning]]


def note_sign(path: Path, step: int, sign: Warning) -> None:
    """Add a line to a run's file of signs, behind one that was cut short on a line of its own."""
    with path.open("a+b") as handle:
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            cut = handle.read() != b"\n"
            handle.write(b"\n" * cut)
        handle.write(json.dumps({"step": step, "name": sign.name, "text": sign.text}).encode() + b"\n")


def said_in(path: Path) -> dict[str, str]:
    """The signs that a run's file has, text by name; a line that was cut short, as by a full disk, is passed over."""
    said: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with suppress(ValueError):
            row = json.loads(line)
            said[row["name"]] = row["text"]
    return said


def prior_entropy(matched: float = MATCHED) -> float:
    """ITM's loss of a head that knows only how many pairs match."""
    return -matched * math.log(matched) - (1 - matched) * math.log(1 - matched)


def _itm(objective: PairObjective, figures: Mapping[str, float]) -> Iterator[Warning]:
    prior = prior_entropy()
    if "itm" in figures and figures["itm"] > prior - NEAR_ENTROPY:
        yield Warning(
            "itm_at_prior",
            f"ITM is {figures['itm']:.4f}: a head that only knows that one pair in three matches has {prior:.4f}. "
            "Try a longer warm-up or a lower learning rate, a larger share of random_negatives at first, more weight "
            "for itm, and look whether images and texts of the data belong together (`blip inspect`)",
        )


def _itc(objective: PairObjective, figures: Mapping[str, float]) -> Iterator[Warning]:
    keys, others = _number_of_keys(objective, figures), int(figures[DISTRACTORS])
    if objective.config.contrast == "softmax" and "itc" in figures and keys > 1:
        uniform = (math.log(keys) + math.log(keys + others)) / 2  # a text's and an image's
        besides = f", and {others:,} distractors," if others else ""
        if figures["itc"] > uniform - NEAR_UNIFORM:
            yield Warning(
                "itc_uniform",
                f"ITC is {figures['itc']:.3f}, and {uniform:.3f} if all {keys:,} keys{besides} were alike: images and "
                "texts are not told apart. Try another learning rate or a later queue_from, and look at the data",
            )


def _lm(objective: PairObjective, figures: Mapping[str, float]) -> Iterator[Warning]:
    entries = objective.network.config.text.vocabulary
    if "lm" in figures and figures["lm"] > math.log(entries) - NEAR_VOCABULARY:
        yield Warning(
            "lm_uniform",
            f"LM is {figures['lm']:.3f}, no better than any of the {entries:,} tokens at random "
            f"({math.log(entries):.3f}). Try another learning rate; see that the tokenizer is the vocabulary's",
        )


@torch.no_grad()
def _collapse(objective: PairObjective, figures: Mapping[str, float]) -> Iterator[Warning]:
    """The mean cosine of all pairs of unit vectors is the square of the length of their mean."""
    queue = objective.queue
    if queue is None or queue.size < 2 or objective.progress < objective.config.queue_from:
        return
    for kind, features in (("image", queue.image), ("text", queue.text)):
        filled = features[queue.group[:, 0] != -1]
        if len(filled) < 2:
            continue
        cosine = filled.mean(dim=0).square().sum().item()
        if cosine > COLLAPSED:
            yield Warning(
                f"{kind}_features_collapsed",
                f"two {kind}s' features have a cosine of {cosine:.3f} on average: all {kind}s look alike to the model. "
                "Try a lower learning rate, a later queue_from (old keys are told by their age alone while a run "
                "learns fast), and see that the images are not all the same",
            )


def _temperature(objective: PairObjective, figures: Mapping[str, float]) -> Iterator[Warning]:
    low, high = TEMPERATURE_RANGE
    value = figures.get("temperature")
    if objective.config.itc and value is not None and not low < value < high:
        yield Warning(
            "temperature_at_its_bound",
            f"the temperature is at its bound {value:g}: similarities are scaled as far as they may be. Try a lower "
            "learning rate",
        )


CHECKS: tuple[Check, ...] = (_itm, _itc, _lm, _collapse, _temperature)


def _number_of_keys(objective: PairObjective, figures: Mapping[str, float]) -> int:
    queue = objective.queue
    counts = queue is not None and objective.progress >= objective.config.queue_from
    ranks = world_size() if objective.config.itc_keys == "global" else 1
    return int(figures[PAIRS]) * ranks + (queue.size if queue is not None and counts else 0)
