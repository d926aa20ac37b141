"""Several nodes on one machine: by hand under two loopback names, and in network namespaces through a remote shell."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from blip.ports import HOST
from tests.ports import free_port
from tests.processes import running, wait_until
from tests.training.launch.test_node import wait_for
from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow
NODE = """
import os
import sys
from pathlib import Path
from blip.config import Launch
from blip.errors import BlipError
from blip.training.launch.crew import Crew
from blip.training.launch.follow import follow
from blip.training.launch.finding import find_place
folder, launch, module, *arguments = sys.argv[1:]
launch = Launch.model_validate_json(launch)
place = find_place(launch, {})
try:
    if place.node:
        follow(place, launch.start_timeout)
    else:
        with Crew(place, launch) as crew:
            ranks = int(os.environ.get("RANKS", "2"))
            saved = Path(folder, os.environ.get("SAVED", "saved.json"))
            module == "nothing" or crew.run("drill", ranks, [module, *arguments], saved, 1)
except BlipError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""
BEATING = "tests.training.launch.beating_run"


class Nodes(ExitStack):
    """A hostfile with two nodes of a rank each, and the command that is started on either; at its end both have."""

    def __init__(self, folder: Path, first: str, second: str, port: int, **launch: object) -> None:
        super().__init__()
        self.folder = folder
        (folder / "hostfile").write_text(f"{first} slots=1\n{second} slots=1\n")
        self.launch = {
            "hostfile": str(folder / "hostfile"), "master_port": port, "start_timeout": 60, "hang_timeout": 5,
            "stop_timeout": 10,
        } | launch  # fmt: skip

    def start_stage(self, name: str, *changes: str, node: int) -> "subprocess.Popen[str]":
        """`blip stage NAME`, as somebody starts it on every node, with a store for MLflow that does not answer."""
        shutil.copy(ROOT / "params.yaml", self.folder)
        launch = (f"launch.master_port={self.launch['master_port']}", "launch.start_timeout=120")
        settings = [part for change in (*launch, *changes) for part in ("--set", change)]
        where = ["--hostfile", str(self.launch["hostfile"]), "--node-rank", str(node)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        environment["MLFLOW_TRACKING_URI"] = f"http://{HOST}:9"
        command = [sys.executable, "-m", "blip", "stage", name, *where, *settings]
        return self._running(command, environment)

    def start(self, module: str, *arguments: str, node: int | None, prefix: tuple[str, ...] = ()):
        settings = json.dumps(self.launch | ({} if node is None else {"node_rank": node}))
        command = [*prefix, sys.executable, "-c", NODE, str(self.folder), settings, module, *arguments]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DS_ACCELERATOR": "cpu",
            "TORCHDYNAMO_DISABLE": "1",
        }
        return self._running(command, environment)

    def _running(self, command: list[str], environment: dict[str, str]) -> "subprocess.Popen[Any]":
        options: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True, "cwd": self.folder}
        return self.enter_context(running(command, env=environment, **options))


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path, HOST, "127.0.0.2", free_port()) as nodes:
        yield nodes


def ended(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str]:
    """Exit code and messages."""
    said = process.communicate(timeout=seconds)[1]
    return process.returncode, said


def test_two_nodes_started_by_hand_do_what_the_first_says(nodes: Nodes) -> None:
    started = [nodes.start(BEATING, str(nodes.folder), "none", "4", node=node) for node in (1, 0)]
    assert [ended(one)[0] for one in started] == [0, 0]
    assert {(nodes.folder / f"reached{rank}").read_text() for rank in (0, 1)} == {"4"}


def test_a_rank_that_dies_on_another_node_is_named_by_the_first(nodes: Nodes) -> None:
    started = [nodes.start(BEATING, str(nodes.folder), "1:2:kill", "4", node=node) for node in (1, 0)]
    (second, second_said), (first, first_said) = map(ended, started)
    assert (second, first) == (1, 1)
    assert "rank 1 (127.0.0.2, process" in first_said and "was ended by SIGKILL, in step 2" in first_said
    assert "node 0 (127.0.0.1) says why" in second_said


def test_a_rank_that_hangs_on_another_node_is_named_and_not_the_one_that_waits_for_it(nodes: Nodes) -> None:
    """The one that waits is late first."""
    started = [nodes.start(BEATING, str(nodes.folder), "1:2:starve", "4", node=node) for node in (1, 0)]
    (_, stacks), (code, said) = map(ended, started)
    assert code == 1 and "Current thread" in stacks
    assert "rank 1 (127.0.0.2, process" in said and "step 2, waiting for data" in said
    assert "rank 0 (" not in said


def test_a_request_to_stop_on_one_node_stops_all_with_75(nodes: Nodes) -> None:
    second, first = (nodes.start(BEATING, str(nodes.folder), "none", "300", node=node) for node in (1, 0))
    wait_for(nodes.folder / "reached0")
    wait_for(nodes.folder / "reached1")
    second.send_signal(signal.SIGUSR1)
    assert (ended(second)[0], ended(first)[0]) == (75, 75)


def test_a_request_to_stop_on_a_node_without_ranks_stops_all_with_75(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKS", "1")
    second, first = (nodes.start(BEATING, str(nodes.folder), "none", "300", node=node) for node in (1, 0))
    wait_for(nodes.folder / "reached0")
    second.send_signal(signal.SIGUSR1)
    assert (ended(second)[0], ended(first)[0]) == (75, 75)
    assert not (nodes.folder / "reached1").exists()


def test_nodes_whose_first_node_is_gone_end_their_ranks(nodes: Nodes) -> None:
    second, first = (nodes.start(BEATING, str(nodes.folder), "none", "600", node=node) for node in (1, 0))
    wait_for(nodes.folder / "reached1")
    ranks = psutil.Process(second.pid).children()
    first.kill()
    code, said = ended(second)
    assert code == 1 and "node 0 (127.0.0.1) is gone" in said
    assert ranks and not any(rank.is_running() for rank in ranks)
    first.wait()


def test_a_node_that_does_not_come_is_named(nodes: Nodes) -> None:
    nodes.launch["start_timeout"] = 2
    code, said = ended(nodes.start(BEATING, str(nodes.folder), "none", "600", node=0))
    assert code == 1 and "node 1 (127.0.0.2) did not come for 2 s" in said


def test_a_node_0_that_has_no_work_for_the_others_ends_them(nodes: Nodes) -> None:
    started = [nodes.start("nothing", node=node) for node in (0, 1)]
    assert [ended(one)[0] for one in started] == [0, 0]


def catches(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal, as a node has that looks for node 0."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1)


def listens(port: int) -> bool:
    """Whether node 0 is there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@pytest.mark.parametrize("last", [0, 1])
def test_a_node_0_that_fails_before_it_has_work_for_the_others_ends_them(nodes: Nodes, last: int) -> None:
    first = nodes.start_stage("pretrain", node=1 - last)
    wait_until(
        lambda: catches(first, signal.SIGUSR1) if last == 0 else listens(nodes.launch["master_port"]), 240
    )
    processes = {1 - last: first, last: nodes.start_stage("pretrain", node=last)}
    (code, said), (other_code, other_said) = (ended(processes[node]) for node in (0, 1))
    assert code == 1 and "the MLflow store http://127.0.0.1:9 cannot be opened" in said
    assert other_code == 1 and "node 1: the run failed; node 0 (127.0.0.1) says why" in other_said


@contextmanager
def network() -> Iterator[tuple[str, ...]]:
    """Two network namespaces joined by a cable, as two machines: what each is entered by.

    They are gpu01 and gpu02, and in Debian's way each has its own name on loopback.
    """
    names = [f"blip{os.getpid()}{side}" for side in "ab"]
    other = ["10.87.0.2 gpu02", "10.87.0.1 gpu01"]

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def connect() -> None:
        for name in names:
            ip("netns", "add", name)
        here, there = names
        ip(*f"link add eth0 netns {here} type veth peer name eth0 netns {there}".split())
        for number, name in enumerate(names, start=1):
            ip("-n", name, "address", "add", f"10.87.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            hosts = Path("/etc/netns", name, "hosts")  # `ip netns exec` puts it in the place of /etc/hosts
            hosts.parent.mkdir(parents=True)
            own = f"127.0.1.1 gpu0{number} {socket.gethostname()}"
            hosts.write_text(f"127.0.0.1 localhost\n{own}\n{other[number - 1]}\n")

    try:
        try:
            connect()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        yield tuple(names)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)


two_machines = pytest.mark.skipif(
    not shutil.which("ip") or os.geteuid() != 0, reason="network namespaces need `ip` and root"
)


@two_machines
def test_two_machines_meet_though_each_has_its_own_name_on_loopback(tmp_path: Path) -> None:
    with network() as names, Nodes(tmp_path, "gpu01", "gpu02", 29400) as nodes:
        started = [
            nodes.start(BEATING, str(tmp_path), "none", "4", node=node, prefix=("ip", "netns", "exec", name))
            for node, name in enumerate(names)
        ]
        assert [ended(one)[0] for one in started] == [0, 0]


@two_machines
def test_two_machines_train_one_model_through_a_remote_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAVED", "final.json")
    write_dataset(tmp_path / "data")
    with network() as (first, second):
        shell = tmp_path / "shell"  # as ssh: a host, then a command for its shell
        shell.write_text(f'#!/bin/sh\ntest "$1" = gpu02 && exec ip netns exec {second} sh -c "$2"\n')
        shell.chmod(0o755)
        prefix = ("ip", "netns", "exec", first)
        with Nodes(tmp_path, "gpu01", "gpu02", 29400, remote_shell=str(shell), hang_timeout=60) as nodes:
            head = nodes.start("tests.training.drill_run", str(tmp_path), "4", "2", node=None, prefix=prefix)
            code, said = ended(head)
    assert code == 0, said
    assert (tmp_path / "final.json").is_file()
    assert len((tmp_path / "metrics/curves/tiny.csv").read_text().splitlines()) == 5
