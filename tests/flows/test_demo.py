"""`make demo`: its options, and what it says of a mistake."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blip.errors import BadArguments
from flows import demo
from flows.demo import check, main, parse
from tests.flows.toy import ROOT


def test_without_options_the_whole_pipeline_runs_as_params_yaml_says():
    assert parse([]) == {"until": None, "recipe": None, "parallel": 2, "overrides": {}}


def test_settings_are_read_as_yaml():
    options = parse(["--until", "pretrain", "--set", "pretrain.steps=200", "--set", "capfilt.top_p=0.8"])

    assert options["until"] == "pretrain"
    assert options["overrides"] == {"pretrain.steps": 200, "capfilt.top_p": 0.8}


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(BadArguments, match="NAME=VALUE"):
        parse(["--set", "pretrain.steps"])


def test_a_mistake_is_one_message_and_the_exit_code_of_bad_arguments(capsys):
    assert main(["--set", "pretrain.steps"]) == 2
    assert capsys.readouterr().err.startswith("error: 'pretrain.steps': write a setting as NAME=VALUE")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "smok"], "unknown recipe 'smok'"),
        (["--until", "pretrian"], "did you mean pretrain?"),
        (["--set", "pretrain.stepz=1"], "params.yaml with --set: 1 setting(s) cannot be used:"),
    ],
)
def test_what_no_stage_could_use_is_refused_before_a_server_is_started(capsys, monkeypatch, arguments, said):
    monkeypatch.setattr(demo, "prepare", lambda: pytest.fail("a server is started"))
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
    reason="no mount namespaces here",
)
@pytest.mark.parametrize("command", ["flows.demo", "flows.ui"])
def test_a_full_disk_is_said_without_a_traceback(project: Path, command: str):
    """There is room for the locks that are taken first."""
    full = 'mkdir .blip && mount -t tmpfs -o size=1m,nr_inodes=3 tmpfs .blip && exec "$@"'
    shell = ["unshare", "-rm", "bash", "-c", full, "bash", sys.executable, "-m", command]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(shell, capture_output=True, text=True, check=False, env=environment)

    assert ended.returncode == 1
    assert "error: no file can be added (writing .blip/" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_recipe_is_said_to_stay(capsys):
    check(parse(["--recipe", "smoke"]))
    assert capsys.readouterr().out.startswith("recipe smoke: params.yaml has it until another is named;")
    check(parse(["--recipe", "none"]))
    assert not capsys.readouterr().out
