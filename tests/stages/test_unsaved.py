"""A stage that is ended between its work and DVC's noting of it is not done again."""

import errno
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from blip import stages
from blip.config import Settings, load_settings
from blip.errors import BlipError
from blip.stages import Stage, run_stage, unsaved
from blip.tracking import dvc_lock
from blip.tracking.measured import Measured, from_json
from tests.flows.toy import dvc, git

ROOT = Path(__file__).parents[2]
HOW = Measured(("a digest",), "of data", (("seed", "1"),))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project with one stage, `bake`, which makes a folder and a file of `flour`; run as DVC runs it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("DVC_STAGE", "bake")
    monkeypatch.chdir(tmp_path)
    spec = {"deps": ["flour"], "params": ["seed"], "outs": ["cake"], "plots": [{"heat.csv": {"x": "step"}}]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"bake": spec, "taste": {"deps": ["cake"]}}}))
    Path("flour").mkdir()
    Path("flour/bag").write_text("white")
    return load_settings(ROOT / "params.yaml")


@pytest.fixture
def baked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each time was baked of."""
    times: list[str] = []

    def run(settings: Settings, run: stages.StageRun, variant: str | None) -> dict[str, float]:
        times.append(Path("flour/bag").read_text())
        Path("cake/layers").mkdir(parents=True)
        Path("cake/layers/1").write_text(times[-1])
        Path("heat.csv").write_text("step,loss\n")
        run.measured["weight"] = HOW
        return {"weight": 2.5}

    module = ModuleType("bake")
    module.run = run
    monkeypatch.setitem(sys.modules, "bake", module)
    monkeypatch.setitem(stages.STAGES, "bake", Stage("bake", trains=True))
    return times


def remove_outputs() -> None:
    """As DVC does before it runs the stage."""
    shutil.rmtree("cake")
    Path("heat.csv").unlink()
    shutil.rmtree("metrics", ignore_errors=True)


def test_a_stage_that_was_done_and_not_saved_is_not_done_again(settings: Settings, baked: list[str]) -> None:
    first = run_stage("bake", settings)
    remove_outputs()
    again = run_stage("bake", settings)

    assert (baked, again) == (["white"], first)
    assert Path("cake/layers/1").read_text() == "white" and Path("heat.csv").is_file()
    written = json.loads(Path("metrics/bake.json").read_text())
    assert from_json(written, "bake").measured == {"weight": HOW}


@pytest.mark.parametrize("told", ["tag_weights", "log_metrics"])
def test_one_that_was_killed_before_its_figures_were_told_tells_them_then(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    def killed(*arguments: object) -> None:
        raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(stages.StageRun, told, killed)
        with pytest.raises(SystemExit):
            run_stage("bake", settings)
    remove_outputs()
    figures = run_stage("bake", settings)

    (run,) = MlflowClient().search_runs(["1"], "tags.`blip.stage` = 'bake'")
    assert (baked, run.info.status, run.data.tags["blip.weights"]) == (["white"], "FINISHED", "a digest")
    points = MlflowClient().get_metric_history(run.info.run_id, "weight")
    assert [point.value for point in points] == [figures["weight"]]


def test_the_seconds_of_a_stage_that_was_ended_and_went_on_are_of_both_times(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        time.sleep(0.5)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["bake"], "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_stage("bake", settings)
    assert run_stage("bake", settings)["seconds"] >= 0.5


def new_flour(settings: Settings) -> Settings:
    Path("flour/bag").write_text("brown")
    return settings


def other_seed(settings: Settings) -> Settings:
    return settings.model_copy(update={"seed": 8})


def saved(settings: Settings) -> Settings:
    """DVC has noted the stage, and runs it again as someone forces it."""
    Path("dvc.lock").write_text(
        yaml.safe_dump({"stages": {"bake": {"outs": [{"path": "cake", "md5": "1"}]}}})
    )
    return settings


@pytest.mark.parametrize("change", [new_flour, other_seed, saved])
def test_it_is_done_again_of_something_else_or_once_it_is_saved(
    settings: Settings, baked: list[str], change: Callable[[Settings], Settings]
) -> None:
    run_stage("bake", settings)
    remove_outputs()
    run_stage("bake", change(settings))
    assert len(baked) == 2 and Path("cake/layers/1").read_text() == baked[-1]


def test_what_is_no_change_to_dvc_is_none_here(settings: Settings, baked: list[str]) -> None:
    Path(".dvcignore").write_text("*.sw[a-p]\n__pycache__\n")
    run_stage("bake", settings)
    remove_outputs()
    os.utime("flour/bag", (1, 1))
    Path("flour/.bag.swp").write_text("open in an editor")
    Path("flour/__pycache__").mkdir()
    Path("flour/__pycache__/bag.pyc").write_text("compiled")
    run_stage("bake", settings)
    assert len(baked) == 1 and Path("cake/layers/1").is_file()


def test_of_a_large_file_its_time_of_change_counts(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsaved, "LARGE", 3)
    run_stage("bake", settings)
    remove_outputs()
    os.utime("flour/bag", (1, 1))
    run_stage("bake", settings)
    assert len(baked) == 2


def test_what_was_made_otherwise_is_taken_up_again_once_all_is_what_it_was(
    settings: Settings, baked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_stage("bake", settings)
    remove_outputs()
    run_stage("bake", new_flour(settings))
    said = capsys.readouterr().out
    (aside,) = unsaved.FOLDER.glob("bake.*")
    assert "bake: what it had made, and DVC had not saved, was made of something else: flour. " in said
    assert f"It is in {aside} now, and can be removed; until DVC has saved" in said
    remove_outputs()
    Path("flour/bag").write_text("white")
    run_stage("bake", settings)
    assert baked == ["white", "brown"]
    assert Path("cake/layers/1").read_text() == "white" and not aside.exists()

    unsaved.forget_saved()
    assert len([*unsaved.FOLDER.iterdir()]) == 2
    saved(settings)
    unsaved.forget_saved()
    assert not any(unsaved.FOLDER.iterdir())


def test_of_what_a_stage_made_of_something_else_the_newest_is_kept(
    settings: Settings, baked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    beside = unsaved.FOLDER / "bake@oven.3f9c2a71"
    run_stage("bake", settings)
    shutil.copytree(unsaved.FOLDER / "bake", beside)
    remove_outputs()
    run_stage("bake", new_flour(settings))
    remove_outputs()
    run_stage("bake", other_seed(settings))
    assert "made of something else: its settings" in capsys.readouterr().out
    (aside,) = unsaved.FOLDER.glob("bake.*")
    assert (aside / "0/layers/1").read_text() == "brown" and beside.is_dir()


def test_going_back_to_what_was_made_leaves_what_another_run_has_begun(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bake = sys.modules["bake"].run
    checkpoint, part = Path("runs/bake/step-000005/complete"), Path("work/part")

    def begun(settings: Settings, run: stages.StageRun, variant: str | None) -> dict[str, float]:
        for file in (checkpoint, part):
            file.parent.mkdir(parents=True)
            file.write_text(Path("flour/bag").read_text())
        run.trained.append("bake")
        run.work.append("work")
        return bake(settings, run, variant)

    def stopped(*arguments: Any) -> None:
        begun(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["bake"], "run", begun)
    run_stage("bake", settings)
    assert not checkpoint.exists() and not part.exists()
    remove_outputs()
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["bake"], "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_stage("bake", new_flour(settings))
    remove_outputs()
    Path("flour/bag").write_text("white")
    run_stage("bake", settings)
    assert baked == ["white", "brown"] and Path("cake/layers/1").read_text() == "white"
    assert checkpoint.read_text() == part.read_text() == "brown"


def test_without_dvc_it_is_done_whenever_it_is_called(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_STAGE")
    run_stage("bake", settings)
    remove_outputs()
    run_stage("bake", settings)
    assert len(baked) == 2 and not unsaved.FOLDER.exists()


def test_a_stage_that_starts_takes_away_what_is_saved_and_nothing_else(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage("bake", settings)
    module = ModuleType("taste")
    module.run = lambda settings, run, variant: {}
    monkeypatch.setitem(sys.modules, "taste", module)
    monkeypatch.setitem(stages.STAGES, "taste", Stage("taste"))
    monkeypatch.setenv("DVC_STAGE", "taste")
    run_stage("taste", settings)
    assert (unsaved.FOLDER / "bake").is_dir(), "it ran beside the other, which DVC is storing"
    run_stage("taste", saved(settings))
    assert not any(unsaved.FOLDER.iterdir())


def test_where_files_cannot_be_linked_the_stage_is_done_all_the_same(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*paths: object, **how: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(unsaved.os, "link", refused)
    assert run_stage("bake", settings)["weight"] == 2.5
    assert Path("cake/layers/1").is_file() and not any(unsaved.FOLDER.iterdir())


def test_where_files_cannot_be_linked_to_another_disk_the_checkpoints_stay(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory, bake = Path("/dev/shm"), sys.modules["bake"].run
    if not memory.is_dir() or memory.stat().st_dev == Path.cwd().stat().st_dev:
        pytest.skip("there is one file system here")
    checkpoint = Path("runs/bake/step-000005/complete")

    def trained(settings: Settings, run: stages.StageRun, variant: str | None) -> dict[str, float]:
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        run.trained.append("bake")
        return bake(settings, run, variant)

    monkeypatch.setattr(sys.modules["bake"], "run", trained)
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        Path(".blip").symlink_to(elsewhere)
        run_stage("bake", settings)
    assert checkpoint.is_file()
    assert "So its checkpoints stay in runs/bake; remove them once DVC has saved" in capsys.readouterr().err


def test_a_stage_whose_outputs_dvc_would_refuse_does_no_work(
    settings: Settings, baked: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere, spec = tmp_path_factory.mktemp("disk"), yaml.safe_load(Path("dvc.yaml").read_text())
    spec["stages"]["bake"]["outs"] = ["kitchen/cake"]
    Path("dvc.yaml").write_text(yaml.safe_dump(spec))
    Path("kitchen").symlink_to(elsewhere)
    git(Path(), "init", "--quiet")
    dvc(Path(), "init")
    with pytest.raises(
        BlipError, match=rf"kitchen is a link to {elsewhere}, .*DVC would refuse kitchen/cake"
    ):
        run_stage("bake", settings)
    assert not baked


def test_a_stage_that_dvc_has_under_another_name_keeps_nothing(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its inputs dvc.yaml says nothing here, and in dvc.lock it is called otherwise."""
    monkeypatch.setenv("DVC_STAGE", "cake_of_ours")
    run_stage("bake", settings)
    remove_outputs()
    run_stage("bake", settings)
    assert len(baked) == 2 and not unsaved.FOLDER.exists()


def test_what_cannot_be_put_back_is_made_again(
    settings: Settings, baked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_stage("bake", settings)
    remove_outputs()
    shutil.rmtree(unsaved.FOLDER / "bake/0")
    run_stage("bake", settings)
    assert len(baked) == 2 and Path("cake/layers/1").is_file()
    assert "what bake had made cannot be put back" in capsys.readouterr().err


def test_what_cannot_be_read_is_not_taken_for_nothing(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that fails: to read that file of /proc from its beginning gives EIO."""
    first, note = run_stage("bake", settings), unsaved.FOLDER / "bake/made.json"
    remove_outputs()
    note.rename("sound")
    note.symlink_to("/proc/self/mem")
    monkeypatch.setattr("blip.rereading.PAUSES", (0.0,))
    with pytest.raises(BlipError, match=r"made.json cannot be read: Input/output error. What was made stays"):
        run_stage("bake", settings)
    Path("sound").replace(note)
    assert run_stage("bake", settings) == first and len(baked) == 1


def test_what_cannot_be_put_back_now_stays(
    settings: Settings, baked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_stage("bake", settings)
    remove_outputs()

    def full(*paths: object, **how: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unsaved.os, "link", full)
        with pytest.raises(
            BlipError, match=r"cannot be put back: .*No space .* stays in .blip/unsaved/bake;"
        ):
            run_stage("bake", settings)
    assert run_stage("bake", settings) == first and len(baked) == 1


def test_a_lock_that_dvc_is_writing_is_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = yaml.safe_dump({"stages": {"bake": {"outs": []}}})
    pieces = iter(["", whole[:9], whole, whole])
    Path("dvc.lock").touch()
    monkeypatch.setattr(dvc_lock, "STILL", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda path, **how: next(pieces))
        found = unsaved._saved("bake")
    Path("dvc.lock").write_text(whole)
    assert found == unsaved._saved("bake") != unsaved._saved("other")
