"""The `blip` command: help, exit codes and messages."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from blip import cli
from blip.errors import BadArguments, BlipError, Preempted

COMMANDS = (
    "stage", "ingest", "validate", "inspect", "capfilt", "calibrate", "ablate", "gallery",
    "caption", "match", "answer", "search", "classify", "explain", "evaluate", "compare", "app", "import", "export",
    "settings", "promote", "doctor", "bench",
)  # fmt: skip


def test_help_is_grouped_and_lists_every_command(blip):
    shown = blip("--help").out

    assert [group for group in ("Pipeline", "Data", "Models", "Operations") if f" {group} " in shown] == [
        "Pipeline", "Data", "Models", "Operations",
    ]  # fmt: skip
    assert all(f" {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_in_its_help(blip, command: str):
    shown = blip(command, "--help")

    assert shown.code == 0
    assert f"Example: blip {command}" in " ".join(shown.out.split())


def test_help_imports_nothing_that_is_slow():
    code = "import sys, blip.cli\ntry: blip.cli.main()\nfinally: print(sorted(sys.modules))"
    command = [sys.executable, "-c", code, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert not [
        name for name in ("torch", "mlflow", "numpy", "transformers", "prefect") if f"'{name}'" in shown
    ]


def test_an_unknown_command_is_a_bad_argument(blip):
    assert blip("captoin").code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage", "pretain"], "there is no stage 'pretain' (did you mean pretrain?)"),
        (["stage", "ingest", "--set", "seed"], "write a setting as NAME=VALUE"),
        (["stage", "ingest", "--set", "sead=1"], "did you mean 'seed'?"),
        (["stage", "ingest", "--recipe", "base-15m"], "unknown recipe 'base-15m'"),
        (["classify", "cat.png", "--labels", "cat"], "two or more --labels"),
    ],
)
def test_bad_arguments_exit_2_with_the_way_out(blip, arguments: list[str], message: str):
    ended = blip(*arguments)

    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert message in ended.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(BlipError("no data"), 1), (BadArguments("no such"), 2), (Preempted("checkpoint saved at step 40"), 75)],
)
def test_an_error_for_the_user_is_one_message_and_its_exit_code(
    blip, monkeypatch, error: BlipError, code: int
):
    monkeypatch.setattr(cli, "app", _raises(error))

    ended = blip()
    assert (ended.code, ended.out, ended.err) == (code, "", f"error: {error}\n")


@pytest.mark.parametrize(
    ("stage", "under_dvc", "figures", "said"),
    [
        ("pretrain", None, {"seconds": 1.0, "loss": 2.0}, "`dvc commit -f pretrain` keeps it\n"),
        ("pretrain", "pretrain", {"seconds": 1.0, "loss": 2.0}, ""),
        ("finetune@nlvr", None, {"seconds": 1.0, "loss": 2.0}, ""),
        ("pretrain", None, {"seconds": 1.0}, ""),
    ],
    ids=["by hand", "under DVC", "not in dvc.yaml", "on another node"],
)
def test_a_stage_that_dvc_does_not_know_of_says_how_to_keep_it(
    blip, monkeypatch, stage: str, under_dvc: str | None, figures: dict[str, float], said: str
):
    monkeypatch.chdir(Path(__file__).parents[1])
    monkeypatch.setattr("blip.stages.run_stage", lambda name, settings: figures)
    if under_dvc:
        monkeypatch.setenv("DVC_STAGE", under_dvc)
    ended = blip("stage", stage)
    assert ended.code == 0
    assert ended.err.endswith(said) and bool(ended.err) == bool(said)


def test_what_a_terminal_would_obey_is_spelled(blip, monkeypatch):
    hostile = "a\x1b[2Jb.jpg\r\x07\x9b31m\x7f\tof\nshard 1"
    monkeypatch.setattr(cli, "app", _raises(BlipError(hostile)))

    assert blip().err == "error: a\\x1b[2Jb.jpg\\x0d\\x07\\x9b31m\\x7f\tof\nshard 1\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ingest", "photos", "--out", "pairs"), "stopped; the same command goes on where it was"),
        (("stage", "pretrain"), "stopped; the same command goes on where it was"),
        (("stage", "ingest"), "stopped; the same command goes on where it was"),
        (("stage", "evaluate@vqa"), "stopped"),
        (("doctor",), "stopped"),
    ],
)
def test_what_ctrl_c_ends_says_whether_it_goes_on(
    blip, monkeypatch, tmp_path: Path, arguments: tuple[str, ...], said: str
):
    def interrupted(*_: object, **__: object):
        raise KeyboardInterrupt

    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    for place in ("blip.config.is_address", "blip.config.load_settings", "blip.doctor.machine.examine"):
        monkeypatch.setattr(place, interrupted)

    ended = blip(*arguments)
    assert (ended.code, ended.err) == (130, f"\n{said}\n")


def test_an_error_of_mlflow_is_told_without_the_password_in_its_address(blip, monkeypatch):
    error = MlflowException("API request to http://me:S3cret@host/api failed")
    monkeypatch.setattr(cli, "app", _raises(error))

    ended = blip()
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "error: MLflow did not do what was asked: API request to http://***@host/api failed\n"


def test_an_unexpected_error_keeps_its_traceback(blip, monkeypatch):
    monkeypatch.setattr(cli, "app", _raises(ZeroDivisionError("a defect")))

    with pytest.raises(ZeroDivisionError, match="a defect"):
        blip()


def _raises(error: Exception):
    def app() -> None:
        raise error

    return app


def test_the_version_is_that_of_the_package() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "blip", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"blip {version('blip')}\n"
