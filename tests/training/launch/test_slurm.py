"""A real Slurm on this machine: the sbatch script trains with two tasks, is warned, saves, and goes on requeued.

It runs where slurmctld, slurmd and munged are installed (Debian: slurm-wlm, munge) and the user is root.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.parameters import write_parameters
from tests.flows.test_preemption import SETTINGS, STEPS, figures, interrupt, losses, project
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
DAEMONS = ("munged", "slurmctld", "slurmd")
CONF = """
ClusterName=drill
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}
SlurmdSpoolDir={folder}
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=drill Nodes=ALL Default=YES
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, DAEMONS)), reason="needs root, slurm-wlm and munge"
    ),
]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The three daemons in the foreground, with a key and a configuration of their own."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(256))
    key.chmod(0o600)
    host, ports = socket.gethostname().split(".")[0], (free_port(), free_port())
    (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, ports=ports))
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files]
    daemons = [
        subprocess.Popen(command, stderr=(folder / "said").open("a"))
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D"])
    ]
    try:
        until(lambda: "idle" in slurm_says("sinfo", "--noheader"))
        yield
    finally:
        subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], check=False)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:  # as of slurmd, which waits for its job
                daemon.kill()


def slurm_says(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def until(true: Callable[[], bool], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def at_once(job: str) -> bool:
    """Have a job that waits in the queue start now; False."""
    slurm_says("scontrol", "update", f"JobId={job}", "StartTime=now")
    return False


def submitted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """The folder of a project, and the number of a job that is to train in it."""
    root = project(folder / "project", monkeypatch)
    write_parameters(None, SETTINGS)
    (root / "runs").mkdir()
    blip = folder / "blip"
    blip.write_text('#!/bin/sh\nexec python -m blip "$@"\n')
    blip.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    size = ["--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=0", "--cpus-per-task=1", "--time=5"]
    script = str(ROOT / "infra/slurm/pretrain.sbatch")
    job = slurm_says("sbatch", "--parsable", *size, script, "--set", "launch.start_timeout=120").strip()
    return root, job


@pytest.mark.usefixtures("slurm")
def test_a_job_that_is_warned_saves_and_goes_on_when_it_is_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = ["--set", "launch.start_timeout=120"]
    project(tmp_path / "undisturbed", monkeypatch)
    write_parameters(None, SETTINGS)
    subprocess.run([sys.executable, "-m", "blip", "stage", "pretrain", *patient], check=True)
    expected = figures(), losses()

    root, job = submitted(tmp_path, monkeypatch)
    log = root / f"runs/slurm-{job}.log"
    # As --signal=B:USR1 does before the time is up.
    interrupt(root, lambda: slurm_says("scancel", "--signal=USR1", "--batch", job))
    # Slurm itself would let it wait for two minutes.
    until(lambda: "resuming at step" in log.read_text() or at_once(job))
    until((root / "metrics/pretrain.json").exists)

    said = log.read_text()
    assert "node 1 of 2 takes orders" in said
    assert "the ranks were stopped; run it again to go on from what they have saved" in said
    assert "resuming at step" in said and f"step {STEPS}/{STEPS}" in said
    assert [int(step) for step, _ in losses()] == list(range(1, STEPS + 1))
    assert (figures(), losses()) == expected


@pytest.mark.usefixtures("slurm")
def test_a_job_that_is_cancelled_saves_and_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, job = submitted(tmp_path, monkeypatch)
    interrupt(root, lambda: slurm_says("scancel", job))
    until(lambda: slurm_says("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip() != "COMPLETING")
    assert "the ranks were stopped" in (root / f"runs/slurm-{job}.log").read_text()
    assert " JobState=CANCELLED " in slurm_says("scontrol", "show", "job", "--oneliner", job)
