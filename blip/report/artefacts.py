"""What the stages left behind, read once: figures, curves, examples. What is not there is left out, never an error.

found = read_artefacts(Path("."))
found.figures["retrieval.i2t_r1"], found.curves["pretrain"]["itc"], found.examples["vqa"].shown
"""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blip.config.dvc_yaml import is_taken_out
from blip.config.graph import STAGES
from blip.config.places import CURVES, EVALUATED, METRICS
from blip.config.rounds import of_last_round
from blip.errors import BlipError

TASKS = [name.partition("@")[2] for name in STAGES if name.startswith("evaluate@")]

Curve = Mapping[str, list[float]]  # column -> values; NaN where a run has no such loss


@dataclass(frozen=True)
class Examples:
    """The examples of one task: how they were drawn, and their sections.

    Attributes:
        folder: where the pictures that the examples name lie.
        selection: `seed`, `right`, `wrong` (of those drawn), `right_of_all`, `of`.
    """

    folder: Path
    selection: Mapping[str, int]
    shown: list[dict[str, Any]]
    text_to_image: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Artefacts:
    """Everything read.

    Attributes:
        stages: the figures of each stage that has run, by its name in dvc.yaml.
        curves: the losses of each training run, by stage.
        examples: by task.
        left_out: the stages that the settings leave out, which write no figure, not even their seconds, and those that
            were taken out of dvc.yaml.
    """

    stages: dict[str, dict[str, float]]
    curves: dict[str, Curve]
    examples: dict[str, Examples]
    left_out: frozenset[str] = frozenset()

    @property
    def figures(self) -> dict[str, float]:
        """All figures by name, without the stages' seconds; those of CapFilt are of its last round."""
        return of_last_round(
            {
                name: value
                for figures in self.stages.values()
                for name, value in figures.items()
                if name != "seconds"
            }
        )

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took when it last ran."""
        return {stage: figures["seconds"] for stage, figures in self.stages.items() if "seconds" in figures}


def read_artefacts(root: Path) -> Artefacts:
    """Read metrics/ and reports/evaluate/ of a project folder.

    Raises:
        BlipError: a file is there but is not what its stage writes.
    """
    files = {stage: stage.replace("@", "_") for stage in STAGES}
    metrics = {stage: root / METRICS / f"{file}.json" for stage, file in files.items()}
    curves = {stage: root / CURVES / f"{file}.csv" for stage, file in files.items()}
    folders = {task: root / EVALUATED / task for task in TASKS}
    figures = {stage: _read_figures(path) for stage, path in metrics.items() if path.is_file()}
    return Artefacts(
        stages={stage: found for stage, found in figures.items() if found},
        curves={stage: _read_curve(path) for stage, path in curves.items() if path.is_file()},
        examples={
            task: _read_examples(folder)
            for task, folder in folders.items()
            if (folder / "examples.json").is_file()
        },
        left_out=frozenset(stage for stage in STAGES if figures.get(stage) == {} or is_taken_out(stage)),
    )


def _read_figures(path: Path) -> dict[str, float]:
    values = _read_json(path)
    values.pop("measured", None)  # how they were, which is for the gate
    try:
        return {name: float(value) for name, value in values.items()}
    except (TypeError, ValueError):
        raise BlipError(f"{path}: not a flat JSON object of numbers; run its stage again") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BlipError(f"{path}: not JSON ({error}); run its stage again with `dvc repro --force`") from None
    if not isinstance(value, dict):
        raise BlipError(f"{path}: a JSON object is wanted, this is a {type(value).__name__}")
    return value


def _read_curve(path: Path) -> Curve:
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    try:
        columns = rows[0] if rows else {}
        return {name: [float(row[name]) if row[name] else math.nan for row in rows] for name in columns}
    except (TypeError, ValueError) as error:
        raise BlipError(f"{path}: not a table of numbers ({error}); run its stage again") from None


def _read_examples(folder: Path) -> Examples:
    value = _read_json(folder / "examples.json")
    return Examples(
        folder,
        value.get("selection", {}),
        value.get("examples", []),
        value.get("text_to_image", []),
    )
