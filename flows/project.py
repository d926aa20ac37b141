"""The project folder as the flows see it: what DVC says, the environment of the stages, the lock."""

import getpass
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blip.config import WRITTEN, Settings, load_settings, read_written
from blip.config.cut_short import files_cut_short
from blip.errors import BlipError
from blip.lock import lock

STATE = Path(".blip")
LOGS = STATE / "logs"
PREFECT_HOME = Path(".prefect")
# The stage of dvc.yaml that tells the others what params.yaml and the recipe in use say
SETTINGS = "settings"
BINARIES = Path(sys.executable).parent
DVC = [sys.executable, "-m", "dvc", "--wait-for-lock"]  # another stage may be saving its outputs
NO_GIT = "is not a git repository"  # says DVC
LOG_PREFIX, NARROWEST = 36, 110  # characters: what stands before a stage's line, and room for its tables
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def stage_environment(flow_run_id: str = "") -> dict[str, str]:
    """The environment of a stage: this virtual environment first, output unbuffered, no telemetry."""
    search = os.pathsep.join([str(BINARIES), os.environ.get("PATH", "")])
    run = {"BLIP_FLOW_RUN_ID": flow_run_id, "BLIP_PIPELINE_RUN": flow_run_id} if flow_run_id else {}
    width = max(shutil.get_terminal_size().columns - LOG_PREFIX, NARROWEST)
    return {
        **os.environ,
        **NO_TELEMETRY,
        "PATH": search,
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": str(width),
        **_name_of_account(),
        **run,
    }


def _name_of_account() -> dict[str, str]:
    """A name for an account that has none, as a container's may: DVC does not start without one."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return {"LOGNAME": f"uid_{os.getuid()}"}
    return {}


def changed_stages() -> frozenset[str]:
    """The stages whose own inputs, parameters or outputs differ from dvc.lock, once it knows the settings.

    Raises:
        BlipError: DVC cannot read the project; the message is DVC's, and what to do where a file of its own is cut.
    """
    changed = _told_by_dvc("status", "--json")
    if SETTINGS in json.loads(changed or "{}"):
        _told_by_dvc("repro", "--single-item", SETTINGS)
        changed = _told_by_dvc("status", "--json")
    return frozenset(json.loads(changed or "{}"))


def settings_in_use() -> Settings:
    """Those that the stages of this run have: as the first one wrote them down, or else those of params.yaml."""
    return read_written() if WRITTEN.is_file() else load_settings()


def _told_by_dvc(*arguments: str) -> str:
    command = [*DVC, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, env=stage_environment(), check=False)
    if answer.returncode != 0:
        said = [answer.stderr.strip() or answer.stdout.strip(), *files_cut_short()]
        if NO_GIT in said[0]:  # as where sources were unpacked
            said.append("run `git init` here")
        raise BlipError("\n".join(["dvc cannot read this project:", *said]))
    return answer.stdout


@contextmanager
def one_run_at_a_time() -> Iterator[None]:
    """Hold the project's lock: two runs at once would build each other's inputs anew.

    Raises:
        BlipError: another run holds it, and the message names its process; or the folder is another account's.
    """
    require_own_folder()
    STATE.mkdir(exist_ok=True)
    with (STATE / "run.lock").open("a+") as handle:
        if not lock(handle, wait=False):
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise BlipError(
                f"another run (process {holder}) is at work in {Path.cwd()}; wait for its end, cancel it, "
                "or use a clone of the project"
            )
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def require_own_folder() -> None:
    """Refuse a folder whose owner could not change, or even read, what this account would write there.

    As a worker that another account has started would. Root's folders are let be, for so is the volume of a cluster,
    and so is root, who is whom a container knows; and so are disks on which all files have one owner, and a folder that
    a group shares, whose members may change each other's files.
    """
    owner, account = Path().stat().st_uid, os.getuid()
    if account == owner or 0 in (account, owner) or _is_shared() or _owner_of_what_is_written() == owner:
        return
    raise BlipError(
        f"{Path.cwd()} is {_named(owner)}'s, who could not change what a run of {_named(account)} writes there; run it "
        f"as {_named(owner)} (of a deployed one: end the worker of {_named(account)}), or in a clone of your own"
    )


def _is_shared() -> bool:
    """Whether what is made in this folder is its group's, who may write it as this account makes it."""
    shared, mask = stat.S_ISGID | stat.S_IWGRP, os.umask(0)
    os.umask(mask)
    return Path().stat().st_mode & shared == shared and not mask & stat.S_IWGRP


def _owner_of_what_is_written() -> int | None:
    """Of a new file in this folder; None where none can be written."""
    try:
        with tempfile.TemporaryFile(dir=".") as made:
            return os.fstat(made.fileno()).st_uid
    except OSError:
        return None


def _named(account: int) -> str:
    try:
        return pwd.getpwuid(account).pw_name
    except KeyError:  # as in a container
        return f"account {account}"
