"""What tests of several folders use: the command line in this process, and an environment without what is ours."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from blip import cli

OURS = ("BLIP_", "DVC_ROOT", "DVC_STAGE", "GIT_", "MLFLOW_", "PREFECT_", "SLURM_", "OMPI_", "TORCHELASTIC_")
OF_A_RANK = {
    "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR",
    "MASTER_PORT", "JOB_COMPLETION_INDEX",
}  # fmt: skip
KEPT = {"BLIP_CHECKPOINTS", "MLFLOW_DISABLE_TELEMETRY", "PREFECT_SERVER_ANALYTICS_ENABLED"}
LOOPBACK = "127.0.0.1,127.0.0.2,localhost"


def leave_surroundings() -> None:
    """Forget stores, servers, jobs and repositories that somebody works with, who runs the tests beside or in them.

    It is no fixture: Prefect reads the environment as it is imported, by a conftest of a folder below.
    """
    for name in set(os.environ) - KEPT:
        if name.startswith(OURS) or name in OF_A_RANK:
            del os.environ[name]
    os.environ |= {"NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK}


leave_surroundings()


class Ended(NamedTuple):
    """How a command ended: exit code, what it said on either stream."""

    code: int
    out: str
    err: str


@pytest.fixture
def blip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command in this process, as the console script does."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["blip", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = exit_code(ended)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run


def exit_code(ended: SystemExit) -> int:
    """What a shell would get: 1 where a text was to be said."""
    if ended.code is None:
        return 0
    return ended.code if isinstance(ended.code, int) else 1
