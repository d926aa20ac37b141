"""What a run came from: code, dvc.lock, input manifests, recipe, flow run; as tags of runs and models.

    lineage("finetune@retrieval", settings)
    # {"blip.git_commit": "4f0c...", "blip.input.data/datasets/human": "sha256:...", ...}

What a stage reads is taken from dvc.yaml (blip.config.dvc_yaml), the one place that says it.
"""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

from blip.config import Settings
from blip.config.dvc_yaml import pick, settings_read, stage_spec
from blip.digest import file_sha256
from blip.tracking.dvc_lock import stages_in, whole_text

FLOW_RUN = ("PREFECT__FLOW_RUN_ID", "BLIP_FLOW_RUN_ID")
GIT_SECONDS = 20.0  # which the state of a large tree on a slow disk may take longer than
VALUE_LIMIT = 5000  # characters of a parameter or tag of a run


def lineage(stage: str, settings: Settings) -> dict[str, str]:
    """The tags that say what a run of `stage` came from. Empty ones (no git, no dvc.lock) are left out."""
    lock = whole_text()
    tags = {
        "blip.git_commit": git("rev-parse", "HEAD") or "",
        "blip.dvc_lock": lock and f"sha256:{hashlib.sha256(lock.encode()).hexdigest()}",
        "blip.recipe": settings.recipe or "",
        "blip.flow_run": next((os.environ[name] for name in FLOW_RUN if os.environ.get(name)), ""),
    }
    changes = git("status", "--porcelain", "--untracked-files=no") if tags["blip.git_commit"] else None
    if changes is not None:
        tags["blip.git_dirty"] = str(bool(changes)).lower()
    tags.update(inputs(stage, lock))
    return {name: value for name, value in tags.items() if value}


def inputs(stage: str, lock: str) -> dict[str, str]:
    """Digests of the stage's deps in dvc.yaml: of a dataset's manifest, of validation's lists, else from dvc.lock."""
    tags = {}
    outputs = _locked_outputs(lock)
    for path in stage_spec(stage).get("deps", []):
        own = Path(path) if path.endswith(".parquet") else Path(path) / "manifest.json"
        if known := digest(own):
            tags[f"blip.input.{path}"] = known
            continue
        tags.update(
            {f"blip.input.{out}": md5 for out, md5 in outputs.items() if f"{out}/".startswith(f"{path}/")}
        )
    return tags


def parameters(stage: str, settings: Settings) -> dict[str, str]:
    """The settings that dvc.yaml names as the stage's params, flat: {"pretrain.optimiser.lr": "0.02"}."""
    values = settings.model_dump(mode="json", by_alias=True)
    flat: dict[str, str] = {}
    for name in settings_read(stage):
        flat.update(flatten(name, pick(values, name.split("."))))
    return flat


def flatten(name: str, value: Any) -> dict[str, str]:
    """{"a": {"b": 1}} under the name x becomes {"x.a.b": "1"}; a list stays one value."""
    if not isinstance(value, dict):
        return {name: str(value)[:VALUE_LIMIT]}
    return {
        key: text for part, inner in value.items() for key, text in flatten(f"{name}.{part}", inner).items()
    }


def digest(path: Path) -> str:
    """sha256:HEX of a file, or "" when there is none."""
    return "sha256:" + file_sha256(path) if path.is_file() else ""


def _locked_outputs(lock: str) -> dict[str, str]:
    outs = [out for stage in stages_in(lock).values() for out in stage.get("outs", [])]
    return {out["path"]: f"md5:{out['md5']}" for out in outs if "md5" in out}


def git(*arguments: str) -> str | None:
    """What git says; None where there is none, or it has nothing to say in GIT_SECONDS."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
