"""Files of DVC's own that a full disk cut short are named with what helps, and that brings all back."""

from pathlib import Path
from threading import Timer

import pytest

from blip.config.cut_short import LOCK, RWLOCK, files_cut_short
from blip.doctor.finding import found_of
from blip.doctor.machine import _dvc
from blip.errors import BlipError
from flows.project import changed_stages
from tests.flows.toy import dvc, make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of which the first stage is done."""
    root = make_project(tmp_path / "project")
    dvc(root, "repro", "ingest")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("kept", [0, 5])
@pytest.mark.parametrize(
    ("file", "way"), [(RWLOCK, "remove it (rm .dvc/tmp/rwlock)"), (LOCK, "(git checkout dvc.lock)")]
)
def test_it_is_said_and_what_is_said_helps(project: Path, file: Path, way: str, kept: int) -> None:
    assert found_of("dvc", _dvc).state == "good" and "ingest" not in changed_stages()
    file.write_text('{"write": {"a' if file == RWLOCK and kept else file.read_text()[:kept])
    finding = found_of("dvc", _dvc)
    assert finding.state == "bad" and f"{file} was cut short" in finding.text and way in finding.text
    with pytest.raises(BlipError) as raised:
        changed_stages()
    assert "dvc cannot read this project" in str(raised.value) and way in str(raised.value)

    file.unlink()
    assert "Running stage" not in dvc(project, "repro", "ingest"), "it is in the cache"
    assert not files_cut_short() and "ingest" not in changed_stages()


def test_a_file_that_dvc_is_writing_is_not_cut_short(project: Path) -> None:
    lock = project / LOCK
    whole = lock.read_text()
    lock.write_text("")
    Timer(0.2, lock.write_text, [whole]).start()
    assert not files_cut_short()
