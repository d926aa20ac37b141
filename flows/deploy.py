"""Puts the deployments of infra/prefect.yaml onto a Prefect server.

    make deploy        # or: python -m flows.deploy

The server is the one of PREFECT_API_URL, or the one that `make ui` runs. The work pool is created if it is not
there; one that is keeps its job template, its limit, and that it is paused.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from blip.credentials import shown
from blip.errors import FAILED, BlipError
from blip.spelling import print_anything
from flows.addresses import ask_own_servers_directly, named_prefect, running_prefect
from flows.project import PREFECT_HOME, stage_environment

DEPLOYMENTS = Path("infra/prefect.yaml")
POOL = "blip"
DEPLOYED = "end-to-end/default"  # one of them
ABOUT_TO_START = 300.0  # seconds that a run may take from its worker to the project's lock


def main() -> int:
    """Deploy and say how to go on; the exit code of the command."""
    print_anything()
    ask_own_servers_directly()
    try:
        api = server()
        if not pool_exists(api):
            prefect(api, "work-pool", "create", POOL, "--type", "process")
            prefect(api, "work-pool", "set-concurrency-limit", POOL, "1")
        warn_of_another_folder(api)
        if named_prefect() is None:
            before = time.time() - ABOUT_TO_START
            let_go_of_lost_runs({"PREFECT_HOME": str(PREFECT_HOME.resolve()), "PREFECT_API_URL": api}, before)
        prefect(api, "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS))
    except BlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    named = shown(api)
    print(f"deployed to {named}. A worker runs them; start one in this folder:")
    print(f"  {temporary_folder()}PREFECT_API_URL={named} .venv/bin/prefect worker start --pool {POOL}")
    print("and ask for a run, from anywhere:")
    print(f"  PREFECT_API_URL={named} .venv/bin/prefect deployment run {DEPLOYED} --watch")
    return 0


def temporary_folder() -> str:
    """What a worker's command begins with where another account's has been here: Prefect's have one folder for all."""
    shared = Path(tempfile.gettempdir()) / "runner_storage"
    is_anothers = shared.exists() and not os.access(shared, os.W_OK)
    return "TMPDIR=$(mktemp -d) " if is_anothers else ""


def let_go_of_lost_runs(settings: Mapping[str, str], before: float) -> None:
    """Free the places in the pool of runs that ended unheard before a moment (seconds since the epoch), and say so.

    `settings` are those of the server; of one that has not the runs of this project alone, none is touched.
    """
    command = [sys.executable, "-m", "flows.lost_runs", POOL, str(before)]
    environment = {**stage_environment(), **settings}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    print(done.stdout, end="", flush=True)


def server() -> str:
    """The API to deploy to. Raises BlipError if none answers."""
    if api := named_prefect():
        if refused := _asked(api):
            raise BlipError(f"the Prefect server at PREFECT_API_URL={shown(api)} does not answer: {refused}")
        return api
    if api := running_prefect():
        return api
    raise BlipError("no Prefect server runs here; start one with `make ui`, or name it in PREFECT_API_URL")


def _asked(api: str) -> str:
    """What keeps Prefect's own client, with the key of the user's settings, from the server; "" where nothing does."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        refused = client.api_healthcheck()
    return shown(str(refused) or type(refused).__name__).splitlines()[0] if refused else ""


def pool_exists(api: str) -> bool:
    """Whether the server has the work pool."""
    listed = json.loads(prefect(api, "work-pool", "ls", "--output", "json"))
    return POOL in {pool["name"] for pool in listed}


def warn_of_another_folder(api: str) -> None:
    """Say which folder's deployments this one's take the place of: a server has one of each name."""
    try:
        deployed = json.loads(prefect(api, "deployment", "inspect", DEPLOYED, "--output", "json"))
    except BlipError:  # there is none
        return
    steps = (step for pulled in deployed["pull_steps"] or () for step in pulled.values())
    before = next((step["directory"] for step in steps if "directory" in step), None)
    if before and Path(before).resolve() != Path.cwd():
        print(
            f"warning: the deployments on this server were those of {before}, and are this folder's now: what is asked "
            "for runs here, also when the worker that was started there takes it, so end that one; `make deploy` there "
            "takes them back, and a server of its own has both",
            file=sys.stderr,
        )


def prefect(api: str, *arguments: str) -> str:
    """What a Prefect command against the server prints. Raises BlipError with what it says if it fails."""
    environment = {**stage_environment(), "PREFECT_API_URL": api}
    if named_prefect() is None:  # of a server of somebody's, the key is in the user's own
        environment["PREFECT_HOME"] = str(PREFECT_HOME.resolve())
    command = [sys.executable, "-m", "prefect", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise BlipError(f"`prefect {' '.join(arguments)}` failed:\n{shown(said)}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
