"""A run says what it came from, as dvc.yaml states it."""

import os
import subprocess
from pathlib import Path
from threading import Timer

import pytest

from blip.config import Settings
from blip.tracking import lineage as lineage_of
from blip.tracking.lineage import digest, lineage, parameters

LOCK = """
schema: '2.0'
stages:
  pretrain:
    cmd: python -m blip stage pretrain
    outs: [{path: models/pretrain, hash: md5, md5: 0a1b.dir, size: 3, nfiles: 1}]
"""


def test_parameters_are_those_the_stage_reads(settings: Settings) -> None:
    names = parameters("finetune@vqa", settings)
    assert names["finetune.vqa.optimiser.lr"] == str(settings.finetune.vqa.optimiser.lr)
    sections = {"seed", "compute", "capfilt", "finetune", "validation"}
    assert {name.split(".")[0] for name in names} == sections
    assert [name for name in names if name.startswith("capfilt.")] == ["capfilt.rounds"]
    assert not any(name.startswith("finetune.captioning") for name in names)


def test_inputs_are_manifests_and_locked_models(settings: Settings, project: Path) -> None:
    manifest = project / "data/datasets/human/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    checked = project / "data/datasets/validated/human.parquet"
    checked.parent.mkdir()
    checked.write_bytes(b"keys")
    (project / "dvc.lock").write_text(LOCK)
    tags = lineage("captioner", settings)
    assert tags["blip.input.data/datasets/human"] == digest(manifest)
    assert tags["blip.input.data/datasets/validated/human.parquet"] == digest(checked)
    assert tags["blip.input.models/pretrain"] == "md5:0a1b.dir"
    assert tags["blip.dvc_lock"] == digest(project / "dvc.lock")


@pytest.mark.parametrize("cut", ["", "stages:\n  pretrain:\n", "outs: [{path", "outs: [{path: models/pre"])
def test_a_lock_that_dvc_is_writing_is_read_once_it_is_whole(
    settings: Settings, project: Path, cut: str
) -> None:
    lock = project / "dvc.lock"
    lock.write_text(LOCK[: LOCK.index(cut) + len(cut)] if cut else "")
    written = Timer(0.2, lock.write_text, [LOCK])
    written.start()
    tags = lineage("captioner", settings)
    written.join()
    assert tags["blip.input.models/pretrain"] == "md5:0a1b.dir"
    assert tags["blip.dvc_lock"] == digest(lock)


def test_a_git_that_takes_too_long_costs_its_tags_and_no_stage(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tree whose state is not known it is not said that it is clean."""
    slow = project / "bin/git"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\nif [ "$1" = rev-parse ]; then echo 4f0c; else exec sleep 600; fi\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(lineage_of, "GIT_SECONDS", 2.0)
    tags = lineage("pretrain", settings)
    assert tags["blip.git_commit"] == "4f0c"
    assert "blip.git_dirty" not in tags


def test_the_commit_the_recipe_and_the_flow_run_are_named(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "params.yaml"], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "flow-7")
    tags = lineage("pretrain", settings.model_copy(update={"recipe": "base-14m"}))
    assert tags["blip.git_commit"] == head
    assert tags["blip.git_dirty"] == "false"
    assert (tags["blip.recipe"], tags["blip.flow_run"]) == ("base-14m", "flow-7")


def test_without_git_or_lock_nothing_is_made_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))
    assert lineage("pretrain", settings) == {}
