"""Prefect's and MLflow's servers on the loopback address, each in a process that ends with its caller.

with started(prefect_server(4200)) as server:
    server.wait_until_up()
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from blip.config.database_path import see_that_databases_open
from blip.errors import BlipError
from blip.ports import HOST
from blip.room import room_noted
from flows.addresses import answers
from flows.process import supervised
from flows.project import LOGS, PREFECT_HOME, stage_environment

START_SECONDS = 300
GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Server:
    """How to start a server: arguments of `python -m`, environment, the path that answers once it is up."""

    name: str
    port: int
    arguments: tuple[str, ...]
    settings: dict[str, str]
    health: str

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / f"{self.name}-server.log"


@dataclass(frozen=True)
class RunningServer:
    """A server and its process."""

    server: Server
    process: subprocess.Popen[bytes]

    def wait_until_up(self) -> None:
        """Return once it answers. Raises BlipError, with its last words, if it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not (self._listens() and answers(self.server.url + self.server.health)):
            self.require_alive()
            if time.monotonic() > deadline:
                raise BlipError(
                    f"{self.server.name} does not answer after {START_SECONDS} s; see {self.server.log}"
                )
            time.sleep(0.2)

    def _listens(self) -> bool:
        """Whether it is this server that has the port, and not somebody else's that was faster."""
        with suppress(psutil.Error):  # a process that ends while it is looked at
            for process in psutil.Process(self.process.pid).children(recursive=True):
                listening = [at for at in process.net_connections("tcp") if at.status == psutil.CONN_LISTEN]
                if self.server.port in [at.laddr.port for at in listening]:
                    return True
        return False

    def require_alive(self) -> None:
        """Raise BlipError, with its last words, if it has ended."""
        if self.process.poll() is None:
            return
        last = self.server.log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
        raise BlipError("\n".join([f"the {self.server.name} server has ended; its last words:", *last]))


def prefect_server(port: int) -> Server:
    """Prefect on the project's own database. Its pages call port 4200 unless told where the API is.

    Raises:
        BlipError: the database cannot lie in its folder.
    """
    api = f"http://{HOST}:{port}/api"
    home = os.environ.get("PREFECT_HOME", str(PREFECT_HOME.resolve()))
    see_that_databases_open(Path(home))
    settings = {"PREFECT_HOME": home, "PREFECT_API_URL": api, "PREFECT_UI_API_URL": api}
    arguments = ("prefect", "server", "start", "--host", HOST, "--port", str(port))
    return Server("prefect", port, arguments, settings, "/api/health")


def mlflow_server(port: int) -> Server:
    """MLflow on the database that the stages write to: the one MLFLOW_TRACKING_URI names, or the project's own.

    It is told in the environment, for there may be a password in it.
    """
    arguments = ("mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1")
    settings = {
        "MLFLOW_BACKEND_STORE_URI": os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(Path("mlruns").resolve()),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return Server("mlflow", port, arguments, settings, "/health")


@contextmanager
def started(server: Server) -> Iterator[RunningServer]:
    """Start a server, and end it with all its processes when the block ends."""
    LOGS.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", *server.arguments]
    environment = {**stage_environment(), **server.settings}
    with room_noted(server.log):
        log = server.log.open("wb")
    with log, supervised(command, environment, GRACE_SECONDS, log) as process:
        yield RunningServer(server, process)
