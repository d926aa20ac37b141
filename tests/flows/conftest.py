"""A toy project to run flows in, and a real Prefect server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from blip.ports import HOST
from flows.addresses import reserved_port
from flows.servers import prefect_server, started
from tests.flows.toy import make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy project, as the current folder."""
    root = make_project(tmp_path / "project")
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a Prefect server of its own, used by the flows of this process."""
    home = tmp_path_factory.mktemp("prefect")
    before = Path.cwd()
    os.chdir(home)
    os.environ["PREFECT_HOME"] = str(home)
    try:
        with reserved_port("prefect") as port, started(prefect_server(port)) as server:
            server.wait_until_up()
            api = f"http://{HOST}:{port}/api"
            os.chdir(before)
            with temporary_settings({PREFECT_API_URL: api, PREFECT_HOME: home}):
                yield api
                APILogWorker.drain_all()
                EventsWorker.drain_all()
    finally:
        os.chdir(before)
        os.environ.pop("PREFECT_HOME")
