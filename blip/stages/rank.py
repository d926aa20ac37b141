"""One rank of a training run, started by the launcher: `python -m blip.stages.rank NAME`."""

import os
import sys

import torch

from blip.errors import exit_code_of
from blip.stages.training import read_job, train_here
from blip.tracking.system import node_metrics
from blip.training.launch.ranks import tie_to_parent
from blip.training.memory import keep_freed_memory


def main() -> int:
    """Train as one rank; the exit code is that of `blip stage`."""
    tie_to_parent()
    job, settings = read_job(sys.argv[1])
    # Of the order; torch alone takes no more than cores
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.set_flush_denormal(True)
    keep_freed_memory()

    def train() -> None:
        with node_metrics(job.run_id):
            train_here(job, settings)

    return exit_code_of(train)


if __name__ == "__main__":
    sys.exit(main())
