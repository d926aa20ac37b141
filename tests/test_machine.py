"""What a process that is held back may use; a container's limits are read by the same two functions."""

import subprocess
import sys

import psutil

from blip.machine import usable_cores, usable_memory

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
