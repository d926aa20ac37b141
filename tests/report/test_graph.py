"""The picture shows every stage, within the column of its phase."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from blip.config import load_settings
from blip.config.graph import PHASES, STAGES
from blip.report.graph import COLUMNS, HEIGHT, NODES, WIDTH, Cell, draw, draw_alone

ROOT = Path(__file__).parents[2]


def test_every_stage_and_every_phase_has_its_place() -> None:
    assert set(NODES) == set(STAGES)
    assert list(COLUMNS) == list(PHASES)


def test_the_picture_of_the_readme_is_up_to_date() -> None:
    picture = (ROOT / "docs/pipeline.svg").read_text(encoding="utf-8")
    assert picture == draw_alone(), "python -m blip.report.graph docs/pipeline.svg"


def test_the_picture_says_what_each_fine_tuning_of_pairs_reads() -> None:
    tuned = load_settings(ROOT / "params.yaml").finetune
    assert tuned.captioning is not None and tuned.retrieval is not None
    for name, data in {"captioning": tuned.captioning.data, "retrieval": tuned.retrieval.data}.items():
        read = "kept pairs" if "bootstrapped" in data else "human pairs"
        assert NODES[f"finetune@{name}"].note == read


def test_the_picture_is_well_formed_and_has_colours_for_light_and_dark() -> None:
    picture = draw_alone()
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert "prefers-color-scheme: dark" in picture


def test_nodes_stand_within_their_phase_and_apart() -> None:
    boxes = {name: (node.x, node.row, node.width) for name, node in NODES.items()}
    for name, (x, row, width) in boxes.items():
        column = next(COLUMNS[phase] for phase, stages in PHASES.items() if name in stages)
        assert column.x < x and x + width < column.x + column.width
        for other, (other_x, other_row, other_width) in boxes.items():
            beside = x + width <= other_x or other_x + other_width <= x
            assert name == other or beside or abs(row - other_row) * 52 > 42
    last = max(COLUMNS.values(), key=lambda column: column.x)
    assert last.x + last.width <= WIDTH
    assert HEIGHT > 72 + 5 * 52


def test_a_cell_says_its_note_and_how_it_stands() -> None:
    picture = draw({"pretrain": Cell("2:04 min", "kept"), "vqa & more": Cell("unknown")})
    assert "2:04 min" in picture
    assert 'class="kept"' in picture
    assert "noisy pairs" not in picture


def test_the_module_writes_the_picture(tmp_path: Path) -> None:
    target = tmp_path / "pipeline.svg"
    subprocess.run([sys.executable, "-m", "blip.report.graph", str(target)], check=True, cwd=ROOT)
    assert target.read_text(encoding="utf-8") == draw_alone()
