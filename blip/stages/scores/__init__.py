"""What a training stage says of the model in a directory, on the validation style; every choice is made on that.

A module a score, which has it as ``SCORE``; that of ``finetune@TASK`` is named like the task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blip.config import Settings
from blip.config.section import Section
from blip.tracking.measured import Scores


@dataclass(frozen=True)
class Score:
    """How models of one kind are measured, and which of them is the best.

    Attributes:
        measure: the figures of a model, given the start of their names, its directory and the settings.
        decides: the ends of the names of those whose mean a candidate is judged by.
        task: whose block of `validation` says how and on which data; "" if none does, on the validation pairs.
    """

    measure: Callable[[str, Path, Settings], Scores]
    decides: tuple[str, ...]
    task: str = ""

    @property
    def criterion(self) -> str:
        """What decides, as a person would say it."""
        names = [end.lstrip(".").removeprefix("validation").lstrip("._") for end in self.decides]
        return names[0] if len(names) == 1 else f"mean of {', '.join(names)}"


def settings_of(prefix: str, task: str, how: Section) -> list[str]:
    """Those that decide a figure; the name of the data of fine-tuned models alone, which are one dataset's.

    Whoever registers for one dataset has no use for a model that was fine-tuned and validated on another, but for the
    pre-trained one that both began from.
    """
    names = [name for name in type(how).model_fields if name != "data" or prefix.startswith("finetune.")]
    return [f"validation.{task}.{name}" for name in names]


def named(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """A task's figures, `prefix` in place of the task's name."""
    return {f"{prefix}.validation.{name.split('.')[-1]}": value for name, value in metrics.items()}
