"""Data Docs: a page a dataset and an index, as plain HTML that opens from a file, without network or script.

The tables of expectations are those of Great Expectations' own renderers. Its page around them loads styles,
scripts and pictures from six hosts and is empty without them, so the page around them is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from blip.atomic import atomic_path
from blip.validation.findings import Finding

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult


@dataclass(frozen=True)
class Page:
    """What the page of a dataset shows."""

    name: str
    kind: str
    samples: int
    excluded: int
    problems: Sequence[str]
    findings: Sequence[Finding]
    result: ExpectationSuiteValidationResult

    @property
    def outcome(self) -> str:
        """failed, warnings or passed."""
        if self.problems:
            return "failed"
        return "passed" if all(finding.passed for finding in self.findings) else "warnings"

    @property
    def broken(self) -> list[Finding]:
        """The rules of which there are samples to show."""
        return [finding for finding in self.findings if finding.examples]


def write_pages(directory: Path, pages: Sequence[Page]) -> None:
    """Write index.html and NAME.html for every dataset; the folder appears as a whole."""
    templates = Environment(loader=PackageLoader("blip.validation"), autoescape=True, trim_blocks=True)
    with atomic_path(directory) as folder:
        folder.mkdir()
        index = templates.get_template("index.html").render(pages=pages)
        (folder / "index.html").write_text(index, encoding="utf-8")
        for page in pages:
            text = templates.get_template("dataset.html").render(page=page, sections=_sections(page.result))
            (folder / f"{page.name}.html").write_text(text, encoding="utf-8")


def _sections(result: ExpectationSuiteValidationResult) -> list[Markup]:
    """The tables of a validation result, one for the whole dataset and one a column.

    The overview is left out: it holds the time of day.
    """
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaSectionView

    document: dict[str, Any] = ValidationResultsPageRenderer().render(result).to_json_dict()
    view = DefaultJinjaSectionView()
    return [
        Markup(view.render({"section": section, "section_loop": {"index": number}}))
        for number, section in enumerate(document["sections"])
        if section.get("section_name") != "Overview"
    ]
