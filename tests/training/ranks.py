"""The ranks of a tiny run as processes of one group, without a launcher: to start, to kill with all they started."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
LONGEST = 240.0


class Ranks:
    """A life of the run in a folder; output goes to rank0.log, rank1.log, ..."""

    def __init__(
        self,
        folder: Path,
        steps: int,
        ranks: int = 1,
        changes: Mapping[str, Any] | None = None,
        kill_at: int = 0,
    ) -> None:
        given = [str(folder), str(steps), str(kill_at), str(ranks), json.dumps(changes or {})]
        command = [sys.executable, "-m", "tests.training.tiny_run", *given]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "TORCHDYNAMO_DISABLE": "1",
        }
        environment |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "WORLD_SIZE": str(ranks),
        }
        self.folder, self.processes = folder, list[subprocess.Popen[bytes]]()
        for rank in range(ranks):
            with (folder / f"rank{rank}.log").open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        command,
                        env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stdout=log,
                        stderr=log,
                        process_group=self.processes[0].pid if rank else 0,
                    )
                )

    def wait(self) -> int:
        """Until all have ended, or one has failed, which ends the others; returns the first code that is not 0."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            codes = self.codes()
            failed = [code for code in codes if code]
            if failed or None not in codes:
                self.kill()
                return failed[0] if failed else 0
            time.sleep(0.05)
        self.kill()
        raise TimeoutError(f"the ranks did not end within {LONGEST:.0f} s:\n{self.log()}")

    def codes(self) -> list[int | None]:
        """How each rank has ended; None for one that has not."""
        return [process.poll() for process in self.processes]

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.processes[0].pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()

    def log(self, rank: int = 0) -> str:
        """All that a rank has said in all lives."""
        return (self.folder / f"rank{rank}.log").read_text()


def finish(
    folder: Path, steps: int, ranks: int = 1, changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A life that reaches the end; returns what final.json says of the weights."""
    life = Ranks(folder, steps, ranks, changes)
    if life.wait():
        raise AssertionError(life.log())
    return json.loads((folder / "final.json").read_text())
