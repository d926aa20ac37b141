"""A project with the graph of dvc.yaml and stages that take no time: real git, real DVC, nothing to train."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from blip.config.graph import STAGES
from flows.project import NO_TELEMETRY

ROOT = Path(__file__).parents[2]
WORK = """
import os, pathlib, signal, sys, time
name, out = sys.argv[1], pathlib.Path(sys.argv[2])
fault = pathlib.Path("faults", name)          # what goes wrong, once
print(f"{name}: step 1 loss 0.50", flush=True)
if fault.exists():
    what = fault.read_text().split(maxsplit=1)
    fault.unlink()
    if what[0] == "hang":
        def stop(*_):
            time.sleep(float(what[1]) if len(what) > 1 else 0)  # which takes its time
            print(f"{name}: checkpoint saved", flush=True)
            pathlib.Path("saved").write_text(name)
            sys.exit(75)
        signal.signal(signal.SIGTERM, stop)
        pathlib.Path("hanging").write_text(str(os.getpid()))
        time.sleep(600)
    if what[0] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("error: " + what[1], file=sys.stderr, flush=True)
    sys.exit(int(what[0]))
out.parent.mkdir(exist_ok=True)
out.write_text(name)
"""


def output(name: str) -> str:
    """Where a stage of the toy project writes."""
    return f"out/{name.replace('@', '_')}"


def make_project(root: Path) -> Path:
    """Write the project and give it a git and a DVC repository."""
    root.mkdir(parents=True)
    (root / "work.py").write_text(WORK)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": _stages()}, sort_keys=False))
    (root / ".gitignore").write_text("/out\n/.blip\n/.prefect\n")
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copytree(ROOT / "infra", root / "infra")
    (root / "faults").mkdir()
    git(root, "init", "--quiet")
    return root


def git(root: Path, *arguments: str) -> None:
    """Run git there, as somebody whose own settings do not matter."""
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(
        ["git", *who, *arguments], cwd=root, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}, check=True
    )


def dvc(root: Path, *arguments: str) -> str:
    """Run DVC there and give what it says."""
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = {**os.environ, **NO_TELEMETRY}
    return subprocess.run(
        command, cwd=root, env=environment, check=True, capture_output=True, text=True
    ).stdout


def _stages() -> dict[str, object]:
    stages: dict[str, dict] = {}
    for name, parents in STAGES.items():
        base, _, key = name.partition("@")
        made = {"deps": ["work.py", *map(output, parents)], "params": [], "outs": [output(name)]}
        if not key:
            params = ["pretrain.steps"] if name == "pretrain" else []
            stages[name] = {"cmd": f"python work.py {name} {output(name)}", **made, "params": params}
            continue
        (parent,) = parents
        each = stages.setdefault(base, {"foreach": {}, "do": {
            "cmd": f"python work.py {base}@${{key}} out/{base}_${{key}}",
            "deps": ["work.py", "${item.parent}"],
            "outs": [f"out/{base}_${{key}}"],
        }})  # fmt: skip
        each["foreach"][key] = {"parent": output(parent)}
    return stages
