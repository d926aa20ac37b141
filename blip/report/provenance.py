"""What a pipeline was: when it ran, from which code and data, under whose licences, and what became of its models.

The facts that MLflow and git know are handed in by the stage (`RunFacts`); the rest is read from the settings, the
metrics and the sample's own README, whose licence sections the page repeats.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from blip.config import Settings
from blip.config.graph import STAGES
from blip.report.artefacts import Artefacts
from blip.report.graph import Cell

LICENCE_HEADING = re.compile(r"licen[cs]|attribution", re.IGNORECASE)
SAMPLE_README = Path("data/sample/README.md")
SAMPLE_PARTS = {  # which folders its parts are about
    "## Pictures": ("human", "web", "validation", "test"),
    "## VQA": ("vqa",),
    "## Video": ("video",),
    "## Vision starting weights": ("weights",),
}
LICENCE = re.compile(r"\b(MIT|Apache-2\.0|BSD-\d|CC0|CC-BY[-\w.]*|public domain)\b")


@dataclass(frozen=True)
class Span:
    """When a stage ran in this pipeline, in seconds from its beginning."""

    begin: float
    end: float
    attempts: int = 1


@dataclass(frozen=True)
class RunFacts:
    """What the tracking knows of a pipeline.

    Attributes:
        spans: the stages that ran in it; those of an earlier one, found unchanged, are not among them.
        champions: version that `models:/NAME@champion` opens, by model.
        tags: lineage of the run: blip.git_commit, blip.git_dirty, blip.dvc_lock, blip.flow_run.
    """

    started: datetime
    seconds: float
    spans: Mapping[str, Span] = field(default_factory=dict)
    champions: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""
    experiment_id: str = ""


@dataclass(frozen=True)
class Dataset:
    """A dataset of the pipeline: what the settings say of it and what `ingest` counted."""

    name: str
    source: str
    origin: str
    role: str
    samples: int | None
    quarantined: int
    refused_texts: int
    near_duplicates: int


@dataclass(frozen=True)
class Model:
    """A model that the gate judged. `version` 0: not registered."""

    name: str
    passed: bool | None
    version: int
    champion: int | None
    gates: tuple[tuple[str, float, float | None], ...]  # figure, minimum, value

    @property
    def reaches_gate(self) -> bool:
        """Whether it is in the registry for its own figures, be a champion better or not."""
        return bool(self.passed) or 0 < self.version != self.champion

    @property
    def outcome(self) -> str:
        """What became of it, in words."""
        if self.passed is None:
            return "not judged yet"
        if self.passed:
            other = f"the champion is version {self.champion}" if self.champion else "there is no champion"
            passes = f"passes its gate as version {self.version}, but {other}"
            return f"champion, version {self.version}" if self.champion == self.version else passes
        if self.version and self.version == self.champion:
            return f"below its gate, still champion, version {self.version}"
        if self.version:
            return f"registered as version {self.version}: a champion did better"
        if any(value is None or value < minimum for _, minimum, value in self.gates):
            return "below its gate, not registered"
        return "not registered: measured on other weights or with other settings"


@dataclass(frozen=True)
class Bar:
    """A stage in the chart of times: where its bar begins and how long it is, as shares of the whole."""

    stage: str
    seconds: float | None
    left: float
    width: float
    ran: bool
    attempts: int


def datasets(settings: Settings, found: Artefacts) -> list[Dataset]:
    """The datasets in the order of the settings."""
    figures = found.figures

    def count(name: str, what: str) -> int:
        return int(figures.get(f"ingest.{name}.{what}", 0))

    return [
        Dataset(
            name,
            source.source,
            source.origin,
            source.role,
            count(name, "samples") if f"ingest.{name}.samples" in figures else None,
            count(name, "quarantined"),
            count(name, "refused_texts"),
            count(name, "near_duplicates"),
        )
        for name, source in settings.ingest.datasets.items()
    ]


def models(settings: Settings, found: Artefacts, facts: RunFacts) -> list[Model]:
    """Every model that the gate names, with its figures."""
    figures = found.figures
    judged = []
    for name, minimums in settings.gate.items():
        passed = figures.get(f"register.{name}.passed")
        gates = tuple((figure, low, figures.get(figure)) for figure, low in minimums.items())
        version = int(figures.get(f"register.{name}.version", 0))
        champion = facts.champions.get(name)
        judged.append(Model(name, None if passed is None else passed > 0, version, champion, gates))
    return judged


def times(found: Artefacts, facts: RunFacts) -> list[Bar]:
    """A bar for each stage; one that did not run in this pipeline has the seconds of when it did, and no bar."""
    whole = max([facts.seconds, *(span.end for span in facts.spans.values()), 1e-9])
    bars = []
    for stage in STAGES:
        span = facts.spans.get(stage)
        seconds = found.seconds.get(stage)
        if span:
            left, width = span.begin / whole, (span.end - span.begin) / whole
            spent = seconds if seconds is not None else span.end - span.begin
            bars.append(Bar(stage, spent, left, width, True, span.attempts))
        else:
            bars.append(Bar(stage, seconds, 0.0, 0.0, False, 1))
    return bars


def cells(found: Artefacts, facts: RunFacts) -> dict[str, Cell]:
    """What each node of the graph says: its seconds, and whether it ran in this pipeline, before, or never."""
    nodes = {}
    for bar in times(found, facts):
        if bar.stage == "report":
            nodes[bar.stage] = Cell("this page")
        elif bar.stage in found.left_out:
            nodes[bar.stage] = Cell("left out", "missing")
        elif bar.seconds is None:
            nodes[bar.stage] = Cell("has not run", "missing")
        else:
            nodes[bar.stage] = Cell(duration(bar.seconds), "ran" if bar.ran else "kept")
    return nodes


def duration(seconds: float) -> str:
    """Seconds as a person says them: `8 s`, `3:05 min`, `2:10 h`."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 100 else f"{minutes // 60}:{minutes % 60:02d} h"


def licence_notes(settings: Settings) -> list[tuple[str, str, list[str]]]:
    """The sections on sources and licences of the READMEs beside what was read, as (README, HTML, what was read).

    A README counts for everything below its folder; the nearest one is taken. Of the sample's the parts are left out of
    which nothing was read. Raw HTML in it is shown as text.
    """
    notes = []
    read = {place: _nearest_readme(place) for place in _places(settings)}
    for readme in sorted({path for path in read.values() if path}):
        below = [place for place, path in read.items() if path == readme]
        if html := _licence_sections(readme, below):
            notes.append((str(readme), html, list(map(str, below))))
    return notes


def without_readme(settings: Settings) -> list[str]:
    """What was read and has no README beside it."""
    return [str(place) for place in _places(settings) if not _nearest_readme(place)]


def _places(settings: Settings) -> list[Path]:
    """The sources of the datasets, and the starting weights."""
    places = [source.source for source in settings.ingest.datasets.values()]
    return [Path(place) for place in dict.fromkeys([*places, settings.model.start or ""]) if place]


def _nearest_readme(source: Path) -> Path | None:
    if source.is_absolute() or "://" in str(source):
        return None
    for folder in (source, *source.parents):
        if folder != Path() and (folder / "README.md").is_file():
            return folder / "README.md"
    return None


def _licence_sections(readme: Path, read: list[Path]) -> str:
    """The sections headed licence or attribution, and of the others what names a licence, with their headings."""
    from markdown_it import MarkdownIt

    kept: list[str] = []
    heading, whole = "", False
    for part in re.split(r"^(?=## )", readme.read_text(encoding="utf-8"), flags=re.MULTILINE):
        if not _is_read(part, readme, read):
            continue
        for block in re.split(r"\n\s*\n", part):
            if block.startswith("#"):
                heading, whole = re.sub(r"^#+", "####", block.strip()), bool(LICENCE_HEADING.search(block))
            elif whole or LICENCE.search(block):
                kept += [heading, block] if heading else [block]
                heading = ""
    return MarkdownIt("commonmark", {"html": False}).enable("table").render("\n\n".join(kept))


def _is_read(part: str, readme: Path, read: list[Path]) -> bool:
    """Whether a part of a README is about something that was read; only of the sample's can it be told."""
    folders = SAMPLE_PARTS.get(part.partition("\n")[0]) if readme == SAMPLE_README else None
    return not folders or any(
        place.is_relative_to(readme.parent / name) for name in folders for place in read
    )
