"""A rank without a network, for what an agent does: `python -m tests.training.launch.beating_run FOLDER WHAT STEPS`.

WHAT is RANK:STEP:FAULT as in drill_run, or `deaf` (no rank ends when asked to), or `none`. All start a child process.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from blip.training.heartbeat import Heartbeat
from blip.training.launch.ranks import tie_to_parent
from blip.training.preemption import stop_requested

STEP_SECONDS = 0.1


def main() -> int:
    """Beat until the last step, a fault or a request to stop."""
    tie_to_parent()
    folder, what, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    rank, at, fault = (*what.split(":"), "", "")[:3]
    subprocess.Popen(["sleep", "300"])
    if fault == "mute" and rank == os.environ["RANK"]:
        time.sleep(300)
    with stop_requested() as stop, Heartbeat.of_this_process() as beat:
        batches = beat.watched(iter(range(steps)))
        for step in range(steps):
            beat.begin(step)
            next(batches)
            if step + 1 == int(at or 0) and rank == os.environ["RANK"]:
                act(fault, beat)
            time.sleep(STEP_SECONDS)
            if fault == "starve" and step + 1 == int(at):
                time.sleep(300)  # in the step, for the one that has no data
            beat.mark("vote")
            (folder / f"reached{os.environ['RANK']}").write_text(str(step + 1))
            if at and fault and step + 1 >= int(at):
                time.sleep(300)  # the others wait for the one with the fault
            if stop.is_set() and what != "deaf":
                return 75
    if os.environ["RANK"] == "0":
        (folder / "saved.json").write_text("{}")
    return 0


def act(fault: str, beat: Heartbeat) -> None:
    """What happens to the rank."""
    if fault == "tire":  # its last sign comes after the last one of those that wait for it
        time.sleep(10 * STEP_SECONDS)
        beat.mark("step")
        time.sleep(300)
    if fault == "starve":  # of data that come late, and then no more
        time.sleep(10 * STEP_SECONDS)
        beat.mark("data")
        time.sleep(300)
    if fault == "sleep":
        time.sleep(300)
    if fault == "fail":
        sys.exit(3)
    os.kill(os.getpid(), getattr(signal, f"SIG{fault.upper()}"))


if __name__ == "__main__":
    sys.exit(main())
