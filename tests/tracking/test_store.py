"""The store says why it cannot be opened, and no password."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from blip.errors import BlipError
from blip.tracking import store
from flows.servers import prefect_server
from tests.accounts import as_nobody

ROOT = Path(__file__).parents[2]


def test_a_store_that_does_not_answer_is_named_without_its_password(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:S3cret@127.0.0.1:1")

    with pytest.raises(BlipError) as caught:
        store.client()

    assert "the MLflow store http://***@127.0.0.1:1 cannot be opened: API request to" in str(caught.value)
    assert "S3cret" not in str(caught.value)


def test_of_a_database_of_another_mlflow_it_is_said_how_it_is_brought_up_to_date(project: Path) -> None:
    opened = "from blip.tracking import store; store.client()"
    subprocess.run([sys.executable, "-c", opened], check=True)
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '1bd49d398cd2'")

    said = subprocess.run([sys.executable, "-c", opened], capture_output=True, text=True, check=False).stderr
    place = f"sqlite:///{project.resolve()}/mlflow.db"
    assert f"the MLflow store {place} cannot be opened: Detected out-of-date database schema (found" in said
    assert f"make a copy of the database, then run `mlflow db upgrade {place}`. If an MLflow newer" in said
    assert "MLFLOW_TRACKING_URI" not in said.splitlines()[-1]


SMALL = """
mkdir small && mount -t tmpfs -o size=2m tmpfs small && cp mlflow.db small && cd small
test -z "$FULL" || cat /dev/zero > filler 2> /dev/null
"$@"
"""
FILLS = """
import subprocess
from blip.tracking import store
client = store.client()
run = client.create_run(store.experiment(client, "blip")).info.run_id
subprocess.run("cat /dev/zero > filler", shell=True, stderr=subprocess.DEVNULL)
try:
    for number in range(1000):
        client.log_param(run, f"parameter{number}", "text" * 100)
except Exception as error:
    print(store.first_line(error))
"""


def on_small_disk(code: str, full: str = "") -> "subprocess.CompletedProcess[str]":
    """Run code beside a copy of the store on a disk of 2 MiB, if need be a full one."""
    command = ["unshare", "-rm", "bash", "-c", SMALL, "bash", sys.executable, "-c", code]
    environment = os.environ | {"FULL": full, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


has_mounts = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
    reason="no mount namespaces here",
)


@has_mounts
def test_a_store_that_no_disk_space_is_left_for_is_not_said_to_want_a_server(project: Path) -> None:
    code = "from blip.tracking import store; from blip.errors import exit_code_of; exit_code_of(store.client)"
    said = on_small_disk(code, full="yes").stderr
    place = project.resolve() / "small"
    assert (
        f"mlflow.db cannot be opened: no space left on the device (writing {place / 'mlflow.db'}; 0 MiB"
        in said
    )
    assert "free some space" in said and "MLFLOW_TRACKING_URI" not in said


@has_mounts
def test_what_a_store_does_not_take_is_raised_and_not_printed_besides(project: Path) -> None:
    ended = on_small_disk(FILLS)
    assert (ended.stdout, ended.stderr) == ("(sqlite3.OperationalError) database or disk is full\n", "")


@pytest.mark.parametrize("before", ["delete", "wal"])
@pytest.mark.parametrize(("kind", "mode"), [("", "wal"), ("nfs4", "delete")])
def test_only_on_a_disk_of_its_own_has_the_store_a_write_ahead_log(
    project: Path, monkeypatch: pytest.MonkeyPatch, before: str, kind: str, mode: str
) -> None:
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute(f"PRAGMA journal_mode={before}")
    monkeypatch.setattr(store, "network_file_system", lambda path: kind)
    store.client()
    with closing(sqlite3.connect("mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == (mode,)


def test_locks_and_downloads_are_in_the_cache_of_whom_the_project_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/tmp/mine")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.chdir(folder)
        Path("dvc.yaml").touch()
        own = store.state()
        Path(folder).chmod(0o555)
        with as_nobody():
            another = store.state()
    assert own == Path(folder).resolve() / ".blip"
    assert another.parent == Path("/var/tmp/mine/blip")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders of several accounts")
@pytest.mark.parametrize(
    ("closed", "message"), [(True, "cannot be opened"), (False, "may not write .*mlflow.db, which")]
)
def test_a_database_that_this_account_may_not_open_or_write_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool, message: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "mlflow.db")
        Path(folder).chmod(0o700 if closed else 0o755)
        monkeypatch.chdir("/var/tmp")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        store.client()  # as root, who may read Python's files
        monkeypatch.setenv("XDG_CACHE_HOME", f"/var/tmp/{Path(folder).name}")
        store._client.cache_clear()
        with as_nobody(), pytest.raises(BlipError, match=message):
            store.client()
        shutil.rmtree(os.environ["XDG_CACHE_HOME"])


def test_only_a_project_or_its_own_store_has_a_folder_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert store.state() == tmp_path / ".blip"
    for place in ("http://127.0.0.1:1", f"sqlite:///{tmp_path}/shared.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
        assert store.state().parent == tmp_path / "cache/blip"
    Path("dvc.yaml").touch()
    assert store.state() == tmp_path / ".blip"


@pytest.mark.parametrize("name", ["a%41b", "what?"])
def test_a_folder_whose_database_would_be_another_file_is_refused(tmp_path: Path, monkeypatch, name: str):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(BlipError, match="move the project to a path without it"):
        store.client()
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    with pytest.raises(BlipError, match="move the project to a path without it"):
        prefect_server(4200)
    assert list((tmp_path / name).iterdir()) == []


def test_a_percent_sign_alone_is_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "100% of 5%"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store.client()
    assert (folder / "mlflow.db").is_file(), "the path is read as it is written"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be an account without a name")
def test_an_account_without_a_home_is_told_to_set_one(tmp_path: Path) -> None:
    code = "import os; os.setresuid(54321, 0, 0); from blip.tracking import store; store.client()"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = "blip.errors.BlipError: HOME is not set, and MLflow does not start without it; export HOME=/tmp"
    assert done.stderr.splitlines()[-1] == said
