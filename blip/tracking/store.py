"""The MLflow store: mlflow.db and mlruns in the project's folder, or the server that MLFLOW_TRACKING_URI names.

    client = store.client()
    experiment = store.experiment(client, "blip")

MLflow takes seconds to import, so it is imported when the first client is asked for, never at module level.
"""

import errno
import hashlib
import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from blip.config.database_path import see_that_databases_open
from blip.config.dvc_yaml import PIPELINE
from blip.credentials import shown
from blip.errors import BlipError
from blip.lock import lock
from blip.machine import network_file_system
from blip.room import is_full, lacks_room, no_room
from blip.tracking.moved import adopt

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = Path("mlflow.db")
ARTIFACTS = Path("mlruns")
STATE = Path(".blip")
OUTDATED = "out-of-date database schema"  # says MLflow of a database that another version of it has made
NO_ROOM = "database or disk is full"  # says SQLite, and where there is no byte at all, "disk I/O error"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def in_project(path: Path) -> Path:
    """A path below the project's folder, which outlives the one that `dvc exp run --temp` runs an experiment in."""
    return Path(os.environ.get("DVC_ROOT", ""), path).resolve()


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database of the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _own()


def _own() -> str:
    return f"sqlite:///{in_project(DATABASE)}"


def is_server(uri: str) -> bool:
    """Whether a server keeps the store, and not a database that is opened here."""
    return uri.startswith(("http://", "https://"))


def state() -> Path:
    """Where locks and downloads are: .blip of the project.

    Of a store named elsewhere than in a project, or where this account may not write: a folder of the user's cache.
    """
    folder, uri = in_project(STATE), tracking_uri()
    is_ours = in_project(PIPELINE).is_file() or uri == _own()
    if is_ours and os.access(folder if folder.exists() else folder.parent, os.W_OK):
        return folder
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "blip" / hashlib.sha256(uri.encode()).hexdigest()[:12]


def client() -> "MlflowClient":
    """A client of the tracking store and registry; a new SQLite store is created on the way (2-4 s, once).

    Raises:
        BlipError: the store cannot be reached or opened.
    """
    uri = tracking_uri()
    _see_that_there_is_a_home()
    if uri == _own():
        see_that_databases_open(in_project(DATABASE).parent)
    with nullcontext() if is_server(uri) else locked("store"):
        return _client(uri)


def _see_that_there_is_a_home() -> None:
    """Raise BlipError where there is none, as for an account without a name: MLflow asks as it is imported."""
    try:
        Path.home()
    except RuntimeError:
        raise BlipError("HOME is not set, and MLflow does not start without it; export HOME=/tmp") from None


@cache
def _client(uri: str) -> "MlflowClient":
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    # Tracebacks of what it raises besides
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        _set_journal(uri)  # which no one can take back while it is open
        opened = mlflow.MlflowClient(uri)
        opened.search_experiments(max_results=1)
    except Exception as error:  # MLflow raises its own, SQLAlchemy's and requests' errors here
        raise BlipError(
            f"the MLflow store {shown(uri)} cannot be opened: {_what_to_do(error, uri)}"
        ) from error
    _set_journal(uri)
    if uri == _own():
        adopt(in_project(DATABASE), in_project(ARTIFACTS))
    return opened


def _what_to_do(error: Exception, uri: str) -> str:
    """What an error of opening says, and the way out."""
    if OUTDATED in str(error):
        return (
            f"{first_line(error).partition('. ')[0]}; make a copy of the database, then run `mlflow db upgrade "
            f"{shown(uri)}`. If an MLflow newer than this one has made it, install that one"
        )
    path = uri.removeprefix("sqlite:///")
    if path != uri and (NO_ROOM in str(error) or is_full(Path(path))):
        return no_room(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path))
    if path != uri and os.access(path, os.F_OK) and not os.access(path, os.W_OK):
        return (
            f"this account may not write {path}, which MLflow does to read it, too; name a model directory, or have a "
            "server of its owner's named in MLFLOW_TRACKING_URI"
        )
    return f"{first_line(error)}; start its server, point MLFLOW_TRACKING_URI elsewhere, or unset it to use ./mlflow.db"


def _set_journal(uri: str) -> None:
    """Let readers (the UI, another stage) go on while a stage writes; SQLite keeps the mode in the file.

    Not on a file system of several machines: SQLite's write-ahead log needs memory that all who open the file share.
    """
    path = uri.removeprefix("sqlite:///")
    if path == uri or not Path(path).is_file():
        return
    shared = bool(network_file_system(Path(path)))
    mode = "delete" if shared else "wal"
    with closing(sqlite3.connect(path, timeout=2 if shared else 20)) as connection:
        if connection.execute("PRAGMA journal_mode").fetchone() == (mode,):
            return
        with (
            suppress(sqlite3.OperationalError) if shared else nullcontext()
        ):  # others have it open: the next time
            connection.execute(f"PRAGMA journal_mode={mode}")


def experiment(client: "MlflowClient", name: str) -> str:
    """The id of an experiment, created when it is new. Artifacts of the local store go to mlruns.

    One that was deleted, in MLflow's pages say, is restored with its runs: its name is taken as long as it is known.
    """
    known = client.get_experiment_by_name(name)
    if known is not None:
        if known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)
            print(f"MLflow's experiment {name!r} was deleted; it is restored with its runs", file=sys.stderr)
        return known.experiment_id
    local = tracking_uri().startswith("sqlite:")
    return client.create_experiment(name, in_project(ARTIFACTS).as_uri() if local else None)


@contextmanager
def takes(what: str, way_out: str) -> Iterator[None]:
    """Have it said without a traceback where the store refuses something.

    Its files may lie elsewhere, as in S3, whose clients have exceptions of their own, or are not installed. Errors of
    Python itself besides these are our own, and of a file or a full disk here, and stay what they are.

    Raises:
        BlipError: it does not take it.
    """
    try:
        yield
    except BlipError:
        raise
    except Exception as error:
        if type(error).__module__ == "builtins" and not isinstance(error, OSError | ImportError):
            raise
        if isinstance(error, OSError) and (error.filename or lacks_room(error)):
            raise  # of a file here
        place = shown(tracking_uri())
        raise BlipError(
            f"the MLflow store {place} does not take {what}: {first_line(error)}; {way_out}"
        ) from error


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold .blip/NAME.lock: one process of this project at a time. A killed holder lets go of it."""
    folder = state()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        lock(handle, wait=True)
        yield


def first_line(error: Exception) -> str:
    """What an error says first, as it may be shown; its name where it says nothing."""
    return shown(str(error).strip() or type(error).__name__).splitlines()[0][:200]
