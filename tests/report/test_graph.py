"""The picture shows the pipeline that dvc.yaml states."""

import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from blip.report.graph import EDGES, HEIGHT, NODES, PHASES, WIDTH, Cell, draw, draw_alone

ROOT = Path(__file__).parents[2]


def test_nodes_are_the_stages_of_dvc_yaml() -> None:
    assert set(NODES) == set(stages())


def test_edges_are_those_of_dvc_yaml_that_no_others_imply() -> None:
    direct = dependencies()
    implied = {
        (parent, stage)
        for stage, parents in direct.items()
        for parent in parents
        if any(parent in ancestors(direct, other) for other in parents if other != parent)
    }
    every = {(parent, stage) for stage, parents in direct.items() for parent in parents}
    assert set(EDGES) == every - implied


def test_the_picture_of_the_readme_is_up_to_date() -> None:
    picture = (ROOT / "docs/pipeline.svg").read_text(encoding="utf-8")
    assert picture == draw_alone(), "python -m blip.report.graph docs/pipeline.svg"


def test_the_picture_is_well_formed_and_has_colours_for_light_and_dark() -> None:
    picture = draw_alone()
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert "prefers-color-scheme: dark" in picture


def test_nodes_stand_within_their_phase_and_apart() -> None:
    boxes = {name: (node.x, node.row, node.width) for name, node in NODES.items()}
    for name, (x, row, width) in boxes.items():
        phase = PHASES[NODES[name].phase]
        assert phase.x < x and x + width < phase.x + phase.width
        for other, (other_x, other_row, other_width) in boxes.items():
            beside = x + width <= other_x or other_x + other_width <= x
            assert name == other or beside or abs(row - other_row) * 52 > 42
    last = max(PHASES.values(), key=lambda phase: phase.x)
    assert last.x + last.width <= WIDTH
    assert HEIGHT > 72 + 5 * 52


def test_a_cell_says_its_note_and_how_it_stands() -> None:
    picture = draw({"pretrain": Cell("2:04 min", "kept"), "vqa & more": Cell("unknown")})
    assert "2:04 min" in picture
    assert 'class="kept"' in picture
    assert "noisy pairs" not in picture


def stages() -> dict[str, dict[str, Any]]:
    """Stages of dvc.yaml with their deps and outs, `foreach` unrolled; not that which notes the settings."""
    unrolled = {}
    for name, spec in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        if name == "settings":
            continue
        if "foreach" not in spec:
            unrolled[name] = spec
            continue
        for key, item in spec["foreach"].items():
            text = yaml.safe_dump(spec["do"]).replace("${key}", key)
            for part, value in item.items():
                text = text.replace("${item." + part + "}", value)
            unrolled[f"{name}@{key}"] = yaml.safe_load(text)
    return unrolled


def dependencies() -> dict[str, set[str]]:
    """Each stage with those whose outputs it reads."""
    made = {}
    for name, spec in stages().items():
        for out in [*spec.get("outs", []), *spec.get("metrics", []), *spec.get("plots", [])]:
            made[out if isinstance(out, str) else next(iter(out))] = name

    def makers(dep: str) -> set[str]:
        return {
            name
            for out, name in made.items()
            if f"{out}/".startswith(f"{dep}/") or f"{dep}/".startswith(f"{out}/")
        }

    return {
        name: set().union(*(makers(dep) for dep in spec.get("deps", []))) for name, spec in stages().items()
    }


def ancestors(direct: dict[str, set[str]], stage: str) -> set[str]:
    return direct[stage].union(*(ancestors(direct, parent) for parent in direct[stage]))


def test_the_module_writes_the_picture(tmp_path: Path) -> None:
    target = tmp_path / "pipeline.svg"
    subprocess.run(
        [str(ROOT / ".venv/bin/python"), "-m", "blip.report.graph", str(target)], check=True, cwd=ROOT
    )
    assert target.read_text(encoding="utf-8") == draw_alone()
