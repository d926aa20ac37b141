"""`make clean` leaves what git tracks and what one set up."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
MADE = ("data/datasets", "models", "metrics", "reports", "runs", ".blip", ".dvc/cache")
KEPT = ("data/sample", "infra", ".venv")


def test_the_list_of_targets_and_the_readme_name_the_folders_that_clean_removes() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (clean,) = [line for line in told.splitlines() if line.startswith("  make clean ")]
    folders = [name for name in MADE if not name.startswith(".")]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(name in clean and f"`{name}`" in readme for name in folders)


def test_clean_removes_all_that_runs_made(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    made = (*MADE, "dvc_plots")  # by `dvc plots diff`
    for name in (*made, *KEPT):
        (tmp_path / name).mkdir(parents=True)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert not [name for name in made if (tmp_path / name).exists()]
    assert all((tmp_path / name).is_dir() for name in KEPT)
