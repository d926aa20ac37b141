"""What a launcher leaves in the environment says which node of how many this is."""

from pathlib import Path

import pytest

from blip.config import Launch
from blip.errors import BadArguments
from blip.training.launch.place import Place, find_place
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


def launch(**values: object) -> Launch:
    return Launch.model_validate(values)


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place()),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, Place()),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "gpu[1-8]"}, Place()),
        (SLURM, Place(3, 4, "gpu07", 29400, before=1)),
        (
            SLURM | {"SLURM_PROCID": "1", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "2"},
            Place(1, 2, "gpu07", 29400, hosts=("gpu07", "gpu08")),
        ),
        (POD, Place(1, 2, "pretrain-0.pretrain", 29400)),
        (POD | {"BLIP_NODES": "1"}, Place()),
        (TORCHRUN, Place(5, 8, "n0", 29500, before=1, served=True)),
    ],
)
def test_auto_sees_who_started_the_process(environment: dict[str, str], place: Place) -> None:
    assert find_place(launch(), environment) == place


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
    assert first.slots(12) == (8, 4)
    by_hand = find_place(launch(hostfile=str(file), node_rank=1), {})
    assert (by_hand.node, by_hand.remote) == (1, False)
    with pytest.raises(BadArguments, match=r"training.ranks is 16, but the hostfile has 12 slots on 2 nodes"):
        first.slots(16)


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
