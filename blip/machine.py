"""What this machine is called, and what of its cores, memory and GPU this process may use: in a container not all.

Neither `os.cpu_count` nor `psutil` knows the limits of a container; Dask's readings do (control groups 1 and 2).
"""

import os
import platform
from pathlib import Path

SHARED = frozenset(("afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"))
"""File systems of several machines, as /proc/mounts calls them, besides those that come by FUSE."""


def usable_cores() -> int:
    """Those that this process may run on, and its container's share of their time, rounded up; at least 1."""
    from dask.system import cpu_count

    return cpu_count()


def usable_memory() -> tuple[int, int]:
    """Bytes that are free, and of how many: of this machine, or of its container where that has a limit.

    What others in the container hold counts as free there.
    """
    import psutil
    from distributed.system import memory_limit

    memory, limit = psutil.virtual_memory(), memory_limit()
    return min(memory.available, limit), limit


def processor() -> str:
    """The name of the processor."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def network_file_system(path: Path) -> str:
    """The type of the file system that a path lies on, as `nfs4`, where several machines share it; "" where none do."""
    import psutil

    place = path.resolve()
    above = [mount for mount in psutil.disk_partitions(all=True) if place.is_relative_to(mount.mountpoint)]
    above.reverse()  # of two at one place, as an automounter's and what it mounted, the later one is seen
    kind = max(above, key=lambda mount: len(Path(mount.mountpoint).parts)).fstype if above else ""
    return kind if kind in SHARED or (kind.startswith("fuse.") and kind != "fuse.overlayfs") else ""


def has_gpu() -> bool:
    """Whether there is a GPU that this process may use, as the system tells it: nothing slow is imported for it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists())
