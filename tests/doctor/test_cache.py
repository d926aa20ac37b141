"""DVC stores a dataset a second time where files cannot share blocks, and the doctor counts that."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from blip.config import load_settings
from blip.data.manifest import Manifest, Shard, write_manifest
from blip.doctor.cache import cache, shares_blocks
from blip.doctor.finding import GIB, Finding

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shares_blocks(tmp_path, tmp_path):
        pytest.skip("files share blocks here, so nothing is copied")
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return tmp_path


def write(name: str, size: int) -> None:
    """The manifest of a dataset of one shard, which is all that is read."""
    folder = Path("data/datasets", name)
    folder.mkdir(parents=True)
    write_manifest(Manifest([], {}, [Shard("shards/00000.tar", "0" * 64, 1, size)], {}), folder)


def looked_at() -> Finding:
    return cache(cast(Any, SimpleNamespace(settings=load_settings(ROOT / "params.yaml"))))


def test_datasets_are_copied_and_that_of_capfilt_is_made_and_copied() -> None:
    write("web", 3 << 20)
    write("human", 1 << 20)
    found = looked_at()
    assert found.state == "good"
    assert found.figures == {"copies_gib": (3 + 1 + 3) * 2**20 / GIB, "made_gib": 3 * 2**20 / GIB}
    write("bootstrapped", 2 << 20)
    assert looked_at().figures == {"copies_gib": (3 + 1 + 2) * 2**20 / GIB, "made_gib": 0.0}


def test_too_little_room_is_said_with_what_to_do() -> None:
    write("web", 10**17)
    found = looked_at()
    assert found.state == "bad"
    assert "DVC copies 186,264,514.9 GiB" in found.text and "`cache: false`" in found.text


def test_what_dvc_has_stored_or_does_not_store_takes_no_more() -> None:
    write("web", 10**17)
    write("human", 10**17)
    write("bootstrapped", 10**17)
    stages = yaml.safe_load(Path("dvc.yaml").read_text())
    outs = stages["stages"]["ingest"]["outs"]
    [web] = [out for out in outs if "data/datasets/web" in out]
    web["data/datasets/web"]["cache"] = False
    Path("dvc.yaml").write_text(yaml.safe_dump(stages))
    stored = [{"path": f"data/datasets/{name}", "md5": "0.dir"} for name in ("human", "bootstrapped")]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"some": {"outs": stored}}}))
    assert looked_at().figures == {"copies_gib": 0.0, "made_gib": 0.0}


def test_where_dvc_stores_no_dataset_there_is_room_for_the_copies() -> None:
    write("web", 10**17)
    stages = yaml.safe_load(Path("dvc.yaml").read_text())
    for stage in ("ingest", "capfilt"):
        outs = [{out: {}} if isinstance(out, str) else out for out in stages["stages"][stage]["outs"]]
        stages["stages"][stage]["outs"] = [
            {path: options | {"cache": False} for path, options in out.items()} for out in outs
        ]
    Path("dvc.yaml").write_text(yaml.safe_dump(stages))
    assert looked_at().state == "good"


def test_the_cache_is_looked_for_where_dvc_has_it(project: Path) -> None:
    write("web", 1 << 20)
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text("[core]\n    analytics = false\n[cache]\n    dir = /dev/shm/store\n")
    free = shutil.disk_usage("/dev/shm").free
    assert f"{free / GIB:.1f} GiB free" in looked_at().text
