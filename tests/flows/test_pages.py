"""`make ui` serves the pages on the loopback address, passes over ports in use, and takes everything down again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import httpx
import psutil
import pytest
from mlflow import MlflowClient

from blip.errors import BlipError
from blip.lock import hold, let_go
from blip.ports import HOST, PORTS, is_free
from flows import addresses, demo, deploy, ui
from flows.addresses import ANNOUNCED, TRIED_PORTS, UP, address, reserved_port, running_prefect
from flows.servers import Server, mlflow_server, started
from tests.processes import running

PATIENCE = 300


class Up:
    """A server that is up until it is looked at."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def wait_until_up(self) -> None:
        pass

    def require_alive(self) -> None:
        assert "S3cret" not in ANNOUNCED.read_text()
        raise KeyboardInterrupt


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Hold a port, unless somebody does already, or is about to: another test's server takes seconds to listen."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with addresses._lock_of(port) as nobody_is:
            if nobody_is and is_free(port):
                holder.bind((HOST, port))
                holder.listen()
        yield


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as reply:
        return reply.read().decode("utf-8", "replace")


def test_a_port_in_use_is_passed_over():
    with listening(PORTS["reports"]), reserved_port("reports") as port:
        assert PORTS["reports"] < port < PORTS["reports"] + TRIED_PORTS


def test_two_servers_that_start_at_once_get_different_ports():
    with reserved_port("reports") as first, reserved_port("reports") as second:
        assert first != second


def test_no_free_port_is_an_error_that_names_them(monkeypatch):
    monkeypatch.setattr(addresses, "is_free", lambda port: False)

    with (
        pytest.raises(BlipError, match=r"ports 5000 to 5019 are all in use, so mlflow cannot start"),
        reserved_port("mlflow"),
    ):
        pass


def test_the_address_is_the_preferred_one_until_another_is_announced(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert address("mlflow") == "http://127.0.0.1:5000"

    ANNOUNCED.parent.mkdir()
    ANNOUNCED.write_text(json.dumps({"mlflow": "http://127.0.0.1:5003"}))
    assert address("mlflow") == "http://127.0.0.1:5000", (
        "of pages that were killed: it may be another project's now"
    )
    hold(UP, "the pages", "serves them")
    assert address("mlflow") == "http://127.0.0.1:5003"
    let_go(UP)


def test_the_address_of_a_server_that_is_named_is_its_own(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:S3cret@gpu01:5000")
    monkeypatch.setenv("PREFECT_API_URL", "https://gpu01:4200/api/")
    named = [address(name) for name in PORTS]
    assert named == ["https://gpu01:4200", "http://***@gpu01:5000", "http://127.0.0.1:8090"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///shared.db")
    assert address("mlflow") == "http://127.0.0.1:5000"


def test_pages_that_are_up_come_before_the_server_that_a_run_has_for_itself(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    ANNOUNCED.parent.mkdir()
    ANNOUNCED.write_text(json.dumps({"prefect": "http://127.0.0.1:4201"}))
    hold(UP, "the pages", "serves them")
    assert address("prefect") == "http://127.0.0.1:4201"
    let_go(UP)
    assert address("prefect") == "http://127.0.0.1:4200"


def test_the_password_of_a_server_is_not_announced(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:S3cret@127.0.0.1:1")
    assert "MLflow               http://***@127.0.0.1:1\n" in said_by_pages(monkeypatch, capsys)


def test_a_prefect_server_that_is_named_is_shown_and_none_is_started(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "http://user:S3cret@127.0.0.1:1/api")
    said = said_by_pages(monkeypatch, capsys)
    assert "starting mlflow ..." in said
    assert "Prefect              http://***@127.0.0.1:1  (does not answer; without PREFECT_API_URL" in said


def said_by_pages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed until the first server is looked at, of servers that are taken to be up."""
    monkeypatch.setattr(ui, "started", lambda server: nullcontext(Up(server)))
    with pytest.raises(KeyboardInterrupt), ExitStack() as stack:
        ui.serve(stack)
    return capsys.readouterr().out


def test_a_prefect_server_that_was_named_for_the_pages_is_not_taken_for_the_projects_own(
    tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    hold(UP, "the pages", "serves them")
    monkeypatch.setattr(addresses, "answers", lambda url: True)
    with ExitStack() as stack:
        ui.announce(stack, {"mlflow": "http://a", "reports": "http://b"}, "http://127.0.0.1:4200/api")
        assert running_prefect() is None
    let_go(UP)


def test_a_database_that_the_stages_write_to_is_the_one_that_is_shown(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = f"sqlite:///{tmp_path}/shared.db"
    MlflowClient(database).create_experiment("of another folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)

    with reserved_port("mlflow") as port, started(mlflow_server(port)) as server:
        server.wait_until_up()
        found = MlflowClient(server.server.url).search_experiments()

    assert "of another folder" in {experiment.name for experiment in found}
    assert not Path("mlflow.db").exists()


def test_no_password_of_a_database_is_an_argument(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:S3cret@host/mlflow")
    server = mlflow_server(5000)
    assert "S3cret" not in " ".join(server.arguments)
    assert server.settings["MLFLOW_BACKEND_STORE_URI"] == "postgresql://user:S3cret@host/mlflow"


def test_what_is_no_address_does_not_answer():
    assert not any(map(addresses.answers, ("foo", "foo/health", "http://user:S3cret@host", "http://[x")))


@pytest.mark.parametrize("main", [deploy.main, lambda: demo.main([])])
def test_a_server_whose_name_is_no_address_is_an_error(main, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", os.environ.copy())  # where the demo leaves its settings
    monkeypatch.setenv("PREFECT_API_URL", "foo")
    assert main() == 1
    assert (
        capsys.readouterr().err
        == "error: PREFECT_API_URL=foo is no address; it is like http://HOST:4200/api\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"no_proxy": "localhost"}, "localhost,127.0.0.1"),
        ({"NO_PROXY": "intern.example.org, 10.0.0.1"}, "intern.example.org,10.0.0.1,127.0.0.1,localhost"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_a_proxy_is_not_asked_for_servers_of_this_machine(tmp_path: Path, monkeypatch, before, after):
    monkeypatch.chdir(tmp_path)
    others = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    monkeypatch.setattr(os, "environ", {**others, "http_proxy": "http://127.0.0.1:9", **before})

    with reserved_port("reports") as port, ui.report_pages(port) as url:
        addresses.ask_own_servers_directly()
        assert addresses.answers(url)
        assert httpx.get(url).is_success

    assert os.environ["no_proxy"] == after
    assert os.environ.get("NO_PROXY", "*") == after


def test_the_demo_finds_the_pages_that_are_up_where_a_proxy_is_named(
    tmp_path: Path, monkeypatch, prefect_api: str
):
    monkeypatch.chdir(tmp_path)
    others = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    monkeypatch.setattr(os, "environ", {**others, "http_proxy": "http://127.0.0.1:9"})
    ANNOUNCED.parent.mkdir()
    ANNOUNCED.write_text(json.dumps({"prefect": prefect_api.removesuffix("/api")}))
    hold(UP, "the pages", "serves them")

    assert demo.prepare() is None
    assert os.environ["PREFECT_API_URL"] == prefect_api
    let_go(UP)


def test_an_announced_server_that_is_gone_is_not_used(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ANNOUNCED.parent.mkdir()
    ANNOUNCED.write_text(json.dumps({"prefect": "http://127.0.0.1:9"}))
    hold(UP, "the pages", "serves them")
    assert running_prefect() is None
    let_go(UP)


def test_a_server_that_another_project_has_at_an_address_of_before_is_not_used(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ANNOUNCED.parent.mkdir()
    ANNOUNCED.write_text(json.dumps({"prefect": "http://127.0.0.1:4200"}))
    monkeypatch.setattr(addresses, "answers", lambda url: True)
    assert running_prefect() is None


@pytest.mark.slow
def test_the_pages_come_up_and_go_away(project: Path):
    (project / "reports/pipeline").mkdir(parents=True)
    (project / "reports/pipeline/index.html").write_text("<h1>the report of this run</h1>")

    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_HOME"}
    command = [sys.executable, "-m", "flows.ui"]
    with (
        listening(PORTS["prefect"]),
        running(command, env=environment, stdout=subprocess.PIPE, text=True) as pages,
    ):
        deadline = time.monotonic() + PATIENCE
        while not ANNOUNCED.exists() and pages.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        urls = json.loads(ANNOUNCED.read_text())
        family = psutil.Process(pages.pid).children(recursive=True)
        contents = get(urls["reports"])
        report = get(urls["reports"] + "/pipeline/index.html")
        settings = json.loads(get(urls["prefect"] + "/ui-settings"))
        mlflow = get(urls["mlflow"])
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        pages.send_signal(signal.SIGINT)
        said, _ = pages.communicate(timeout=PATIENCE)

    assert all(url.startswith("http://127.0.0.1:") for url in urls.values())
    assert all(url in said for url in urls.values())
    assert urls["prefect"] != "http://127.0.0.1:4200"
    assert settings["api_url"] == urls["prefect"] + "/api"
    assert "<title>MLflow</title>" in mlflow
    assert "the report of this run" in report
    assert "Data Docs: what validation found: not there yet" in contents
    assert again.returncode == 1
    assert "the pages are up already" in again.stderr
    assert pages.returncode == 0
    assert not ANNOUNCED.exists()
    assert family and psutil.wait_procs(family, timeout=PATIENCE)[1] == []
