"""The files under infra say what the code expects of them."""

import os
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from blip.config import Launch
from blip.errors import PREEMPTED
from blip.tracking.processes import TERMINATED
from blip.training.launch.finding import find_place
from blip.training.launch.hostfile import read_hostfile
from blip.training.launch.place import Place
from tests.processes import running

ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    """The Kubernetes objects by kind, the one of each."""
    texts = [(INFRA / "k8s" / name).read_text() for name in ("project.yaml", "pretrain.yaml")]
    return {one["kind"]: one for text in texts for one in yaml.safe_load_all(text)}


def test_a_pod_finds_its_place_from_the_manifest(objects: dict[str, dict[str, Any]]) -> None:
    job = objects["Job"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    place = find_place(
        Launch.model_validate({"launcher": "kubernetes"}), environment | {"JOB_COMPLETION_INDEX": "1"}
    )
    name, service = objects["Job"]["metadata"]["name"], objects["Service"]
    assert job["completionMode"] == "Indexed" and job["completions"] == job["parallelism"] == place.nodes
    assert place == Place(
        1, 2, f"{name}-0.{service['metadata']['name']}", service["spec"]["ports"][0]["port"]
    )
    assert pod["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= job["template"]["metadata"]["labels"].items()
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert f"pretrain.training.ranks={gpus * place.nodes}" in container["args"]


def test_a_pod_that_saved_a_checkpoint_is_no_failure(objects: dict[str, dict[str, Any]]) -> None:
    pod = objects["Job"]["spec"]
    first = pod["podFailurePolicy"]["rules"][0]
    assert (first["action"], first["onExitCodes"]["values"]) == ("Ignore", [PREEMPTED])
    assert pod["template"]["spec"]["restartPolicy"] == "Never", "or the policy is not looked at"
    seconds = pod["template"]["spec"]["terminationGracePeriodSeconds"]
    assert seconds >= Launch.model_validate({}).stop_timeout + 10


def test_volumes_that_are_mounted_are_there(objects: dict[str, dict[str, Any]]) -> None:
    pod = objects["Job"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert volumes.keys() == mounted.keys()
    assert (
        volumes["shared-memory"]["emptyDir"]["medium"] == "Memory" and mounted["shared-memory"] == "/dev/shm"
    )
    claim = volumes["project"]["persistentVolumeClaim"]["claimName"]
    (filled,) = objects["Pod"]["spec"]["volumes"]
    assert (
        claim
        == filled["persistentVolumeClaim"]["claimName"]
        == objects["PersistentVolumeClaim"]["metadata"]["name"]
    )


def test_pods_run_the_image_that_the_dockerfile_says_how_to_build(objects: dict[str, dict[str, Any]]) -> None:
    text = (INFRA / "Dockerfile").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    image = f"registry.example.com/blip:{version}"
    assert f"docker build -f infra/Dockerfile -t {image} ." in text and f"docker push {image}" in text
    instructions = [line.split() for line in text.splitlines() if line[:1].isalpha()]
    user = next(words[1] for words in instructions if words[0] == "USER")
    for pod in (objects["Job"]["spec"]["template"]["spec"], objects["Pod"]["spec"]):
        (container,) = pod["containers"]
        assert container["image"] == image and container["workingDir"] == "/project"
        assert ["RUN", "useradd", "--uid", str(pod["securityContext"]["runAsUser"])] == next(
            words[:4] for words in instructions if "useradd" in words and words[-1] == user
        )
    assert ["WORKDIR", "/project"] in instructions


def test_the_image_is_built_of_files_that_are_there() -> None:
    lines = (INFRA / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    sent = {
        line[1:] for line in (INFRA / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert sent == set(copied)
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert {*packages, "pyproject.toml", "constraints.txt", project["project"]["readme"]} <= sent


def test_the_batch_script_is_one_and_asks_for_a_warning_in_time() -> None:
    script = INFRA / "slurm/pretrain.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert f"PREEMPTED={PREEMPTED}\n" in text and f"TERMINATED={TERMINATED} " in text
    assert "#SBATCH --signal=B:USR1@120" in text and Launch.model_validate({}).stop_timeout <= 110
    assert text.index("\ntrap ") < text.index("\nsrun "), (
        "or a signal ends the script before it can pass it on"
    )


@pytest.mark.parametrize("code", [PREEMPTED, TERMINATED])
def test_a_step_that_ends_before_scancel_does_is_queued_again(tmp_path: Path, code: int) -> None:
    """The script itself, with stand-ins for Slurm: tests/training/launch/test_slurm.py has the real one."""
    commands = {
        "srun": f"trap 'exit {code}' TERM; echo $$ > step; echo \"$@\" > asked; while :; do sleep 0.05; done",
        "scancel": "kill -TERM $(cat step); sleep 0.5",
        "scontrol": 'echo "$@" > requeued',
    }
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment |= {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "64"}
    with running(["bash", INFRA / "slurm/pretrain.sbatch"], cwd=tmp_path, env=environment) as job:
        deadline = time.monotonic() + 30
        while not (tmp_path / "asked").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(30) == code
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    assert "--cpus-per-task=64" in (tmp_path / "asked").read_text()


def test_the_hostfile_to_copy_is_one() -> None:
    assert read_hostfile(INFRA / "hostfile.example") == {"gpu01": 8, "gpu02": 8}


def test_the_extra_that_remotes_need_is_pinned_and_named_where_they_are_promised() -> None:
    """DVC loads a remote's client when it is first used: without it, `dvc push` says so and no earlier."""
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["remote"]
    assert any(one.startswith("dvc[s3,gs,ssh]") for one in extra)
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {"dvc-s3", "dvc-gs", "dvc-ssh", "boto3", "aiobotocore", "gcsfs", "sshfs"} <= pinned
    assert "-e '.[remote]'`" in (ROOT / "docs/training.md").read_text()
