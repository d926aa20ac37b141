"""Do the servers that a run reports to answer? Asked with a short patience; what is local is opened."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from blip.config import PARAMS, load_settings
from blip.credentials import asking, shown
from blip.doctor.finding import Finding
from blip.errors import BadArguments, BlipError
from blip.machine import network_file_system
from blip.tracking import registry, store

PATIENCE = 3.0  # seconds


def tracking() -> Finding:
    """MLflow's store."""
    uri = store.tracking_uri()
    if not uri.startswith(("http://", "https://")):
        if not (PARAMS.is_file() or registry.is_here()):
            return Finding("tracking", "note", "no store here, and none is made outside the project's folder")
        store.client()
        alone = "" if not uri.startswith("sqlite:") else _several_machines(uri.removeprefix("sqlite:///"))
        return Finding("tracking", "note" if alone else "good", f"MLflow store {shown(uri)}{alone}")
    return _asked("tracking", uri, "start it, or point MLFLOW_TRACKING_URI elsewhere", store.client)


def prefect() -> Finding:
    """Prefect's API, where one is named."""
    api = os.environ.get("PREFECT_API_URL")
    if not api:
        return Finding("prefect", "note", "PREFECT_API_URL names no server; a stage by itself needs none")
    return _asked("prefect", api, "start it, or unset PREFECT_API_URL", _ask_as_prefect_does)


def _ask_as_prefect_does() -> None:
    """Raise BlipError if Prefect's client, with the key of the environment or of the user's profile, is refused."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        if refused := client.api_healthcheck():
            said = store.first_line(refused)
            raise BlipError(
                f"{shown(str(client.api_url))} refuses the key of Prefect's settings, or has none: {said}"
            )


def _several_machines(database: str) -> str:
    """What to do about a SQLite file where other machines may write it too; "" where none does."""
    try:
        launch = load_settings().launch
    except BadArguments:  # said at `settings`
        launch = None
    kind = network_file_system(Path(database))
    if not (kind or (launch and (launch.launcher in ("slurm", "hostfile") or launch.hostfile))):
        return ""
    return (
        f"{f' on {kind}' if kind else ''}: SQLite is for one machine at a time; where several work in this folder, "
        "start an MLflow server and name it in MLFLOW_TRACKING_URI"
    )


def _asked(subject: str, server: str, way: str, as_its_client: Callable[[], object]) -> Finding:
    """Whether a server answers; one that wants to know who asks is asked by its own client, which may say it."""
    name, address = shown(server), f"{server.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(asking(address), timeout=PATIENCE) as reply:
            return Finding(subject, "good", f"{name} answers ({reply.status})")
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            return Finding(subject, "bad", f"{name} answers {error.code} at {shown(address)}; {way}")
    except (OSError, HTTPException, ValueError) as error:
        reason = shown(str(getattr(error, "reason", error)))
        return Finding(subject, "bad", f"{name} does not answer within {PATIENCE:g} s: {reason}; {way}")
    as_its_client()
    return Finding(subject, "good", f"{name} answers, and knows who asks")
