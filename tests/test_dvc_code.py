"""dvc.yaml names the code that a stage runs: found by following the imports of its module."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from dvc.repo import Repo

from blip.atomic import _beside
from blip.config.dvc_yaml import stage_spec
from blip.stages import STAGES

ROOT = Path(__file__).parents[1]
FOLLOWED = (
    "blip/config/rounds.py",
    "blip/ingest",
    "blip/validation",
    "blip/data",
    "blip/model",
    "blip/training",
    "blip/capfilt",
    "blip/tasks",
    "blip/clip.py",
    "blip/inspection",
)
STAGES_CODE, RUNNER = "blip/stages", "blip/stages/__init__.py"
COMPUTE_NOTHING = ("register", "report")  # of what these import, names of folders and stages
TRAINING = [name for name, stage in STAGES.items() if stage.trains and not stage.by_hand]
OF_OTHERS = {  # in folders that every training stage names, and run by none
    "blip/data/quarantine.py": "ingest writes what it left out beside the dataset, in a format of blip.data",
    "blip/model/two_images.py": "reads models of NLVR2, whose training is started by hand",
    "blip/training/launch/finding.py": "the runner finds with it where a stage has its ranks",
    "blip/training/launch/follow.py": "the runner's other nodes follow with it",
    "blip/training/launch/kubernetes.py": "one of the places that the runner finds",
    "blip/training/launch/slurm.py": "another of them",
}
COMPUTING = [name for name, stage in STAGES.items() if not stage.by_hand and name not in COMPUTE_NOTHING]


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("stage", COMPUTING)
def test_a_stage_depends_on_all_code_that_it_runs(stage: str) -> None:
    named = code_of(stage)
    missing = [file for file in run_by(stage) if not any(f"{file}/".startswith(f"{dep}/") for dep in named)]
    assert missing == []


@pytest.mark.parametrize("stage", COMPUTING)
def test_a_stage_depends_on_no_code_that_it_does_not_run(stage: str) -> None:
    run = run_by(stage)
    assert [dep for dep in code_of(stage) if not any(f"{file}/".startswith(f"{dep}/") for file in run)] == []


def test_what_no_training_runs_is_in_no_folder_that_all_of_them_name() -> None:
    """An edit there would train every model anew."""
    folders = set.intersection(*(set(code_of(stage)) for stage in TRAINING))
    files = {str(file) for folder in folders for file in Path(folder).rglob("*.py") if has_code(str(file))}
    assert files - set().union(*map(run_by, TRAINING)) == OF_OTHERS.keys()


def code_of(stage: str) -> list[str]:
    return [dep for dep in stage_spec(stage)["deps"] if dep.startswith("blip/")]


def run_by(stage: str) -> set[str]:
    """The files of a stage that decide its result, relative to the project."""
    first = [STAGES[stage].module.replace(".", "/") + ".py"]
    if stage in ("capfilt", "rounds"):
        first.append("blip/stages/capfilt_rank.py")
    if STAGES[stage].trains:
        first.append("blip/stages/rank.py")
    if stage.startswith("finetune@"):
        first.append(f"blip/stages/scores/{stage.partition('@')[2]}.py")
    return closure(first)


def closure(files: list[str]) -> set[str]:
    found: set[str] = set()
    while files:
        file = files.pop()
        if file not in found:
            found.add(file)
            files += imported(file)
    return {file for file in found if has_code(file)}


@cache
def imported(file: str) -> list[str]:
    """The followed files that a file imports."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    found = [path for module in imports(tree) if (path := path_of(module))]
    return [path for path in found if path.startswith((*FOLLOWED, STAGES_CODE)) and path != RUNNER]


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules, and what may be one, wherever they are imported, but for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node)


def path_of(module: str) -> str | None:
    """The file of a module of the project; None of anything else."""
    path = Path(*module.split("."))
    return next(
        (str(file) for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None
    )


@cache
def has_code(file: str) -> bool:
    """Whether there is more in a file than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(Path(file).read_text("utf-8")).body)


@pytest.mark.parametrize(
    "left",
    [".blip.py.swp", "blip.py~", ".#blip.py", "#blip.py#", "blip.py.orig", "blip.py.rej", ".idea/x.xml"],
)
def test_what_an_editor_leaves_beside_a_source_is_none(left: str) -> None:
    ignored = Repo(str(ROOT)).dvcignore
    assert ignored.is_ignored_file(str(ROOT / "blip/model" / left))
    assert not ignored.is_ignored_file(str(ROOT / "blip/model/blip.py"))


def test_what_a_killed_process_left_beside_a_model_is_no_part_of_the_models() -> None:
    ignored = Repo(str(ROOT)).dvcignore
    left = _beside(ROOT / "models/pretrain", "")
    assert ignored.is_ignored_dir(str(left)) and ignored.is_ignored_file(str(left))
    assert not ignored.is_ignored_dir(str(ROOT / "models/pretrain"))
