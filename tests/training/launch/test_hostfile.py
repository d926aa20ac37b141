"""How node 0 starts the others: with what they need of its environment, and nothing secret where others can read it."""

import sys
from pathlib import Path

import pytest

from blip.config import Launch
from blip.errors import BadArguments
from blip.training.launch import hostfile
from blip.training.launch.place import Place

PLACE = Place(0, 2, "gpu01", 29400, (1, 1), hosts=("gpu01", "gpu02"), remote=True)
VARIABLES = {
    "HF_TOKEN": "hf_S3cret",
    "MLFLOW_TRACKING_URI": "https://user:S3cret@host",
    "MLFLOW_TRACKING_PASSWORD": "S3cret's $(touch spoilt)\nof two lines",
    "NCCL_DEBUG": "WARN",
}


def program(file: Path, body: str) -> str:
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


def test_variables_reach_the_other_nodes_and_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UNASKED", "1")
    shell = program(tmp_path / "shell", 'echo "$@" > asked; shift; exec env -i "PATH=$PATH" sh -c "$1"')
    monkeypatch.setattr(
        sys, "executable", program(tmp_path / "python", 'env -0 > given; echo "$@" > arguments')
    )

    with hostfile.started(PLACE, Launch.model_validate({"remote_shell": shell}), 29400):
        pass

    given = dict(one.split("=", 1) for one in Path("given").read_text().split("\0") if one)
    assert VARIABLES.items() <= given.items() and "UNASKED" not in given
    assert Path("arguments").read_text() == "-m blip.training.launch.follow gpu01 29400 1 2 1800.0\n"
    asked = Path("asked").read_text()
    assert asked.startswith("gpu02 cd ") and "S3cret" not in asked and "NCCL" not in asked
    assert not Path("spoilt").exists()


def test_a_remote_shell_that_fails_at_once_is_no_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):  # more than a pipe holds, so that it is broken while they are written
        monkeypatch.setenv(f"NCCL_LONG_{number}", "x" * 100_000)
    shell = program(tmp_path / "shell", f"echo $1 >> {tmp_path}/called; exit 255")
    inside = False
    with hostfile.started(PLACE, Launch.model_validate({"remote_shell": shell}), 29400):
        inside = True
    assert inside and (tmp_path / "called").read_text() == "gpu02\n"


def test_every_run_is_held_against_the_nodes_before_the_first_starts(tmp_path: Path) -> None:
    file = tmp_path / "hostfile"
    file.write_text("".join(f"gpu0{number} slots=8\n" for number in range(4)))
    nodes = Launch.model_validate({"hostfile": str(file)})
    hostfile.require_room(nodes, {"pretrain": 32, "captioner": 8, "finetune.vqa": 1})
    with pytest.raises(
        BadArguments, match=r"^captioner: training.ranks is 12[^\n]*\nfilter: training.ranks is 40"
    ):
        hostfile.require_room(nodes, {"pretrain": 32, "captioner": 12, "filter": 40})
    hostfile.require_room(nodes.model_copy(update={"launcher": "local"}), {"captioner": 12})
