"""How `blip inspect` tells what it saw: tables and bars on the terminal, or a value for --json."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from blip.data.pairs import SET_ASIDE
from blip.inspection.histogram import Histogram
from blip.spelling import plain

if TYPE_CHECKING:
    from blip.inspection.contents import Inspection, LeftOut

BARS, WIDEST = 10, 24  # lines of a histogram, characters of its longest bar
EXAMPLES = 3  # of a reason
EIGHTHS = " ▏▎▍▌▋▊▉"
STYLE = "cyan"


def show_inspection(seen: Inspection, pictures: list[Path], console: Console) -> None:
    """Print counts, histograms side by side where they fit, and what was left out."""
    console.print(Text(plain(str(seen.dataset.path)), style="bold"))
    for name, told in _lines(seen):
        console.print(Text.assemble(f"  {name:<19}", (plain(told), "bold")))
    console.print()
    varied = {name: histogram for name, histogram in seen.histograms.items() if not histogram.constant}
    console.print(Columns([Padding(_histogram(*named), (0, 2, 1, 2)) for named in varied.items()]))
    if seen.left_out:
        console.print(_left_out(seen.left_out))
    for path in pictures:
        console.print(Text(plain(f"  drawn: {path}")), soft_wrap=True)


def counts(seen: Inspection) -> dict[str, Any]:
    """The figures of a dataset by name; what was left out by reason, and how many samples validation set aside."""
    manifest = seen.dataset.manifest
    sides = seen.histograms["short side"]
    before = manifest.parameters.get(SET_ASIDE)
    validation = {group.reason: group.count for group in seen.left_out if group.by == "validation"}
    others = [group for group in seen.left_out if group.by != "validation"]
    return {
        "samples": manifest.samples,
        "shards": len(manifest.shards),
        "bytes": manifest.bytes,
        "captions": seen.captions,
        "questions": seen.questions,
        "short side": f"{sides.least:.0f} to {sides.greatest:.0f} px" if sides.values else "none",
        "origin": dict(seen.origins.most_common()),
        "left out": {group.reason: group.count for group in others if not group.texts},
        "texts left out": {group.reason: group.count for group in others if group.texts},
        "set aside": seen.set_aside,
        "validation": None if seen.unvalidated else validation,
        **({"validation before": before} if before else {}),
    }


def _lines(seen: Inspection) -> Iterator[tuple[str, str]]:
    """The counts, why there are none of validation, and those quantities of which every sample has the same."""
    unvalidated = {"validation": seen.unvalidated} if seen.unvalidated else {}
    for name, value in (counts(seen) | unvalidated).items():
        if isinstance(value, dict):
            yield name, ", ".join(f"{count:,} {key}" for key, count in value.items()) or "none"
        elif name not in seen.histograms and value is not None:
            yield name, f"{value:,}" if isinstance(value, int) else value
    for name, histogram in seen.histograms.items():
        if histogram.constant:
            yield name, histogram.told


def as_value(seen: Inspection, pictures: list[Path]) -> dict[str, Any]:
    """All of it for a program."""
    return {
        **counts(seen),
        "histograms": {name: _bars(histogram) for name, histogram in seen.histograms.items()},
        "examples": [
            {"by": group.by, "reason": group.reason, "key": entry.key, "detail": entry.detail}
            for group in seen.left_out
            for entry in group.examples
        ],
        "pictures": [str(path) for path in pictures],
    }


def _bars(histogram: Histogram) -> dict[str, Any]:
    some = histogram.values > 0
    return {
        "unit": histogram.unit,
        "least": histogram.least if some else None,
        "greatest": histogram.greatest if some else None,
        "mean": histogram.mean if some else None,
        "bars": [{"label": bar.label, "from": bar.low, "count": bar.count} for bar in histogram.bars(BARS)],
    }


def _histogram(name: str, histogram: Histogram) -> RenderableType:
    bars = histogram.bars(BARS)
    most = max((bar.count for bar in bars), default=1)
    title = Text.assemble((name, "bold"), (f"  {histogram.told}", "dim"))
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", min_width=12)
    table.add_column(min_width=WIDEST, no_wrap=True)
    table.add_column(justify="right", min_width=7)
    table.add_column(justify="right", style="dim", min_width=4)
    for bar in bars:
        share = bar.count / histogram.values
        percent = f"{share:.0%}" if share >= 0.005 or not bar.count else "<1%"
        table.add_row(bar.label, Text(_blocks(bar.count / most), style=STYLE), f"{bar.count:,}", percent)
    return Group(title, table)


def _blocks(share: float) -> str:
    """A bar in eighths of a character; what is there at all is seen."""
    eighths = max(round(share * WIDEST * 8), 1 if share else 0)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def _left_out(groups: list[LeftOut]) -> RenderableType:
    headings = ("reason", "count", "of", "by", "examples")
    table = Table(*headings, title="Left out", title_justify="left", title_style="bold")
    table.columns[1].justify = "right"
    for group in groups:
        examples = Text("\n").join(_examples(group))
        what = "texts" if group.texts else "samples"
        table.add_row(Text(plain(group.reason)), f"{group.count:,}", what, group.by, examples)
    return table


def _examples(group: LeftOut) -> Iterator[Text]:
    for entry in group.examples[:EXAMPLES]:
        yield Text.assemble(plain(entry.key), "  ", (plain(entry.detail), "dim"))
