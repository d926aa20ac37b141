"""What stands in the way of DVC in a project's folder."""

import shutil
from pathlib import Path

import pytest

from blip.doctor.finding import found_of
from blip.doctor.machine import _dvc
from blip.errors import BlipError
from flows.project import changed_stages
from tests.flows.toy import ROOT, dvc, git


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a repository of git and of DVC, and the stages."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    git(root, "init", "--quiet")
    dvc(root, "init")
    monkeypatch.chdir(root)
    return root


def test_outputs_behind_a_link_out_of_the_repository_are_said(project: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "captioner").mkdir(parents=True)
    (project / "within").mkdir()
    (project / "data/datasets").symlink_to(project / "within")
    (project / "models").mkdir()
    (project / "models/captioner").symlink_to(disk / "captioner")
    assert found_of("dvc", _dvc).state == "good"

    (project / "models/captioner").unlink()
    (project / "models").rmdir()
    (project / "models").symlink_to(disk)
    finding = found_of("dvc", _dvc)
    assert finding.state == "bad"
    assert (
        f"models is a link to {disk}, outside the git repository {project}: DVC would refuse models/"
        in finding.text
    )
    assert "put the whole clone on that disk" in finding.text


def test_unpacked_sources_want_a_git_repository(project: Path) -> None:
    shutil.rmtree(project / ".git")
    finding = found_of("dvc", _dvc)
    assert finding.state == "bad"
    assert finding.text == (
        f"{project} is not a git repository, and DVC does not start without one; run `git init` here"
    )
    with pytest.raises(BlipError, match=r"is not a git repository\nrun `git init` here"):
        changed_stages()

    dvc(project, "config", "core.no_scm", "true")
    assert found_of("dvc", _dvc).state == "good"
