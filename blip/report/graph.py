"""The pipeline as a picture: the stages of dvc.yaml by phase, laid out by hand.

    python -m blip.report.graph docs/pipeline.svg       # the picture of the README
    draw({"pretrain": Cell("2:04 min", "ran")})         # for the report's page, in the page's colours

The stages and edges are those of blip.config.graph; a test holds the picture in docs/ against this file.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from blip.atomic import write_text
from blip.config.graph import PHASES, STAGES

WIDTH, HEIGHT = 1102, 372
TOP, ROW = 72, 52  # centre of row 0, distance of rows
NODE_HEIGHT, LINE = 42, 16


@dataclass(frozen=True)
class Column:
    """A phase of the picture."""

    title: str
    x: int
    width: int


@dataclass(frozen=True)
class Node:
    """A stage: its place and what it does in a word or two."""

    x: int
    row: float
    width: int
    label: str
    note: str


@dataclass(frozen=True)
class Cell:
    """What a node says below its name, and how it looks: `ran`, `kept` (from an earlier run) or `missing`."""

    note: str
    look: str = "ran"


COLUMNS = {
    "data": Column("Data", 0, 122),
    "pretraining": Column("Pre-training", 144, 132),
    "capfilt": Column("CapFilt", 298, 350),
    "finetuning": Column("Fine-tuning", 670, 122),
    "evaluation": Column("Evaluation", 820, 138),
    "release": Column("Release", 986, 116),
}

NODES = {
    "ingest": Node(9, 1.25, 104, "ingest", "sources to pairs"),
    "validate": Node(9, 2.5, 104, "validate", "quality gate"),
    "pretrain": Node(153, 2.5, 114, "pretrain", "noisy pairs"),
    "captioner": Node(307, 1.5, 88, "captioner", "writes texts"),
    "filter": Node(307, 3.5, 88, "filter", "judges texts"),
    "capfilt": Node(417, 2.5, 84, "capfilt", "keeps, drops"),
    "pretrain_bootstrapped": Node(523, 1.5, 116, "pretrain_\nbootstrapped", "from the start"),
    "rounds": Node(523, 3.0, 116, "rounds", "again, if asked"),
    "finetune@captioning": Node(679, 1.0, 104, "captioning", "human pairs"),
    "finetune@vqa": Node(679, 2.1, 104, "vqa", "questions"),
    "finetune@retrieval": Node(679, 3.5, 104, "retrieval", "kept pairs"),
    "evaluate@captioning": Node(829, 0, 120, "captioning", "CIDEr, exact"),
    "evaluate@vqa": Node(829, 1, 120, "vqa", "official accuracy"),
    "evaluate@retrieval": Node(829, 2, 120, "retrieval", "recall, re-ranked"),
    "compare": Node(829, 3, 120, "compare", "CapFilt or not"),
    "evaluate@classification": Node(829, 4, 120, "classification", "zero-shot"),
    "evaluate@video": Node(829, 5, 120, "video", "zero-shot"),
    "register": Node(993, 2.0, 102, "register", "gate, champion"),
    "report": Node(993, 4.5, 102, "report", "one page"),
}

EDGES = tuple((start, end) for end in NODES for start in NODES if start in STAGES[end])

# The colours of the page (templates/style.css), for the picture that stands alone.
COLOURS = """
  svg { --paper: #f7f9f9; --band: #ebeff0; --card: #ffffff;
        --ink: #172026; --soft: #55626b; --line: #d5dcdf; --wire: #82919a }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #101518; --band: #1a2329; --card: #20292f;
          --ink: #e4eaec; --soft: #9fadb5; --line: #303c43; --wire: #71818b }
  }"""
STYLE = """
  .g text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; text-anchor: middle;
            fill: var(--ink) }
  .g .phase { fill: var(--band) }
  .g .title { font-size: 13px; fill: var(--soft) }
  .g .node { fill: var(--card); stroke: var(--wire) }
  .g .name { font-size: 14px; font-weight: 600 }
  .g .note { font-size: 11.5px; fill: var(--soft) }
  .g .edge { fill: none; stroke: var(--wire); stroke-width: 1.3 }
  .head { fill: var(--wire) }
  .g .kept .node { stroke-dasharray: 4 3 }
  .g .missing .node { fill: none; stroke: var(--line) }
  .g .missing .name { fill: var(--soft); font-weight: 400 }"""


def draw(cells: Mapping[str, Cell]) -> str:
    """The picture as an SVG element for an HTML page that defines the colours."""
    return _svg(cells, STYLE, "")


def draw_alone() -> str:
    """The picture as an SVG file with its own colours, light and dark, and ground."""
    ground = f'<rect width="{WIDTH + 32}" height="{HEIGHT + 24}" x="-16" y="-8" rx="10" fill="var(--paper)"/>'
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _svg({}, COLOURS + STYLE, ground) + "\n"


def _svg(cells: Mapping[str, Cell], style: str, ground: str) -> str:
    margin = 16 if ground else 0
    box = f"{-margin} {-margin // 2} {WIDTH + 2 * margin} {HEIGHT + 3 * margin // 2}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-labelledby="graph-title">',
        f'<title id="graph-title">The pipeline: {escape(_in_words())}</title>',
        f"<style>{style}\n</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="head" d="M0 .8 8 4 0 7.2z"/></marker></defs>',
        ground,
        '<g class="g">',
        *(_column(column) for column in COLUMNS.values()),
        *(_edge(NODES[start], NODES[end]) for start, end in EDGES),
        *(_node(node, cells.get(name)) for name, node in NODES.items()),
        "</g></svg>",
    ]
    return "\n".join(part for part in parts if part)


def _in_words() -> str:
    names = {name: [node for node in NODES if node in stages] for name, stages in PHASES.items()}
    return "; ".join(f"{column.title}: {', '.join(names[name])}" for name, column in COLUMNS.items())


def _column(column: Column) -> str:
    middle = column.x + column.width / 2
    return (
        f'<rect class="phase" x="{column.x + 0.5}" y="28.5" width="{column.width - 1}" height="{HEIGHT - 36}" '
        f'rx="9"/><text class="title" x="{middle:g}" y="17">{column.title}</text>'
    )


def _height(node: Node) -> int:
    return NODE_HEIGHT + LINE * node.label.count("\n")


def _centre(node: Node) -> float:
    return TOP + ROW * node.row


def _node(node: Node, cell: Cell | None) -> str:
    height, middle = _height(node), node.x + node.width / 2
    top = _centre(node) - height / 2
    lines = node.label.split("\n")
    names = "".join(
        f'<text class="name" x="{middle:g}" y="{top + 18 + LINE * number:g}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    note = escape(cell.note if cell else node.note)
    return (
        f'<g class="{cell.look if cell else "ran"}">'
        f'<rect class="node" x="{node.x}" y="{top:g}" width="{node.width}" height="{height}" rx="6"/>{names}'
        f'<text class="note" x="{middle:g}" y="{top + height - 8:g}">{note}</text></g>'
    )


def _edge(start: Node, end: Node) -> str:
    """Between columns from right to left side; within one, from bottom to top."""
    if start.x == end.x:
        x, from_y, to_y = start.x + start.width / 2, _centre(start), _centre(end)
        path = f"M{x:g} {from_y + _height(start) / 2:g}V{to_y - _height(end) / 2 - 1:g}"
    else:
        x, y, to_x, to_y = start.x + start.width, _centre(start), end.x - 1, _centre(end)
        bend = (to_x - x) * 0.6
        path = f"M{x} {y:g}C{x + bend:g} {y:g} {to_x - bend:g} {to_y:g} {to_x} {to_y:g}"
    return f'<path class="edge" d="{path}" marker-end="url(#head)"/>'


if __name__ == "__main__":
    write_text(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pipeline.svg"), draw_alone())
