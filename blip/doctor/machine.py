"""What this machine and folder offer: `blip doctor`."""

import getpass
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from blip.config import PARAMS, load_settings
from blip.config.cut_short import files_cut_short
from blip.config.graph import STAGES
from blip.doctor.finding import GIB, Finding, found
from blip.doctor.services import tracking
from blip.doctor.sources import sources
from blip.errors import BadArguments
from blip.machine import usable_cores, usable_memory
from blip.ports import PORTS, is_free
from blip.tracking.dvc_links import see_that_dvc_takes
from blip.tracking.dvc_lock import stages_in, whole_text

DVC = (sys.executable, "-m", "dvc")
MEMORY_GIB, DISK_GIB = 4, 5  # what the embedded demo needs, with some to spare


def examine() -> Iterator[Finding]:
    """Look at everything in turn; a check that breaks is a finding of its own."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python, _cores, _memory, _disk, _torch, _gpu, _git, _dvc, _settings, sources, tracking, _ports,
    )  # fmt: skip
    yield from found(checks)


def _python() -> Finding:
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", "good" if good else "bad", text if good else f"{text}; needs 3.11 or 3.12")


def _cores() -> Finding:
    usable = usable_cores()
    try:
        threads = load_settings().compute.threads
    except BadArguments:  # said at `settings`
        return Finding("cores", "good", f"{usable} usable")
    if threads > usable:
        return Finding(
            "cores", "note", f"{usable} usable, fewer than compute.threads = {threads}: slower, no less right"
        )
    return Finding("cores", "good", f"{usable} usable, compute.threads = {threads}")


def _memory() -> Finding:
    free, total = usable_memory()
    text = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    enough = free >= MEMORY_GIB * GIB
    return Finding(
        "memory", "good" if enough else "note", text if enough else f"{text}; the demo needs {MEMORY_GIB}"
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / GIB:.1f} GiB free here"
    enough = free >= DISK_GIB * GIB
    return Finding(
        "disk", "good" if enough else "bad", text if enough else f"{text}; the demo needs {DISK_GIB}"
    )


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("torch", "bad", f"does not import: {error}; run `make install`")
    from blip.training.precision import has_fast_bfloat16

    products = "bfloat16 in hardware" if has_fast_bfloat16("cpu") else "float32 (bfloat16 is emulated)"
    return Finding(
        "torch", "good", f"{torch.__version__}, {torch.get_num_threads()} threads, CPU computes in {products}"
    )


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("gpu", "note", "none; everything runs on the CPU")
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return Finding("gpu", "good", ", ".join(f"{d.name} ({d.total_memory / GIB:.0f} GiB)" for d in devices))


def _git() -> Finding:
    commit = _said("git", "rev-parse", "--short", "HEAD")
    if commit is None:
        return Finding("git", "note", "no commit here: runs cannot be traced to a version of the code")
    changed = len((_said("git", "status", "--porcelain") or "").splitlines())
    return Finding("git", "good", f"at {commit}" + (f", {changed} files changed" if changed else ""))


def _dvc() -> Finding:
    if not Path(".dvc").is_dir():
        return Finding("dvc", "bad", "no .dvc folder here; run from the project's folder")
    if cut_short := files_cut_short():
        return Finding("dvc", "bad", ". ".join(cut_short))
    stages_in(whole_text())  # it says what is wrong with dvc.lock
    if not _has_repository() and _said(*DVC, "config", "core.no_scm") != "true":
        text = (
            f"{Path.cwd()} is not a git repository, and DVC does not start without one; run `git init` here"
        )
        return Finding("dvc", "bad", text)
    if not _account_has_name():
        text = f"the account {os.getuid()} has no name, and DVC does not start without one; export LOGNAME=me"
        return Finding("dvc", "bad", text)
    see_that_dvc_takes(*STAGES)
    version = _said(*DVC, "--version")
    return Finding("dvc", "good" if version else "bad", version or "does not start; run `make install`")


def _has_repository() -> bool:
    """Of git, here or above; unpacked sources are in none."""
    here = Path.cwd()
    return any((folder / ".git").exists() for folder in (here, *here.parents))


def _account_has_name() -> bool:
    """In the environment or on the machine; a container's account may have none."""
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError):
        return False


def _settings() -> Finding:
    settings = load_settings()
    return Finding("settings", "good", f"{PARAMS}, recipe {settings.recipe or 'none'}")


def _ports() -> Finding:
    taken = [f"{name} {port}" for name, port in PORTS.items() if not is_free(port)]
    if taken:
        return Finding("ports", "note", f"in use: {', '.join(taken)}; `make ui` takes the next free ones")
    return Finding("ports", "good", ", ".join(f"{name} {port}" for name, port in PORTS.items()) + " are free")


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
