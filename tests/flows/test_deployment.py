"""The deployments of infra/prefect.yaml on a real server, run by a real worker: the data phase, to the end."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate

from blip.config import load_settings
from flows.deploy import temporary_folder
from flows.project import stage_environment
from tests.accounts import as_nobody
from tests.flows.toy import ROOT, git

PATIENCE = 900
KEY = "Bearer kept-in-a-profile"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as it stands here, with git and DVC repositories of its own and nothing made yet."""
    root = tmp_path / "clone"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    (root / "dvc.lock").unlink(missing_ok=True)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "as it stands")
    return root


@pytest.fixture
def environment(prefect_api: str, tmp_path: Path) -> dict[str, str]:
    """Of the commands: the test's server, an MLflow store of the clone's own."""
    settings = {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }
    return {**stage_environment(), **settings}


@pytest.fixture
def deployed(clone: Path, environment: dict[str, str]) -> Path:
    """The clone, deployed."""
    deploy(clone, environment)
    return clone


def deploy(clone: Path, environment: dict[str, str]) -> str:
    """Deploy it; what was said besides the result."""
    command = [sys.executable, "-m", "flows.deploy"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def worker(deployed: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """A process worker of the pool; gives its log."""
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "blip", "--name", "test"]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=deployed, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        yield log
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()  # it was once seen to wait for ever, with nothing left to do


def prefect(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefect", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.slow
def test_a_deployed_flow_runs_on_a_worker_with_a_parameter_of_its_own(deployed, environment, worker):
    overrides = json.dumps({"ingest.samples_per_shard": 50})

    ran = prefect(
        environment, "deployment", "run", "data/default", "--param", f"overrides={overrides}", "--watch"
    )

    assert ran.returncode == 0, ran.stdout + worker.read_text()
    assert "Completed" in ran.stdout
    manifest = json.loads((deployed / "data/datasets/human/manifest.json").read_text())
    assert max(shard["samples"] for shard in manifest["shards"]) == 50
    assert (deployed / "data/datasets/validated").is_dir()
    assert (deployed / "metrics/validate.json").is_file()
    assert load_settings(deployed / "params.yaml").ingest.samples_per_shard == 50
    assert load_settings(ROOT / "params.yaml").ingest.samples_per_shard != 50
    locked = yaml.safe_load((deployed / "dvc.lock").read_text())["stages"]
    assert set(locked) == {"settings", "ingest", "validate"}


@pytest.mark.usefixtures("deployed")
def test_every_flow_is_deployed_and_the_schedule_sleeps():
    flows = ("end-to-end", "data", "pretraining", "capfilt", "finetuning", "evaluation", "release")
    with get_client(sync_client=True) as client:
        deployments = {flow: client.read_deployment_by_name(f"{flow}/default") for flow in flows}

    assert {deployment.work_pool_name for deployment in deployments.values()} == {"blip"}
    assert [schedule.active for schedule in deployments["end-to-end"].schedules] == [False]


def test_deploying_again_leaves_the_pool_as_it_was_set_and_writes_the_schedule(deployed, environment):
    paused = WorkPoolUpdate(is_paused=True, concurrency_limit=3)
    with get_client(sync_client=True) as client:
        assert client.read_work_pool("blip").concurrency_limit == 1
        client.update_work_pool("blip", paused)
        nightly = client.read_deployment_by_name("end-to-end/default")
        client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=True)
        deploy(deployed, environment)
        pool = client.read_work_pool("blip")
        nightly = client.read_deployment_by_name("end-to-end/default")
        client.update_work_pool("blip", WorkPoolUpdate(is_paused=False, concurrency_limit=1))

    assert (pool.is_paused, pool.concurrency_limit) == (True, 3)
    assert [schedule.active for schedule in nightly.schedules] == [False]


def test_deploying_without_a_server_says_how_to_start_one(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "flows.deploy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "no Prefect server runs here; start one with `make ui`" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders of several accounts")
def test_a_worker_has_a_temporary_folder_of_its_own_beside_those_of_other_accounts(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        Path(folder).chmod(0o1777)
        with as_nobody():
            alone = temporary_folder()
        Path(folder, "runner_storage").mkdir()
        with as_nobody():
            after_another = temporary_folder()
        assert temporary_folder() == ""
    assert (alone, after_another) == ("", "TMPDIR=$(mktemp -d) ")


class Guarded(BaseHTTPRequestHandler):
    """A Prefect server that wants a key, knows no work pool, and remembers who asked for what."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.headers.get("Authorization")
        self.asked.append((self.path, key))
        known = self.path.endswith(("/health", "/admin/version", "/filter"))
        self.send_response(401 if key != KEY else 200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"[]" if self.path.endswith("/filter") else b'"3.8.8"')

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user who has the key of such a server in a profile."""
    profile = f'active = "mine"\n[profiles.mine]\nPREFECT_API_KEY = "{KEY.removeprefix("Bearer ")}"\n'
    (tmp_path / "profiles.toml").write_text(profile)
    Guarded.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Guarded) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        named = {
            "PREFECT_HOME": str(tmp_path),
            "PREFECT_API_URL": f"http://127.0.0.1:{server.server_port}/api",
        }
        yield stage_environment() | named | {"PYTHONPATH": str(ROOT)}
        server.shutdown()


def test_deploying_shows_a_server_the_key_of_the_users_profile(guarded: dict[str, str], tmp_path: Path):
    code = "from flows.deploy import pool_exists, server; print(pool_exists(server()))"
    said = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=guarded, text=True)

    assert said.strip() == "False"
    assert {key for _, key in Guarded.asked} == {KEY}
    assert "/api/work_pools/filter" in {path for path, _ in Guarded.asked}


def test_the_doctor_asks_a_server_that_wants_a_key_as_prefect_does(guarded: dict[str, str], tmp_path: Path):
    code = "from blip.doctor.services import prefect; print(prefect().state)"
    for environment, state in ((guarded, "good"), (guarded | {"PREFECT_HOME": str(tmp_path / "empty")}, "")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == state, done.stderr
    assert "refuses the key of Prefect's settings, or has none" in done.stderr


def test_deploying_from_another_folder_says_whose_place_it_takes(deployed, environment, tmp_path: Path):
    again = deploy(deployed, environment)
    other = tmp_path / "other"
    shutil.copytree(deployed, other)
    taken = deploy(other, environment)

    assert "warning: the deployments" not in again
    assert f"were those of {deployed}, and are this folder's now" in taken
    assert "the worker that was started there takes it, so end that one" in taken
