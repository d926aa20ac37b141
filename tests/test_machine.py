"""What a process that is held back may use; a container's limits are read by the same two functions."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from blip.machine import network_file_system, usable_cores, usable_memory

HELD_BACK = """
import os, resource
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
resource.setrlimit(resource.RLIMIT_RSS, (1 << 30, 1 << 30))
from blip.machine import usable_cores, usable_memory
print(usable_cores(), *usable_memory())
"""


def test_limits_of_the_process_count() -> None:
    said = subprocess.run(
        [sys.executable, "-c", HELD_BACK], capture_output=True, text=True, check=True
    ).stdout
    assert said.split() == ["1", str(1 << 30), str(1 << 30)]


def test_without_limits_it_is_what_the_machine_has() -> None:
    free, total = usable_memory()
    assert 1 <= usable_cores() <= (psutil.cpu_count() or 1)
    assert 0 < free <= total <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        ("ext4", ""),
        ("overlay", ""),
        ("fuse.overlayfs", ""),
        ("nfs4", "nfs4"),
        ("lustre", "lustre"),
        ("fuse.ceph",) * 2,
    ],
)
def test_a_disk_of_several_machines_is_told_by_what_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, shared: str
) -> None:
    mounts = [
        SimpleNamespace(mountpoint="/", fstype="nfs"),
        SimpleNamespace(mountpoint=str(tmp_path), fstype="autofs"),
        SimpleNamespace(mountpoint=str(tmp_path), fstype=kind),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    assert network_file_system(tmp_path / "project/mlflow.db") == shared
    assert network_file_system(tmp_path.parent) == "nfs"
