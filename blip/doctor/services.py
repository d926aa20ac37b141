"""Do the servers that a run reports to answer? Asked with a short patience; what is local is opened."""

import os
import urllib.error
import urllib.request
from http.client import HTTPException

from blip.credentials import asking, shown
from blip.doctor.finding import Finding
from blip.tracking import store

PATIENCE = 3.0  # seconds


def tracking() -> Finding:
    """MLflow's store."""
    uri = store.tracking_uri()
    if not uri.startswith(("http://", "https://")):
        store.client()
        return Finding("tracking", "good", f"MLflow store {shown(uri)}")
    return _asked("tracking", uri, "start it, or point MLFLOW_TRACKING_URI elsewhere")


def prefect() -> Finding:
    """Prefect's API, where one is named."""
    api = os.environ.get("PREFECT_API_URL")
    if not api:
        return Finding("prefect", "note", "PREFECT_API_URL names no server; a stage by itself needs none")
    return _asked("prefect", api, "start it, or unset PREFECT_API_URL")


def _asked(subject: str, server: str, way: str) -> Finding:
    name, address = shown(server), f"{server.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(asking(address), timeout=PATIENCE) as reply:
            return Finding(subject, "good", f"{name} answers ({reply.status})")
    except urllib.error.HTTPError as error:
        return Finding(subject, "bad", f"{name} answers {error.code} at {shown(address)}; {way}")
    except (OSError, HTTPException, ValueError) as error:
        reason = shown(str(getattr(error, "reason", error)))
        return Finding(subject, "bad", f"{name} does not answer within {PATIENCE:g} s: {reason}; {way}")
