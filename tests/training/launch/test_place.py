"""What a launcher leaves in the environment says which node of how many this is."""

from pathlib import Path
from socket import AF_INET
from types import SimpleNamespace

import pytest

from blip.config import Launch
from blip.errors import BadArguments, BlipError
from blip.training.launch import address
from blip.training.launch.finding import find_place
from blip.training.launch.place import Place
from blip.training.launch.slurm import expand

SLURM = {
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_NODELIST": "gpu[07-08]",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}  # fmt: skip
POD = {"JOB_COMPLETION_INDEX": "1", "BLIP_NODES": "2", "BLIP_MASTER": "pretrain-0.pretrain"}
TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "n0", "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_name_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's name server or /etc/hosts would say of such names."""
    monkeypatch.setattr(address, "_resolved", lambda name: None)


def launch(**values: object) -> Launch:
    return Launch.model_validate(values)


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place()),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, Place()),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "gpu[1-8]"}, Place()),
        (SLURM, Place(3, 4, "gpu07", 29400, before=1, shared=2)),
        (
            SLURM | {"SLURM_PROCID": "1", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "2"},
            Place(1, 2, "gpu07", 29400, hosts=("gpu07", "gpu08")),
        ),
        (SLURM | {"SLURM_STEP_NODELIST": "gpu07"}, Place(3, 4, "127.0.0.1", 29400, before=1, shared=4)),
        (POD, Place(1, 2, "pretrain-0.pretrain", 29400)),
        (POD | {"BLIP_NODES": "1"}, Place()),
        (TORCHRUN, Place(5, 8, "n0", 29500, before=1, shared=8, served=True)),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}, Place(5, 8, "n0", 29500, before=1, shared=4, served=True)),
        (TORCHRUN | {"LOCAL_SIZE": "4"}, Place(5, 8, "n0", 29500, before=1, shared=4, served=True)),
    ],
)
def test_auto_sees_who_started_the_process(environment: dict[str, str], place: Place) -> None:
    assert find_place(launch(), environment) == place


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [({}, "local"), (SLURM, "slurm"), (POD, "kubernetes"), (TORCHRUN, "environment")],
)
def test_the_number_of_a_node_goes_with_a_hostfile(environment: dict[str, str], launcher: str) -> None:
    said = rf"launch\.node_rank is 5, but the launcher here is {launcher}, .* goes with launch\.hostfile"
    with pytest.raises(BadArguments, match=said):
        find_place(launch(node_rank=5), environment)


def test_a_launcher_that_did_not_start_this_process_is_refused() -> None:
    with pytest.raises(
        BadArguments, match="launcher is slurm, but 'SLURM_JOB_NODELIST' is not in the environment"
    ):
        find_place(launch(launcher="slurm"), {})


@pytest.mark.parametrize(
    ("names", "expanded"),
    [
        ("login", ["login"]),
        ("gpu[01-03,07],login", ["gpu01", "gpu02", "gpu03", "gpu07", "login"]),
        ("r[1-2]n[09-10]", ["r1n09", "r1n10", "r2n09", "r2n10"]),
    ],
)
def test_slurms_short_lists_of_nodes_are_written_out(names: str, expanded: list[str]) -> None:
    assert expand(names) == expanded


def test_a_hostfile_gives_the_nodes_and_their_ranks(tmp_path: Path) -> None:
    file = tmp_path / "hostfile"
    file.write_text("# two nodes\ngpu01 slots=8\n\ngpu02 slots=4  # older\n")
    first = find_place(launch(hostfile=str(file)), {})
    assert first == Place(0, 2, "gpu01", 29400, (8, 4), hosts=("gpu01", "gpu02"), remote=True)
    assert (first.slots(12), first.slots(8), first.slots(3)) == ((8, 4), (8, 0), (3, 0))
    by_hand = find_place(launch(hostfile=str(file), node_rank=1), {})
    assert (by_hand.node, by_hand.remote) == (1, False)
    with pytest.raises(BadArguments, match=r"training.ranks is 16, but the hostfile has 12 slots on 2 nodes"):
        first.slots(16)
    with pytest.raises(
        BadArguments, match="filled one after the other: make it 8, 12, or less than the first"
    ):
        first.slots(10)


@pytest.mark.parametrize(
    "line", ["gpu01 slots=x", "gpu01\ngpu01", "-oProxyCommand=x slots=1", "a b c", "a;b"]
)
def test_a_line_that_names_no_node_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "hostfile").write_text(line)
    with pytest.raises(
        BadArguments, match=rf"hostfile, line {len(line.splitlines())}: .* is not `NAME slots=N`"
    ):
        find_place(launch(hostfile=str(tmp_path / "hostfile")), {})


def test_nodes_share_the_ranks_equally_or_say_that_they_cannot() -> None:
    assert Place(0, 4).slots(16) == (4, 4, 4, 4)
    with pytest.raises(BadArguments, match=r"training.ranks is 6, which 4 nodes cannot share equally"):
        Place(0, 4).slots(6)


def own_addresses(monkeypatch: pytest.MonkeyPatch, **interfaces: str) -> None:
    """Let this machine, gpu01, have these interfaces, and `127.0.1.1 gpu01` in /etc/hosts."""
    names = {"gpu01": "127.0.1.1", "gpu02": "10.0.0.2", "localhost": "127.0.0.1"}
    monkeypatch.setattr(address, "_resolved", names.get)
    monkeypatch.setattr(address, "_facing", {"gpu02": "10.0.0.1"}.get)
    found = {name: [SimpleNamespace(family=AF_INET, address=one)] for name, one in interfaces.items()}
    monkeypatch.setattr("psutil.net_if_addrs", lambda: found)
    up = {name: SimpleNamespace(isup=name != "eth9") for name in interfaces}
    monkeypatch.setattr("psutil.net_if_stats", lambda: up)


def test_a_name_that_is_loopback_at_home_stands_for_the_only_address(monkeypatch: pytest.MonkeyPatch) -> None:
    own_addresses(monkeypatch, lo="127.0.0.1", eth0="10.0.0.1", docker0="172.17.0.1", eth9="10.9.9.9")
    master = [address.reachable(name) for name in ("gpu01", "gpu02", "localhost", "127.0.0.2", "unknown")]
    assert master == ["10.0.0.1", "gpu02", "localhost", "127.0.0.2", "unknown"]


def test_of_several_addresses_none_is_guessed_unless_it_leads_to_a_node_that_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_addresses(monkeypatch, eth0="10.0.0.1", ib0="10.1.0.1")
    file = tmp_path / "hostfile"
    file.write_text("gpu01 slots=8\ngpu02 slots=8\n")
    assert find_place(launch(hostfile=str(file)), {}).master == "10.0.0.1"
    with pytest.raises(
        BlipError,
        match=r"cannot reach gpu01: on this machine /etc/hosts says 127\.0\.1\.1, and it has several addresses: "
        r"10\.0\.0\.1 \(eth0\), 10\.1\.0\.1 \(ib0\)\. Write the one .* of the hostfile",
    ):
        find_place(launch(hostfile=str(file), node_rank=0), {})
